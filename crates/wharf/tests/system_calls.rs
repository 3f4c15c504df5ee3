//! On io_uring a busy server makes few system calls a request: counted by strace.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of a test fail as it does")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use wharf::{Backend, Router, Server, get};

const CHILD: &str = "WHARF_TEST_SERVER";
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 200;

/// Not a test of its own: the server that the test below starts under strace.
#[test]
fn server() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let router = Router::new()
        .route("/inline", get(|_| "Hello, World!").inline())
        .route("/pooled", get(|_| "Hello, World!").pooled())
        // Holds the shard up until the next line of the standard input.
        .route(
            "/wait",
            get(move |_| gate.lock().unwrap().recv().map_or("", |()| "Hello, World!")).inline(),
        );
    let server = Server::bind("127.0.0.1:0").unwrap().backend(Backend::Uring).shards(1);
    let server = match server.start(router) {
        Ok(server) => server,
        Err(error) => return println!("refused {error}"),
    };
    println!("address {}", server.local_address());
    // The parent ends this by closing the pipe.
    for _ in std::io::stdin().lines() {
        release.send(()).unwrap();
    }
    drop(release);
    drop(server);
}

fn start(summary: &std::path::Path) -> Option<Child> {
    let started = Command::new("strace")
        .args(["--follow-forks", "--summary-only", "--output"])
        .arg(summary)
        .arg(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", "server", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    match started {
        Ok(child) => Some(child),
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("strace is not run: {error}");
            None
        }
        Err(error) => panic!("CI has to have strace: {error}"),
    }
}

#[test]
fn a_busy_server_makes_few_system_calls_a_request() {
    let Some((per_request, summary)) = calls_a_request("/inline") else { return };
    assert!(per_request < 0.5, "{per_request} system calls a request\n{summary}");
}

#[test]
fn workers_add_few_system_calls() {
    let Some((per_request, summary)) = calls_a_request("/pooled") else { return };
    assert!(per_request < 1.0, "{per_request} system calls a request\n{summary}");
}

/// How many system calls a server made for each of many requests for `path`, and strace's list of
/// them. None: that cannot be found out here.
fn calls_a_request(path: &str) -> Option<(f64, String)> {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary");
    let mut child = start(&summary)?;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().expect("the server says its address").unwrap();
        // libtest may have written the test's name before it on the same line.
        if let Some((_, address)) = line.split_once("address ") {
            break address.to_owned();
        }
        if let Some((_, reason)) = line.split_once("refused ") {
            assert!(std::env::var_os("WHARF_REQUIRE_URING").is_none(), "{reason}");
            child.wait().unwrap();
            println!("not run: {reason}");
            return None;
        }
    };
    let request = |path| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes();
    let (wait, request) = (request("/wait"), request(path));
    let mut orders = child.stdin.take().unwrap();
    let mut clients: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let client = TcpStream::connect(&*address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            client
        })
        .collect();
    for _ in 0..ROUNDS {
        // All others ask while the shard is held up: it is busy, however fast the clients are.
        for (at, client) in clients.iter_mut().enumerate() {
            client.write_all(if at == 0 { &wait } else { &request }).unwrap();
        }
        writeln!(orders).unwrap();
        for client in &mut clients {
            let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
            while !answer.ends_with(b"Hello, World!") {
                let count = client.read(&mut buffer).unwrap();
                assert!(count > 0, "closed behind {:?}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&buffer[..count]);
            }
        }
    }
    drop(clients);
    drop(orders);
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    let summary = std::fs::read_to_string(&summary).unwrap();
    let total = summary.lines().last().expect("a line with the total");
    // "100.00    0.123456           7     17523        12 total": calls is the fourth column.
    let calls: f64 = total.split_whitespace().nth(3).unwrap().parse().unwrap();
    let per_request = calls / (CONNECTIONS * ROUNDS) as f64;
    println!("{per_request:.3} system calls a request for {path}");
    Some((per_request, summary))
}
