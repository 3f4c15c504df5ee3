//! Trying a router in tests, without sockets or on a real server.
//!
//! An [`App`] is a whole server on a simulated network: requests are parsed, routed, dispatched and
//! answered by the code that serves real ones, with the same limits and the same worker threads.
//! Only what the kernel does is played. So a test needs no port, and many may run side by side.
//!
//! [`serve`] starts a real server on a free port of this machine, for what is about sockets, or for
//! clients of other kinds. Both are asked in the same way.
//!
//! This module is there with the feature `test`, meant for `[dev-dependencies]`.
//!
//! ```
//! use wharf::test::App;
//! use wharf::{Request, Router};
//!
//! fn greet(request: &Request) -> Result<String, wharf::Error> {
//!     Ok(format!("Hello, {}!", request.param::<&str>("name")?))
//! }
//!
//! let app = App::new(Router::new().get("/hello/{name}", greet));
//! let answer = app.get("/hello/you").header("accept", "text/plain").send();
//! assert_eq!(answer.status(), 200);
//! assert_eq!(answer.text(), "Hello, you!");
//! assert_eq!(app.post("/hello/you").send().status(), 405);
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use wharf_http::{ChunkedDecoder, ChunkedLimits, status_allows_body};
use wharf_port::Listener;
use wharf_port::sim::{Faults, Network, Peer};

use crate::dispatch::Rules;
use crate::shard::{self, Shard};
use crate::shared::Shared;
use crate::{Error, Limits, Router, Server, ServerHandle};

/// How long an answer may take, in real time, before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// How far the simulated clock goes on in a turn in which nothing happens.
const TICK: Duration = Duration::from_millis(1);
/// Turns in which nothing happens before the test's thread sleeps for a tick between them, to
/// leave the processor to the workers.
const QUICK_TURNS: u32 = 50;
/// The first port of peers whose address was chosen.
const FIRST_PORT: u16 = 1_024;
/// Turns that a server may take to end.
const END_TURNS: u32 = 10_000;

macro_rules! calls {
    ($to:ident) => {
        /// A GET request of `path`, which may have a query.
        pub fn get(&self, path: &str) -> Call<'_> {
            self.request(Method::GET, path)
        }

        /// A HEAD request.
        pub fn head(&self, path: &str) -> Call<'_> {
            self.request(Method::HEAD, path)
        }

        /// A POST request.
        pub fn post(&self, path: &str) -> Call<'_> {
            self.request(Method::POST, path)
        }

        /// A PUT request.
        pub fn put(&self, path: &str) -> Call<'_> {
            self.request(Method::PUT, path)
        }

        /// A PATCH request.
        pub fn patch(&self, path: &str) -> Call<'_> {
            self.request(Method::PATCH, path)
        }

        /// A DELETE request.
        pub fn delete(&self, path: &str) -> Call<'_> {
            self.request(Method::DELETE, path)
        }

        /// A request with any method.
        pub fn request(&self, method: Method, path: &str) -> Call<'_> {
            Call::new(Asked::$to(self), method, path)
        }
    };
}

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 80))
}

/// A server without sockets, driven by the thread that asks it.
pub struct App {
    network: Network,
    shared: Arc<Shared>,
    shard: RefCell<Shard>,
    /// The port of the next peer whose address was chosen.
    next_port: Cell<u16>,
}

impl App {
    /// Serves `router` with the default [`Limits`].
    ///
    /// # Panics
    /// If a server with this router would not start: routes conflict, or a hook is set up wrongly.
    pub fn new(router: Router) -> App {
        App::with_limits(router, Limits::default())
    }

    /// Serves `router` with these limits.
    ///
    /// # Panics
    /// As [`new`](App::new), or if a limit cannot be.
    pub fn with_limits(router: Router, limits: Limits) -> App {
        App::build(router, limits).unwrap_or_else(|error| panic!("the app does not start: {error}"))
    }

    fn build(router: Router, limits: Limits) -> Result<App, Error> {
        limits.check()?;
        let network = Network::new(0, Faults::none());
        let rules = Rules::new(Default::default(), limits.inline_budget);
        let workers = limits.workers;
        let port = network.port(&shard::port_config(&limits));
        let shared = Arc::new(Shared::new(router.build()?, rules, limits, 1, workers));
        let listener = Listener::simulated(address());
        let shard =
            Shard::new(port, Some(listener), false, shared.clone(), 0).map_err(Error::internal)?;
        Ok(App { network, shared, shard: RefCell::new(shard), next_port: Cell::new(FIRST_PORT) })
    }

    calls!(App);

    /// Sends bytes as they are on a connection of their own, ends it, and returns all that is
    /// answered: for requests that no client would send.
    ///
    /// # Panics
    /// If the server does not close the connection within 30 seconds.
    pub fn send_bytes(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut peer = self.network.connect(address());
        self.exchange(&mut peer, bytes.as_ref(), true, |_, has_ended| has_ended)
    }

