//! What of an answer a request asks for: nothing new, a part, several parts, or all of it
//! (RFC 9110 sections 13 and 14).
//!
//! Runs behind the handler, which need not know of any of this. What the fields mean is
//! `wharf-http`'s to say.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use wharf_http::{
    Condition, Date, EntityTag, Selection, evaluate_conditions, http_date_seconds, select_ranges,
};
use wharf_port::FileRange;

use crate::error::Error;
use crate::fields::Known;
use crate::response::{Body, Part, Wording};
use crate::{Request, Response};

const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// Fields that describe the body (RFC 9110 section 8) and do not fit another one.
const OF_THE_BODY: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LENGTH,
];

impl Response {
    /// Gives the answer a strong entity tag, the name of this state of what it shows (RFC 9110
    /// section 8.8.3), and makes it [conditional](Response::conditional). A number that grows with
    /// every change makes a good one, or a hash of the body. Wharf adds the quotes.
    ///
    /// ```
    /// use wharf::{Request, Response};
    ///
    /// fn order(_: &Request) -> Response {
    ///     let (version, json) = (7, r#"{"id":1}"#); // from a database, say
    ///     Response::json(json).etag(&format!("v{version}"))
    /// }
    /// # let _ = order;
    /// ```
    ///
    /// A quote, a space or a control character in it turns the whole answer into a bare `500`, as
    /// with [`header`](Response::header).
    pub fn etag(self, tag: &str) -> Response {
        let quoted = format!("\"{tag}\"");
        if tag.contains(' ') || EntityTag::parse(quoted.as_bytes()).is_none() {
            tracing::error!("an answer is not sent: {tag:?} is no entity tag");
            return self.spoiled();
        }
        self.header(header::ETAG, quoted).conditional()
    }

    /// Says when what the answer shows was last changed, to the second (RFC 9110 section 8.8.2),
    /// and makes it [conditional](Response::conditional). Times before 1970 are left out, and one in
    /// the future is said to be now (section 8.8.2.1).
    pub fn last_modified(self, at: SystemTime) -> Response {
        match at.duration_since(UNIX_EPOCH) {
            Ok(since) => self.dated(since.as_secs().min(now())).conditional(),
            Err(_) => self,
        }
    }

    fn dated(self, seconds: u64) -> Response {
        // A date has no control characters.
        match HeaderValue::from_bytes(Date::at(seconds).as_bytes()) {
            Ok(value) => self.header(header::LAST_MODIFIED, value),
            Err(_) => self,
        }
    }

    /// Has Wharf compare the answer to what the request asks for: a client that has it already gets
    /// `304 Not Modified`, one that wants it only in another state `412 Precondition Failed`, and
    /// one that asks for [ranges](Request::range) these alone.
    ///
    /// What is compared are the answer's own ETag and Last-Modified, and only if the answer is a
    /// `200 OK` to GET or HEAD. Files are conditional by themselves. An answer that must not be
    /// given in parts says so by a field `accept-ranges: none`; a body that is produced while it is sent
    /// never is.
    pub fn conditional(mut self) -> Response {
        self.set_conditional(true);
        self
    }

    /// What of this answer the request asks for. Decided once, unless a hook asks for it again: it
    /// may have weakened a tag that a condition was compared to.
    #[inline]
    pub(crate) fn selected(mut self, request: &Request) -> Response {
        if !self.is_conditional() || self.status() != StatusCode::OK {
            return self;
        }
        self.set_conditional(false);
        select(self, request)
    }
}

fn select(response: Response, request: &Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return response;
    }
    let value = |name: &HeaderName| {
        response.headers().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes())
    };
    let now = now();
    let validators = wharf_http::Validators {
        entity_tag: value(&header::ETAG).and_then(EntityTag::parse),
        last_modified: value(&header::LAST_MODIFIED).and_then(|date| http_date_seconds(date, now)),
    };
    match conditions(request, Some(&validators), now) {
        Condition::NotModified => not_modified(response),
        Condition::Failed => failed(response),
        Condition::Proceed { range } => part(response, range),
    }
}

/// In seconds since the start of 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The request's conditions, evaluated against the present state.
fn conditions<'r>(
    request: &'r Request,
    current: Option<&wharf_http::Validators>,
    now: u64,
) -> Condition<'r> {
    let fields = request.headers().map(|(name, value)| (name.as_bytes(), value));
    evaluate_conditions(request.method().as_str().as_bytes(), fields, current, now)
}

