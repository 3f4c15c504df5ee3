//! Media types, and what a client would rather have: Accept and quality values (RFC 9110 section 12).

/// The number of the offer that the client likes best. Of offers that it likes alike the first one
/// wins. None: it wants none of them. Without a preference everything is fine.
pub fn negotiate<'a, I: Iterator<Item = &'a [u8]>>(
    accept: impl Fn() -> I,
    offers: &[&str],
) -> Option<usize> {
    let mut best: Option<(usize, u16)> = None;
    for (index, offer) in offers.iter().enumerate() {
        let quality = quality(accept(), offer);
        if quality > best.map_or(0, |(_, quality)| quality) {
            best = Some((index, quality));
        }
    }
    best.map(|(index, _)| index)
}

/// The quality of a media type in thousandths: that of the most specific range which covers it
/// (RFC 9110 section 12.5.1), 0 if it is not wanted.
fn quality<'a>(accept: impl Iterator<Item = &'a [u8]>, offer: &str) -> u16 {
    let offer = Media::of(offer);
    let mut best: Option<(usize, u16)> = None;
    let mut has_ranges = false;
    for value in accept {
        let Ok(value) = std::str::from_utf8(value) else { continue };
        for range in split(value, ',') {
            let Some((range, quality)) = range_of(range) else { continue };
            has_ranges = true;
            let Some(specificity) = range.covers(&offer) else { continue };
            if best.is_none_or(|(so_far, _)| specificity > so_far) {
                best = Some((specificity, quality));
            }
        }
    }
    match best {
        Some((_, quality)) => quality,
        None if has_ranges => 0,
        None => 1_000,
    }
}

/// A media type or range: `type/subtype` and parameters.
#[derive(Debug)]
pub struct Media<'a> {
    /// Before the slash.
    pub main: &'a str,
    /// Behind the slash.
    pub sub: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Media<'a> {
    /// Reads a media type, parameters and all; what is malformed has empty parts.
    pub fn of(text: &'a str) -> Media<'a> {
        let mut parts = split(text, ';');
        let (main, sub) = parts.next().unwrap_or_default().split_once('/').unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('='));
        let parameters =
            parameters.map(|(name, value)| (name.trim(), value.trim().trim_matches('"'))).collect();
        Media { main: main.trim(), sub: sub.trim(), parameters }
    }

    /// Whether it is this one, whatever the parameters.
    pub fn is(&self, main: &str, sub: &str) -> bool {
        self.main.eq_ignore_ascii_case(main) && self.sub.eq_ignore_ascii_case(sub)
    }

    /// A parameter's value, without quotes.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|&(_, value)| value)
    }

    /// How specific this range is to the media type, if it covers it.
    fn covers(&self, media: &Media) -> Option<usize> {
        let specificity = match (self.main, self.sub) {
            ("*", "*") => 0,
            (main, "*") if main.eq_ignore_ascii_case(media.main) => 1,
            (main, sub)
                if main.eq_ignore_ascii_case(media.main) && sub.eq_ignore_ascii_case(media.sub) =>
            {
                2
            }
            _ => return None,
        };
        let has = |(name, value): &(&str, &str)| {
            media.parameters.iter().any(|(known, offered)| {
                known.eq_ignore_ascii_case(name) && offered.eq_ignore_ascii_case(value)
            })
        };
        self.parameters.iter().all(has).then_some(specificity + self.parameters.len())
    }
}

/// A member of Accept: its range and its quality. None: it is malformed, and ignored.
fn range_of(member: &str) -> Option<(Media<'_>, u16)> {
    let mut range = Media::of(member);
    if range.main.is_empty() || range.sub.is_empty() {
        return None;
    }
    let weight = range.parameters.iter().position(|(name, _)| name.eq_ignore_ascii_case("q"));
    let quality = match weight {
        Some(at) => {
            let quality = thousandths(range.parameters[at].1)?;
            // What stands behind the weight was an extension once (RFC 7231 section 5.3.2).
            range.parameters.truncate(at);
            quality
        }
        None => 1_000,
    };
    Some((range, quality))
}

/// A quality value (RFC 9110 section 12.4.2) in thousandths.
pub(crate) fn thousandths(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction =
        rest.bytes().zip([100, 10, 1]).map(|(digit, place)| u16::from(digit - b'0') * place).sum();
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1_000),
        _ => None,
    }
}

/// The parts of a list, trimmed; a separator within quotes is none (RFC 9110 section 5.6.4).
pub(crate) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |character| {
        let was_escaped = escaped;
        escaped = quoted && !was_escaped && character == '\\';
        if character == '"' && !was_escaped {
            quoted = !quoted;
        }
        character == separator && !quoted
    })
    .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best<'o>(accept: &[&str], offers: &[&'o str]) -> Option<&'o str> {
        negotiate(|| accept.iter().map(|value| value.as_bytes()), offers).map(|index| offers[index])
    }

    #[test]
    fn the_example_of_rfc_9110_section_12_5_1_has_its_qualities() {
        let accept = "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, \
                      text/plain;format=fixed;q=0.4, */*;q=0.5";
        for (media, expected) in [
            ("text/plain;format=flowed", 1_000),
            ("text/plain", 700),
            ("text/html", 300),
            ("image/jpeg", 500),
            ("text/plain;format=fixed", 400),
            ("text/html;level=3", 300),
        ] {
            assert_eq!(quality([accept.as_bytes()].into_iter(), media), expected, "{media}");
        }
    }

    #[test]
    fn quality_comes_first_then_the_order_of_the_offers() {
        let offers = ["text/html", "application/json"];
        for (accept, expected) in [
            (&[][..], Some("text/html")),
            (&[""], Some("text/html")),
            (&["*/*"], Some("text/html")),
            (&["application/json"], Some("application/json")),
            (&["APPLICATION/JSON, text/html;q=0.9"], Some("application/json")),
            (&["text/html;q=0.9", "application/json"], Some("application/json")),
            (&["text/html;q=0, */*"], Some("application/json")),
            (&["application/*;q=0.2, text/*;Q=0.1"], Some("application/json")),
            (&["text/html;q=0.1;level=1, application/json;q=0.2"], Some("application/json")),
            (&["image/png"], None),
            (&["text/html;q=0"], None),
            (&["*/*;q=0"], None),
            (&["text/html;x=\"a,b;q=0\", application/json;q=0.5"], Some("application/json")),
            (&["nonsense"], Some("text/html")),
            (&["text/html;q=2, application/json;q=0.1"], Some("application/json")),
        ] {
            assert_eq!(best(accept, &offers), expected, "{accept:?}");
        }
    }

    #[test]
    fn quality_values_are_as_the_grammar_has_them() {
        for (text, expected) in [
            ("1", Some(1_000)),
            ("1.000", Some(1_000)),
            ("0", Some(0)),
            ("0.", Some(0)),
            ("0.5", Some(500)),
            ("0.123", Some(123)),
            ("0.1234", None),
            ("1.001", None),
            ("2", None),
            ("-1", None),
            ("0.5x", None),
            ("", None),
            (".5", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }
}
