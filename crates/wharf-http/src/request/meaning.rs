//! What the six known fields of a head say together: where the body ends, whom the request is
//! for, what becomes of the connection.

use super::{Framing, Version};
use crate::authority::{Port, is_authority, is_five_digit_port};
use crate::fields::{Known, is_folded, known, members, trim};
use crate::refusal::Refusal;
use crate::scan::{self, Block, class};
use crate::span::{FieldSpan, Span};
use std::ops::Range;

// What was seen, one bit each.
const CODING: u16 = 1;
const LAST_CODING_CHUNKED: u16 = 1 << 1;
const OTHER_CODING: u16 = 1 << 2;
const CLOSE: u16 = 1 << 3;
const KEEP_ALIVE: u16 = 1 << 4;
const CONNECTION_UPGRADE: u16 = 1 << 5;
const UPGRADE: u16 = 1 << 6;
const CONTINUE: u16 = 1 << 7;
const CONNECT: u16 = 1 << 8;

/// The known fields' sum so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    seen: u16,
    pub(super) version: Version,
    pub(super) host: Option<Span>,
    pub(super) framing: Framing,
}

impl Facts {
    /// The method is CONNECT.
    pub(super) fn note_connect(&mut self) {
        self.seen |= CONNECT;
    }

    /// Takes a field into account if it is a known one.
    pub(super) fn note(&mut self, bytes: &[u8], field: FieldSpan) -> Result<(), Refusal> {
        let value = field.value.of(bytes);
        match known(field.name.of(bytes)) {
            None => Ok(()),
            Some(Known::Host) => self.note_host(value, field.value),
            Some(Known::ContentLength) => self.note_length(value),
            Some(Known::TransferEncoding) => self.note_coding(value),
            Some(Known::Connection) => self.note_connection(value),
            Some(Known::Expect) => self.note_expectation(value),
            Some(Known::Upgrade) => {
                self.seen |= UPGRADE;
                Ok(())
            }
        }
    }

    /// Takes the first Host into account if it is of the usual kind: a name or an IPv4 address,
    /// and perhaps a port. Whether it was.
    #[inline(always)]
    pub(super) fn note_plain_host<B: Block>(&mut self, bytes: &[u8], value: Range<usize>) -> bool {
        let Range { start, end } = value;
        let ends = scan::authority::<B>(bytes, start);
        let plain = if ends.host_end < end {
            let port_bytes = end - ends.host_end - 1;
            // Four digits are no number too large for a port.
            let in_range = port_bytes <= 4 || is_five_digit_port(&bytes[ends.host_end + 1..end]);
            bytes[ends.host_end] == b':' && ends.port_end == end && in_range
        } else {
            ends.host_end == end
        };
        if !plain || ends.host_end == start || self.host.is_some() {
            return false;
        }
        self.host = Some(Span::new(start, end));
        true
    }

    /// RFC 9112 section 3.2. An empty value is what a client sends whose target has no authority.
    fn note_host(&mut self, value: &[u8], span: Span) -> Result<(), Refusal> {
        if self.host.replace(span).is_some() {
            return Err(Refusal::RepeatedHost);
        }
        if !value.is_empty() && !is_authority(value, Port::Optional) {
            return Err(Refusal::BadHost);
        }
        Ok(())
    }

