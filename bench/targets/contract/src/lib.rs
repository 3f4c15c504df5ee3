//! What every target answers, and how it is started: `target-NAME PORT`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /plaintext` | [`PLAINTEXT`] |
//! | `GET /json` | [`json`], serialised anew for each request |
//! | `GET /users/{id}` | the id |
//! | `POST /echo` | the body, up to [`BODY_LIMIT`] bytes |
//! | `GET /body64k` | [`BODY_64K`] |
//! | `GET /file10m` | the file of the variable `FILE`, opened anew for each request |
//! | `GET /sleep` | [`PLAINTEXT`] after [`SLEEP`], by whatever way the server has for waiting |
//! | `GET /pooled` | [`PLAINTEXT`] from a handler on the server's pool for blocking work |
//!
//! Servers without a way of their own to send a file leave that out. Every answer has Date and Content-Length and keeps the connection.
//!
//! All targets share one allocator, so that a figure speaks of the server.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use serde::Serialize;

/// The greeting.
pub const PLAINTEXT: &str = "Hello, World!";
/// The answer of `/body64k`.
pub static BODY_64K: [u8; 65_536] = [b'x'; 65_536];
/// How long `/sleep` waits.
pub const SLEEP: Duration = Duration::from_millis(5);
/// The longest body that `/echo` takes, in bytes.
pub const BODY_LIMIT: usize = 16 * 1024 * 1024;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `/json` says.
#[derive(Serialize)]
pub struct Message {
    /// The greeting.
    pub message: &'static str,
}

/// The greeting for `/json`.
pub const MESSAGE: Message = Message { message: PLAINTEXT };

/// The document of `/json`.
pub fn json() -> Vec<u8> {
    let mut document = Vec::with_capacity(32);
    serde_json::to_writer(&mut document, &MESSAGE).expect("a struct of one text is always JSON");
    document
}

/// The address to listen on: 127.0.0.1 and the port of the command line. Ends the process if that
/// is not one.
pub fn address() -> SocketAddr {
    let port = std::env::args().nth(1).and_then(|argument| argument.parse().ok());
    let Some(port) = port else {
        eprintln!("usage: {} PORT", std::env::args().next().unwrap_or_default());
        std::process::exit(2);
    };
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Threads that serve: the variable `WORKERS`, else one a core that the process may run on.
pub fn workers() -> usize {
    variable("WORKERS")
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, |count| count.get()))
}

/// Threads for blocking handlers: the variable `POOL`, if the harness sets it; else the server's
/// own default holds.
pub fn pool() -> Option<usize> {
    variable("POOL")
}

/// The file of `/file10m`: the variable `FILE`, else one that is not there.
pub fn file() -> PathBuf {
    std::env::var_os("FILE").map_or_else(PathBuf::new, PathBuf::from)
}

fn variable(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|text| usize::from_str(&text).ok())
}

/// Says that the server listens.
pub fn ready() {
    println!("ready");
}

/// Says that the server listens as soon as it does, for servers that listen and serve in one call.
pub fn ready_once_listening(address: SocketAddr) {
    thread::spawn(move || {
        while TcpStream::connect(address).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        ready();
    });
}

/// Runs `serve` on as many threads as there are [workers], one of them this one.
pub fn on_each_worker(serve: impl Fn() + Clone + Send + 'static) {
    for _ in 1..workers() {
        let serve = serve.clone();
        thread::spawn(serve);
    }
    serve();
}
