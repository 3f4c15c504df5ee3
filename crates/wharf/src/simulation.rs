//! The whole server on a simulated network, with faults that follow from a seed.
//!
//! Each run has some clients that cut their requests anywhere, pipeline, wait, vanish or read
//! nothing. What a client received is compared with what the same bytes are answered when they are
//! sent whole through a network without faults; who was not answered to the end was closed for a
//! reason that says so. Over the seeds every timeout passes. At the end nothing may be left: no
//! connection, no operation, no lease, no reserved byte. `WHARF_SEED=n` replays one seed, `WHARF_SEEDS=n` runs so
//! many instead of 250 a test.

mod exchanges;
mod overload;
mod reasons;
mod timeouts;
mod workers;

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use wharf_port::sim::{Faults, Network, Peer};
use wharf_port::{FileRange, Listener, Time};

use self::workers::{Clocks, Workers};
use crate::response::Part;
use crate::shard::{self, Drained, Shard};
use crate::shared::Shared;
use crate::stream::{Produce, Source};
use crate::{
    BodyReader, HeaderValue, Limits, Request, Response, Router, StatusCode, get, header, post,
};

const DATE_LEN: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();
/// More turns than any run takes, so that one which hangs fails.
const MAX_TURNS: usize = 200_000;

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 80))
}

fn describe(request: &Request) -> String {
    let length: usize = request.headers().map(|(name, value)| name.len() + value.len()).sum();
    let body = request.body().iter().fold(7u32, |sum, &b| sum.wrapping_mul(31) + u32::from(b));
    format!("{} {} {length} {} {body}\n", request.method(), request.path(), request.body().len())
}

fn echo(request: &Request) -> Response {
    Response::text(request.bytes())
}

/// Text, a part of a file, a large text, and another part of the file.
fn parts() -> VecDeque<Part> {
    const FILE_BYTES: usize = 40_000;
    static FILE: OnceLock<Arc<File>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let mut file = tempfile::tempfile().expect("there is room");
        let bytes: Vec<u8> = (0..FILE_BYTES).map(|at| b'a' + (at % 23) as u8).collect();
        file.write_all(&bytes).expect("there is room");
        Arc::new(file)
    });
    let range = |offset, length| Part::File(FileRange { file: file.clone(), offset, length });
    let large = "y".repeat(70_000);
    [Part::Bytes("x".into()), range(7, 30_000), Part::Bytes(large.into()), range(39_999, 1)].into()
}

/// Pieces of many sizes, from a source that is asked for each.
fn pulled(_: &Request) -> Response {
    let piece = |n: usize| Ok("p".repeat(1 + n * n * 11));
    Response::new(StatusCode::OK)
        .body_iter((0..40).map(piece))
        .trailers(|| [(header::ETAG, HeaderValue::from_static("\"p\""))])
}

/// The same from a queue, which is filled beforehand.
fn pushed(_: &Request) -> Response {
    let (sender, response) = Response::channel();
    (0..20).for_each(|n| sender.try_send("q".repeat(1 + n * n * 7)).expect("there is room"));
    response.content_length((0..20).map(|n| 1 + n * n * 7).sum())
}

fn written(_: &Request) -> Response {
    Response::new(StatusCode::OK)
        .body_writer(|body| (0..300).try_for_each(|n| writeln!(body, "line {n}")))
}

/// The request's body, while it comes. Asked only for what has come: all is on one thread.
struct Echo(BodyReader);

impl Produce for Echo {
    fn produce(&mut self) -> io::Result<Option<Bytes>> {
        let bytes = Bytes::copy_from_slice(self.0.fill_buf()?);
        self.0.consume(bytes.len());
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    fn is_ready(&self) -> bool {
        self.0.is_ready()
    }
}

/// Its length is announced, for where chunks are cut depends on time.
fn echo_flowing(request: &Request) -> Response {
    let length = ["content-length", "x-length"].into_iter().find_map(|name| request.header(name));
    let length = length.and_then(|text| text.parse().ok()).expect("every client says so");
    Response::new(StatusCode::OK)
        .stream(Source::Pulled(Box::new(Echo(request.reader()))))
        .content_length(length)
}

fn ignore(_: &Request) -> &'static str {
    "ignored"
}

