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

use crate::refusal::Refusal;
use crate::scan::{self, Block, Job};
use crate::span::{FieldSpan, Span};
use meaning::Facts;

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
        scan::dispatch(Parse { head: self, bytes, limits })
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

/// What [`RequestHead::parse`] hands to the scanner to be compiled for each instruction set.
struct Parse<'a> {
    head: &'a mut RequestHead,
    bytes: &'a [u8],
    limits: &'a HeadLimits,
}

impl Job for Parse<'_> {
    type Outcome = Result<Option<usize>, Refusal>;

    #[inline(always)]
    fn run<B: Block>(self) -> Self::Outcome {
        let Parse { head, bytes, limits } = self;
        let limit = limits.head_bytes.min(usize::from(u16::MAX));
        // Nothing beyond the limit is looked at, so offsets fit into 16 bits from here on.
        let seen = if bytes.len() > limit { &bytes[..limit] } else { bytes };
        if head.table.len() > limits.fields && head.stage == Stage::RequestLine {
            head.table.truncate(limits.fields);
        }
        if head.stage == Stage::RequestLine && !head.request_line::<B>(seen, limits)? {
            return unfinished(seen, limit);
        }
        if head.stage == Stage::Fields && !head.fields_to_end::<B>(seen, limits)? {
            return unfinished(seen, limit);
        }
        Ok(Some(head.line))
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
        let start = self.line;
        if self.scanned == 0 {
            let ends = scan::request_line::<B>(bytes, start);
            let version = match bytes.get(ends.target_end..ends.target_end + 11) {
                Some(b" HTTP/1.1\r\n") => Some(Version::Http11),
                Some(b" HTTP/1.0\r\n") => Some(Version::Http10),
                _ => None,
            };
            let method_bytes = ends.method_end - start;
            if let Some(version) = version
                && bytes.get(ends.method_end..ends.method_end + 2) == Some(b" /")
                && method_bytes.wrapping_sub(1) < METHOD_BYTES
                && ends.target_end - start <= limits.request_line_bytes.saturating_sub(9)
                && &bytes[start..ends.method_end] != b"CONNECT"
            {
                self.facts.version = version;
                self.method = Span::new(start, ends.method_end);
                self.target = Span::new(ends.method_end + 1, ends.target_end);
                self.form = TargetForm::Origin;
                self.path_start = self.target.start;
                self.question = ends.question as u16;
                self.begin_line(Stage::Fields, ends.target_end + 11);
                return Ok(true);
            }
        }
        self.request_line_carefully(bytes, limits)
    }

    /// Reads field lines up to and including the empty line. Whether that has come.
    #[inline(always)]
    fn fields_to_end<B: Block>(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<bool, Refusal> {
        loop {
            let line = self.line;
            if self.scanned == 0 {
                let ends = scan::field_line::<B>(bytes, line);
                // Behind a good line stands at least the empty line's CRLF; where that has not
                // come yet, the careful path looks.
                if let Some(four) = bytes.get(ends.value_end..ends.value_end + 4)
                    && bytes[ends.name_end] == b':'
                    && ends.name_end > line
                    && four[..2] == *b"\r\n"
                {
                    let next = ends.value_end + 2;
                    self.take_field(bytes, line, ends.name_end, ends.value_end, limits)?;
                    self.line = next;
                    if four[2..] == *b"\r\n" {
                        self.facts.conclude()?;
                        self.begin_line(Stage::Whole, next + 2);
                        return Ok(true);
                    }
                    continue;
                }
            }
            if !self.field_line_carefully(bytes, limits)? {
                return Ok(false);
            }
            if self.stage == Stage::Whole {
                return Ok(true);
            }
        }
    }

    /// Enters a field line, whose ends are known and whose bytes are good, into the table.
    #[inline(always)]
    fn take_field(
        &mut self,
        bytes: &[u8],
        line: usize,
        colon: usize,
        line_end: usize,
        limits: &HeadLimits,
    ) -> Result<(), Refusal> {
        // In a value that has been found good, only white space is as low as the space.
        let raw = &bytes[colon + 1..line_end];
        let mut value = raw;
        while let [..=b' ', rest @ ..] = value {
            value = rest;
        }
        let start = line_end - value.len();
        while let [rest @ .., ..=b' '] = value {
            value = rest;
        }
        let field = FieldSpan {
            name: Span::new(line, colon),
            value: Span::new(start, start + value.len()),
        };
        if self.count >= self.table.len() {
            self.grow(limits)?;
        }
        self.table[self.count] = field;
        self.count += 1;
        if crate::fields::may_be_known(colon - line, bytes[line]) {
            self.facts.note(bytes, field)?;
        }
        Ok(())
    }

    /// Makes room for another field, if the limit allows one.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, limits: &HeadLimits) -> Result<(), Refusal> {
        if self.count >= limits.fields {
            return Err(Refusal::TooManyFields);
        }
        let room = (self.count * 2).clamp(FIRST_FIELDS, limits.fields.max(FIRST_FIELDS));
        self.table.resize(room.min(limits.fields), FieldSpan::default());
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
