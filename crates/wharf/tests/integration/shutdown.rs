//! Starting, draining and stopping.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use wharf::{Backend, Router, Server, get};

use crate::support::{Client, PATIENCE, eventually, on_every_backend, serve};

on_every_backend! {
    draining_answers_what_was_asked_and_says_close,
    the_deadline_cuts_and_says_so,
    dropping_the_handle_stops_the_server,
    a_load_is_drained_without_a_failed_request,
    starting_says_what_is_wrong,
}

fn draining_answers_what_was_asked_and_says_close(backend: Backend) {
    let (release, gate) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel::<()>();
    let ends = Mutex::new((tell, gate));
    let router = Router::new().get("/", |_| "ok").get("/slow", move |_| {
        let (tell, gate) = &*ends.lock().unwrap();
        tell.send(()).expect("the test waits for it");
        gate.recv().expect("the test releases it");
        "slow"
    });
    let server = serve(backend, router);
    let address = server.local_address();
    let (mut busy, mut idle) = (Client::connect(&server), Client::connect(&server));
    assert_eq!(idle.get("/").text(), "ok");
    busy.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    told.recv().expect("a worker has it");
    let drained = std::thread::scope(|scope| {
        let drain = scope.spawn(move || server.shutdown(PATIENCE));
        idle.assert_closed();
        eventually("nobody listens", || std::net::TcpStream::connect(address).is_err());
        release.send(()).unwrap();
        let answer = busy.answer();
        assert_eq!((answer.text(), answer.header("connection")), ("slow", Some("close")));
        busy.assert_closed();
        drain.join().unwrap()
    });
    assert_eq!((drained.drained, drained.cut, drained.still_running), (2, 0, 0));
}

fn the_deadline_cuts_and_says_so(backend: Backend) {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let router = Router::new().get("/slow", move |_| {
        // Returns when the test is over and the sender is gone.
        let _ = gate.lock().unwrap().recv();
        "slow"
    });
    let server = serve(backend, router);
    let mut busy = Client::connect(&server);
    busy.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("a worker has it", || server.statistics().workers == 1);
    let drained = server.shutdown(Duration::from_millis(100));
    assert_eq!((drained.drained, drained.cut, drained.still_running), (0, 1, 1));
    busy.assert_closed();
    drop(release);
}

fn dropping_the_handle_stops_the_server(backend: Backend) {
    let server = bind_alone().backend(backend).shards(1);
    let server = server.start(Router::new().get("/", |_| "ok")).unwrap();
    let address = server.local_address();
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/").text(), "ok");
    drop(server);
    client.assert_closed();
    assert!(std::net::TcpStream::connect(address).is_err());
    // The address is free again at once, although connections on it were cut.
    let server = Server::bind(address).expect("the address is free").backend(backend);
    let server = server.start(Router::new().get("/", |_| "again")).unwrap();
    assert_eq!(Client::connect(&server).get("/").text(), "again");
}

/// A server on an address of loopback that no other test takes a port of, where there are more
/// than one: so its port is not taken by another test once it is free.
fn bind_alone() -> Server {
    Server::bind("127.0.0.77:0").or_else(|_| Server::bind("127.0.0.1:0")).unwrap()
}

/// As long as the drain lets a connection be that was active lately.
const QUIET: Duration = Duration::from_secs(1);

fn a_load_is_drained_without_a_failed_request(backend: Backend) {
    let router = Router::new().route("/inline", get(|_| "ok").inline()).get("/pooled", |_| "ok");
    let server = serve(backend, router);
    let address = server.local_address();
    let running = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let running = &running;
            scope.spawn(move || {
                let path = if n % 2 == 0 { "/inline" } else { "/pooled" };
                let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
                let mut client = Client::connect_to(address);
                let mut asked = Instant::now();
                assert_eq!(client.get(path).text(), "ok");
                running.fetch_add(1, Ordering::SeqCst);
                loop {
                    let before = std::mem::replace(&mut asked, Instant::now());
                    let Some(answer) = client.send(&request).answer_if_any() else {
                        // A machine that is busy may make an idle connection of this one.
                        return assert!(before.elapsed() >= QUIET, "closed in place of an answer");
                    };
                    assert_eq!(answer.text(), "ok");
                    if answer.header("connection") == Some("close") {
                        return;
                    }
                }
            });
        }
        eventually("the load runs", || {
            running.load(Ordering::SeqCst) == 8 && server.statistics().requests > 200
        });
        let drained = server.shutdown(PATIENCE);
        assert_eq!((drained.drained, drained.cut), (8, 0));
    });
}

fn starting_says_what_is_wrong(backend: Backend) {
    let server = serve(backend, Router::new());
    let error = Server::bind(server.local_address()).unwrap_err();
    assert!(error.is_bind() && error.to_string().contains("another program uses it"), "{error}");
    let error = Server::bind("not an address").unwrap_err();
    assert!(error.is_bind() && error.to_string().contains("not an address"), "{error}");
    let bind = || Server::bind("127.0.0.1:0").unwrap().backend(backend);
    let router = Router::new().get("/{a}", |_| "").get("/{b}", |_| "");
    assert!(bind().start(router).unwrap_err().is_configuration());
    assert!(bind().shards(0).start(Router::new()).unwrap_err().is_configuration());
    let limits = wharf::Limits { head_bytes: 1 << 20, ..Default::default() };
    let error = bind().limits(limits).start(Router::new()).unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("65,535"), "{error}");
    drop(server);
}