fn router() -> Router {
    Router::new()
        .route("/pulled/inline", get(pulled).inline())
        .route("/pulled/pooled", get(pulled).pooled())
        .route("/pushed/inline", get(pushed).inline())
        .route("/pushed/pooled", get(pushed).pooled())
        .get("/written", written)
        .route("/flow/echo", post(echo_flowing).streaming())
        .route("/flow/ignore", post(ignore).streaming())
        .route("/parts/inline", get(|_| Response::new(StatusCode::OK).parts(parts())).inline())
        .route("/parts/pooled", get(|_| Response::new(StatusCode::OK).parts(parts())).pooled())
        .route("/inline/{n}", get(describe).inline())
        .route("/inline/{n}", post(describe).inline())
        .route("/pooled/{n}", get(describe).pooled())
        .route("/pooled/{n}", post(describe).pooled())
        .get(workers::MEASURED, workers::measured)
        .post(workers::MEASURED, workers::measured)
        .route("/echo", post(echo).inline())
        .route("/small", post(describe).body_limit(100))
        .route("/large", get(|_| "x".repeat(50_000)).inline())
        .get("/close", |_| Response::text("bye").header("connection", "close"))
        .route("/panic/inline", get(panics).inline())
        .get("/panic/pooled", panics)
}

/// Unwinds as a panic does, but without its trace in the log, of which there would be thousands.
fn panics(_: &Request) -> Response {
    std::panic::resume_unwind(Box::new("a handler's own fault"))
}

/// Few and small blocks, so that exhaustion is part of every run, and so few workers that requests
/// of one route wait for each other.
fn limits() -> Limits {
    Limits { receive_bytes: 8 * shard::RECEIVE_BLOCK_BYTES, workers: 2, ..Limits::default() }
}

/// A server without threads: the test takes the turns, of the shard and of its workers.
struct Simulation {
    network: Network,
    shared: Arc<Shared>,
    shard: Shard,
    clocks: Clocks,
}

impl Simulation {
    fn new(seed: u64, faults: Faults) -> Simulation {
        Simulation::serving(router(), seed, faults)
    }

    fn serving(router: Router, seed: u64, faults: Faults) -> Simulation {
        Simulation::limited(router, limits(), seed, faults)
    }

    fn limited(router: Router, limits: Limits, seed: u64, faults: Faults) -> Simulation {
        let network = Network::new(seed, faults);
        let routes = router.build().expect("the routes do not conflict");
        let config = shard::port_config(&limits);
        let mut shared = Shared::new(routes, workers::rules(), limits, 1, 0);
        shared.clock = workers::now;
        let shared = Arc::new(shared);
        let clocks = Clocks::new(&network, seed);
        let port = network.port(&config);
        let listener = Listener::simulated(address());
        let shard = Shard::new(port, Some(listener), false, shared.clone(), 0);
        Simulation { network, shared, shard: shard.expect("a simulated port listens"), clocks }
    }

    fn turn(&mut self) -> Option<Drained> {
        let turn = self.clocks.during(|| self.shard.turn());
        turn.expect("a simulated port does not fail")
    }

    fn run_one(&mut self) -> bool {
        self.clocks.during(|| self.shared.pool.run_one(&self.shared))
    }

    /// Drains the server and asserts that nothing of it is left.
    fn end(mut self) {
        self.shared.start_drain(Duration::from_secs(30));
        let mut turns = 0..MAX_TURNS;
        while self.turn().is_none() {
            while self.run_one() {}
            assert!(turns.next().is_some(), "draining does not end");
        }
        self.assert_nothing_is_left();
    }

    /// Of a server that is drained.
    fn assert_nothing_is_left(mut self) {
        assert_eq!(self.shared.admission.total(), 0, "connections");
        assert_eq!(self.shared.bodies.used(), 0, "bytes of bodies");
        assert_eq!(self.shared.pool.queued(), 0, "requests in the queue");
        let left = self.shard.counters();
        assert_eq!(left.operations, 0, "operations: {left:?}");
        assert_eq!(left.leased_blocks, 0, "leases: {left:?}");
        assert_eq!(left.sockets, 0, "sockets: {left:?}");
        assert_eq!(self.network.descriptors(), 0, "descriptors");
        reasons::check(&self.shared.statistics());
        assert!(self.shard.has_no_timers(), "timers");
    }
}

/// What the same bytes are answered when nothing goes wrong.
fn reference(stream: &[u8]) -> Vec<u8> {
    let mut simulation = Simulation::new(0, Faults::none());
    let mut peer = simulation.network.connect(address());
    let (mut sent, mut received) = (0, Vec::new());
    for _ in 0..MAX_TURNS {
        if sent < stream.len() {
            sent += peer.send(&stream[sent..]);
            if sent == stream.len() {
                peer.shutdown();
            }
        }
        simulation.turn();
        simulation.run_one();
        received.append(&mut peer.receive());
        if peer.at_end() {
            simulation.end();
            return normal(&received);
        }
        let soon = simulation.network.now() + Duration::from_millis(1);
        simulation.network.wake_at(soon);
    }
    panic!("the reference does not end");
}

