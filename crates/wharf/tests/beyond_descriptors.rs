//! A server holds more connections than its process may have descriptors, where io_uring keeps
//! them in a table of its own.
#![cfg(target_os = "linux")]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use wharf::{Backend, Limits, Router, Server, get};

/// Descriptors of the server's process. Of these it leaves 128 to the rest of its program.
const DESCRIPTORS: usize = 200;
/// More than that, and fewer than as many again without descriptors.
const CONNECTIONS: usize = 260;
/// Says to a child process that it is one.
const CHILD: &str = "WHARF_TEST_SERVER";

#[test]
fn connections_may_be_more_than_descriptors() {
    if env::var_os(CHILD).is_some() {
        return serve();
    }
    let refused = Server::bind("127.0.0.1:0")
        .and_then(|server| server.backend(Backend::Uring).shards(1).start(Router::new()))
        .err();
    if let Some(error) = refused {
        assert!(env::var_os("WHARF_REQUIRE_URING").is_none(), "io_uring has to be there: {error}");
        return println!("not run: {error}");
    }
    let mut server = start();
    let mut said = BufReader::new(server.stdout.take().expect("it is piped")).lines();
    let address = said
        .find_map(|line| line.expect("text").strip_prefix("serving on ").map(str::to_owned))
        .expect("the server starts");
    let mut clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let client = TcpStream::connect(&address).expect("the server listens");
            client.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
            client
        })
        .collect();
    // Twice, so that all are there when the second round comes.
    for _ in 0..2 {
        for client in &mut clients {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("connected");
            let (mut answer, mut buffer) = (Vec::new(), [0; 256]);
            while !answer.ends_with(b"here") {
                let count = client.read(&mut buffer).expect("an answer comes");
                assert!(count > 0, "closed behind {:?}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&buffer[..count]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
        }
    }
    drop(clients);
    drop(server.stdin.take());
    assert!(server.wait().expect("it ends").success());
}

/// This test again, in a process that may have few descriptors.
fn start() -> Child {
    let this = env::current_exe().expect("this process has a file");
    Command::new("sh")
        .args(["-c", &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" --nocapture")])
        .arg(this)
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell")
}

/// Serves until the standard input is closed.
fn serve() {
    let limits = Limits { connections: 10 * CONNECTIONS, ..Limits::default() };
    let router = Router::new().route("/", get(|_| "here").inline());
    let server = Server::bind("127.0.0.1:0").expect("loopback is there");
    let server = server.backend(Backend::Uring).shards(1).limits(limits);
    let server = server.start(router).expect("the server starts");
    println!("\nserving on {}", server.local_address());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    assert_eq!(server.shutdown(Duration::from_secs(60)).cut, 0);
}