    /// RFC 9110 section 8.6 would let a list of equal numbers count as one. Equal or not, a
    /// request that says its length twice has been tampered with or comes from a broken sender.
    fn note_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.seen & (CODING | CONNECT) != 0 {
            return Err(self.framed_already());
        }
        if self.framing != Framing::None {
            return Err(Refusal::RepeatedLength);
        }
        self.framing = Framing::Length(crate::fields::decimal(value).ok_or(Refusal::BadLength)?);
        Ok(())
    }

    /// RFC 9112 sections 6.1 and 7. Several fields count as one list.
    fn note_coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.version == Version::Http10 {
            return Err(Refusal::CodingInHttp10);
        }
        if self.seen & CONNECT != 0 || matches!(self.framing, Framing::Length(_)) {
            return Err(self.framed_already());
        }
        self.seen |= CODING;
        let mut empty = true;
        for coding in members(value) {
            empty = false;
            if self.seen & LAST_CODING_CHUNKED != 0 {
                return Err(Refusal::ChunkedNotFinal);
            }
            let name_len = coding.iter().take_while(|&&byte| class::is_token(byte)).count();
            let (name, parameters) = (&coding[..name_len], trim(&coding[name_len..]));
            if name.is_empty() || !matches!(parameters, [] | [b';', ..]) {
                return Err(Refusal::BadCoding);
            }
            if !is_folded(name, b"chunked") {
                self.seen |= OTHER_CODING;
            } else if parameters.is_empty() {
                self.seen |= LAST_CODING_CHUNKED;
            } else {
                // RFC 9112 section 7.1: chunked has no parameters; "their presence SHOULD be
                // treated as an error".
                return Err(Refusal::BadCoding);
            }
        }
        if empty { Err(Refusal::BadCoding) } else { Ok(()) }
    }

    /// RFC 9110 section 9.3.6: CONNECT has no content. What follows it is the tunnel's to one reader
    /// and a body to another.
    #[cold]
    fn framed_already(&self) -> Refusal {
        if self.seen & CONNECT != 0 { Refusal::FramedConnect } else { Refusal::LengthWithCoding }
    }

    /// RFC 9110 section 7.6.1.
    fn note_connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if is_folded(value, b"keep-alive") {
            self.seen |= KEEP_ALIVE;
            return Ok(());
        }
        for option in members(value) {
            if !option.iter().all(|&byte| class::is_token(byte)) {
                return Err(Refusal::BadConnection);
            }
            if is_folded(option, b"close") {
                self.seen |= CLOSE;
            } else if is_folded(option, b"keep-alive") {
                self.seen |= KEEP_ALIVE;
            } else if is_folded(option, b"upgrade") {
                self.seen |= CONNECTION_UPGRADE;
            }
        }
        Ok(())
    }

    /// RFC 9110 section 10.1.1.
    fn note_expectation(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for expectation in members(value) {
            if !is_folded(expectation, b"100-continue") {
                return Err(Refusal::UnknownExpectation);
            }
            self.seen |= CONTINUE;
        }
        Ok(())
    }

    /// All fields have come: what can be judged only now.
    #[inline(always)]
    pub(super) fn conclude(&mut self) -> Result<(), Refusal> {
        if self.host.is_none() && self.version == Version::Http11 {
            return Err(Refusal::MissingHost);
        }
        if self.seen & CODING != 0 {
            return self.conclude_coding();
        }
        Ok(())
    }

    #[cold]
    fn conclude_coding(&mut self) -> Result<(), Refusal> {
        // RFC 9112 section 6.3: without chunked at the end nobody knows where the body ends, so
        // this MUST goes before the SHOULD about unknown codings.
        if self.seen & LAST_CODING_CHUNKED == 0 {
            return Err(Refusal::ChunkedNotFinal);
        }
        if self.seen & OTHER_CODING != 0 {
            return Err(Refusal::UnknownCoding);
        }
        self.framing = Framing::Chunked;
        Ok(())
    }

    pub(super) fn keep_alive(&self) -> bool {
        let by_default = self.version == Version::Http11 || self.seen & KEEP_ALIVE != 0;
        by_default && self.seen & CLOSE == 0
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.version == Version::Http11
            && self.seen & CONTINUE != 0
            && !matches!(self.framing, Framing::None | Framing::Length(0))
    }

    pub(super) fn upgrade(&self) -> bool {
        let both = UPGRADE | CONNECTION_UPGRADE;
        self.version == Version::Http11 && self.seen & both == both
    }
}
