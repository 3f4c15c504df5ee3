//! Where io_uring is denied, as many container profiles do, the server serves through epoll and
//! says so in one line of the log.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use wharf::{Backend, Router, Server, get};

/// A log that is kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Denies `io_uring_setup` to this thread and those that it starts.
fn deny_io_uring(errno: i32) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_io_uring_setup, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().expect("an architecture that seccomp knows"),
    );
    let program: BpfProgram =
        filter.and_then(SeccompFilter::try_into).expect("a filter of one rule");
    seccompiler::apply_filter(&program).expect("this kernel has seccomp");
}

/// Runs in a thread of its own, since a filter cannot be taken back.
fn serve_without_io_uring(errno: i32) {
    deny_io_uring(errno);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let router = || Router::new().route("/", get(|_| "served").inline());
    let bind = || Server::bind("127.0.0.1:0").expect("loopback is there").shards(2);

    let refused = bind().backend(Backend::Uring).start(router()).expect_err("it is denied");
    assert!(refused.to_string().contains("io_uring_setup"), "{refused}");

    let server = tracing::subscriber::with_default(subscriber, || bind().start(router()));
    let server = server.expect("there is always epoll");
    let mut client = TcpStream::connect(server.local_address()).expect("the server listens");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("taken");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer comes");
    assert!(answer.ends_with("served"), "{answer}");

    let log = String::from_utf8(log.0.lock().expect("no writer panics").clone()).expect("text");
    assert_eq!(log.lines().count(), 1, "{log}");
    let why = std::io::Error::from_raw_os_error(errno).to_string();
    for word in ["readiness", "io_uring_setup", &why, "2 shards"] {
        assert!(log.contains(word), "no word of {word}: {log}");
    }
}

#[test]
fn io_uring_denied_with_eperm() {
    std::thread::spawn(|| serve_without_io_uring(libc::EPERM)).join().expect("the case passes");
}

#[test]
fn io_uring_denied_with_enosys() {
    std::thread::spawn(|| serve_without_io_uring(libc::ENOSYS)).join().expect("the case passes");
}
