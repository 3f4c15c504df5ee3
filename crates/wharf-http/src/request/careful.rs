//! The careful path: one line, part after part, when the straight path did not take it.
//!
//! A line comes here because it is not all there, because something is wrong with it, or because
//! it is right but unusual. Each part is scanned from where the last call stopped. The checks stand
//! in the order of the bytes they look at: that order is what makes the outcome independent of how
//! the bytes were cut.

use super::{
    HeadLimits, LEADING_EMPTY_LINES, METHOD_BYTES, RequestHead, Stage, TargetForm, Version, target,
};
use crate::refusal::Refusal;
use crate::scan::{self, Narrow};
use crate::span::Span;

impl RequestHead {
    /// Reads the request line. Whether it is whole.
    #[cold]
    #[inline(never)]
    pub(super) fn request_line_carefully(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<bool, Refusal> {
        if !self.skip_empty_lines(bytes)? {
            return Ok(false);
        }
        let limit = self.line.saturating_add(limits.request_line_bytes).saturating_add(2);
        let seen = &bytes[..bytes.len().min(limit)];
        if self.limited_request_line(seen)? {
            return Ok(true);
        }
        if bytes.len() >= limit { Err(Refusal::RequestLineTooLong) } else { Ok(false) }
    }

    /// RFC 9112 section 2.2: empty lines before the request line are to be ignored. Whether the
    /// request line has begun.
    fn skip_empty_lines(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        while self.leading < LEADING_EMPTY_LINES && bytes.get(self.line) == Some(&b'\r') {
            match bytes.get(self.line + 1) {
                None => return Ok(false),
                Some(b'\n') => {
                    self.line += 2;
                    self.leading += 1;
                }
                Some(_) => return Err(Refusal::BareCr),
            }
        }
        Ok(self.line < bytes.len())
    }

    /// `method SP target SP version CRLF` (RFC 9112 section 3), with single spaces and nothing
    /// else between the parts.
    fn limited_request_line(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        let start = self.line;
        let method_limit = bytes.len().min(start + METHOD_BYTES + 1);
        let method_end = scan::token_end::<Narrow>(&bytes[..method_limit], start);
        if method_end - start > METHOD_BYTES {
            return Err(Refusal::MethodTooLong);
        }
        match bytes.get(method_end) {
            None => return Ok(false),
            Some(b' ') if method_end > start => {}
            Some(&other) => return Err(misplaced(other, Refusal::BadMethod)),
        }

        let target_start = method_end + 1;
        let target_end = scan::target_end::<Narrow>(bytes, self.scanned.max(target_start));
        match bytes.get(target_end) {
            None => {
                self.scanned = target_end;
                return Ok(false);
            }
            Some(b' ') if target_end > target_start => {}
            Some(&other) => return Err(misplaced(other, Refusal::BadTarget)),
        }
        self.scanned = target_end;
        let found = target::read(&bytes[start..method_end], &bytes[target_start..target_end])?;

        let Some(version) = version(&bytes[target_end + 1..])? else { return Ok(false) };
        self.facts.version = version;
        self.method = Span::new(start, method_end);
        self.target = Span::new(target_start, target_end);
        self.form = found.form;
        if found.form == TargetForm::Authority {
            self.facts.note_connect();
        }
        let (from, to) = (found.authority.start, found.authority.end);
        self.authority = Span::new(target_start + from, target_start + to);
        self.path_start = (target_start + found.path_start) as u16;
        self.question = (target_start + found.question) as u16;
        self.begin_line(Stage::Fields, target_end + 11);
        Ok(true)
    }

    /// Reads one field line, or the empty line that ends the head. Whether it is whole.
    #[cold]
    #[inline(never)]
    pub(super) fn field_line_carefully(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<bool, Refusal> {
        let line = self.line;
        if self.colon == 0 {
            let name_end = scan::token_end::<Narrow>(bytes, self.scanned.max(line));
            match bytes.get(name_end) {
                None => {
                    self.scanned = name_end;
                    return Ok(false);
                }
                Some(b':') if name_end > line => self.colon = name_end,
                Some(b'\r') if name_end == line => return self.empty_line(bytes),
                Some(&other) => return Err(no_colon(other, name_end == line)),
            }
        }
        let line_end = scan::value_end::<Narrow>(bytes, self.scanned.max(self.colon + 1));
        self.scanned = line_end;
        if !line_ends(bytes, line_end, Refusal::BadFieldValue)? {
            return Ok(false);
        }
        self.enter(bytes, line, self.colon, line_end, limits)?;
        self.note_last(bytes)?;
        self.begin_line(Stage::Fields, line_end + 2);
        Ok(true)
    }

    fn empty_line(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        if !line_ends(bytes, self.line, Refusal::BareCr)? {
            return Ok(false);
        }
        self.facts.conclude()?;
        self.begin_line(Stage::Whole, self.line + 2);
        Ok(true)
    }
}

/// Whether the CRLF that ends a line is there; no if its bytes have not come.
pub(crate) fn line_ends(bytes: &[u8], at: usize, other: Refusal) -> Result<bool, Refusal> {
    match (bytes.get(at), bytes.get(at + 1)) {
        (None, _) | (Some(b'\r'), None) => Ok(false),
        (Some(b'\r'), Some(b'\n')) => Ok(true),
        // RFC 9112 section 2.2: a bare CR is invalid or becomes a space; we take no chances.
        (Some(b'\r'), Some(_)) => Err(Refusal::BareCr),
        // The same section lets a recipient take a lone LF for a line end. That two parsers
        // differ in this is what request smuggling lives on, so no.
        (Some(b'\n'), _) => Err(Refusal::BareLf),
        (Some(_), _) => Err(other),
    }
}

/// Why a byte that ended the method or the target may not stand there.
fn misplaced(byte: u8, otherwise: Refusal) -> Refusal {
    match byte {
        b'\n' => Refusal::BareLf,
        b'\r' => Refusal::BadRequestLine,
        _ => otherwise,
    }
}

/// Why a byte that ended a field's name is not the colon it should be.
pub(crate) fn no_colon(byte: u8, at_start: bool) -> Refusal {
    match byte {
        b'\n' => Refusal::BareLf,
        // RFC 9112 section 5.2 (obs-fold), and section 2.2 for the first field line.
        b' ' | b'\t' if at_start => Refusal::FoldedLine,
        // RFC 9112 section 5.1: "A server MUST reject [...] with a response status code of 400".
        b' ' | b'\t' => Refusal::SpaceBeforeColon,
        b':' => Refusal::EmptyFieldName,
        _ => Refusal::BadFieldName,
    }
}

/// `HTTP/` digit `.` digit CRLF; `None` if it is not all there.
fn version(bytes: &[u8]) -> Result<Option<Version>, Refusal> {
    for (at, &byte) in bytes.iter().take(8).enumerate() {
        let right = match at {
            5 | 7 => byte.is_ascii_digit(),
            _ => byte == b"HTTP/1.1"[at],
        };
        if !right {
            let bare_lf = byte == b'\n';
            return Err(if bare_lf { Refusal::BareLf } else { Refusal::BadVersion });
        }
    }
    if bytes.len() < 8 {
        return Ok(None);
    }
    if bytes[5] != b'1' {
        return Err(Refusal::UnsupportedVersion);
    }
    let whole = line_ends(bytes, 8, Refusal::BadVersion)?;
    Ok(whole.then_some(if bytes[7] == b'0' { Version::Http10 } else { Version::Http11 }))
}
