//! What a handler is asked.
//!
//! A request is built once, in a block that the shard recycles, and known by pointer from then on.
//! Its parts are views: offsets into the bytes as they were received.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Extensions, HeaderName, Method, StatusCode, Version};
use percent_encoding::percent_decode;
use smallvec::SmallVec;
use wharf_http::{RequestHead, Span};
use wharf_port::Lease;

use crate::shared::Reservation;
use crate::stream::{BodyReader, Inflow, Produce, Signal, Trailers};
#[cfg(feature = "compression")]
use crate::stream::{Decoded, OpenDecoder};
use crate::{Error, Response};

/// A request: method, path, header fields, body, and who sent it.
///
/// What it gives out are views of the bytes as they were received; nothing is copied. A handler
/// gets it by reference, on whatever thread it runs.
///
/// ```
/// use wharf::{Error, Request};
///
/// fn greet(request: &Request) -> Result<String, Error> {
///     let name: &str = request.param("name")?;
///     let agent = request.header("user-agent").unwrap_or("somebody unknown");
///     Ok(format!("{name} comes with {agent} and {} bytes", request.body().len()))
/// }
/// # let _ = greet;
/// ```
pub struct Request {
    /// Where the parts of the head lie in `bytes`.
    pub(crate) head: RequestHead,
    /// The received bytes, from the head's first byte on.
    pub(crate) bytes: View,
    pub(crate) body: Body,
    pub(crate) method: Method,
    /// Path parameters in order.
    pub(crate) parameters: SmallVec<[Parameter; 4]>,
    /// Their names in the same order.
    pub(crate) names: Option<Arc<[Box<str>]>>,
    pub(crate) peer: Option<SocketAddr>,
    /// What hooks have attached.
    pub(crate) extensions: Extensions,
    /// The head's bytes while it is not whole, if it did not come in one piece.
    pub(crate) partial: Vec<u8>,
    pub(crate) reply: ReplyTo,
    /// The route's number, once it is known.
    pub(crate) target: Option<usize>,
    /// The memory that the body has been given.
    pub(crate) reservation: Reservation,
    /// How long its handler ran on a worker, until the shard has heard of it.
    pub(crate) took: Option<Duration>,
    /// What a worker is to do, and what has become of it. Behind a lock that is never contended,
    /// since a body's source may be `Send` only, and requests are shared by threads.
    pub(crate) work: Mutex<Work>,
    /// The body, if it flows.
    pub(crate) inflow: Option<Arc<Inflow>>,
    /// When its time is over, if the route says.
    pub(crate) deadline: Option<Instant>,
    /// How a handler on a worker is told that its client has gone, or its time is over. Kept for the next request.
    pub(crate) signal: Option<Arc<Signal>>,
}

/// What a worker does with a request's block.
#[derive(Default)]
pub(crate) enum Work {
    /// Runs the handler.
    #[default]
    Handle,
    Answered(Response),
    /// Asks an answer's body for its next piece. From here on the block has no request in it.
    Produce(Box<dyn Produce>),
    Produced(Box<dyn Produce>, Piece),
    /// Runs what writes a body or speaks another protocol.
    Run(Box<dyn FnOnce() + Send>),
    /// Nothing is left to do.
    Done,
}

#[cfg(test)]
impl Work {
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self, Work::Produce(source) if !source.is_ready())
    }
}

/// What a body's source has given.
pub(crate) enum Piece {
    Bytes(Bytes),
    End(Trailers),
    Failed,
}

/// Where the answer goes, and which handler makes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReplyTo {
    pub(crate) shard: usize,
    /// The connection's key in its shard's table.
    pub(crate) connection: u64,
    /// Which of the connection's requests.
    pub(crate) stream: u32,
    pub(crate) target: usize,
}

/// Received bytes, wherever they lie.
#[derive(Default)]
pub(crate) enum View {
    #[default]
    Empty,
    /// In the block they were received into.
    Lease(Lease),
    /// Joined from several blocks, or received into a block of their own.
    Joined(Bytes),
}

