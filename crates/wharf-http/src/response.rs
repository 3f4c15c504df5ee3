//! The head of a response, written into a vector of the caller's.
//!
//! Nothing here allocates if the vector has room. What a program supplies, names and values, is
//! checked on its way in, and there is no way round the check: a response cannot be split.

mod date;
mod status;

pub use date::Date;
pub use status::{status_allows_body, status_line, status_reason};

use crate::scan;
use std::fmt;

/// The answer to an expectation: the client may send its body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The empty line that ends a head.
pub const HEAD_END: &[u8] = b"\r\n";

/// A field that cannot be sent: its name is no token, or its value has a control byte. Nothing of
/// it has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidField {
    /// The name is empty or has a byte that no token has.
    Name,
    /// The value has a control byte, such as CR, LF or NUL.
    Value,
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidField::Name => "the field name is not a token",
            InvalidField::Value => "the field value has a control character",
        })
    }
}

impl std::error::Error for InvalidField {}

/// Writes a field line: `name: value` and CRLF.
///
/// # Errors
///
/// [`InvalidField`] if it would not be one field line; `out` is then as it was.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), InvalidField> {
    if !is_token(name) {
        return Err(InvalidField::Name);
    }
    if !is_field_value(value) {
        return Err(InvalidField::Value);
    }
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes `content-length: ` and the number.
#[inline]
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    write_length(out, length, b"\r\n");
}

/// Writes `content-length: `, the number, and the empty line that ends a head.
#[inline]
pub fn content_length_and_end(out: &mut Vec<u8>, length: u64) {
    write_length(out, length, b"\r\n\r\n");
}

#[inline]
fn write_length<const END: usize>(out: &mut Vec<u8>, length: u64, line_end: &[u8; END]) {
    const NAME: &[u8] = b"content-length: ";
    const DIGITS: usize = 20;
    /// The name, the digits, and at most two line ends.
    const ROOM: usize = NAME.len() + DIGITS + 4;
    let mut line = [0; ROOM];
    // Written from the end: the digits come last first, and how many there are shows only then.
    let end = ROOM - END;
    line[end..].copy_from_slice(line_end);
    let (mut at, mut rest) = (end, length);
    loop {
        at -= 1;
        line[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line[at - NAME.len()..at].copy_from_slice(NAME);
    out.extend_from_slice(&line[at - NAME.len()..]);
}

/// Whether the bytes are a token (RFC 9110 section 5.6.2), as methods and field names are.
#[inline]
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && scan::is_all_token(bytes)
}

/// Whether the bytes can stand in a field's value: no control byte but the tab (RFC 9110 section
/// 5.5). White space at the ends passes, though a recipient will drop it.
#[inline]
#[must_use]
pub fn is_field_value(bytes: &[u8]) -> bool {
    scan::is_all_value(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_one_line() {
        let mut out = Vec::new();
        field(&mut out, b"x-name", b"a value").unwrap();
        field(&mut out, b"x-empty", b"").unwrap();
        assert_eq!(out, b"x-name: a value\r\nx-empty: \r\n");
    }

    #[test]
    fn no_byte_splits_a_response() {
        for byte in 0..=255u8 {
            let mut out = Vec::new();
            let in_value = [b'a', byte, b'b'];
            let control = (byte < b' ' && byte != b'\t') || byte == 0x7f;
            assert_eq!(field(&mut out, b"n", &in_value).is_err(), control, "{byte:#x}");
            assert_eq!(out.is_empty(), control);
            let lines = out.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
            assert_eq!(lines, if control { 0 } else { 2 });
            let in_name = field(&mut Vec::new(), &in_value, b"v").is_ok();
            assert_eq!(in_name, crate::scan::class::is_token(byte), "{byte:#x}");
        }
        assert_eq!(field(&mut Vec::new(), b"", b"v"), Err(InvalidField::Name));
    }

    #[test]
    fn lengths_of_every_width() {
        for length in [0, 9, 10, 99, 100, 12_345, 18_446_744_073_709_551_615u64] {
            let mut out = Vec::new();
            content_length(&mut out, length);
            assert_eq!(out, format!("content-length: {length}\r\n").into_bytes());
            out.clear();
            content_length_and_end(&mut out, length);
            assert_eq!(out, format!("content-length: {length}\r\n\r\n").into_bytes());
        }
    }
}
