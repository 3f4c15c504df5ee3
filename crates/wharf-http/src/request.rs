//! The head of a request: the table of offsets that the parser fills, and what it means.
//!
//! `RequestHead` is at once the result and the state to resume from. Its life:
//!
//! ```text
//!            leading CRLFs            field lines
//!              ┌───┐                    ┌───┐
//!              │   ▼    request line    │   ▼    empty line
//!  new ──────► RequestLine ──────────► Fields ──────────► Whole
//!   clear ◄──────── from anywhere, also after a refusal ────┘
//! ```
//!
//! Every byte is judged by what stands before it and never by what comes after, except that a CR
//! waits for the byte behind it. So the outcome cannot depend on how the bytes were cut, and a
//! peer that sends garbage learns it at the first wrong byte. Limits are judged in the same
//! order: what lies beyond a limit is not looked at.
//!
//! The lines are read by two paths that give the same answers. The straight one, in this file,
//! takes a line that is whole and in order; whatever it does not take goes to the careful one (in
//! `request/careful.rs`), which finds out what is wrong or missing.

pub(crate) mod careful;
mod meaning;
mod target;

use crate::fields;
use crate::refusal::Refusal;
use crate::scan::{self, Block, Job};
use crate::span::{FieldSpan, Span};
use meaning::Facts;
use std::ops::Range;

/// Bounds for a head. What is beyond them is refused, not truncated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the request line, its CRLF not counted; beyond it, 414. Default 8,192: RFC 9112
    /// section 3 recommends 8,000 at the least.
    pub request_line_bytes: usize,
    /// Bytes of the whole head, from its first byte to the empty line's LF, with any empty lines
    /// before the request line; beyond it, 431. Default 16,384. More than 65,535 counts as
    /// 65,535.
    pub head_bytes: usize,
    /// Header fields; beyond them, 431. Default 100.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { request_line_bytes: 8_192, head_bytes: 16_384, fields: 100 }
    }
}

/// The versions that are spoken. A higher minor version of HTTP/1 is taken for HTTP/1.1
/// (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, and what calls itself HTTP/1.2 to HTTP/1.9.
    #[default]
    Http11,
}

/// The four forms of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`, also with `https`.
    Absolute,
    /// `host:port`, with CONNECT only.
    Authority,
    /// `*`, with OPTIONS only.
    Asterisk,
}

/// How the end of a request's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// The body has this many bytes; it was said so, be it 0.
    Length(u64),
    /// The body is in chunks: see [`ChunkedDecoder`](crate::ChunkedDecoder).
    Chunked,
}

/// The longest method that is read; beyond it, 501. The longest registered one has 17 bytes.
pub(crate) const METHOD_BYTES: usize = 32;
/// Empty lines that are skipped before a request line (RFC 9112 section 2.2 asks for one at the
/// least, for clients that send one too many after a body).
pub(crate) const LEADING_EMPTY_LINES: u8 = 4;
/// Fields that the table has room for at first; it doubles up to the limit.
const FIRST_FIELDS: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    RequestLine,
    Fields,
    Whole,
}

/// A request's head: recycled from message to message, so that parsing allocates nothing once the
/// table has grown to the traffic's size.
///
/// What the accessors say holds once [`parse`](RequestHead::parse) has returned the head's length.
/// Every [`Span`] is relative to the first byte of the slice that was parsed.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// Room for fields; `count <= table.len() <= limits.fields`.
    table: Vec<FieldSpan>,
    count: usize,

    stage: Stage,
    /// Empty lines skipped so far.
    leading: u8,
    /// Where the first line that is not yet read starts; once whole, the head's length.
    line: usize,
    /// All of that line before here has been found good; 0 if none has been looked at.
    scanned: usize,
    /// Where the colon of that line stands; 0 if it has not been reached.
    colon: usize,

    method: Span,
    target: Span,
    /// The target's own authority; empty if it has none.
    authority: Span,
    /// `target.start <= path_start <= question <= target.end`
    path_start: u16,
    /// Where the target's `?` stands; its end if it has none.
    question: u16,
    form: TargetForm,
    facts: Facts,
}

impl RequestHead {
    /// An empty head. Allocates nothing; the table comes with the first field.
    #[must_use]
    pub fn new() -> RequestHead {
        RequestHead::default()
    }