/// The bytes without what depends on time: dates, and whether a body came before it was asked for.
fn normal(bytes: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(wharf_http::CONTINUE) {
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(b"\r\ndate: ") {
            rest = &behind[DATE_LEN.min(behind.len())..];
        } else {
            normal.push(rest[0]);
            rest = &rest[1..];
        }
    }
    normal
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaviour {
    /// Sends all in pieces, closes its side, reads to the end.
    Honest,
    /// Does not read for some time.
    LateReader,
    /// Resets the connection in the middle.
    Vanishes,
    /// Closes its side in the middle.
    Truncates,
    /// Sends so slowly that the server gives up, or very nearly.
    Slow,
    Silent,
    /// Stops in the middle and waits.
    Starves,
    /// Sends all and leaves it to the server to close.
    Stays,
    /// Reads only when the server has long given up.
    Deaf,
}

struct Client {
    behaviour: Behaviour,
    peer: Option<Peer>,
    stream: Vec<u8>,
    sent: usize,
    /// How much it is going to send.
    will_send: usize,
    received: Vec<u8>,
    next_act: Time,
    was_reset: bool,
    reads_from: Time,
    next_look: Time,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, will_send, received) = (self.sent, self.will_send, self.received.len());
        let done = if self.peer.is_some() { "" } else { ", done" };
        write!(f, "{:?} sent {sent} of {will_send}, received {received}{done}", self.behaviour)
    }
}

impl Client {
    fn new(rng: &mut Rng, network: &Network) -> Client {
        use Behaviour::*;
        let behaviour = match rng.u8(0..11) {
            0..3 => Honest,
            3 => LateReader,
            4 => Vanishes,
            5 => Truncates,
            6 => Slow,
            7 => Silent,
            8 => Stays,
            9 => Starves,
            _ => Deaf,
        };
        let stream: Vec<u8> = match rng.u8(0..4) {
            0 => workers::many_measured(rng),
            _ => (0..rng.usize(1..6)).flat_map(|_| some_request(rng)).collect(),
        };
        let will_send = match behaviour {
            Vanishes | Truncates | Starves => rng.usize(0..stream.len()),
            Silent => 0,
            _ => stream.len(),
        };
        let reads_from = match behaviour {
            LateReader => Duration::from_millis(rng.u64(0..20_000)),
            Deaf => Duration::from_secs(90),
            _ => Duration::ZERO,
        };
        Client {
            behaviour,
            peer: Some(network.connect(address())),
            stream,
            sent: 0,
            will_send,
            received: Vec::new(),
            next_act: network.now() + Duration::from_millis(rng.u64(0..50)),
            was_reset: false,
            reads_from: network.now() + reads_from,
            next_look: network.now(),
        }
    }

    fn act(&mut self, rng: &mut Rng, network: &Network) {
        let now = network.now();
        let Some(peer) = &mut self.peer else { return };
        if now >= self.reads_from {
            self.received.append(&mut peer.receive());
        }
        if peer.at_end() || peer.is_reset() {
            self.received.append(&mut peer.receive());
            self.was_reset = peer.is_reset();
            self.peer = None;
            return;
        }
        if now >= self.next_look {
            // What arrives at a client wakes no port, so it has to look by itself.
            use Behaviour::{Deaf, Starves, Stays};
            let is_patient = matches!(self.behaviour, Deaf | Starves | Stays);
            self.next_look = now + if is_patient { 20 * LOOK } else { LOOK };
            network.wake_at(self.next_look);
        }
        if now < self.next_act {
            return;
        }
        if self.sent < self.will_send {
            let left = self.will_send - self.sent;
            let piece = match self.behaviour {
                Behaviour::Slow => 1,
                _ if rng.bool() => left,
                _ => rng.usize(1..=left),
            };
            self.sent += peer.send(&self.stream[self.sent..self.sent + piece]);
        }
        if self.sent == self.will_send {
            match self.behaviour {
                Behaviour::Vanishes => {
                    self.was_reset = true;
                    return self.peer.take().into_iter().for_each(Peer::reset);
                }
                Behaviour::Silent | Behaviour::Starves | Behaviour::Stays => {}
                _ => peer.shutdown(),
            }
        }
        let pause = match self.behaviour {
            Behaviour::Slow => rng.u64(100..2_000),
            _ => rng.u64(0..30),
        };
        self.next_act = now + Duration::from_millis(pause.max(1));
        network.wake_at(self.next_act);
    }

