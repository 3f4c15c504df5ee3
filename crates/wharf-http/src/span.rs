//! Places inside a message, as offsets.
//!
//! A head is parsed where it lies and nothing is copied out of it. What the parser hands back are
//! offsets from the head's first byte; the bytes are bound to them last, by whoever holds them.

/// A run of bytes inside a head, as offsets from the head's first byte.
///
/// Sixteen bits are enough because a head is at most 65,535 bytes
/// ([`HeadLimits`](crate::HeadLimits)), and they keep a field at 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u16,
    /// Offset after the last byte: `start <= end`.
    pub end: u16,
}

impl Span {
    /// A span of offsets that the caller knows to be inside a head, hence below 65,536.
    #[inline(always)]
    pub(crate) fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= usize::from(u16::MAX));
        Span { start: start as u16, end: end as u16 }
    }

    /// The bytes of this span within `bytes`, which must begin where the head begins.
    ///
    /// # Panics
    ///
    /// If `bytes` is shorter than the span's end: it is then not the head that was parsed.
    #[inline]
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..usize::from(self.end)]
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub fn len(self) -> usize {
        usize::from(self.end) - usize::from(self.start)
    }

    /// Whether the span has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// A header or trailer field: where its name and its value lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSpan {
    /// The name, a non-empty token, in the letter case in which it came.
    pub name: Span,
    /// The value, without the white space around it; may be empty.
    pub value: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_eight_bytes() {
        assert_eq!(size_of::<FieldSpan>(), 8);
    }

    #[test]
    fn a_span_names_its_bytes() {
        let span = Span::new(1, 3);
        assert_eq!(span.of(b"abcd"), b"bc");
        assert_eq!(span.len(), 2);
        assert!(!span.is_empty());
        assert!(Span::default().is_empty());
    }
}