/// RFC 9110 section 15.4.5: the fields by which a cache finds and renews what it has, and none that
/// describe the body.
fn not_modified(response: Response) -> Response {
    let has_tag = response.has_field(&header::ETAG);
    response
        .without(|name| {
            OF_THE_BODY.contains(name)
                || *name == header::ACCEPT_RANGES
                || (has_tag && *name == header::LAST_MODIFIED)
        })
        .body(Bytes::new())
        .with_status(StatusCode::NOT_MODIFIED)
}

/// RFC 9110 section 15.5.13.
fn failed(response: Response) -> Response {
    response
        .without(|name| OF_THE_BODY.contains(name))
        .typed(Known::Text)
        .body("It has changed: the request's condition does not hold.\n")
        .worded(Wording::Own)
        .with_status(StatusCode::PRECONDITION_FAILED)
}

/// The ranges that are asked for; the whole if none are.
fn part(response: Response, range: Option<&[u8]>) -> Response {
    let has_ranges = response
        .headers()
        .find(|(name, _)| **name == header::ACCEPT_RANGES)
        .is_none_or(|(_, value)| *value == BYTES);
    let Some(length) = response.divisible_len().filter(|_| has_ranges) else { return response };
    let response = response.or_field(header::ACCEPT_RANGES, BYTES);
    let Some(range) = range else { return response };
    let mut ranges = Vec::new();
    match select_ranges(range, length, &mut ranges) {
        Selection::Whole => response,
        Selection::Unsatisfiable => unsatisfiable(response, length),
        Selection::Partial => match ranges.as_slice() {
            [range] => single(response, range, length),
            _ => several(response, &ranges, length),
        },
    }
}

/// RFC 9110 section 15.5.17.
fn unsatisfiable(response: Response, length: u64) -> Response {
    response
        .without(|name| OF_THE_BODY.contains(name))
        .typed(Known::Text)
        .header(header::CONTENT_RANGE, format!("bytes */{length}"))
        .body(format!("There are {length} bytes, and none where they were asked for.\n"))
        .worded(Wording::Own)
        .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
}

/// RFC 9110 section 15.3.7.1.
fn single(mut response: Response, range: &Range<u64>, length: u64) -> Response {
    let mut parts = VecDeque::new();
    let body = response.take_body();
    cut(&body, range, &mut parts);
    response
        .parts(parts)
        .header(header::CONTENT_RANGE, content_range(range, length))
        .with_status(StatusCode::PARTIAL_CONTENT)
}

/// RFC 9110 section 15.3.7.2 and 14.6: each part has a head of its own.
fn several(mut response: Response, ranges: &[Range<u64>], length: u64) -> Response {
    // A boundary may be in no part. The bytes of a file are not looked at, but that 128 bits which
    // nobody can foresee should be in it is not to be expected.
    let chance = || RandomState::new().build_hasher().finish();
    let boundary = format!("{:016x}{:016x}", chance(), chance());
    let content_type = response.headers().find(|(name, _)| **name == header::CONTENT_TYPE);
    let mut part_type = Vec::new();
    if let Some((_, value)) = content_type {
        part_type = [b"content-type: ", value.as_bytes(), b"\r\n"].concat();
    }
    let body = response.take_body();
    let mut parts = VecDeque::with_capacity(2 * ranges.len() + 1);
    let mut line_end = "";
    for range in ranges {
        let mut head = format!("{line_end}--{boundary}\r\n").into_bytes();
        head.extend_from_slice(&part_type);
        head.extend_from_slice(b"content-range: ");
        wharf_http::content_range(&mut head, range, length);
        head.extend_from_slice(b"\r\n\r\n");
        parts.push_back(Part::Bytes(head.into()));
        cut(&body, range, &mut parts);
        line_end = "\r\n";
    }
    parts.push_back(Part::Bytes(format!("\r\n--{boundary}--\r\n").into()));
    let multipart = format!("multipart/byteranges; boundary={boundary}");
    response
        .parts(parts)
        .header(header::CONTENT_TYPE, multipart)
        .with_status(StatusCode::PARTIAL_CONTENT)
}

