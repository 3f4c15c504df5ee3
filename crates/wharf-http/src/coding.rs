//! Content codings that a client takes (RFC 9110 section 12.5.3).

use crate::media::{split, thousandths};

/// What a coding is worth to a client by the values of its Accept-Encoding fields, in thousandths; 0:
/// it does not take it. None: it does not say, so only `identity` may be sent, the body as it is.
///
/// ```
/// use wharf_http::coding_weight;
///
/// let of = |coding| coding_weight([b"gzip, br;q=0.5".as_slice()].into_iter(), coding);
/// assert_eq!(of("gzip"), Some(1_000));
/// assert_eq!(of("br"), Some(500));
/// assert_eq!(of("zstd"), None);
/// assert_eq!(of("identity"), None);
/// ```
#[must_use]
pub fn coding_weight<'a>(
    accept_encoding: impl Iterator<Item = &'a [u8]>,
    coding: &str,
) -> Option<u16> {
    let mut star = None;
    for value in accept_encoding {
        let Ok(value) = std::str::from_utf8(value) else { continue };
        for member in split(value, ',') {
            let (name, parameter) = member.split_once(';').unwrap_or((member, "q=1"));
            let Some((q, quality)) = parameter.split_once('=') else { continue };
            let Some(quality) = thousandths(quality.trim()) else { continue };
            if !q.trim().eq_ignore_ascii_case("q") {
                continue;
            }
            let name = name.trim();
            // RFC 9110 section 8.4.1.3: the old name is the same coding.
            let is_it = name.eq_ignore_ascii_case(coding)
                || (coding == "gzip" && name.eq_ignore_ascii_case("x-gzip"));
            if is_it {
                return Some(quality);
            }
            if name == "*" {
                star = Some(quality);
            }
        }
    }
    // Without a word about it the plain file is welcome, unless nothing else than what is named is.
    if coding == "identity" { star.filter(|quality| *quality == 0) } else { star }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field: &str, coding: &str) -> Option<u16> {
        coding_weight(std::iter::once(field.as_bytes()), coding)
    }

    #[test]
    fn weights_are_those_of_rfc_9110_section_12_5_3() {
        for (field, coding, expected) in [
            ("gzip, br", "br", Some(1000)),
            ("gzip, br", "zstd", None),
            ("gzip;q=0.5, BR ; q=0.25", "br", Some(250)),
            ("x-gzip", "gzip", Some(1000)),
            ("*", "zstd", Some(1000)),
            ("*;q=0.1, zstd;q=0", "zstd", Some(0)),
            ("", "gzip", None),
            ("gzip;q=2", "gzip", None),
            ("gzip;level=9", "gzip", None),
            ("*;q=0", "identity", Some(0)),
            ("*;q=0.5", "identity", None),
            ("identity;q=0.5", "identity", Some(500)),
        ] {
            assert_eq!(of(field, coding), expected, "{field} {coding}");
        }
    }
}
