//! One line for each request: the access log that web servers have always written.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::header;
use http::{Method, Version};
use wharf_http::Date;

use super::{Hook, Refused, RequestId, User};
use crate::{Request, Response};

/// Writes a line for each request once it is answered, refused ones included.
///
/// The lines come in one of three forms. What peers sent stands in them escaped, so that nobody can
/// write a line of their own or send a terminal commands.
///
/// - [`common`](AccessLog::common): the Common Log Format, as Apache and nginx write it:
///   `127.0.0.1 - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" 200 2326`
/// - [`combined`](AccessLog::combined): the same with Referer and User-Agent.
/// - [`json`](AccessLog::json): an object a line, with the time that the handler took and the
///   request's name, if [`RequestIds`](super::RequestIds) lie around this hook.
///
/// The path and query are written as they were sent: keep secrets out of them. The length is that
/// of the answer's body before it is sent, and not known of one that is produced meanwhile. Put this
/// hook outermost but for [`RequestIds`](super::RequestIds), to see what the others made of an
/// answer.
///
/// Each line is written by the thread that ran the handler, in one piece, under a lock. So the
/// writer should be fast: a file, not a socket. Where lines cannot be written, the first failure is
/// logged.
///
/// ```
/// use wharf::Router;
/// use wharf::hooks::AccessLog;
///
/// let router = Router::new()
///     .get("/", |_| "hello")
///     .hook(AccessLog::combined(std::io::stdout()));
/// # let _ = router;
/// ```
pub struct AccessLog {
    form: Form,
    out: Out,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Common,
    Combined,
    Json,
}

enum Out {
    Writer(Mutex<Writer>),
    Tracing,
}

struct Writer {
    writer: Box<dyn Write + Send>,
    has_failed: bool,
}

/// When a handler was begun.
#[derive(Clone, Copy)]
struct Began(Instant);

impl AccessLog {
    /// The Common Log Format.
    pub fn common(writer: impl Write + Send + 'static) -> AccessLog {
        AccessLog::new(Form::Common, writer)
    }

    /// The Combined Log Format.
    pub fn combined(writer: impl Write + Send + 'static) -> AccessLog {
        AccessLog::new(Form::Combined, writer)
    }

    /// A JSON object a line, with the members `time`, `peer`, `method`, `target`, `version`,
    /// `status`, `bytes`, `microseconds`, `user`, `referer`, `user_agent` and `request_id`; those
    /// that are not known are missing.
    pub fn json(writer: impl Write + Send + 'static) -> AccessLog {
        AccessLog::new(Form::Json, writer)
    }

    /// Events of `tracing`, with the target `wharf::access`, at the level INFO. The message is the
    /// combined form.
    pub fn tracing() -> AccessLog {
        AccessLog { form: Form::Combined, out: Out::Tracing }
    }

    fn new(form: Form, writer: impl Write + Send + 'static) -> AccessLog {
        let writer = Writer { writer: Box::new(writer), has_failed: false };
        AccessLog { form, out: Out::Writer(Mutex::new(writer)) }
    }

    fn write(&self, entry: &Entry<'_>) {
        let line = match self.form {
            Form::Common => entry.classic(false),
            Form::Combined => entry.classic(true),
            Form::Json => entry.json(),
        };
        match &self.out {
            Out::Tracing => tracing::info!(target: "wharf::access", "{}", line.trim_end()),
            Out::Writer(writer) => {
                let mut out = writer.lock().unwrap_or_else(PoisonError::into_inner);
                let written = out.writer.write_all(line.as_bytes());
                if let Err(error) = written.and_then(|()| out.writer.flush())
                    && !out.has_failed
                {
                    out.has_failed = true;
                    tracing::error!("the access log cannot be written: {error}");
                }
            }
        }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("form", &self.form).finish_non_exhaustive()
    }
}

impl Hook for AccessLog {
    fn before(&self, request: &mut Request) -> Option<Response> {
        request.extensions_mut().insert(Began(Instant::now()));
        None
    }

    fn after(&self, request: &Request, response: Response) -> Response {
        self.write(&Entry {
            unix_seconds: now(),
            peer: request.peer().ip().to_string(),
            request: Some(request),
            response: &response,
        });
        response
    }

    fn refused(&self, refused: &Refused<'_>, response: Response) -> Response {
        self.write(&Entry {
            unix_seconds: now(),
            peer: refused.peer().ip().to_string(),
            request: refused.request(),
            response: &response,
        });
        response
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a line tells.
struct Entry<'e> {
    unix_seconds: u64,
    peer: String,
    /// None: not even its head was whole.
    request: Option<&'e Request>,
    response: &'e Response,
}

impl Entry<'_> {
    fn field(&self, name: http::HeaderName) -> Option<&[u8]> {
        self.request.and_then(|request| request.header_bytes(name))
    }

    /// The body's length, if it is known: none is sent to HEAD.
    fn bytes(&self) -> Option<u64> {
        let is_head = self.request.is_some_and(|request| *request.method() == Method::HEAD);
        if is_head { Some(0) } else { self.response.body_len() }
    }

    fn user(&self) -> Option<&str> {
        self.request?.extensions().get().map(User::name)
    }

