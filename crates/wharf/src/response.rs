//! What a handler answers.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{StatusCode, header::InvalidHeaderName, header::InvalidHeaderValue};
use wharf_port::FileRange;

use crate::error::{Error, Kind};
use crate::fields::{Fields, Known};
use crate::request::AsHeaderName;
use crate::stream::{self, FromIter, FromRead, Source, Stream, WithTrailers};
use crate::{BodySender, BodyWriter, EventSender, Upgraded};
use crate::{IntoResponse, Problem, Request};

/// An answer: status, header fields, body.
///
/// Wharf itself writes `Date`, `Connection` and the fields that frame the message
/// (`Content-Length`, `Transfer-Encoding`); a handler's own values for the latter are ignored.
/// `Connection: close` in an answer closes the connection behind it.
///
/// ```
/// use wharf::{Response, StatusCode};
///
/// let response = Response::new(StatusCode::CREATED)
///     .header("location", "/orders/7")
///     .body("stored\n");
/// assert_eq!(response.status(), StatusCode::CREATED);
/// ```
pub struct Response {
    status: StatusCode,
    fields: Fields,
    body: Body,
    invalid: bool,
    wording: Wording,
    /// What the body tells, unless that is a line of text of Wharf's own.
    problem: Option<Problem>,
    /// The request's conditions and ranges apply to it.
    is_conditional: bool,
}

/// An answer that says nothing but 200, of a type that may be known, with a body that is whole.
pub(crate) struct Plain {
    pub(crate) content_type: Option<Known>,
    pub(crate) body: Bytes,
}

/// Who has worded the body of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wording {
    Handlers,
    /// Wharf, in a line of text that every problem of its own has.
    Own,
    /// Wharf, of a problem that the answer has with it.
    Problem,
    /// Wharf, with the request in sight: as the client wants it.
    Done,
}

/// Where the bytes of an answer's body come from.
pub(crate) enum Body {
    Whole(Bytes),
    /// Pieces whose lengths are known, in order.
    Parts(VecDeque<Part>),
    Stream(Box<Stream>),
}

/// A piece of a body.
pub(crate) enum Part {
    Bytes(Bytes),
    /// Sent through the kernel. Not empty.
    File(FileRange),
}

impl Part {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::File(range) => range.length,
        }
    }
}

/// Fields of which a message has one at the most, since their value is no list (RFC 9110 section
/// 5.3).
fn stands_once(name: &HeaderName) -> bool {
    [
        header::CONTENT_TYPE,
        header::CONTENT_DISPOSITION,
        header::CONTENT_LOCATION,
        header::CONTENT_RANGE,
        header::DATE,
        header::ETAG,
        header::EXPIRES,
        header::LAST_MODIFIED,
        header::LOCATION,
        header::RETRY_AFTER,
    ]
    .contains(name)
}

impl Response {
    /// An answer without fields and without a body.
    #[inline]
    pub fn new(status: StatusCode) -> Response {
        Response::made(status, Fields::default(), Bytes::new())
    }

    // From here to `json` all is inlined: an answer is made where the handler's caller wants it,
    // where handing it on from one function to the next would copy it each time.
    #[inline]
    fn made(status: StatusCode, fields: Fields, body: Bytes) -> Response {
        Response {
            status,
            fields,
            body: Body::Whole(body),
            invalid: false,
            wording: Wording::Handlers,
            problem: None,
            is_conditional: false,
        }
    }

    /// `200 OK` with a body of that type.
    #[inline]
    pub(crate) fn of_type(content_type: Known, body: Bytes) -> Response {
        Response::made(StatusCode::OK, Fields::of(content_type), body)
    }

    /// `200 OK` with a plain text.
    #[inline]
    pub fn text(body: impl Into<Bytes>) -> Response {
        Response::of_type(Known::Text, body.into())
    }

    /// `200 OK` with a page. What it shows of others' input must be escaped already.
    #[inline]
    pub fn html(body: impl Into<Bytes>) -> Response {
        Response::of_type(Known::Html, body.into())
    }

    /// `200 OK` with a JSON document that is serialised already.
    #[inline]
    pub fn json(body: impl Into<Bytes>) -> Response {
        Response::of_type(Known::Json, body.into())
    }

