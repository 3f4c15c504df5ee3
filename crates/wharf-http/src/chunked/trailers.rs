//! The trailer section (RFC 9112 section 7.1.2): field lines behind the last chunk.
//!
//! Unlike a head it cannot be read where it lies, for it comes in pieces behind data that is long
//! gone; so its bytes are gathered in a bounded buffer that exists only once a field comes.

use super::ChunkedLimits;
use crate::fields::{known, trim};
use crate::refusal::Refusal;
use crate::request::careful::{line_ends, no_colon};
use crate::scan::{self, Narrow};
use crate::span::{FieldSpan, Span};

#[derive(Debug, Default)]
pub(super) struct Trailers {
    /// The field lines; `bytes.len() <= limits.trailer_bytes`.
    bytes: Vec<u8>,
    fields: Vec<FieldSpan>,
    /// Where the line starts that is being read; once ended, `bytes.len()`.
    line: usize,
    /// All of that line before here has been found good.
    scanned: usize,
    /// Where its colon stands; 0 if it has not been reached.
    colon: usize,
    /// Whether the CR of the empty line has come.
    empty_line: bool,
}

impl Trailers {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.line = 0;
        self.scanned = 0;
        self.colon = 0;
        self.empty_line = false;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn fields(&self) -> &[FieldSpan] {
        &self.fields
    }

    /// Reads on. How many bytes of the non-empty input are done with, and whether the section has
    /// ended.
    pub(super) fn read(
        &mut self,
        input: &[u8],
        limits: &ChunkedLimits,
    ) -> Result<(usize, bool), Refusal> {
        let mut at = 0;
        while at < input.len() {
            if self.empty_line {
                return if input[at] == b'\n' { Ok((at + 1, true)) } else { Err(Refusal::BareCr) };
            }
            if self.line == self.bytes.len() && input[at] == b'\r' {
                self.empty_line = true;
                at += 1;
                continue;
            }
            at += self.gather(&input[at..], limits)?;
        }
        Ok((at, false))
    }

    /// Takes the bytes of one field line, or as many as are there, and judges them.
    fn gather(&mut self, input: &[u8], limits: &ChunkedLimits) -> Result<usize, Refusal> {
        let limit = limits.trailer_bytes.min(usize::from(u16::MAX));
        let room = limit.saturating_sub(self.bytes.len());
        let line = input.iter().position(|&byte| byte == b'\n').map_or(input.len(), |lf| lf + 1);
        let taken = line.min(room);
        self.bytes.extend_from_slice(&input[..taken]);
        if !self.field_line(limits)? && self.bytes.len() >= limit {
            return Err(Refusal::TrailersTooLarge);
        }
        Ok(taken)
    }

    /// The grammar of a head's field lines, and the same refusals. Whether the line is whole.
    fn field_line(&mut self, limits: &ChunkedLimits) -> Result<bool, Refusal> {
        let (bytes, line) = (&self.bytes[..], self.line);
        if self.colon == 0 {
            let name_end = scan::token_end::<Narrow>(bytes, self.scanned.max(line));
            match bytes.get(name_end) {
                None => {
                    self.scanned = name_end;
                    return Ok(false);
                }
                Some(b':') if name_end > line => self.colon = name_end,
                Some(&other) => return Err(no_colon(other, name_end == line)),
            }
        }
        let line_end = scan::value_end::<Narrow>(bytes, self.scanned.max(self.colon + 1));
        self.scanned = line_end;
        if !line_ends(bytes, line_end, Refusal::BadFieldValue)? {
            return Ok(false);
        }
        if self.fields.len() >= limits.trailer_fields {
            return Err(Refusal::TooManyTrailers);
        }
        let name = Span::new(line, self.colon);
        // RFC 9110 section 6.5.1 bars what is needed for framing, routing and the like. These six
        // would have been acted on in the head, so here they are an attempt at something.
        if known(name.of(bytes)).is_some() {
            return Err(Refusal::ForbiddenTrailer);
        }
        let raw = &bytes[self.colon + 1..line_end];
        let value = trim(raw);
        // The value is a part of `raw`, so the distance of their first bytes is its offset.
        let start = self.colon + 1 + (value.as_ptr().addr() - raw.as_ptr().addr());
        self.fields.push(FieldSpan { name, value: Span::new(start, start + value.len()) });
        self.line = line_end + 2;
        self.scanned = 0;
        self.colon = 0;
        Ok(true)
    }
}
