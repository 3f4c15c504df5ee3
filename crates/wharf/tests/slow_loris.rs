//! Five thousand clients that send a byte from time to time hold no handler's thread, and others
//! are served meanwhile. A process of its own, for its descriptors.
#![cfg(unix)]
// A test's own helpers are not seen as tests by the lint's own exception.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wharf::{Backend, CloseReason, Limits, Router, Server, ServerHandle, get, post};

const CLIENTS: usize = 5_000;
const BYTES_EACH: usize = 6;
const WORKERS: usize = 2;
/// Longer than anything here takes, so that a test which hangs fails.
const PATIENCE: Duration = Duration::from_secs(100);

/// What the slow clients send, piece by piece: half of them a head, half a body. Neither becomes
/// whole.
const HEAD: &[u8] = b"GET /slow HTTP/1.1\r\nhost: a\r\nx: abcdef";
const BODY: &[u8] = b"POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabcdef";

struct Slow {
    stream: TcpStream,
    left: &'static [u8],
}

impl Slow {
    fn connect(address: SocketAddr, number: usize) -> Slow {
        let all = if number.is_multiple_of(2) { HEAD } else { BODY };
        let (at_once, left) = all.split_at(all.len() - BYTES_EACH);
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).unwrap();
        stream.write_all(at_once).unwrap();
        Slow { stream, left }
    }

    fn send_a_byte(&mut self) {
        let (byte, left) = self.left.split_at(1);
        self.stream.write_all(byte).expect("the server still listens");
        self.left = left;
    }
}

/// Half of what the process may open, since both ends of each connection are here.
fn how_many() -> usize {
    let limit = wharf_port::descriptor_limit().unwrap_or(u64::MAX);
    let count = usize::try_from(limit.saturating_sub(400) / 2).unwrap_or(usize::MAX).min(CLIENTS);
    if count < CLIENTS {
        println!("the limit of descriptors allows {count} clients");
    }
    count
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// None: this machine has not the backend.
fn serve(backend: Backend, limits: Limits, calls: &Arc<AtomicUsize>) -> Option<ServerHandle> {
    let (got, posted) = (calls.clone(), calls.clone());
    let router = Router::new()
        .get("/slow", move |_| got.fetch_add(1, Ordering::SeqCst).to_string())
        .post("/slow", move |_| posted.fetch_add(1, Ordering::SeqCst).to_string())
        .route("/inline", get(|_| "served").inline())
        .route("/pooled", get(|_| "served").pooled())
        .route("/upload", post(|request: &wharf::Request| request.body().to_vec()).pooled());
    let limits = Limits { workers: WORKERS, ..limits };
    match Server::bind("127.0.0.1:0").unwrap().backend(backend).limits(limits).start(router) {
        Ok(server) => Some(server),
        Err(error) if std::env::var_os("WHARF_REQUIRE_URING").is_none() => {
            println!("{backend:?} is not run: {error}");
            None
        }
        Err(error) => panic!("{backend:?} has to be there: {error}"),
    }
}

/// A client as it should be, on a connection of its own.
fn ask(server: &ServerHandle, request: &str) {
    let mut stream = TcpStream::connect(server.local_address()).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer comes");
    let is_right = answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nserved");
    assert!(is_right, "{answer}");
}

fn slow_clients_hold_no_worker(backend: Backend, count: usize) {
    let calls = Arc::new(AtomicUsize::new(0));
    // However slow the machine is, nobody is cut here.
    let limits = Limits {
        first_byte_timeout: PATIENCE * 2,
        head_timeout: PATIENCE * 2,
        body_grace: PATIENCE * 2,
        ..Limits::default()
    };
    let Some(server) = serve(backend, limits, &calls) else { return };
    let mut slow: Vec<_> =
        (0..count).map(|number| Slow::connect(server.local_address(), number)).collect();
    eventually("all are connected", || server.statistics().connections == count);
    for _ in 0..BYTES_EACH {
        for client in &mut slow {
            client.send_a_byte();
        }
        // More of each than there are workers.
        for _ in 0..WORKERS * 4 {
            for path in ["inline", "pooled"] {
                ask(
                    &server,
                    &format!("GET /{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
                );
            }
            ask(
                &server,
                "POST /upload HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 6\r\n\r\n\
                 served",
            );
        }
        assert_eq!(server.statistics().queued_requests, 0);
    }
    let served = BYTES_EACH * WORKERS * 4 * 3;
    eventually("those who were served have gone", || server.statistics().connections == count);
    let statistics = server.statistics();
    assert_eq!(calls.load(Ordering::SeqCst), 0, "no handler was begun for half a request");
    assert_eq!((statistics.requests, statistics.overloaded), (served as u64, 0));
}

fn slow_clients_are_cut(backend: Backend, count: usize) {
    let calls = Arc::new(AtomicUsize::new(0));
    let limits = Limits {
        head_timeout: Duration::from_millis(500),
        body_grace: Duration::from_millis(500),
        ..Limits::default()
    };
    let Some(server) = serve(backend, limits, &calls) else { return };
    let slow: Vec<_> =
        (0..count).map(|number| Slow::connect(server.local_address(), number)).collect();
    let closed = || {
        let statistics = server.statistics();
        let (head, body) = (CloseReason::HeadTimeout, CloseReason::BodyTimeout);
        (statistics.closed(head), statistics.closed(body))
    };
    let half = (count / 2) as u64;
    eventually("all are cut, each for its reason", || closed() == (count as u64 - half, half));
    ask(&server, "GET /pooled HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    drop(slow);
}

/// One test for all, so that the descriptors suffice.
#[test]
fn five_thousand_slow_clients_hold_no_thread_and_are_cut() {
    let count = how_many();
    for backend in [Backend::Uring, Backend::Readiness] {
        if backend == Backend::Uring && !cfg!(target_os = "linux") {
            continue;
        }
        slow_clients_hold_no_worker(backend, count);
        slow_clients_are_cut(backend, count);
    }
}