    /// The same answer with another status.
    pub fn with_status(mut self, status: StatusCode) -> Response {
        self.status = status;
        self
    }

    /// The same answer as of that type.
    pub(crate) fn typed(mut self, content_type: Known) -> Response {
        self.fields.retain(|name| *name != header::CONTENT_TYPE);
        let mut fields = Fields::of(content_type);
        fields.append(&mut self.fields);
        self.fields = fields;
        self
    }

    /// Adds a header field. One that an answer has once at the most, such as Content-Type or
    /// Location, replaces the earlier one.
    ///
    /// A name or value that no header can have (a line break, say, which would split the answer
    /// in two) turns the whole answer into a bare `500`, and a log line says why. Where values
    /// come from outside, [`try_header`](Response::try_header) returns the error instead.
    pub fn header<N, V>(mut self, name: N, value: V) -> Response
    where
        N: TryInto<HeaderName, Error: Into<InvalidHeader>>,
        V: TryInto<HeaderValue, Error: Into<InvalidHeader>>,
    {
        if let Err(error) = self.push(name, value) {
            tracing::error!("a handler's answer is not sent: {error}");
            return self.spoiled();
        }
        self
    }

    /// An answer that is not sent, since something given to it cannot be a header field.
    pub(crate) fn spoiled(mut self) -> Response {
        self.invalid = true;
        self
    }

    /// Adds a header field as [`header`](Response::header) does, or says why it cannot be one.
    ///
    /// # Errors
    /// If the name or the value has bytes that RFC 9110 section 5 does not allow.
    pub fn try_header<N, V>(mut self, name: N, value: V) -> Result<Response, Error>
    where
        N: TryInto<HeaderName, Error: Into<InvalidHeader>>,
        V: TryInto<HeaderValue, Error: Into<InvalidHeader>>,
    {
        self.push(name, value)?;
        Ok(self)
    }

    fn push<N, V>(&mut self, name: N, value: V) -> Result<(), Error>
    where
        N: TryInto<HeaderName, Error: Into<InvalidHeader>>,
        V: TryInto<HeaderValue, Error: Into<InvalidHeader>>,
    {
        let invalid = |error: InvalidHeader| {
            Error::with_source(Kind::Configuration, "a response's header field is invalid", error)
        };
        let name = name.try_into().map_err(|error| invalid(error.into()))?;
        let value = value.try_into().map_err(|error| invalid(error.into()))?;
        if stands_once(&name) {
            self.fields.retain(|existing| *existing != name);
        }
        self.fields.push(name, value);
        Ok(())
    }

    fn field(mut self, name: HeaderName, value: HeaderValue) -> Response {
        self.fields.push(name, value);
        self
    }

    /// Takes the fields away.
    pub(crate) fn take_fields(&mut self) -> Fields {
        std::mem::take(&mut self.fields)
    }

    /// Puts fields before those that are there, unless these replace them.
    pub(crate) fn with_fields_before(mut self, mut earlier: Fields) -> Response {
        let adds_up = |name: &HeaderName| *name == header::SET_COOKIE || *name == header::VARY;
        earlier.retain(|name| adds_up(name) || !self.fields.has(name));
        earlier.append(&mut self.fields);
        self.fields = earlier;
        self
    }

    /// Sets a header field: it takes the place of those of that name. Otherwise as
    /// [`header`](Response::header).
    ///
    /// ```
    /// # use wharf::Response;
    /// let response = Response::text("{}").set_header("content-type", "application/json");
    /// assert_eq!(response.header_value("content-type").unwrap(), "application/json");
    /// ```
    pub fn set_header<N, V>(mut self, name: N, value: V) -> Response
    where
        N: TryInto<HeaderName, Error: Into<InvalidHeader>>,
        V: TryInto<HeaderValue, Error: Into<InvalidHeader>>,
    {
        let earlier = self.fields.others().len();
        self = self.header(name, value);
        if self.fields.others().len() > earlier
            && let Some((name, value)) = self.fields.pop()
        {
            self.fields.retain(|existing| *existing != name);
            self.fields.push(name, value);
        }
        self
    }