    /// Forgets the message, keeps the memory: ready for the next message's first byte. Also to be
    /// called after a refusal if the head is to be used again.
    #[inline]
    pub fn clear(&mut self) {
        self.count = 0;
        self.stage = Stage::RequestLine;
        self.leading = 0;
        self.line = 0;
        self.scanned = 0;
        self.colon = 0;
        self.authority = Span::default();
        self.facts = Facts::default();
    }

    /// Reads on. `bytes` is everything received so far of this message, always from its first
    /// byte; what follows the head may stand there too.
    ///
    /// `Ok(Some(n))`: the head is whole and `n` bytes long. `Ok(None)`: it is good so far and more
    /// is needed. The work done is remembered, so feeding a head byte by byte costs no more than
    /// in proportion to its length, and yields the same outcome as feeding it whole.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] at the first byte that makes the head unacceptable. Answer with its status
    /// and close the connection.
    pub fn parse(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        scan::dispatch(self, bytes, limits)
    }

    /// The method, a token of 1 to 32 bytes; letter case counts.
    #[inline]
    #[must_use]
    pub fn method(&self) -> Span {
        self.method
    }

    /// The whole target as it came.
    #[inline]
    #[must_use]
    pub fn target(&self) -> Span {
        self.target
    }

    /// Which form the target has.
    #[inline]
    #[must_use]
    pub fn form(&self) -> TargetForm {
        self.form
    }

    /// The target's path, not decoded: percent signs are as they came and need not have digits
    /// behind them.
    ///
    /// In origin form it starts with `/`; in asterisk form it is `*`; in authority form it is
    /// empty. In absolute form it is empty or starts with `/`, and empty means `/` (RFC 9110
    /// section 4.2.3), or `*` for OPTIONS (RFC 9112 section 3.2.4).
    #[inline]
    #[must_use]
    pub fn path(&self) -> Span {
        Span { start: self.path_start, end: self.question }
    }

    /// What follows the target's first `?`; `None` if there is none.
    #[inline]
    #[must_use]
    pub fn query(&self) -> Option<Span> {
        let (question, end) = (self.question, self.target.end);
        (question < end).then(|| Span { start: question + 1, end })
    }

    /// Whom the request is for, a host with an optional port: the target's own authority if it
    /// has one, whatever Host says (RFC 9112 section 3.2.2), else Host if it is not empty.
    #[must_use]
    pub fn authority(&self) -> Option<Span> {
        if !self.authority.is_empty() {
            return Some(self.authority);
        }
        self.host().filter(|host| !host.is_empty())
    }

    /// The version by which the message is to be understood.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Version {
        self.facts.version
    }

    /// The header fields in the order in which they came.
    #[inline]
    #[must_use]
    pub fn fields(&self) -> &[FieldSpan] {
        &self.table[..self.count]
    }

    /// The value of Host, which may be empty; `None` in HTTP/1.0 without Host.
    #[inline]
    #[must_use]
    pub fn host(&self) -> Option<Span> {
        self.facts.host
    }

    /// How the end of the body is found.
    #[inline]
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.facts.framing
    }

    /// Whether the client wants the connection to go on after this message (RFC 9112 section
    /// 9.3). `close` wins over `keep-alive`.
    #[inline]
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.facts.keep_alive()
    }

    /// Whether the client waits for a 100 (Continue) before it sends its body (RFC 9110 section
    /// 10.1.1): HTTP/1.1 with `Expect: 100-continue` and a body to come.
    #[inline]
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.facts.expects_continue()
    }

    /// Whether the client offers to change the protocol (RFC 9110 section 7.8): HTTP/1.1 with an
    /// Upgrade field and `Connection: upgrade`.
    #[inline]
    #[must_use]
    pub fn upgrade(&self) -> bool {
        self.facts.upgrade()
    }
}

impl Job for RequestHead {
    type Terms = HeadLimits;
    type Outcome = Result<Option<usize>, Refusal>;