    /// Whether it was answered to the end.
    fn check(&self, faults: &Faults) -> bool {
        let expected = reference(&self.stream[..self.sent]);
        let received = normal(&self.received);
        let is_whole = received == expected;
        let may_be_cut = self.was_reset && (faults.reset_per_mille > 0 || self.may_be_reset());
        let ok = is_whole
            || (may_be_cut && is_prefix(&self.received, &expected))
            || (self.cuts_a_flow() && begin_alike(&self.received, &expected))
            || (self.may_time_out() && is_timed_out(&received, &expected));
        assert!(
            ok,
            "{:?} (reset: {}) sent\n{}\nreceived\n{}\nexpected\n{}",
            self.behaviour,
            self.was_reset,
            String::from_utf8_lossy(&self.stream[..self.sent]),
            String::from_utf8_lossy(&received),
            String::from_utf8_lossy(&expected),
        );
        is_whole
    }

    /// A late reader may find the connection reset because its output stalled for too long, and who
    /// is slow may still be sending when the server has given up on it.
    fn may_be_reset(&self) -> bool {
        !matches!(self.behaviour, Behaviour::Honest | Behaviour::Truncates)
            || self.stream.windows(7).any(|bytes| bytes == b"refused")
    }

    /// How much of a body goes back before its end is missed depends on time, and whether it is
    /// missed before the answer's head.
    fn cuts_a_flow(&self) -> bool {
        self.sent < self.stream.len()
            && self.stream[..self.sent].windows(6).any(|bytes| bytes == b"/flow/")
    }

    fn may_time_out(&self) -> bool {
        matches!(self.behaviour, Behaviour::Slow | Behaviour::Silent | Behaviour::Starves)
    }
}

const LOOK: Duration = Duration::from_millis(7);

/// Whether the bytes are the beginning of what was expected, cut anywhere.
fn is_prefix(received: &[u8], expected: &[u8]) -> bool {
    // A date or an interim answer that is cut off looks like something else.
    let longest = DATE_LEN + b"\r\ndate: ".len();
    (0..=longest.min(received.len()))
        .any(|cut| expected.starts_with(&normal(&received[..received.len() - cut])))
}

/// Whether one is the beginning of the other, but for where they say that they close.
fn begin_alike(received: &[u8], expected: &[u8]) -> bool {
    let plain = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes).replace("connection: close\r\n", "").into_bytes()
    };
    let whole = plain(&normal(received));
    plain(expected).starts_with(&whole)
        || whole.starts_with(&plain(expected))
        || is_prefix(&plain(received), &plain(expected))
}

/// Whether the answers stop early, perhaps with a 408.
fn is_timed_out(received: &[u8], expected: &[u8]) -> bool {
    let timeout = b"HTTP/1.1 408 ";
    let at = received.windows(timeout.len()).position(|bytes| bytes == timeout);
    expected.starts_with(&received[..at.unwrap_or(received.len())])
}

