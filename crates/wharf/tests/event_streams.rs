//! Ten thousand event streams wait, on a handful of threads, and all get an event that is sent to
//! all. A process of its own, since threads and descriptors are counted; the clients are another,
//! since each end of a connection takes a descriptor.
#![cfg(target_os = "linux")]
// A test that starts others is not seen as a test by the lint's own exception.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wharf::{Backend, Event, EventSender, Limits, Response, Router, Server};

const STREAMS: usize = 10_000;
/// Descriptors for all that is not a stream.
const OTHER_DESCRIPTORS: usize = 400;
const THREADS: usize = 20;
/// Longer than anything here takes, so that a test which hangs fails.
const PATIENCE: Duration = Duration::from_secs(100);
/// Tells the second process where to connect.
const ADDRESS: &str = "WHARF_EVENT_STREAMS_ADDRESS";

/// Raises the limit of descriptors as far as this process may, and says what it is then.
fn descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result, and outlives the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is initialised, and outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The second process: it opens streams, and reads from all of them when it is told to.
struct Clients {
    process: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Clients {
    fn start(address: &str) -> Clients {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["clients_of_event_streams", "--exact", "--ignored", "--nocapture", "--quiet"])
            .env(ADDRESS, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let orders = process.stdin.take().unwrap();
        let reports = BufReader::new(process.stdout.take().unwrap());
        Clients { process, orders, reports }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("the clients are there");
    }

    /// Waits for a line with this word, and returns the number behind it.
    fn report(&mut self, word: &str) -> usize {
        let mut line = String::new();
        loop {
            line.clear();
            let count = self.reports.read_line(&mut line).expect("text");
            assert!(count > 0, "the clients ended before {word}");
            if let Some(number) = line.trim().strip_prefix(word) {
                return number.trim().parse().expect("a number");
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads until `end` has come. None: it does not come.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<()> {
    let (mut received, mut buffer) = (Vec::new(), [0; 512]);
    while !received.windows(end.len()).any(|bytes| bytes == end) {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => received.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
    Some(())
}

#[test]
#[ignore = "the second process of the test below, which starts it"]
fn clients_of_event_streams() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return println!("not run: no server is named");
    };
    descriptors();
    let mut streams: Vec<TcpStream> = Vec::new();
    for order in std::io::stdin().lines() {
        let order = order.unwrap();
        let (word, text) = order.split_once(' ').unwrap();
        match word {
            "open" => {
                for _ in 0..text.parse().unwrap() {
                    let mut stream = TcpStream::connect(&address).expect("the server listens");
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.write_all(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
                    streams.push(stream);
                }
                let opened = streams.iter_mut().map_while(|it| read_until(it, b"\r\n\r\n"));
                println!("\nopened {}", opened.count());
            }
            _ => {
                let got = streams.iter_mut().map_while(|it| read_until(it, text.as_bytes()));
                println!("\ngot {}", got.count());
            }
        }
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("this is Linux").count()
}

fn hold(backend: Backend, count: usize) {
    let all: Arc<Mutex<Vec<EventSender>>> = Arc::default();
    let listeners = all.clone();
    let router = Router::new().get("/events", move |_| {
        let (events, response) = Response::events();
        listeners.lock().unwrap().push(events);
        response
    });
    // All of them ask at once, and none is turned away.
    let limits =
        Limits { connections_per_peer: count, queued_requests: count, ..Limits::default() };
    let server = Server::bind("127.0.0.1:0").unwrap().backend(backend).limits(limits);
    // However many cores there are.
    let server = match server.shards(2).start(router) {
        Ok(server) => server,
        Err(error) if std::env::var_os("WHARF_REQUIRE_URING").is_none() => {
            return println!("{backend:?} is not run: {error}");
        }
        Err(error) => panic!("{backend:?} has to be there: {error}"),
    };
    let mut clients = Clients::start(&server.local_address().to_string());
    clients.order(&format!("open {count}"));
    assert_eq!(clients.report("opened"), count);
    assert_eq!(server.statistics().connections, count);
    assert_eq!(all.lock().unwrap().len(), count);
    // Workers that were started for the crowd end when they find nothing to do.
    eventually("few threads are left", || threads() < THREADS);
    println!("{backend:?}: {count} streams on {} threads, the test's own included", threads());

    let event = Event::new("to-everybody").id(1);
    for listener in all.lock().unwrap().iter() {
        listener.try_send(&event).expect("there is room");
    }
    clients.order("read data: to-everybody");
    assert_eq!(clients.report("got"), count, "everybody gets it");
    let threads = threads();
    assert!(threads < THREADS, "{threads} threads to send one event");

    drop(clients);
    let is_over = || all.lock().unwrap().iter().all(EventSender::is_closed);
    eventually("every stream learns that its client has gone", is_over);
    eventually("no connection is left", || server.statistics().connections == 0);
}

#[test]
fn ten_thousand_idle_event_streams_take_fewer_than_twenty_threads() {
    let count = STREAMS.min(descriptors().saturating_sub(OTHER_DESCRIPTORS));
    if count < STREAMS {
        println!("the limit of descriptors allows {count} streams");
    }
    for backend in [Backend::Uring, Backend::Readiness] {
        hold(backend, count);
    }
}