impl View {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            View::Empty => &[],
            View::Lease(lease) => lease,
            View::Joined(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// A view of what follows the first `count` bytes.
    pub(crate) fn behind(&self, count: usize) -> View {
        match self {
            View::Empty => View::Empty,
            View::Lease(lease) => View::Lease(lease.slice(count..)),
            View::Joined(bytes) => View::Joined(bytes.slice(count..)),
        }
    }

    /// A view of the first `count` bytes.
    pub(crate) fn first(&self, count: usize) -> View {
        match self {
            View::Empty => View::Empty,
            View::Lease(lease) => View::Lease(lease.slice(..count)),
            View::Joined(bytes) => View::Joined(bytes.slice(..count)),
        }
    }

    /// The same bytes, no longer in the receive block.
    pub(crate) fn copied_out(self) -> View {
        match self {
            View::Lease(lease) => View::Joined(Bytes::copy_from_slice(&lease)),
            other => other,
        }
    }

    /// Leaves nothing. What was there, if it was a lease.
    #[inline(always)]
    fn take_lease(&mut self) -> Option<Lease> {
        // Asked beforehand, so that no more than a lease is moved.
        if !matches!(self, View::Lease(_)) {
            *self = View::Empty;
            return None;
        }
        match std::mem::take(self) {
            View::Lease(lease) => Some(lease),
            View::Empty | View::Joined(_) => None,
        }
    }

    fn share(&self, range: Range<usize>) -> Bytes {
        match self {
            View::Empty => Bytes::new(),
            View::Lease(lease) => Bytes::from_owner(lease.slice(range)),
            View::Joined(bytes) => bytes.slice(range),
        }
    }
}

/// Where the body lies.
#[derive(Default)]
pub(crate) enum Body {
    #[default]
    Empty,
    /// Behind the head, in the same bytes.
    BehindHead(Range<usize>),
    Apart(View),
}

/// The body as the readers of a request that flows get it.
#[cfg(feature = "compression")]
#[derive(Clone)]
struct Decoding(Arc<Mutex<Decoded>>);

/// A path parameter's value.
pub(crate) enum Parameter {
    /// As it stands in the path.
    Plain(Range<usize>),
    /// It had escapes: where it stands in the path, and what it means.
    Decoded(
        #[cfg_attr(not(feature = "files"), expect(dead_code, reason = "files look there"))]
        Range<usize>,
        Box<str>,
    ),
}

impl Request {
    /// A block for requests to come.
    pub(crate) fn blank() -> Request {
        Request {
            head: RequestHead::new(),
            bytes: View::Empty,
            body: Body::Empty,
            method: Method::GET,
            parameters: SmallVec::new(),
            names: None,
            peer: None,
            extensions: Extensions::new(),
            partial: Vec::new(),
            reply: ReplyTo::default(),
            target: None,
            reservation: Reservation::default(),
            took: None,
            work: Mutex::new(Work::Handle),
            inflow: None,
            deadline: None,
            signal: None,
        }
    }

    /// The method (RFC 9110 section 9).
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path as it was sent, escapes and all (RFC 3986 section 3.3).
    pub fn path(&self) -> &str {
        text(self.path_bytes())
    }

    fn path_bytes(&self) -> &[u8] {
        match self.head.path().of(self.bytes.as_slice()) {
            // An absolute target may leave it out (RFC 9110 section 4.2.3).
            b"" => b"/",
            path => path,
        }
    }

    /// What follows the `?`, as it was sent; empty if there is none. [`query`](Request::query) reads
    /// values from it.
    pub fn query_string(&self) -> &str {
        self.head.query().map_or("", |span| self.part(span))
    }

    /// The host that is asked for, with the port if one was given: from an absolute request
    /// target, else from the Host field (RFC 9112 section 3.3).
    pub fn host(&self) -> Option<&str> {
        self.head.authority().map(|span| self.part(span))
    }

    /// `HTTP/1.0` or `HTTP/1.1`.
    pub fn version(&self) -> Version {
        match self.head.version() {
            wharf_http::Version::Http10 => Version::HTTP_10,
            wharf_http::Version::Http11 => Version::HTTP_11,
        }
    }

    /// A parameter of the route's path, percent-decoded, as whatever it is meant to be.
    ///
    /// ```
    /// # use wharf::{Error, Request};
    /// // For a route such as "/users/{id}/files/{name}":
    /// fn file(request: &Request) -> Result<String, Error> {
    ///     let id: u64 = request.param("id")?;
    ///     let name: &str = request.param("name")?;
    ///     Ok(format!("file {name} of user {id}"))
    /// }
    /// # let _ = file;
    /// ```
    ///
    /// # Errors
    /// `400 Bad Request` if the value does not parse; `500` if the route has no such parameter.
    pub fn param<'r, T: FromParam<'r>>(&'r self, name: &str) -> Result<T, Error> {
        let Some(value) = self.param_text(name) else {
            return Err(Error::new(
                crate::error::Kind::Configuration,
                format!("the route has no path parameter {name:?}"),
            ));
        };
        T::from_param(value).ok_or_else(|| {
            Error::request(
                StatusCode::BAD_REQUEST,
                format!("the path parameter {name:?} is not {}", T::EXPECTED),
            )
        })
    }