/// A request of any kind that the server knows, and some that it refuses.
fn some_request(rng: &mut Rng) -> Vec<u8> {
    let n = rng.u16(..);
    let mode = rng.choice(["inline", "pooled", "adaptive", "adaptive"]).expect("not empty");
    let fields: String = (0..rng.usize(0..6))
        .map(|i| format!("x-{i}: {}\r\n", "v".repeat(rng.usize(0..80))))
        .collect();
    let head = |line: &str| format!("{line} HTTP/1.1\r\nhost: a\r\n{fields}");
    let body_len = match rng.usize(0..10) {
        0..6 => rng.usize(0..300),
        6..9 => rng.usize(0..20_000),
        _ => rng.usize(0..150_000),
    };
    let body: Vec<u8> = (0..body_len).map(|_| rng.alphanumeric() as u8).collect();
    let expect = if rng.u8(0..8) == 0 { "expect: 100-continue\r\n" } else { "" };
    let known = |line: &str| {
        let head = format!("{}{expect}content-length: {body_len}\r\n\r\n", head(line));
        [head.as_bytes(), &body].concat()
    };
    match rng.usize(0..20) {
        0..6 => format!("{}\r\n", head(&format!("GET /{mode}/{n}"))).into_bytes(),
        6..10 => known(&format!("POST /{mode}/{n}")),
        10 if rng.bool() => known("POST /echo"),
        // What is longer and not read ends the connection at some point of its own.
        10 if body_len > 60_000 || rng.bool() => known("POST /flow/echo"),
        10 => {
            let head = head("POST /flow/ignore");
            let head = format!("{head}content-length: {body_len}\r\n\r\n");
            [head.as_bytes(), &body].concat()
        }
        11..14 => {
            let path = if rng.bool() { "POST /echo" } else { "POST /flow/echo" };
            let mut bytes =
                format!("{}x-length: {body_len}\r\ntransfer-encoding: chunked\r\n\r\n", head(path))
                    .into_bytes();
            for chunk in body.chunks(rng.usize(1..5_000)) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            bytes
        }
        14 if rng.bool() => format!("{}\r\n", head("GET /large")).into_bytes(),
        14 => {
            let paths = [
                "/parts/inline",
                "/parts/pooled",
                "/pulled/inline",
                "/pulled/pooled",
                "/pushed/inline",
                "/pushed/pooled",
                "/written",
            ];
            let path = rng.choice(paths).expect("the list is not empty");
            format!("{}\r\n", head(&format!("GET {path}"))).into_bytes()
        }
        15 => format!("{}\r\n", head(&format!("HEAD /{mode}/{n}"))).into_bytes(),
        16 if rng.bool() => format!("{}\r\n", head("GET /none")).into_bytes(),
        16 => format!("{}\r\n", head(&format!("GET /panic/{mode}"))).into_bytes(),
        17 => format!("{}\r\n", head("DELETE /close")).into_bytes(),
        // Behind these the server closes. They say so, for the client may be sending still.
        18 => format!("{}x: refused\r\n\r\n", head("GET /close")).into_bytes(),
        _ if rng.bool() => format!("{}refused : x\r\n\r\n", head("GET /")).into_bytes(),
        _ => {
            format!("{}x: refused\r\ncontent-length: 101\r\n\r\n", head("POST /small")).into_bytes()
        }
    }
}

/// One run. Returns the hash of all that happened.
fn run(seed: u64) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let faults = if rng.bool() { Faults::all() } else { Faults::default() };
    let mut simulation = Simulation::new(seed, faults.clone());
    let network = simulation.network.clone();
    let mut clients: Vec<Client> =
        (0..rng.usize(1..8)).map(|_| Client::new(&mut rng, &network)).collect();
    let mut workers = Workers::default();
    let mut next_look = network.now();
    let mut turns = 0..MAX_TURNS;
    while clients.iter().any(|client| client.peer.is_some()) {
        assert!(turns.next().is_some(), "by {:?} not done: {clients:?}", network.now());
        for client in &mut clients {
            client.act(&mut rng, &network);
        }
        workers.act(&mut rng, &mut simulation);
        // One wake at a time: each of them takes a turn that would ask for the next.
        if simulation.shared.pool.queued() > 0 && network.now() >= next_look {
            next_look = network.now() + Duration::from_millis(rng.u64(1..20));
            network.wake_at(next_look);
        }
        simulation.turn();
    }
    let hash = network.trace_hash();
    let unanswered = clients.iter().filter(|client| !client.check(&faults) && !client.was_reset);
    let unanswered = unanswered.count() as u64;
    workers.hand_in_all(&mut rng, &simulation.shared);
    workers::check(&simulation);
    let shared = simulation.shared.clone();
    simulation.end();
    let named = reasons::unanswered(&shared.statistics());
    assert!(unanswered <= named, "{unanswered} got less than they asked for, {named} are told of");
    hash
}

/// Runs a quarter of the seeds.
fn quarter(number: u64) {
    let setting = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seeds = match setting("WHARF_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let count = setting("WHARF_SEEDS").unwrap_or(250);
            number * count..(number + 1) * count
        }
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("WHARF_SEED={seed} replays this");
            std::panic::resume_unwind(panic);
        }
    }
    if setting("WHARF_SEED").is_none() && setting("WHARF_SEEDS").is_none() {
        workers::check_that_dispatch_changed();
        reasons::check_that_all_were_seen();
    }
}

#[test]
fn first_quarter_of_the_seeds() {
    quarter(0);
}

#[test]
fn second_quarter_of_the_seeds() {
    quarter(1);
}

#[test]
fn third_quarter_of_the_seeds() {
    quarter(2);
}

#[test]
fn fourth_quarter_of_the_seeds() {
    quarter(3);
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
