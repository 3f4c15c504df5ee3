//! Answers as the load reads them: the head to its end, then as many bytes as it says.

use std::io::{self, ErrorKind};

/// An answer that is being received.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The head so far, up to and with the blank line.
    head: Vec<u8>,
    /// Bytes of the body that are still to come; none while the head is not whole.
    rest: Option<usize>,
}

/// Longest head that is read.
const HEAD_LIMIT: usize = 16 * 1024;

impl Answer {
    /// Takes what was received. True when the answer is whole.
    pub fn feed(&mut self, mut piece: &[u8]) -> io::Result<bool> {
        if self.rest.is_none() {
            // The blank line may be cut: its end is looked for in the two pieces together.
            let before = self.head.len();
            let overlap = before.min(3);
            self.head.extend_from_slice(piece);
            let Some(at) = find(&self.head[before - overlap..], b"\r\n\r\n") else {
                return if self.head.len() > HEAD_LIMIT { Err(invalid()) } else { Ok(false) };
            };
            let end = before - overlap + at + 4;
            piece = &piece[end - before..];
            self.head.truncate(end);
            self.rest = Some(content_length(&self.head)?);
        }
        let rest = self.rest.as_mut().ok_or_else(invalid)?;
        *rest = rest.checked_sub(piece.len()).ok_or_else(invalid)?;
        Ok(*rest == 0)
    }

    /// Whether a whole answer says that its connection closes.
    pub fn closes(&self) -> bool {
        field(&self.head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// The value of a field in a head.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(head).ok()?;
    text.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    field(head, "content-length").and_then(|text| text.parse().ok()).ok_or_else(invalid)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn invalid() -> io::Error {
    ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_last_byte_however_it_is_cut() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: now\r\n\r\nhello";
        for cut in 1..bytes.len() {
            let mut answer = Answer::default();
            assert!(!answer.feed(&bytes[..cut]).unwrap(), "cut at {cut}");
            assert!(answer.feed(&bytes[cut..]).unwrap(), "cut at {cut}");
            assert_eq!(field(&answer.head, "date"), Some("now"));
        }
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        assert!(Answer::default().feed(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
