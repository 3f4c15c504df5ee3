//! An answer's header fields, in a form that is cheap to make, to hand on and to write.
//!
//! Most answers have a content type of few. Those that are known beforehand are written out
//! beforehand too, line and all, and an answer refers to one by its address. Which fields Wharf
//! writes itself is not known here.

use http::header::{self, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// A content type that is written out beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Text,
    Html,
    Events,
    Json,
    Octets,
}

macro_rules! content_types {
    ($($value:literal),*) => {
        static VALUES: [HeaderValue; Known::COUNT] = [$(HeaderValue::from_static($value)),*];
        const LINES: [&str; Known::COUNT] = [$(concat!("content-type: ", $value, "\r\n")),*];
    };
}

// In the order of `Known`.
content_types!(
    "text/plain; charset=utf-8",
    "text/html; charset=utf-8",
    "text/event-stream",
    "application/json",
    "application/octet-stream"
);

static NAME: HeaderName = header::CONTENT_TYPE;

impl Known {
    pub(crate) const COUNT: usize = 5;

    fn value(self) -> &'static HeaderValue {
        &VALUES[self as usize]
    }

    /// The field line with its CRLF.
    pub(crate) fn line(self) -> &'static [u8] {
        LINES[self as usize].as_bytes()
    }
}

/// The fields in order, but that a known one stands first.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    known: Option<Known>,
    /// One more is what most answers have that have more at all.
    others: SmallVec<[(HeaderName, HeaderValue); 1]>,
}

impl Fields {
    #[inline]
    pub(crate) fn of(known: Known) -> Fields {
        Fields { known: Some(known), others: SmallVec::new() }
    }

    /// The one that was written out beforehand.
    pub(crate) fn known(&self) -> Option<Known> {
        self.known
    }

    /// The one that was written out beforehand, where there is no other.
    #[inline]
    pub(crate) fn into_known(self) -> Option<Known> {
        debug_assert!(self.others.is_empty());
        if !self.others.spilled() {
            // Nothing is in it and nothing behind it; to find that out would take twenty steps.
            std::mem::forget(self.others);
        }
        self.known
    }

    /// All but the one that was written out beforehand.
    pub(crate) fn others(&self) -> &[(HeaderName, HeaderValue)] {
        &self.others
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let known = self.known.map(|known| (&NAME, known.value()));
        known.into_iter().chain(self.others.iter().map(|(name, value)| (name, value)))
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.iter().any(|(existing, _)| existing == name)
    }

    pub(crate) fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.others.push((name, value));
    }

    /// Takes back the field that was pushed last.
    pub(crate) fn pop(&mut self) -> Option<(HeaderName, HeaderValue)> {
        self.others.pop()
    }

    /// Keeps those whose names pass.
    pub(crate) fn retain(&mut self, mut passes: impl FnMut(&HeaderName) -> bool) {
        self.known = self.known.filter(|_| passes(&NAME));
        self.others.retain(|(name, _)| passes(name));
    }

    /// Moves the fields of `later` behind these.
    pub(crate) fn append(&mut self, later: &mut Fields) {
        match later.known.take() {
            Some(known) if self.known.is_none() => self.known = Some(known),
            Some(known) => self.push(NAME.clone(), known.value().clone()),
            None => {}
        }
        self.others.append(&mut later.others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(fields: &Fields) -> Vec<(&str, &str)> {
        fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn what_is_written_out_is_what_the_field_says() {
        let all = [Known::Text, Known::Html, Known::Events, Known::Json, Known::Octets];
        assert_eq!(all.len(), Known::COUNT);
        for known in all {
            let line = format!("{NAME}: {}\r\n", known.value().to_str().unwrap());
            assert_eq!(known.line(), line.as_bytes());
        }
        assert_eq!(Known::Octets.value(), "application/octet-stream");
    }

    #[test]
    fn no_field_is_lost_whichever_has_a_known_one() {
        let other = || (header::ETAG, HeaderValue::from_static("\"a\""));
        let made = |known: Option<Known>| {
            let mut fields = known.map_or_else(Fields::default, Fields::of);
            fields.push(other().0, other().1);
            fields
        };
        let (html, etag) = (("content-type", "text/html; charset=utf-8"), ("etag", "\"a\""));
        let text = ("content-type", "text/plain; charset=utf-8");
        for (first, second, all) in [
            (None, None, vec![etag, etag]),
            (Some(Known::Html), None, vec![html, etag, etag]),
            (None, Some(Known::Html), vec![html, etag, etag]),
            (Some(Known::Text), Some(Known::Html), vec![text, etag, html, etag]),
        ] {
            let mut fields = made(first);
            fields.append(&mut made(second));
            assert_eq!(texts(&fields), all);
        }
    }

    #[test]
    fn the_known_one_is_found_and_taken_out_like_others() {
        let mut fields = Fields::of(Known::Json);
        fields.push(header::VARY, HeaderValue::from_static("accept"));
        assert!(fields.has(&header::CONTENT_TYPE) && fields.has(&header::VARY));
        fields.retain(|name| *name != header::CONTENT_TYPE);
        assert_eq!(texts(&fields), [("vary", "accept")]);
        assert!(fields.known().is_none());
    }
}