    #[inline(always)]
    fn run<B: Block>(&mut self, bytes: &[u8], limits: &HeadLimits) -> Self::Outcome {
        let limit = limits.head_bytes.min(usize::from(u16::MAX));
        // Nothing beyond the limit is looked at, so offsets fit into 16 bits from here on.
        let seen = if bytes.len() > limit { &bytes[..limit] } else { bytes };
        if self.stage == Stage::RequestLine {
            if self.table.len() > limits.fields {
                self.table.truncate(limits.fields);
            }
            if !self.request_line::<B>(seen, limits)? {
                return unfinished(seen, limit);
            }
        }
        if self.stage == Stage::Fields && !self.fields_to_end::<B>(seen, limits)? {
            return unfinished(seen, limit);
        }
        Ok(Some(self.line))
    }
}

/// More is needed, unless all that is allowed is there already.
#[cold]
fn unfinished(seen: &[u8], limit: usize) -> Result<Option<usize>, Refusal> {
    if seen.len() >= limit { Err(Refusal::HeadTooLarge) } else { Ok(None) }
}

impl RequestHead {
    /// Reads the request line. Whether it is whole.
    #[inline(always)]
    fn request_line<B: Block>(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<bool, Refusal> {
        if self.line == 0 && self.scanned == 0 && self.straight_request_line::<B>(bytes, limits) {
            return Ok(true);
        }
        self.request_line_carefully(bytes, limits)
    }

    /// Reads the request line if nothing stands before it, it is whole, in order, within its limit,
    /// of HTTP/1.1, and has a target in origin form. Whether it was.
    #[inline(always)]
    fn straight_request_line<B: Block>(&mut self, bytes: &[u8], limits: &HeadLimits) -> bool {
        let ends = scan::request_line::<B>(bytes, 0);
        let (method_end, target_end) = (ends.method_end, ends.target_end);
        let Some(tail) = bytes.get(target_end..target_end + 11) else { return false };
        // What nearly everybody sends is compared as two words that overlap.
        if word64(tail) != word64(b" HTTP/1.") || word64(&tail[3..]) != word64(b"TP/1.1\r\n") {
            return false;
        }
        if target_end + 9 > limits.request_line_bytes {
            return false;
        }
        if word16(&bytes[method_end..]) != word16(b" /") {
            return false;
        }
        if method_end == 0 || method_end > METHOD_BYTES {
            return false;
        }
        if method_end == 7 && bytes.starts_with(b"CONNECT") {
            return false;
        }
        self.facts.version = Version::Http11;
        self.method = Span::new(0, method_end);
        self.target = Span::new(method_end + 1, target_end);
        self.form = TargetForm::Origin;
        self.path_start = self.target.start;
        self.question = ends.question as u16;
        self.begin_line(Stage::Fields, target_end + 11);
        true
    }

    /// Reads field lines up to and including the empty line. Whether that has come.
    #[inline(always)]
    fn fields_to_end<B: Block>(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<bool, Refusal> {
        while self.stage == Stage::Fields {
            if self.scanned == 0 && self.straight_fields::<B>(bytes, limits)? {
                break;
            }
            if !self.field_line_carefully(bytes, limits)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the field lines that are whole and in order. Whether the empty line has come too; if
    /// not, what is next must be looked at with care.
    #[inline(always)]
    fn straight_fields<B: Block>(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<bool, Refusal> {
        let mut line = self.line;
        loop {
            let ends = scan::field_line::<B>(bytes, line);
            // Behind a good line stands at least the empty line's CRLF; if it has not come yet,
            // there are not four bytes.
            let Some(four) = bytes.get(ends.value_end..ends.value_end + 4) else { break };
            let right = bytes[ends.name_end] == b':' && ends.name_end > line;
            if !right || word16(four) != CRLF {
                break;
            }
            let value = self.enter(bytes, line, ends.name_end, ends.value_end, limits)?;
            let name = &bytes[line..ends.name_end];
            if fields::may_be_known(name)
                && !(fields::is_host(name) && self.facts.note_plain_host::<B>(bytes, value))
            {
                self.note_last(bytes)?;
            }
            line = ends.value_end + 2;
            if word16(&four[2..]) == CRLF {
                self.facts.conclude()?;
                self.begin_line(Stage::Whole, line + 2);
                return Ok(true);
            }
        }
        self.line = line;
        Ok(false)
    }

    /// Enters a field, whose ends are known and whose bytes are good, into the table. Its value.
    #[inline(always)]
    fn enter(
        &mut self,
        bytes: &[u8],
        line: usize,
        colon: usize,
        line_end: usize,
        limits: &HeadLimits,
    ) -> Result<Range<usize>, Refusal> {
        let value = trimmed(&bytes[..line_end], colon + 1);
        let field =
            FieldSpan { name: Span::new(line, colon), value: Span::new(value.start, value.end) };
        match self.table.get_mut(self.count) {
            Some(place) => *place = field,
            None => self.grow(field, limits)?,
        }
        self.count += 1;
        Ok(value)
    }

    /// Takes the meaning of the field that was entered last into account.
    #[inline(never)]
    fn note_last(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.facts.note(bytes, self.table[self.count - 1])
    }

    /// Makes room for a field beyond the table's end and enters it, if the limit allows.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, field: FieldSpan, limits: &HeadLimits) -> Result<(), Refusal> {
        if self.count >= limits.fields {
            return Err(Refusal::TooManyFields);
        }
        let room = (self.count * 2).max(FIRST_FIELDS).min(limits.fields);
        self.table.resize(room, FieldSpan::default());
        self.table[self.count] = field;
        Ok(())
    }

    /// The next line starts at `line`, and nothing of it has been looked at.
    #[inline(always)]
    fn begin_line(&mut self, stage: Stage, line: usize) {
        self.stage = stage;
        self.line = line;
        self.scanned = 0;
        self.colon = 0;
    }
}

/// CRLF as [`word16`] reads it.
const CRLF: u16 = u16::from_le_bytes(*b"\r\n");

/// The first two bytes. Comparing a word is one instruction where comparing a slice may be many.
#[inline(always)]
fn word16(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// The first eight bytes.
#[inline(always)]
fn word64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A value that starts at `start` and goes to the end of the slice, without the white space
/// around it. Its bytes have been found good, so only white space is as low as the space.
#[inline(always)]
fn trimmed(bytes: &[u8], start: usize) -> Range<usize> {
    // One space before and none behind is what nearly everybody sends.
    if let Some([b' ', value @ ..]) = bytes.get(start..)
        && let ([first, ..], [.., last]) = (value, value)
        && *first > b' '
        && *last > b' '
    {
        return start + 1..bytes.len();
    }
    unusually_trimmed(bytes, start)
}

#[cold]
#[inline(never)]
fn unusually_trimmed(bytes: &[u8], mut start: usize) -> Range<usize> {
    let mut end = bytes.len();
    while start < end && bytes[start] <= b' ' {
        start += 1;
    }
    while start < end && bytes[end - 1] <= b' ' {
        end -= 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fed byte by byte, each byte of a long part is looked at once: what has been found good is
    /// remembered to the last byte.
    #[test]
    fn what_has_been_scanned_is_not_scanned_again() {
        let limits = HeadLimits::default();
        for (start, part) in [
            ("GET /", "long-target"),
            ("GET / HTTP/1.1\r\n", "long-name"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "long value"),
        ] {
            let bytes = [start.to_owned(), part.repeat(100)].concat().into_bytes();
            let mut head = RequestHead::new();
            for end in 0..=bytes.len() {
                assert_eq!(head.parse(&bytes[..end], &limits), Ok(None));
                if end > start.len() {
                    assert_eq!(head.scanned, end);
                }
            }
        }
    }

    #[test]
    fn a_whole_head_stays_whole() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2";
        let limits = HeadLimits::default();
        let mut head = RequestHead::new();
        assert_eq!(head.parse(&bytes[..27], &limits), Ok(Some(27)));
        assert_eq!(head.parse(bytes, &limits), Ok(Some(27)));
        assert_eq!(head.fields().len(), 1);
    }

    #[test]
    fn the_table_grows_to_the_limit_and_not_beyond() {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        bytes.extend_from_slice(&b"X: y\r\n".repeat(79));
        bytes.extend_from_slice(b"\r\n");
        let mut head = RequestHead::new();
        for (fields, outcome) in [
            (100, Ok(Some(bytes.len()))),
            // Smaller than the table is by now.
            (79, Err(Refusal::TooManyFields)),
            (80, Ok(Some(bytes.len()))),
        ] {
            head.clear();
            let limits = HeadLimits { fields, ..HeadLimits::default() };
            assert_eq!(head.parse(&bytes, &limits), outcome);
            assert!(head.table.len() <= fields);
        }
    }
}