    fn param_text(&self, name: &str) -> Option<&str> {
        let position = self.names.as_ref()?.iter().position(|known| **known == *name)?;
        match self.parameters.get(position)? {
            Parameter::Plain(range) => self.path_bytes().get(range.clone()).map(text),
            Parameter::Decoded(_, text) => Some(text),
        }
    }

    /// A parameter of the route's path as it was sent, escapes and all.
    #[cfg(feature = "files")]
    pub(crate) fn raw_param(&self, name: &str) -> Option<&str> {
        let position = self.names.as_ref()?.iter().position(|known| **known == *name)?;
        let (Parameter::Plain(range) | Parameter::Decoded(range, _)) =
            self.parameters.get(position)?;
        self.path_bytes().get(range.clone()).map(text)
    }

    /// The first field of that name, if its value is text. Names are compared without regard to
    /// case.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.header_bytes(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first field of that name, whatever bytes its value has.
    pub fn header_bytes(&self, name: impl AsHeaderName) -> Option<&[u8]> {
        let name = name.as_header_name();
        self.headers().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All values of that name, in the order they were sent.
    pub fn header_all<'r>(
        &'r self,
        name: impl AsHeaderName + 'r,
    ) -> impl Iterator<Item = &'r [u8]> {
        let has_name = move |known: &str| known.eq_ignore_ascii_case(name.as_header_name());
        self.headers().filter(move |(known, _)| has_name(known)).map(|(_, value)| value)
    }