fn content_range(range: &Range<u64>, length: u64) -> String {
    let mut value = Vec::with_capacity(64);
    wharf_http::content_range(&mut value, range, length);
    String::from_utf8(value).unwrap_or_default()
}

/// Appends a range of the body to `parts`.
fn cut(body: &Body, range: &Range<u64>, parts: &mut VecDeque<Part>) {
    match body {
        Body::Whole(bytes) => push_cut(bytes, 0, range, parts),
        Body::Parts(pieces) => {
            let mut at = 0;
            for piece in pieces {
                match piece {
                    Part::Bytes(bytes) => push_cut(bytes, at, range, parts),
                    Part::File(file) => {
                        let wanted = overlap(at, file.length, range);
                        if !wanted.is_empty() {
                            parts.push_back(Part::File(FileRange {
                                file: file.file.clone(),
                                offset: file.offset + wanted.start,
                                length: wanted.end - wanted.start,
                            }));
                        }
                    }
                }
                at += piece.len();
            }
        }
        // Has no divisible length, so no ranges are selected from it.
        Body::Stream(_) => {}
    }
}

/// Appends what the range takes of bytes that begin `at` bytes into the body.
fn push_cut(bytes: &Bytes, at: u64, range: &Range<u64>, parts: &mut VecDeque<Part>) {
    let wanted = overlap(at, bytes.len() as u64, range);
    if !wanted.is_empty() {
        // Within the bytes, so within what can be addressed.
        parts.push_back(Part::Bytes(bytes.slice(wanted.start as usize..wanted.end as usize)));
    }
}

/// What the range takes of `length` bytes that begin `at` bytes into the body, counted from there.
fn overlap(at: u64, length: u64, range: &Range<u64>) -> Range<u64> {
    let start = range.start.max(at).min(at + length);
    let end = range.end.min(at + length).max(start);
    start - at..end - at
}

/// What parts of something a request asks for. See [`Request::range`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// All of it.
    Whole,
    /// These bytes of it: at least one range, none empty, none overlapping another, all inside.
    Parts(Vec<Range<u64>>),
    /// Nothing that there is: to be answered with `416 Range Not Satisfiable`.
    Unsatisfiable,
}

/// What tells one state of a resource from another: for [`Request::check_conditions`].
///
/// ```
/// use wharf::Validators;
///
/// let current = Validators::new().etag("v7");
/// # let _ = current;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Validators {
    quoted: Option<String>,
    last_modified: Option<u64>,
}

impl Validators {
    /// There is something, but nothing tells its states apart.
    pub fn new() -> Validators {
        Validators::default()
    }

    /// The strong entity tag, as given to [`Response::etag`].
    #[must_use]
    pub fn etag(mut self, tag: &str) -> Validators {
        self.quoted = Some(format!("\"{tag}\""));
        self
    }

    /// When it was last changed.
    #[must_use]
    pub fn last_modified(mut self, at: SystemTime) -> Validators {
        self.last_modified = at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        self
    }
}

impl Request {
    /// What the field Range asks for of something that is `length` bytes long (RFC 9110 section
    /// 14.2). [`Ranges::Whole`] if there is no such field, if it is malformed, if the method is not
    /// GET, and if an If-Range is there, which is not for this method to judge.
    ///
    /// An answer that is [conditional](Response::conditional) does all this by itself; this is for
    /// handlers that fetch only what is asked for.
    ///
    /// ```
    /// use wharf::{Ranges, Request, Response, StatusCode};
    ///
    /// fn video(request: &Request) -> Response {
    ///     let length = 10_000;
    ///     match request.range(length) {
    ///         Ranges::Parts(ranges) if ranges.len() == 1 => {
    ///             let (first, last) = (ranges[0].start, ranges[0].end - 1);
    ///             let bytes = vec![0; (last - first + 1) as usize]; // from somewhere slow
    ///             Response::new(StatusCode::PARTIAL_CONTENT)
    ///                 .header("content-range", format!("bytes {first}-{last}/{length}"))
    ///                 .body(bytes)
    ///         }
    ///         Ranges::Unsatisfiable => Response::new(StatusCode::RANGE_NOT_SATISFIABLE)
    ///             .header("content-range", format!("bytes */{length}")),
    ///         _ => Response::new(StatusCode::OK).body(vec![0; length as usize]),
    ///     }
    /// }
    /// # let _ = video;
    /// ```
    pub fn range(&self, length: u64) -> Ranges {
        let mut fields = self.header_all("range");
        let (first, second) = (fields.next(), fields.next());
        let applies =
            *self.method() == Method::GET && self.header_bytes(header::IF_RANGE).is_none();
        let (Some(value), None, true) = (first, second, applies) else { return Ranges::Whole };
        let mut ranges = Vec::new();
        match select_ranges(value, length, &mut ranges) {
            Selection::Whole => Ranges::Whole,
            Selection::Partial => Ranges::Parts(ranges),
            Selection::Unsatisfiable => Ranges::Unsatisfiable,
        }
    }

