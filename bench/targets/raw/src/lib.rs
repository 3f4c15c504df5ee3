//! What the two limits share. They parse nothing: every blank line is taken for the end of a
//! request and answered with the greeting.
#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::SystemTime;

use memchr::memmem;
use socket2::{Domain, Protocol, Socket, Type};

/// Answers that can be sent at once. More requests than that in one piece are answered in turns.
pub const AT_ONCE: usize = 64;

/// The greeting's answer, [`AT_ONCE`] times in a row.
#[derive(Debug)]
pub struct Answers {
    bytes: Vec<u8>,
    length: usize,
}

impl Answers {
    /// The answers, dated now. The limits serve for seconds, so the date is not renewed.
    pub fn new() -> Answers {
        let one = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\ndate: {}\r\n\r\n{}",
            target_contract::PLAINTEXT.len(),
            httpdate::fmt_http_date(SystemTime::now()),
            target_contract::PLAINTEXT,
        );
        Answers { bytes: one.repeat(AT_ONCE).into_bytes(), length: one.len() }
    }

    /// Some of `count` answers, as many as can be sent at once.
    pub fn take(&self, count: usize) -> &[u8] {
        &self.bytes[..count.min(AT_ONCE) * self.length]
    }

    /// How many answers `bytes` bytes of [`take`](Answers::take) are.
    pub fn count(&self, bytes: usize) -> usize {
        bytes / self.length
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts blank lines in a stream of pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlankLines {
    /// How many bytes of CR LF CR LF the stream ends with; below 4.
    matched: u8,
}

const BLANK_LINE: &[u8] = b"\r\n\r\n";

impl BlankLines {
    /// The blank lines that end in `piece`.
    pub fn count(&mut self, piece: &[u8]) -> usize {
        if self.matched > 0 {
            return self.count_by_bytes(piece);
        }
        // Nearly always a piece is one or more whole requests.
        let mut count = 0;
        let mut behind = 0;
        for start in memmem::find_iter(piece, BLANK_LINE) {
            count += 1;
            behind = start + BLANK_LINE.len();
        }
        let rest = &piece[behind..];
        let ending = (1..BLANK_LINE.len()).rev().find(|&end| rest.ends_with(&BLANK_LINE[..end]));
        self.matched = ending.unwrap_or(0) as u8;
        count
    }

    fn count_by_bytes(&mut self, piece: &[u8]) -> usize {
        let mut count = 0;
        for &byte in piece {
            self.matched = match (self.matched, byte) {
                (0 | 2, b'\r') => self.matched + 1,
                (1, b'\n') => 2,
                (3, b'\n') => {
                    count += 1;
                    0
                }
                (_, b'\r') => 1,
                _ => 0,
            };
        }
        count
    }
}

/// A listener that shares its port with those of the other workers. What it accepts inherits that
/// nothing is held back (TCP_NODELAY).
pub fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_same_however_the_stream_is_cut() {
        let stream = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\n\r\r\n\r\n\r\n\r\nx\r\n";
        let whole = BlankLines::default().count(stream);
        assert_eq!(whole, 3);
        for cut in 0..stream.len() {
            let mut lines = BlankLines::default();
            let (head, tail) = stream.split_at(cut);
            assert_eq!(lines.count(head) + lines.count(tail), whole, "cut at {cut}");
        }
    }
}