    /// Every field in the order they were sent: the name as it was spelled, and the value.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let bytes = self.bytes.as_slice();
        self.head.fields().iter().map(move |field| (self.part(field.name), field.value.of(bytes)))
    }

    /// The body, whole.
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Body::Empty => &[],
            Body::BehindHead(range) => &self.bytes.as_slice()[range.clone()],
            Body::Apart(view) => view.as_slice(),
        }
    }

    /// A shared handle to the body, without copying it. It may outlive the request; the block that
    /// the body was received into stays alive with it.
    ///
    /// ```
    /// use wharf::{Request, Response};
    ///
    /// fn echo(request: &Request) -> Response {
    ///     Response::text(request.bytes())
    /// }
    /// # let _ = echo;
    /// ```
    pub fn bytes(&self) -> Bytes {
        match &self.body {
            Body::Empty => Bytes::new(),
            Body::BehindHead(range) => self.bytes.share(range.clone()),
            Body::Apart(view) => view.share(0..view.as_slice().len()),
        }
    }

    /// A reader of the body. Where the route is [`streaming`](crate::Route::streaming) it gives out
    /// the body while it arrives, and waits for it; else the body is there already.
    ///
    /// All readers of one request read from the same stream.
    ///
    /// ```
    /// use std::fs::File;
    /// use wharf::{Error, Request, Router, post};
    ///
    /// fn store(request: &Request) -> Result<String, Error> {
    ///     let mut file = File::create("upload.bin")?;
    ///     let length = std::io::copy(&mut request.reader(), &mut file)?;
    ///     Ok(format!("stored {length} bytes\n"))
    /// }
    ///
    /// let router = Router::new().route("/upload", post(store).streaming().body_limit(1 << 30));
    /// # let _ = router;
    /// ```
    pub fn reader(&self) -> BodyReader {
        #[cfg(feature = "compression")]
        if let (Some(inflow), Some(decoded)) = (&self.inflow, self.decoded()) {
            return BodyReader::decoded(inflow, decoded);
        }
        match &self.inflow {
            Some(inflow) => BodyReader::of(inflow),
            None => {
                let view = match &self.body {
                    Body::Empty => View::Empty,
                    Body::BehindHead(range) => self.bytes.behind(range.start).first(range.len()),
                    Body::Apart(view) => view.first(view.len()),
                };
                BodyReader::whole(view, self.peer())
            }
        }
    }

    /// What a hook has had made of a body that flows.
    #[cfg(feature = "compression")]
    fn decoded(&self) -> Option<Arc<Mutex<Decoded>>> {
        self.extensions.get::<Decoding>().map(|Decoding(decoded)| decoded.clone())
    }

    /// Has the body decoded: at once and wholly if it is there, else as it is read.
    ///
    /// # Errors
    /// What is wrong with a body that is there.
    #[cfg(feature = "compression")]
    pub(crate) fn decode(&mut self, open: OpenDecoder, max_bytes: usize) -> std::io::Result<()> {
        if let Some(inflow) = &self.inflow {
            let decoded = Decoded::new(BodyReader::uncounted(inflow), open, max_bytes);
            self.extensions.insert(Decoding(Arc::new(Mutex::new(decoded))));
            return Ok(());
        }
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut Decoded::new(self.reader(), open, max_bytes), &mut body)?;
        self.body = Body::Apart(View::Joined(body.into()));
        Ok(())
    }

    /// Whether the client has gone: the connection failed, or the client has closed its side, which
    /// few do that still want an answer. Work that takes long may stop then; its answer is
    /// dropped. Or whether the request's [time](crate::Route::timeout) is over; then its answer is
    /// sent nevertheless. Always false on the I/O thread.
    pub fn is_cancelled(&self) -> bool {
        self.signal.as_ref().is_some_and(|signal| signal.is_cancelled())
    }

    /// Calls `tell` when [`is_cancelled`](Request::is_cancelled) becomes true while the handler
    /// runs, or now if it is. It runs on the I/O thread, so it has to be quick: set a flag, or
    /// interrupt a query, say.
    pub fn on_cancel(&self, tell: impl FnOnce() + Send + 'static) {
        if let Some(signal) = &self.signal {
            signal.on_cancel(Box::new(tell));
        }
    }

    /// When the request's time is over, if its route has a [timeout](crate::Route::timeout).
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether its time was over before its handler ran.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.is_some() && self.signal.as_ref().is_some_and(|signal| signal.is_late())
    }

    /// The id of the last server-sent event that the client got before it connected again.
    pub fn last_event_id(&self) -> Option<&str> {
        self.header("last-event-id")
    }

    /// The address at the other end of the connection: the client, or a proxy before it.
    pub fn peer(&self) -> SocketAddr {
        // Every request that a handler sees came from a connection.
        self.peer.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// What hooks have attached to the request, by type: who the user is, say. A handler's state is
    /// better captured by its closure: what is here may be missing, what a closure has is not.
    ///
    /// ```
    /// use wharf::{Request, StatusCode};
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// fn hello(request: &Request) -> Result<String, StatusCode> {
    ///     let User(name) = request.extensions().get().ok_or(StatusCode::UNAUTHORIZED)?;
    ///     Ok(format!("Hello, {name}!\n"))
    /// }
    /// # let _ = hello;
    /// ```
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// What is attached to the request, for a hook to add to. It is gone with the request.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    fn part(&self, span: Span) -> &str {
        text(span.of(self.bytes.as_slice()))
    }

    /// Sets a parameter of the route, a part of the path. False: its escapes are not UTF-8.
    pub(crate) fn decode_parameter(&mut self, value: Range<usize>) -> bool {
        let raw = &self.path_bytes()[value.clone()];
        let parameter = if raw.contains(&b'%') {
            match percent_decode(raw).decode_utf8() {
                Ok(text) => Parameter::Decoded(value, text.into_owned().into_boxed_str()),
                Err(_) => return false,
            }
        } else {
            Parameter::Plain(value)
        };
        self.parameters.push(parameter);
        true
    }

    /// Frees the receive blocks for others, at the price of a copy.
    pub(crate) fn copy_out(&mut self) {
        self.bytes = std::mem::take(&mut self.bytes).copied_out();
        if let Body::Apart(view) = &mut self.body {
            *view = std::mem::take(view).copied_out();
        }
    }

    /// Whether the head is whole. Before that nothing of it may be asked for.
    pub(crate) fn has_head(&self) -> bool {
        !matches!(self.bytes, View::Empty)
    }

    /// As [`recycle`](Request::recycle), of a GET that had a head and no more: not a body, nothing
    /// that hooks attach, no part in a worker's hands. What it was received in is the caller's.
    #[inline(always)]
    pub(crate) fn recycle_bare(&mut self) -> Option<Lease> {
        self.head.clear();
        self.target = None;
        if self.names.is_some() {
            self.names = None;
            self.parameters.clear();
        }
        debug_assert!(
            self.method == Method::GET
                && matches!(self.body, Body::Empty)
                && self.parameters.is_empty()
                && self.extensions.is_empty()
                && self.partial.is_empty()
                && self.inflow.is_none()
                && self.deadline.is_none()
                && self.took.is_none()
                && self.reservation.is_empty()
                && matches!(self.work_mut(), Work::Handle)
        );
        self.bytes.take_lease()
    }

    /// Makes the block ready for its next request; capacities stay.
    pub(crate) fn recycle(&mut self) {
        self.head.clear();
        self.method = Method::GET;
        self.bytes = View::Empty;
        self.body = Body::Empty;
        self.parameters.clear();
        self.names = None;
        self.extensions.clear();
        self.target = None;
        self.partial.clear();
        self.reservation = Reservation::default();
        *self.work_mut() = Work::Handle;
        self.inflow = None;
        self.deadline = None;
        self.took = None;
        // Whoever still has the signal keeps it, and the next request gets another one.
        match self.signal.as_mut().map(Arc::get_mut) {
            Some(Some(signal)) => signal.clear(),
            Some(None) => self.signal = None,
            None => {}
        }
    }

    pub(crate) fn work_mut(&mut self) -> &mut Work {
        self.work.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path())?;
        write!(f, " ({} fields, {} bytes)", self.head.fields().len(), self.body().len())
    }
}