    /// Checks If-Match, If-None-Match and If-Unmodified-Since before something is changed (RFC 9110
    /// section 13.2), so that nobody overwrites a state that they have not seen. `current` is what
    /// there is at present, `None` if there is nothing.
    ///
    /// For handlers of PUT, PATCH, DELETE and their like. What GET answers is compared behind its
    /// handler: see [`Response::conditional`].
    ///
    /// ```
    /// use wharf::{Error, Request, Validators};
    ///
    /// fn replace(request: &Request) -> Result<&'static str, Error> {
    ///     let version = 7; // of the order in the database
    ///     request.check_conditions(Some(&Validators::new().etag(&format!("v{version}"))))?;
    ///     Ok("replaced")
    /// }
    /// # let _ = replace;
    /// ```
    ///
    /// # Errors
    /// `412 Precondition Failed` if a condition does not hold.
    pub fn check_conditions(&self, current: Option<&Validators>) -> Result<(), Error> {
        let current = current.map(|current| wharf_http::Validators {
            entity_tag: current
                .quoted
                .as_ref()
                .and_then(|quoted| EntityTag::parse(quoted.as_bytes())),
            last_modified: current.last_modified,
        });
        match conditions(self, current.as_ref(), now()) {
            Condition::Failed => Err(Error::request(
                StatusCode::PRECONDITION_FAILED,
                "it has changed: the request's condition does not hold",
            )),
            Condition::Proceed { .. } | Condition::NotModified => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(parts: &VecDeque<Part>) -> Vec<u8> {
        parts
            .iter()
            .flat_map(|part| match part {
                Part::Bytes(bytes) => bytes.to_vec(),
                Part::File(_) => panic!("there are no files here"),
            })
            .collect()
    }

    #[test]
    fn every_range_of_a_body_in_pieces_is_that_of_the_whole() {
        let whole = b"headmiddle-and-tail";
        let pieces =
            [&whole[..4], &whole[4..4], &whole[4..10], &whole[10..]].map(Bytes::from_static);
        let body = Body::Parts(pieces.into_iter().map(Part::Bytes).collect());
        for start in 0..whole.len() {
            for end in start + 1..=whole.len() {
                let mut parts = VecDeque::new();
                cut(&body, &(start as u64..end as u64), &mut parts);
                assert_eq!(bytes_of(&parts), &whole[start..end]);
                assert!(parts.iter().all(|part| part.len() > 0));
            }
        }
    }

    #[test]
    fn tags_that_are_none_spoil_the_answer_and_not_the_next_line() {
        for tag in ["a\"b", "a b", "a\r\nset-cookie: x", "\u{7f}"] {
            let response = Response::text("x").etag(tag).checked();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{tag:?}");
        }
        let response = Response::text("x").etag("v1").etag("v2");
        let tags: Vec<_> = response.headers().filter(|(name, _)| **name == header::ETAG).collect();
        assert_eq!(tags.len(), 1, "there is one at the most");
        assert_eq!(tags[0].1, "\"v2\"");
    }

    #[test]
    fn boundaries_differ() {
        let boundary = || {
            let response = several(Response::text("abc"), &[0..1, 2..3], 3);
            let found = response.headers().find(|(name, _)| **name == header::CONTENT_TYPE);
            found.expect("it has a type").1.to_str().unwrap().to_owned()
        };
        let first = boundary();
        assert_eq!(first.len(), "multipart/byteranges; boundary=".len() + 32);
        assert_ne!(first, boundary());
    }
}
