//! The Cookie field (RFC 6265 section 4.2.1).

/// The cookies of a field's value, in order: names and values, without the quotes that a value may
/// stand in. What has no `=` is passed over.
///
/// ```
/// let pairs: Vec<_> = wharf_http::cookies("sid=4f1d; theme=\"dark\"").collect();
/// assert_eq!(pairs, [("sid", "4f1d"), ("theme", "dark")]);
/// ```
pub fn cookies(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim();
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        Some((name.trim(), unquoted.unwrap_or(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_read_as_they_were_sent() {
        let read = |line| cookies(line).collect::<Vec<_>>();
        assert_eq!(read("a=1; b=2"), [("a", "1"), ("b", "2")]);
        assert_eq!(
            read("a=1;b=x=y ;; novalue; c=\"q\"; d=\"; e="),
            [("a", "1"), ("b", "x=y"), ("c", "q"), ("d", "\""), ("e", "")]
        );
        assert_eq!(read(""), []);
    }
}