/// Bytes of which the parser has admitted only ASCII.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A header field's name, as text or as [`HeaderName`].
pub trait AsHeaderName {
    /// The name.
    fn as_header_name(&self) -> &str;
}

impl AsHeaderName for &str {
    fn as_header_name(&self) -> &str {
        self
    }
}

impl AsHeaderName for &String {
    fn as_header_name(&self) -> &str {
        self
    }
}

impl AsHeaderName for HeaderName {
    fn as_header_name(&self) -> &str {
        self.as_str()
    }
}

impl AsHeaderName for &HeaderName {
    fn as_header_name(&self) -> &str {
        self.as_str()
    }
}

/// What a path parameter can be read as by [`Request::param`]: texts, numbers, `bool`, `char` and
/// addresses; with [`Parsed`] whatever has a [`FromStr`](std::str::FromStr); and types of your own.
///
/// ```
/// use wharf::{Error, FromParam, Request};
///
/// /// Such as `A-17`.
/// struct Berth(u32);
///
/// impl FromParam<'_> for Berth {
///     const EXPECTED: &'static str = "a berth such as A-17";
///
///     fn from_param(value: &str) -> Option<Berth> {
///         value.strip_prefix("A-")?.parse().ok().map(Berth)
///     }
/// }
///
/// fn show(request: &Request) -> Result<String, Error> {
///     let Berth(number) = request.param("berth")?; // or 400: "… is not a berth such as A-17"
///     Ok(format!("berth {number}\n"))
/// }
/// ```
pub trait FromParam<'r>: Sized {
    /// What is expected, for the message to the client: "a whole number", say.
    const EXPECTED: &'static str;

    /// Reads the decoded value. None: it is something else.
    fn from_param(value: &'r str) -> Option<Self>;
}

impl<'r> FromParam<'r> for &'r str {
    const EXPECTED: &'static str = "a text";
    fn from_param(value: &'r str) -> Option<Self> {
        Some(value)
    }
}

macro_rules! from_param {
    ($expected:literal: $($type:ty),*) => {
        $(impl FromParam<'_> for $type {
            const EXPECTED: &'static str = $expected;
            fn from_param(value: &str) -> Option<Self> {
                value.parse().ok()
            }
        })*
    };
}

from_param!("a text": String);
from_param!("a whole number in range": u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);
from_param!("a number": f32, f64);
from_param!("true or false": bool);
from_param!("a single character": char);
from_param!("an IP address": std::net::IpAddr, std::net::Ipv4Addr, std::net::Ipv6Addr);

/// A path parameter of a type that others have made: whatever it is [parsed](std::str::FromStr) from,
/// a date or a UUID, say.
///
/// ```
/// use std::net::SocketAddr;
/// use wharf::{Error, Parsed, Request};
///
/// fn ping(request: &Request) -> Result<String, Error> {
///     let Parsed(address): Parsed<SocketAddr> = request.param("address")?;
///     Ok(format!("port {}\n", address.port()))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<T>(pub T);

impl<T: std::str::FromStr> FromParam<'_> for Parsed<T> {
    const EXPECTED: &'static str = "of the form that is expected there";

    fn from_param(value: &str) -> Option<Self> {
        value.parse().ok().map(Parsed)
    }
}

/// A request with this head and no body, for tests.
#[cfg(test)]
pub(crate) fn blank_with_head(head: &str) -> Request {
    let mut request = Request::blank();
    let limits = wharf_http::HeadLimits::default();
    assert_eq!(request.head.parse(head.as_bytes(), &limits).unwrap(), Some(head.len()));
    request.bytes = View::Joined(Bytes::copy_from_slice(head.as_bytes()));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hooks_attached_is_gone_with_the_request() {
        let mut request = Request::blank();
        let attached = Arc::new("somebody");
        request.extensions_mut().insert(attached.clone());
        assert_eq!(request.extensions().get::<Arc<&str>>(), Some(&attached));
        request.recycle();
        assert_eq!(request.extensions().get::<Arc<&str>>(), None);
        assert_eq!(Arc::strong_count(&attached), 1);
    }
}
