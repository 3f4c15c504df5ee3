//! Entity tags: reading them and comparing them (RFC 9110 section 8.8.3).
//!
//! What a tag is made of is the origin's affair and not looked into here.

/// A validator that names one state of a representation: opaque, strong or weak.
///
/// ```
/// use wharf_http::EntityTag;
///
/// let strong = EntityTag::parse(b"\"v7\"").expect("a tag");
/// let weak = EntityTag::parse(b"W/\"v7\"").expect("a tag");
/// assert!(strong.matches_weakly(&weak));
/// assert!(!strong.matches_strongly(&weak));
/// assert_eq!(EntityTag::parse(b"v7"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    is_weak: bool,
    /// What stands between the quotes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Reads a tag that is the whole value of a field. None: it is no tag.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<EntityTag<'a>> {
        let (tag, rest) = EntityTag::first_of(value)?;
        rest.is_empty().then_some(tag)
    }

    /// Whether it vouches for equal meaning only, not for equal bytes.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.is_weak
    }

    /// Strong comparison: both are strong, and they are the same (RFC 9110 section 8.8.3.2).
    #[must_use]
    pub fn matches_strongly(&self, other: &EntityTag) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }

    /// Weak comparison: they are the same but for strength (RFC 9110 section 8.8.3.2).
    #[must_use]
    pub fn matches_weakly(&self, other: &EntityTag) -> bool {
        self.opaque == other.opaque
    }

    /// The tag that `bytes` begin with, and what follows it. A comma may be part of a tag, so lists
    /// cannot be split at commas.
    fn first_of(bytes: &'a [u8]) -> Option<(EntityTag<'a>, &'a [u8])> {
        // The W is the one letter of the grammar that has a case.
        let (is_weak, rest) = match bytes.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, bytes),
        };
        let rest = rest.strip_prefix(b"\"")?;
        let end = rest.iter().position(|&byte| byte == b'"')?;
        let opaque = &rest[..end];
        let is_allowed = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..);
        // Spaces are not in the grammar, but Wharf itself has nothing to fear from them.
        opaque
            .iter()
            .all(|byte| is_allowed(byte) || *byte == b' ')
            .then_some((EntityTag { is_weak, opaque }, &rest[end + 1..]))
    }
}

/// The tags of a list. What comes behind something that is no tag is not looked at.
pub(crate) fn tags(mut list: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', rest @ ..] = list {
            list = rest;
        }
        let (tag, rest) = EntityTag::first_of(list)?;
        // Between two members there is a comma (RFC 9110 section 5.6.1).
        let rest = crate::fields::trim(rest);
        list = if rest.first() == Some(&b',') { rest } else { &[] };
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_quoted_and_alone() {
        for good in ["\"\"", "\"a\"", "W/\"a\"", "\"a,b\"", "\"\u{e9}\""] {
            assert!(EntityTag::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in ["", "a", "\"", "\"a", "a\"", "w/\"a\"", "W/ \"a\"", "\"a\" ", "\"a\"b", "*"] {
            assert_eq!(EntityTag::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(EntityTag::parse(b"\"a\x01\""), None);
        assert_eq!(EntityTag::parse(b"\"a\x7f\""), None);
    }

    #[test]
    fn comparison_is_that_of_rfc_9110_section_8_8_3_2() {
        let tag = |text: &'static str| EntityTag::parse(text.as_bytes()).expect("a tag");
        for (one, other, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            assert_eq!(tag(one).matches_strongly(&tag(other)), strong, "{one} {other}");
            assert_eq!(tag(one).matches_weakly(&tag(other)), weak, "{one} {other}");
        }
    }

    #[test]
    fn lists_are_read_up_to_what_is_no_tag() {
        let of = |list: &str| tags(list.as_bytes()).count();
        assert_eq!(of("\"a\""), 1);
        assert_eq!(of(" \"a\" ,\tW/\"b\",,\"c,d\", "), 3);
        assert_eq!(of("\"a\", b, \"c\""), 1);
        assert_eq!(of("\"a\" \"b\""), 1);
        assert_eq!(of(",,,"), 0);
        assert_eq!(of("*"), 0);
    }
}