    fn classic(&self, is_combined: bool) -> String {
        let mut line = String::with_capacity(256);
        let Parts { year, month, day, time, .. } = Parts::of(self.unix_seconds);
        line.push_str(&self.peer);
        line.push_str(" - ");
        match self.user() {
            // A space would shift what follows.
            Some(user) => escape(&mut line, user.replace(' ', "_").as_bytes()),
            None => line.push('-'),
        }
        line.push_str(&format!(" [{day}/{month}/{year}:{time} +0000] \""));
        match self.request {
            Some(request) => {
                escape(&mut line, request.method().as_str().as_bytes());
                line.push(' ');
                escape(&mut line, target(request).as_bytes());
                line.push(' ');
                line.push_str(version(request));
            }
            None => line.push('-'),
        }
        line.push_str(&format!("\" {} ", self.response.status().as_u16()));
        match self.bytes() {
            Some(0) | None => line.push('-'),
            Some(bytes) => line.push_str(&bytes.to_string()),
        }
        for name in [header::REFERER, header::USER_AGENT] {
            if is_combined {
                line.push_str(" \"");
                escape(&mut line, self.field(name).unwrap_or(b"-"));
                line.push('"');
            }
        }
        line.push('\n');
        line
    }

    fn json(&self) -> String {
        let mut line = String::with_capacity(384);
        let Parts { year, month_number, day, time, .. } = Parts::of(self.unix_seconds);
        line.push_str(&format!("{{\"time\":\"{year}-{month_number:02}-{day}T{time}Z\""));
        text_member(&mut line, "peer", self.peer.as_bytes());
        if let Some(request) = self.request {
            text_member(&mut line, "method", request.method().as_str().as_bytes());
            text_member(&mut line, "target", target(request).as_bytes());
            text_member(&mut line, "version", version(request).as_bytes());
        }
        line.push_str(&format!(",\"status\":{}", self.response.status().as_u16()));
        if let Some(bytes) = self.bytes() {
            line.push_str(&format!(",\"bytes\":{bytes}"));
        }
        let extensions = self.request.map(Request::extensions);
        if let Some(Began(began)) = extensions.and_then(|it| it.get()) {
            line.push_str(&format!(",\"microseconds\":{}", began.elapsed().as_micros()));
        }
        let members = [
            ("user", self.user().map(str::as_bytes)),
            ("referer", self.field(header::REFERER)),
            ("user_agent", self.field(header::USER_AGENT)),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                text_member(&mut line, name, value);
            }
        }
        if let Some(id) = extensions.and_then(|it| it.get::<RequestId>()) {
            text_member(&mut line, "request_id", id.as_str().as_bytes());
        }
        line.push_str("}\n");
        line
    }
}

fn target(request: &Request) -> String {
    match request.query_string() {
        "" => request.path().to_owned(),
        query => format!("{}?{query}", request.path()),
    }
}

fn version(request: &Request) -> &'static str {
    if request.version() == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

/// Writes what may stand between quotes, as Apache does: `\"`, `\\`, and `\xhh` for what is not
/// visible ASCII.
fn escape(line: &mut String, text: &[u8]) {
    for &b in text {
        match b {
            b'"' | b'\\' => line.extend(['\\', char::from(b)]),
            b' '..=b'~' => line.push(char::from(b)),
            _ => line.push_str(&format!("\\x{b:02x}")),
        }
    }
}

/// Writes a member whose value is a string (RFC 8259 section 7). What is not UTF-8 is replaced.
fn text_member(line: &mut String, name: &str, value: &[u8]) {
    line.push_str(&format!(",\"{name}\":\""));
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            // Controls beyond ASCII, too: a terminal may obey them.
            _ if c.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            _ => line.push(c),
        }
    }
    line.push('"');
}

/// The parts of a date, as texts.
struct Parts {
    day: String,
    month: String,
    month_number: usize,
    year: String,
    time: String,
}

impl Parts {
    /// Takes an IMF-fixdate apart: `Sun, 06 Nov 1994 08:49:37 GMT`.
    fn of(unix_seconds: u64) -> Parts {
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let date = Date::at(unix_seconds);
        let text = |from: usize, to: usize| {
            String::from_utf8_lossy(&date.as_bytes()[from..to]).into_owned()
        };
        let month = text(8, 11);
        let month_number = MONTHS.find(&month).map_or(0, |at| at / 3 + 1);
        Parts { day: text(5, 7), month, month_number, year: text(12, 16), time: text(17, 25) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_peers_send_can_end_a_line_or_a_string() {
        let mut line = String::new();
        escape(&mut line, b"a\"b\\c\r\n\x1b[31m\xff \t~");
        assert_eq!(line, r#"a\"b\\c\x0d\x0a\x1b[31m\xff \x09~"#);
        let mut line = String::new();
        text_member(&mut line, "n", "a\"b\\c\r\n\u{1b}\u{9b}ä\u{7f}".as_bytes());
        assert_eq!(line, ",\"n\":\"a\\\"b\\\\c\\u000d\\u000a\\u001b\\u009bä\\u007f\"");
        let mut line = String::new();
        text_member(&mut line, "n", b"\xff");
        assert_eq!(line, ",\"n\":\"\u{fffd}\"");
    }

    #[test]
    fn lines_have_the_known_forms() {
        let response = Response::text("hello");
        let peer = "10.0.0.1".to_owned();
        let mut entry =
            Entry { unix_seconds: 971_186_136, peer, request: None, response: &response };
        assert_eq!(entry.classic(false), "10.0.0.1 - - [10/Oct/2000:13:55:36 +0000] \"-\" 200 5\n");
        assert!(entry.classic(true).ends_with("\"-\" 200 5 \"-\" \"-\"\n"));
        let empty = Response::new(http::StatusCode::NO_CONTENT);
        entry.response = &empty;
        assert!(entry.classic(false).ends_with("\"-\" 204 -\n"), "no bytes are a dash");
        let json = "{\"time\":\"2000-10-10T13:55:36Z\",\"peer\":\"10.0.0.1\",\"status\":204,\"bytes\":0}\n";
        assert_eq!(entry.json(), json);
    }
}
