//! Whether a server answers as all do, before anything is measured: a fast wrong answer is no
//! answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Failure;
use crate::answer::field;
use crate::cases::Endpoint;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(4);
/// How many connections are tried.
const ATTEMPTS: usize = 3;

/// A request for an endpoint, ready to be sent.
pub fn request(endpoint: Endpoint, plaintext: &'static str, close: bool) -> Vec<u8> {
    let path = endpoint.path(plaintext);
    let body = endpoint.request_body();
    let connection = if close { "Connection: close\r\n" } else { "" };
    let head = if !body.is_empty() {
        format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{connection}Content-Length: {}\r\n\r\n",
            body.len()
        )
    } else {
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{connection}\r\n")
    };
    [head.into_bytes(), body].concat()
}

/// What a right answer was like.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// The head's length in bytes.
    pub head_bytes: usize,
    /// Connections that it took. More than one: the server left the others without an answer.
    pub attempts: usize,
}

/// Looks whether a server answers rightly, on a few connections if need be.
pub fn check(
    address: SocketAddr,
    endpoint: Endpoint,
    plaintext: &'static str,
) -> Result<Checked, Failure> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match check_once(address, endpoint, plaintext) {
            Ok(head_bytes) => return Ok(Checked { head_bytes, attempts }),
            Err(error) if attempts == ATTEMPTS => return Err(error),
            Err(_) => {}
        }
    }
}

/// Asks twice on one connection. Returns the head's length.
fn check_once(
    address: SocketAddr,
    endpoint: Endpoint,
    plaintext: &'static str,
) -> Result<usize, Failure> {
    let request = request(endpoint, plaintext, false);
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut length = 0;
    for time in ["first", "second"] {
        let head = ask(&mut stream, &request, &endpoint.right_body())
            .map_err(|error| format!("{endpoint:?}, {time} request: {error}"))?;
        length = head.len();
    }
    Ok(length)
}

fn ask(stream: &mut TcpStream, request: &[u8], right_body: &[u8]) -> Result<Vec<u8>, Failure> {
    // A body of 1 MiB does not fit into the sockets: it is sent while the answer is read.
    let mut writer = stream.try_clone()?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || writer.write_all(request));
        let mut received = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        let (head, body) = loop {
            match stream.read(&mut piece) {
                Ok(0) => return Err("the connection ends in the middle".into()),
                Ok(count) => received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(format!("no answer after {LIMIT:?}").into());
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(whole) = whole(&received) {
                break whole;
            }
        };
        sending.join().map_err(|_| "the request could not be sent")??;
        if !head.starts_with(b"HTTP/1.1 200") {
            return Err(refused(&received));
        }
        if field(head, "date").is_none() {
            return Err("the answer has no Date".into());
        }
        if body != right_body {
            return Err("the body is not the right one".into());
        }
        Ok(head.to_vec())
    })
}

/// Head and body, if the answer is whole.
fn whole(received: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let at = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let (head, rest) = received.split_at(at);
    if field(head, "transfer-encoding") == Some("chunked") {
        return Some((head, joined(rest)?));
    }
    let length = field(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    Some((head, rest.get(..length)?.to_vec()))
}

/// The body that came as chunks, if the last is there.
fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).ok()?, 16).ok()?;
        let rest = &chunks[end + 2..];
        if length == 0 {
            return (rest == b"\r\n").then_some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        chunks = rest.get(length + 2..)?;
    }
}

fn refused(received: &[u8]) -> Failure {
    let head: String = String::from_utf8_lossy(received).chars().take(200).collect();
    format!("unexpected answer {head:?}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_once_the_last_is_there() {
        let answer =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        for end in 0..answer.len() {
            assert!(whole(&answer[..end]).is_none(), "{end} bytes");
        }
        assert_eq!(whole(answer).map(|(_, body)| body), Some(b"abc".to_vec()));
    }
}
