//! A server on a free port, and a client that sends and sees raw bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use wharf::{Backend, Limits, Router, Server, ServerHandle};

/// Longer than anything here takes, so that a test which hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a test of each function, for each backend of the platform.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        #[cfg(target_os = "linux")]
        mod uring {
            $(#[test] fn $name() { crate::support::run(wharf::Backend::Uring, super::$name) })*
        }
        #[cfg(unix)]
        mod readiness {
            $(#[test] fn $name() { crate::support::run(wharf::Backend::Readiness, super::$name) })*
        }
        #[cfg(windows)]
        mod iocp {
            $(#[test] fn $name() { crate::support::run(wharf::Backend::Iocp, super::$name) })*
        }
    };
}
pub(crate) use on_every_backend;

/// Runs a test, unless this machine forbids the backend; `WHARF_REQUIRE_URING` makes that a
/// failure.
pub(crate) fn run(backend: Backend, test: fn(Backend)) {
    let server = Server::bind("127.0.0.1:0").expect("loopback is there").backend(backend);
    match server.shards(1).start(Router::new()) {
        Ok(handle) => drop(handle),
        Err(error) if std::env::var_os("WHARF_REQUIRE_URING").is_none() => {
            return println!("not run: {error}");
        }
        Err(error) => panic!("{backend:?} has to be there: {error}"),
    }
    test(backend);
}

pub(crate) fn serve(backend: Backend, router: Router) -> ServerHandle {
    serve_with(backend, Limits::default(), router)
}

/// One shard, so that what one connection does to another shows.
pub(crate) fn serve_with(backend: Backend, limits: Limits, router: Router) -> ServerHandle {
    let server = Server::bind("127.0.0.1:0").expect("loopback is there");
    server.backend(backend).shards(1).limits(limits).start(router).expect("the server starts")
}

pub(crate) struct Client {
    stream: TcpStream,
    /// Received and not yet looked at.
    received: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    pub(crate) fn connect(server: &ServerHandle) -> Client {
        Client::connect_to(server.local_address())
    }

    pub(crate) fn connect_to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_nodelay(true).expect("a socket option");
        Client { stream, received: Vec::new() }
    }

    /// Sends; what the server no longer takes is not an error.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Says that no more comes; a server that has closed meanwhile need not hear it.
    pub(crate) fn finish_sending(&mut self) -> &mut Client {
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).answer()
    }

    /// The next answer to anything but HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_if_any().expect("an answer comes")
    }

    /// The same, unless the server closes before it.
    pub(crate) fn answer_if_any(&mut self) -> Option<Answer> {
        self.next_answer(true)
    }

    pub(crate) fn answer_to_head(&mut self) -> Answer {
        self.next_answer(false).expect("an answer comes")
    }

    fn next_answer(&mut self, has_body: bool) -> Option<Answer> {
        let head_len = loop {
            let end = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            if !self.receive() {
                return None;
            }
        };
        let head = String::from_utf8(self.received.drain(..head_len).collect()).expect("ASCII");
        let status = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status line");
        let mut answer = Answer { status, head, body: Vec::new() };
        if has_body && answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks();
            return Some(answer);
        }
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        let length = if has_body { length } else { 0 };
        while self.received.len() < length {
            assert!(self.receive(), "the body is cut off");
        }
        answer.body = self.received.drain(..length).collect();
        Some(answer)
    }

    /// A chunked body; its trailer section is left in front of what follows.
    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let size = usize::from_str_radix(&line, 16).expect("a chunk's size");
            if size == 0 {
                return body;
            }
            while self.received.len() < size + 2 {
                assert!(self.receive(), "a chunk is cut off");
            }
            body.extend(self.received.drain(..size));
            assert_eq!(self.line(), "", "a chunk ends with its data");
        }
    }

    /// A line without its CRLF, such as a trailer field behind a chunked body and the empty line
    /// that ends it.
    pub(crate) fn line(&mut self) -> String {
        let end = loop {
            if let Some(end) = self.received.windows(2).position(|bytes| bytes == b"\r\n") {
                break end;
            }
            assert!(self.receive(), "a line is cut off");
        };
        let line = self.received.drain(..end + 2).take(end).collect();
        String::from_utf8(line).expect("ASCII")
    }

    /// A line of text without its LF or CRLF.
    pub(crate) fn line_of_text(&mut self) -> String {
        while !self.received.contains(&b'\n') {
            assert!(self.receive(), "a line is cut off");
        }
        let end = self.received.iter().position(|&byte| byte == b'\n').unwrap_or_default();
        let line: Vec<u8> = self.received.drain(..=end).collect();
        String::from_utf8(line).expect("text").trim_end().to_owned()
    }

    /// So many bytes of what comes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.receive(), "only {} of {count} bytes came", self.received.len());
        }
        self.received.drain(..count).collect()
    }

    /// What comes next.
    pub(crate) fn some(&mut self) -> Vec<u8> {
        if self.received.is_empty() {
            assert!(self.receive(), "nothing comes any more");
        }
        std::mem::take(&mut self.received)
    }

    /// Receives some bytes. False: the server has closed.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => true,
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => false,
                _ => panic!("nothing comes: {error}"),
            },
        }
    }

    /// All that comes until the server closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.receive() {}
        std::mem::take(&mut self.received)
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket option");
    }

    /// Whatever comes, it ends by a reset.
    pub(crate) fn assert_reset(&mut self) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return assert!(is_wine(), "it ended as if it were whole"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let reset = [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted];
                    return assert!(reset.contains(&error.kind()), "nothing comes: {error}");
                }
            }
        }
    }

    pub(crate) fn assert_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "more came: {}", String::from_utf8_lossy(&rest));
    }
}

/// Wine takes a reset for an end, unless somebody is receiving when it comes.
pub(crate) fn is_wine() -> bool {
    std::env::var_os("WHARF_UNDER_WINE").is_some()
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < until, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