    fn connect(&self, from: Option<IpAddr>) -> Peer {
        let Some(ip) = from else { return self.network.connect(address()) };
        let port = self.next_port.get();
        self.next_port.set(port.checked_add(1).unwrap_or(FIRST_PORT));
        self.network.connect_from(SocketAddr::new(ip, port), address())
    }

    /// The same of bytes that arrive in pieces: the server has taken each before the next one comes.
    ///
    /// ```
    /// use wharf::{Router, test::App};
    ///
    /// let app = App::new(Router::new().get("/", |_| "hello"));
    /// let answer = app.send_pieces(["GE", "T / HTTP/1.1\r\nhos", "t: a\r\n\r\n"]);
    /// assert!(answer.ends_with(b"hello"));
    /// ```
    ///
    /// # Panics
    /// As [`send_bytes`](App::send_bytes).
    pub fn send_pieces<B: AsRef<[u8]>>(&self, pieces: impl IntoIterator<Item = B>) -> Vec<u8> {
        let mut peer = self.network.connect(address());
        let (started, mut received) = (Instant::now(), Vec::new());
        for piece in pieces {
            let mut rest = piece.as_ref();
            while !rest.is_empty() && !peer.at_end() && !peer.is_reset() {
                rest = &rest[peer.send(rest)..];
                self.turn();
                received.extend_from_slice(&peer.receive());
                assert!(started.elapsed() < PATIENCE, "the server takes nothing: {received:?}");
            }
        }
        received.extend(self.exchange(&mut peer, b"", true, |_, has_ended| has_ended));
        received
    }

    /// Sends, and receives until `is_done` has seen enough.
    fn exchange(
        &self,
        peer: &mut Peer,
        bytes: &[u8],
        ends: bool,
        mut is_done: impl FnMut(&[u8], bool) -> bool,
    ) -> Vec<u8> {
        let started = Instant::now();
        let (mut sent, mut received, mut idle_turns) = (0, Vec::new(), 0);
        loop {
            let taken = peer.send(&bytes[sent..]);
            sent += taken;
            if ends && sent == bytes.len() {
                peer.shutdown();
            }
            self.turn();
            let more = peer.receive();
            idle_turns = if more.is_empty() && taken == 0 { idle_turns + 1 } else { 0 };
            received.extend_from_slice(&more);
            if is_done(&received, peer.at_end() || peer.is_reset()) {
                return received;
            }
            assert!(started.elapsed() < PATIENCE, "no answer came, or not all of it: {received:?}");
            match idle_turns {
                0 => {}
                1..QUICK_TURNS => thread::yield_now(),
                _ => thread::sleep(TICK),
            }
        }
    }

    fn turn(&self) -> bool {
        self.network.wake_at(self.network.now() + TICK);
        let turned = self.shard.borrow_mut().turn();
        turned.expect("a simulated port does not fail").is_some()
    }
}

impl Drop for App {
    /// Ends what is still open. Handlers that are running go on to their end.
    fn drop(&mut self) {
        self.shared.start_drain(Duration::ZERO);
        // A test that has failed must not fail once more while it ends.
        if !thread::panicking() {
            (0..END_TURNS).find(|_| self.turn());
        }
        self.shared.pool.close();
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("statistics", &self.shared.statistics()).finish_non_exhaustive()
    }
}

/// Starts a server with the default [`Limits`] on a free port of this machine.
///
/// ```
/// use wharf::{Router, test};
///
/// let server = test::serve(Router::new().get("/", |request| request.peer().to_string()));
/// assert!(server.get("/").send().text().starts_with("127.0.0.1:"));
/// println!("other clients may ask {}", server.url("/"));
/// ```
///
/// # Panics
/// If it does not start: routes conflict, or a hook is set up wrongly.
pub fn serve(router: Router) -> Served {
    let server = Server::bind("127.0.0.1:0").map(|server| server.shards(1));
    match server {
        Ok(server) => serve_by(server, router),
        Err(error) => panic!("no port is free: {error}"),
    }
}

/// Starts a server that was set up by hand, bound to port 0, say.
///
/// # Panics
/// If it does not start.
pub fn serve_by(server: Server, router: Router) -> Served {
    match server.start(router) {
        Ok(handle) => Served { handle },
        Err(error) => panic!("the server does not start: {error}"),
    }
}

/// A running server, and a client that asks it and waits. Made by [`serve`]; dropping it stops the
/// server.
#[derive(Debug)]
pub struct Served {
    handle: ServerHandle,
}

impl Served {
    calls!(Served);

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.handle.local_address()
    }

    /// The URL of `path`, which begins with a slash, for other clients.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The server itself, for its statistics.
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// The server itself, to shut it down: it is then no longer asked from here.
    pub fn into_handle(self) -> ServerHandle {
        self.handle
    }

    /// Sends bytes as they are on a connection of their own, ends it, and returns all that is
    /// answered: for requests that no client would send.
    ///
    /// # Panics
    /// If the server cannot be reached, or does not close the connection within 30 seconds.
    pub fn send_bytes(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        self.exchange(bytes.as_ref(), true, |_, has_ended| has_ended)
    }

    fn exchange(
        &self,
        bytes: &[u8],
        ends: bool,
        is_done: impl FnMut(&[u8], bool) -> bool,
    ) -> Vec<u8> {
        wharf_port::client::exchange(self.address(), bytes, ends, PATIENCE, is_done)
            .unwrap_or_else(|error| panic!("no answer came, or not all of it: {error}"))
    }
}

