//! In steady state a request costs no allocation: counted over the whole process, the client
//! included, which makes none of its own.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as it does")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wharf::{
    Backend, HeaderName, HeaderValue, Limits, Mode, Request, Response, Router, Server,
    ServerHandle, StatusCode, get, post,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ANSWER: HeaderName = HeaderName::from_static("x-answer");

/// Uses all that a request has and allocates nothing.
fn look_at_everything(request: &Request) -> Response {
    let id: u64 = request.param("id").unwrap_or(0);
    let fields = request.headers().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let seen = request.path().len() + request.query_string().len() + request.body().len() + fields;
    let agent = request.header("user-agent");
    if id == 7 && seen > 40 && agent == Some("counting") && request.host() == Some("a") {
        // Constants, since a name or value that is made from a text is copied.
        Response::text("all seen").header(ANSWER, HeaderValue::from_static("42"))
    } else {
        Response::new(StatusCode::BAD_REQUEST)
    }
}

const REQUESTS: &[&[u8]] = &[
    b"GET /inline/7?query=string HTTP/1.1\r\nhost: a\r\nuser-agent: counting\r\nx: y\r\n\r\n",
    b"POST /inline/7 HTTP/1.1\r\nhost: a\r\nuser-agent: counting\r\ncontent-length: 5\r\n\r\nhello",
    b"GET /pooled/7?query=string HTTP/1.1\r\nhost: a\r\nuser-agent: counting\r\nx: y\r\n\r\n",
    b"POST /pooled/7 HTTP/1.1\r\nhost: a\r\nuser-agent: counting\r\ncontent-length: 5\r\n\r\nhello",
];

/// Sends one request `count` times and reads each answer into `buffer`.
fn exchange(client: &mut TcpStream, request: &[u8], count: usize, buffer: &mut [u8]) {
    for _ in 0..count {
        client.write_all(request).expect("the server takes it");
        let mut filled = 0;
        while !buffer[..filled].ends_with(b"all seen") {
            let more = match client.read(&mut buffer[filled..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.expect("an answer comes"),
            };
            assert!(more > 0 && filled + more < buffer.len(), "not the answer that was meant");
            filled += more;
        }
    }
}

const ADAPTIVE: &[u8] =
    b"GET /adaptive/7?query=string HTTP/1.1\r\nhost: a\r\nuser-agent: counting\r\nx: y\r\n\r\n";

/// A server whose adaptive routes have that budget. None: this machine has not the backend.
fn serve(backend: Backend, inline_budget: Duration) -> Option<ServerHandle> {
    let router = Router::new()
        .route("/inline/{id}", get(look_at_everything).inline())
        .route("/inline/{id}", post(look_at_everything).inline())
        .route("/pooled/{id}", get(look_at_everything).pooled())
        .route("/pooled/{id}", post(look_at_everything).pooled())
        .get("/adaptive/{id}", look_at_everything);
    let server = Server::bind("127.0.0.1:0").expect("loopback is there").backend(backend).shards(1);
    match server.limits(Limits { inline_budget, ..Limits::default() }).start(router) {
        Ok(server) => Some(server),
        Err(error) => {
            println!("{backend:?} is not run: {error}");
            None
        }
    }
}

/// Where the calls of the adaptive route run.
fn adaptive_mode(server: &ServerHandle) -> Mode {
    let routes = server.routes();
    routes.iter().find(|route| route.route == "GET /adaptive/{id}").expect("it is there").mode
}

fn count(server: &ServerHandle, request: &[u8], what: &str) {
    let mut client = TcpStream::connect(server.local_address()).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
    client.set_nodelay(true).expect("a socket option");
    let mut buffer = vec![0; 4096];
    // Queues, tables and recycled blocks reach their sizes.
    exchange(&mut client, request, 2_000, &mut buffer);
    if what.starts_with("promoted") {
        while adaptive_mode(server) == Mode::Pooled {
            exchange(&mut client, request, 100, &mut buffer);
        }
    }
    // A worker that is started, because the machine holds up the others, allocates too; but not
    // each time. A request that allocates does so in every round.
    let mut rounds = (0..5).map(|_| {
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        exchange(&mut client, request, 1_000, &mut buffer);
        ALLOCATIONS.load(Ordering::SeqCst) - before
    });
    let is_clean = rounds.any(|allocations| allocations == 0);
    assert!(is_clean, "1,000 times {what} allocate every time");
}

/// One test for all backends, since the count is the whole process's.
#[test]
fn a_request_allocates_nothing_in_steady_state() {
    for backend in [Backend::Uring, Backend::Readiness, Backend::Iocp] {
        // Every call is beyond the budget: the adaptive route stays on the pool.
        let Some(server) = serve(backend, Duration::ZERO) else { continue };
        for request in REQUESTS {
            let line = String::from_utf8_lossy(&request[..12]);
            count(&server, request, &format!("{line} on {backend:?}"));
        }
        count(&server, ADAPTIVE, &format!("measured on the pool on {backend:?}"));
        assert_eq!(adaptive_mode(&server), Mode::Pooled);
        drop(server);
        // No call is, however the machine holds it up: it is promoted and stays so.
        let Some(server) = serve(backend, Duration::from_secs(1)) else { continue };
        count(&server, ADAPTIVE, &format!("promoted on {backend:?}"));
        assert_eq!(adaptive_mode(&server), Mode::Inline);
    }
}