    /// The same answer without the header fields of that name.
    pub fn without_header(mut self, name: impl AsHeaderName) -> Response {
        let name = name.as_header_name();
        self.fields.retain(|existing| !existing.as_str().eq_ignore_ascii_case(name));
        self
    }

    /// The first header field of that name.
    pub fn header_value(&self, name: impl AsHeaderName) -> Option<&HeaderValue> {
        let name = name.as_header_name();
        let mut fields = self.headers();
        fields.find(|(existing, _)| existing.as_str().eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// Says that the answer depends on these fields of the request (RFC 9110 section 12.5.5).
    pub(crate) fn vary(self, names: &[&'static str]) -> Response {
        let mut named = Vec::new();
        for (_, value) in self.headers().filter(|(name, _)| *name == header::VARY) {
            let list = value.to_str().unwrap_or_default().split(',');
            named.extend(list.map(|name| name.trim().to_ascii_lowercase()));
        }
        let is_named = |name: &str| named.iter().any(|known| known == name || known == "*");
        let missing: Vec<_> = names.iter().filter(|name| !is_named(name)).copied().collect();
        match missing[..] {
            [] => self,
            [name] => self.field(header::VARY, HeaderValue::from_static(name)),
            _ => self.header(header::VARY, missing.join(", ")),
        }
    }

    /// Adds a field unless the answer has one of that name.
    pub(crate) fn or_field(mut self, name: HeaderName, value: HeaderValue) -> Response {
        if !self.has_field(&name) {
            self.fields.push(name, value);
        }
        self
    }

    /// The same answer without the fields that the predicate names.
    pub(crate) fn without(mut self, mut is_unwanted: impl FnMut(&HeaderName) -> bool) -> Response {
        self.fields.retain(|name| !is_unwanted(name));
        self
    }

    pub(crate) fn is_conditional(&self) -> bool {
        self.is_conditional
    }

    pub(crate) fn set_conditional(&mut self, on: bool) {
        self.is_conditional = on;
    }

    pub(crate) fn has_field(&self, name: &HeaderName) -> bool {
        self.fields.has(name)
    }

    /// The same answer with this body. The bytes are not copied: a `&'static str`, a `String`, a
    /// `Vec<u8>` and [`Bytes`] go out as they are.
    pub fn body(mut self, body: impl Into<Bytes>) -> Response {
        self.body = Body::Whole(body.into());
        self.wording = Wording::Handlers;
        self.problem = None;
        self
    }

    /// The same answer with a body that is read from `source`, on a worker, as fast as the client
    /// takes it: a client that reads slowly holds no thread. The body is chunked unless its length
    /// is [announced](Response::content_length).
    ///
    /// If a read fails the answer is cut off, so that the client sees that it is not whole.
    ///
    /// ```
    /// use std::fs::File;
    /// use wharf::{Error, Request, Response, StatusCode};
    ///
    /// fn log(_: &Request) -> Result<Response, Error> {
    ///     Ok(Response::new(StatusCode::OK).body_reader(File::open("service.log")?))
    /// }
    /// # let _ = log;
    /// ```
    pub fn body_reader(self, source: impl Read + Send + 'static) -> Response {
        self.stream(Source::Pulled(Box::new(FromRead(source))))
    }

    /// The same answer with a body of the pieces that `pieces` gives, on a worker, as fast as the
    /// client takes them; see [`body_reader`](Response::body_reader).
    ///
    /// ```
    /// use wharf::{Response, StatusCode};
    ///
    /// let lines = (1..=1_000_000).map(|n| Ok(format!("{n}\n")));
    /// let response = Response::new(StatusCode::OK).body_iter(lines);
    /// # let _ = response;
    /// ```
    pub fn body_iter<I, B>(self, pieces: I) -> Response
    where
        I: IntoIterator<Item = io::Result<B>>,
        I::IntoIter: Send + 'static,
        B: Into<Bytes>,
    {
        self.stream(Source::Pulled(Box::new(FromIter(pieces.into_iter()))))
    }

    /// The same answer with a body that `write` writes, on a worker. It waits there while the
    /// client reads more slowly than it writes, so where clients may be many and slow,
    /// [`body_reader`](Response::body_reader) and [`channel`](Response::channel) are better.
    ///
    /// If `write` fails or panics the answer is cut off, so that the client sees that it is not
    /// whole.
    ///
    /// ```
    /// use std::io::Write;
    /// use wharf::{Response, StatusCode};
    ///
    /// let response = Response::new(StatusCode::OK).body_writer(|body| {
    ///     for n in 0..1_000_000 {
    ///         writeln!(body, "{n}")?;
    ///     }
    ///     Ok(())
    /// });
    /// # let _ = response;
    /// ```
    pub fn body_writer(
        self,
        write: impl FnOnce(&mut BodyWriter) -> io::Result<()> + Send + 'static,
    ) -> Response {
        self.stream(Source::Writer(Box::new(write)))
    }

    /// `200 OK` with a body that is pushed, from any thread and at any time. It holds no thread
    /// while nothing is sent.
    ///
    /// ```
    /// use wharf::{Request, Response};
    ///
    /// fn ticks(_: &Request) -> Response {
    ///     let (sender, response) = Response::channel();
    ///     std::thread::spawn(move || {
    ///         while sender.send("tick\n").is_ok() {
    ///             std::thread::sleep(std::time::Duration::from_secs(1));
    ///         }
    ///     });
    ///     response
    /// }
    /// # let _ = ticks;
    /// ```
    pub fn channel() -> (BodySender, Response) {
        let (sender, outlet) = stream::channel();
        (sender, Response::new(StatusCode::OK).stream(Source::Channel(outlet)))
    }

    /// `200 OK` with a stream of server-sent events. It holds no thread while nothing is sent.
    ///
    /// ```
    /// use wharf::{Event, Request, Response};
    ///
    /// fn clock(request: &Request) -> Response {
    ///     let (events, response) = Response::events();
    ///     let from: u64 = request.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(0);
    ///     std::thread::spawn(move || {
    ///         for n in from + 1.. {
    ///             if events.send(&Event::new(format!("second {n}")).id(n)).is_err() {
    ///                 break;
    ///             }
    ///             std::thread::sleep(std::time::Duration::from_secs(1));
    ///         }
    ///     });
    ///     response
    /// }
    /// # let _ = clock;
    /// ```
    pub fn events() -> (EventSender, Response) {
        let (sender, outlet) = stream::channel();
        let response = Response::of_type(Known::Events, Bytes::new())
            .field(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
            // nginx would hold the events back.
            .field(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))
            .stream(Source::Events(outlet));
        (EventSender::new(sender), response)
    }

    /// `101 Switching Protocols`: `converse` takes the connection over, on a worker, and speaks
    /// `protocol` (RFC 9110 section 7.8). A client that did not offer that protocol gets
    /// `426 Upgrade Required` instead.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use wharf::{Request, Response};
    ///
    /// fn echo(_: &Request) -> Response {
    ///     Response::upgrade("echo", |mut stream| {
    ///         let mut buffer = [0; 1024];
    ///         while let Ok(count @ 1..) = stream.read(&mut buffer) {
    ///             if stream.write_all(&buffer[..count]).is_err() {
    ///                 break;
    ///             }
    ///         }
    ///     })
    /// }
    /// # let _ = echo;
    /// ```
    pub fn upgrade(protocol: &str, converse: impl FnOnce(Upgraded) + Send + 'static) -> Response {
        Response::new(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::UPGRADE, protocol)
            .stream(Source::Tunnel(Box::new(converse)))
    }

    /// `200 OK` to a CONNECT request: `converse` takes the connection over, on a worker (RFC 9110
    /// section 9.3.6). For handlers of [`Router::connect`](crate::Router::connect).
    pub fn tunnel(converse: impl FnOnce(Upgraded) + Send + 'static) -> Response {
        Response::new(StatusCode::OK).stream(Source::Tunnel(Box::new(converse)))
    }

    /// Announces the length of a body that is not there yet, in bytes, so that it is not chunked.
    /// If the body turns out shorter or longer, the answer is cut off. Without effect on bodies
    /// whose length is known.
    pub fn content_length(mut self, bytes: u64) -> Response {
        if let Body::Stream(stream) = &mut self.body {
            stream.length = Some(bytes);
        }
        self
    }

    /// Adds trailer fields, made when a body [that is read](Response::body_reader) or
    /// [iterated](Response::body_iter) has come to its end, on the same worker: a checksum, say.
    /// They are sent if the body is chunked, as it is to HTTP/1.1 unless its length was announced
    /// (RFC 9110 section 6.5). Which fields may be trailers their definitions say; those that frame
    /// a message are left out.
    pub fn trailers<T>(mut self, make: impl FnOnce() -> T + Send + 'static) -> Response
    where
        T: IntoIterator<Item = (HeaderName, HeaderValue)>,
    {
        let make = Box::new(|| make().into_iter().collect());
        self.body = match self.body {
            Body::Stream(mut stream) => {
                stream.source = match stream.source {
                    Source::Pulled(source) => {
                        Source::Pulled(Box::new(WithTrailers { source, make: Some(make) }))
                    }
                    other => other,
                };
                Body::Stream(stream)
            }
            other => other,
        };
        self
    }

    pub(crate) fn stream(mut self, source: Source) -> Response {
        self.body = Body::Stream(Box::new(Stream { source, length: None }));
        self
    }

    /// Whether it hands the connection over.
    pub(crate) fn is_takeover(&self) -> bool {
        matches!(&self.body, Body::Stream(stream) if matches!(stream.source, Source::Tunnel(_)))
    }

    /// The same answer with a body of pieces.
    pub(crate) fn parts(mut self, parts: VecDeque<Part>) -> Response {
        self.body = Body::Parts(parts);
        self.wording = Wording::Handlers;
        self.problem = None;
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header fields in the form in which they are written.
    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The header fields in order.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.fields.iter()
    }

    /// The body, if it is whole in memory: not a file's, and not one that is produced while it is
    /// sent.
    pub fn body_bytes(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Whole(bytes) => Some(bytes),
            Body::Parts(_) | Body::Stream(_) => None,
        }
    }

    /// An answer of Wharf's own: a status and one line of text.
    pub(crate) fn message(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Response {
        let body = match message.into() {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        Response::text(body).with_status(status).worded(Wording::Own)
    }

    pub(crate) fn worded(mut self, wording: Wording) -> Response {
        self.wording = wording;
        self
    }

    pub(crate) fn wording(&self) -> Wording {
        self.wording
    }

    /// Whether it awaits wording by the request that it answers.
    pub(crate) fn is_to_word(&self) -> bool {
        matches!(self.wording, Wording::Own | Wording::Problem)
    }

    /// Tells the log why the handler failed, if it did.
    #[inline]
    pub(crate) fn with_cause_told(mut self, request: &Request) -> Response {
        if let Some(problem) = &mut self.problem {
            problem.tell_cause(request);
        }
        self
    }

    pub(crate) fn telling(mut self, problem: Problem) -> Response {
        self.problem = Some(problem);
        self
    }

    /// What went wrong, if this answer tells a [`Problem`]: one that a handler returned, an
    /// [`Error`], or what Wharf itself refuses, as with 404 and 413. Who gives the answer another
    /// body makes it an answer like any other.
    pub fn problem(&self) -> Option<Problem> {
        match self.wording {
            Wording::Handlers => None,
            _ => self.problem.clone().or_else(|| Some(crate::problem::own_problem(self))),
        }
    }

    /// The same answer in other words: status and body are those of `words`, and fields that do not
    /// describe the body stay, so that Allow, Retry-After and the like are not lost.
    ///
    /// ```
    /// use wharf::{Html, Router};
    ///
    /// let router = Router::new().on_error(|_, response| match response.problem() {
    ///     Some(problem) => {
    ///         let page = Html(format!("<h1>{}</h1>", problem.title()));
    ///         response.reworded((problem.status(), page))
    ///     }
    ///     None => response,
    /// });
    /// # let _ = router;
    /// ```
    pub fn reworded(mut self, words: impl IntoResponse) -> Response {
        let describes_the_body = |name: &HeaderName| name.as_str().starts_with("content-");
        let mut kept = self.take_fields();
        kept.retain(|name| !describes_the_body(name));
        words.into_response().with_fields_before(kept)
    }

    /// What is sent in place of an answer that cannot be.
    #[inline]
    pub(crate) fn checked(self) -> Response {
        let is_suspect = self.invalid
            || self.status.is_informational()
            || self.status == StatusCode::RESET_CONTENT;
        if is_suspect { self.refused() } else { self }
    }

    #[cold]
    fn refused(mut self) -> Response {
        // Interim answers (RFC 9110 section 15.2) are Wharf's to send: one more answer follows them.
        let is_interim = self.status.is_informational() && !self.is_takeover();
        if is_interim {
            tracing::error!("a handler answered with the interim status {}", self.status);
        }
        if self.invalid || is_interim {
            return Response::new(StatusCode::INTERNAL_SERVER_ERROR);
        }
        if self.status == StatusCode::RESET_CONTENT {
            // RFC 9110 section 15.3.6: no content, whatever the handler gave.
            self = self.body(Bytes::new());
        }
        self
    }

    /// The same answer with another body, which is the same in another form.
    #[cfg(feature = "compression")]
    pub(crate) fn with_body_as(mut self, body: Body) -> Response {
        self.body = body;
        self
    }

    /// Whether the body can be had in pieces before it is sent, to change its form.
    #[cfg(feature = "compression")]
    pub(crate) fn is_compressible(&self, with_events: bool) -> bool {
        match &self.body {
            Body::Whole(_) => true,
            Body::Parts(_) => false,
            Body::Stream(stream) => match stream.source {
                Source::Pulled(_) | Source::Writer(_) | Source::Channel(_) => true,
                Source::Events(_) => with_events,
                Source::Tunnel(_) => false,
            },
        }
    }

    pub(crate) fn take_body(&mut self) -> Body {
        std::mem::replace(&mut self.body, Body::Whole(Bytes::new()))
    }

    /// All that is in an answer which says nothing but 200, and perhaps a content type that was
    /// written out beforehand. Any other answer is put into `other`, which has none yet.
    ///
    /// Inlined behind what makes the answer, most of this is known when it is compiled.
    #[inline(always)]
    pub(crate) fn or_into(self, other: &mut Option<Response>) -> Option<Plain> {
        let is_plain = self.status == StatusCode::OK
            && self.wording == Wording::Handlers
            && self.fields.others().is_empty()
            && self.problem.is_none()
            && !self.is_conditional
            && !self.invalid;
        match self.body {
            Body::Whole(body) if is_plain => {
                Some(Plain { content_type: self.fields.into_known(), body })
            }
            _ => {
                put(self, other);
                None
            }
        }
    }

    /// The body's length in bytes, as far as it is known.
    pub(crate) fn body_len(&self) -> Option<u64> {
        match &self.body {
            Body::Whole(bytes) => Some(bytes.len() as u64),
            Body::Parts(parts) => Some(parts.iter().map(Part::len).sum()),
            Body::Stream(stream) => stream.length,
        }
    }

    /// The body's length in bytes, if parts of it can be had without the rest.
    pub(crate) fn divisible_len(&self) -> Option<u64> {
        match &self.body {
            Body::Whole(_) | Body::Parts(_) => self.body_len(),
            Body::Stream(_) => None,
        }
    }
}

/// Out of line, so that it is compiled once and not with each handler.
#[cold]
#[inline(never)]
fn put(response: Response, other: &mut Option<Response>) {
    *other = Some(response);
}

impl From<Plain> for Response {
    fn from(plain: Plain) -> Response {
        let fields = plain.content_type.map_or_else(Fields::default, Fields::of);
        Response::made(StatusCode::OK, fields, plain.body)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("fields", &self.fields)
            .field("body_len", &self.body_len())
            .finish()
    }
}

/// Why a name or a value cannot be a header field's. Seen as the source of an [`Error`].
pub struct InvalidHeader(&'static str);

impl From<InvalidHeaderName> for InvalidHeader {
    fn from(_: InvalidHeaderName) -> Self {
        InvalidHeader("the name is not a token (RFC 9110 section 5.1)")
    }
}

impl From<InvalidHeaderValue> for InvalidHeader {
    fn from(_: InvalidHeaderValue) -> Self {
        InvalidHeader("the value has a control character (RFC 9110 section 5.5)")
    }
}

impl From<std::convert::Infallible> for InvalidHeader {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl fmt::Debug for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidHeader {}