/// Who is asked.
#[derive(Debug)]
enum Asked<'a> {
    App(&'a App),
    Served(&'a Served),
}

/// A request that is being put together.
#[derive(Debug)]
#[must_use = "nothing is asked before `send`"]
pub struct Call<'a> {
    asked: Asked<'a>,
    method: Method,
    path: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
    is_chunked: bool,
    peer: Option<IpAddr>,
}

impl<'a> Call<'a> {
    fn new(asked: Asked<'a>, method: Method, path: &str) -> Call<'a> {
        Call {
            asked,
            method,
            path: path.to_owned(),
            fields: Vec::new(),
            body: None,
            is_chunked: false,
            peer: None,
        }
    }

    /// Adds a header field. A Host field takes the place of the one that is sent otherwise.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The body, with its Content-Length.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The body, sent in chunks.
    pub fn chunked(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.is_chunked = true;
        self.body(body)
    }

    /// A value as JSON, with its content type.
    ///
    /// # Panics
    /// If the value cannot be JSON.
    #[cfg(feature = "json")]
    pub fn json(self, value: &impl serde_core::Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("the value can be JSON");
        self.header("content-type", "application/json").body(body)
    }

    /// An encoded form (`name=value&…`), with its content type.
    pub fn form(self, fields: &str) -> Self {
        self.header("content-type", "application/x-www-form-urlencoded").body(fields)
    }

    /// The address that the request comes from, as an [`App`] sees it; what comes to a server that is
    /// [`Served`] comes from this machine nevertheless. Default: one of the network's own.
    pub fn from(mut self, peer: IpAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Sends the request on a connection of its own and waits for the answer.
    ///
    /// # Panics
    /// If no whole answer comes within 30 seconds.
    pub fn send(self) -> Answer {
        let bytes = self.bytes();
        let is_head = self.method == Method::HEAD;
        let mut answer = None;
        let is_done = |received: &[u8], has_ended| {
            answer = Answer::read(received, is_head, has_ended);
            assert!(answer.is_some() || !has_ended, "the connection ended before the answer did");
            answer.is_some()
        };
        match self.asked {
            Asked::App(app) => {
                let mut peer = app.connect(self.peer);
                app.exchange(&mut peer, &bytes, false, is_done);
                peer.shutdown();
            }
            Asked::Served(server) => {
                server.exchange(&bytes, false, is_done);
            }
        }
        answer.expect("the exchange ended with it")
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        let mut field = |name: &str, value: &[u8]| {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        };
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            field("host", b"test");
        }
        self.fields.iter().for_each(|(name, value)| field(name, value));
        match &self.body {
            Some(_) if self.is_chunked => field("transfer-encoding", b"chunked"),
            Some(body) => field("content-length", body.len().to_string().as_bytes()),
            None => {}
        }
        bytes.extend_from_slice(b"\r\n");
        let body = self.body.as_deref().unwrap_or_default();
        if !self.is_chunked {
            bytes.extend_from_slice(body);
            return bytes;
        }
        for chunk in body.chunks(1_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The final answer in these bytes, once it is whole. Interim ones are passed over.
    fn read(bytes: &[u8], is_head: bool, has_ended: bool) -> Option<Answer> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, rest) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 4..]);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse::<StatusCode>().ok()?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            return Answer::read(rest, is_head, has_ended);
        }
        let field = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        let mut headers = HeaderMap::new();
        lines.filter_map(field).for_each(|(name, value)| {
            headers.append(name, value);
        });
        let body = if is_head || !status_allows_body(status.as_u16()) {
            Vec::new()
        } else {
            body(&headers, rest, has_ended)?
        };
        Some(Answer { status, headers, body })
    }

    /// The status; it may be compared with a number.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The first header field of that name, if its value is ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All header fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, without the chunks it may have come in.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as the value that it is the JSON of.
    ///
    /// # Panics
    /// If it is not JSON of such a value.
    #[cfg(feature = "json")]
    pub fn json<T: serde_core::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&self.body)))
    }
}

/// A body, once it is whole (RFC 9112 section 6.3).
fn body(headers: &HeaderMap, bytes: &[u8], has_ended: bool) -> Option<Vec<u8>> {
    if headers.contains_key("transfer-encoding") {
        let mut decoder = ChunkedDecoder::new(ChunkedLimits::default());
        let (mut body, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() && !decoder.is_done() {
            let step = decoder.decode(rest).expect("the server sends good chunks");
            body.extend_from_slice(&rest[step.data]);
            rest = &rest[step.consumed..];
        }
        return decoder.is_done().then_some(body);
    }
    match headers.get("content-length") {
        Some(length) => {
            let length: usize = length.to_str().ok()?.parse().ok()?;
            bytes.get(..length).map(<[u8]>::to_vec)
        }
        None => has_ended.then(|| bytes.to_vec()),
    }
}
