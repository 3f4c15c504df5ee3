//! Every limit and timeout, and the status that answers its breach.

use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use wharf::{Backend, CloseReason, Limits, Request, Response, Router, ServerHandle, get, post};

use crate::support::{Client, eventually, on_every_backend, serve_with};

on_every_backend! {
    lengths_and_counts_of_the_head,
    lengths_of_bodies,
    silence_before_the_first_byte,
    a_head_that_takes_too_long,
    a_body_that_comes_too_slowly,
    an_idle_connection,
    a_peer_that_reads_nothing,
    a_peer_that_reads_too_slowly,
    connections_in_all,
    connections_of_one_peer,
    requests_of_one_connection,
    a_full_queue,
    memory_for_bodies,
    receive_blocks_run_out_and_come_back,
}

const SHORT: Duration = Duration::from_millis(150);

fn length(request: &Request) -> String {
    request.body().len().to_string()
}

fn start(backend: Backend, limits: Limits) -> ServerHandle {
    let router = Router::new()
        .route("/", get(|_| "ok").inline())
        .post("/", length)
        .route("/large", post(length).body_limit(2_000));
    serve_with(backend, limits, router)
}

fn assert_closed_for(server: &ServerHandle, reason: CloseReason) {
    eventually(reason.name(), || server.statistics().closed(reason) == 1);
    // On a machine that is busy even others may be too slow for a limit that is as short as here.
    eventually("others are served", || {
        let mut other = Client::connect(server);
        other.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        other.answer_if_any().is_some_and(|answer| answer.text() == "ok")
    });
}

fn lengths_and_counts_of_the_head(backend: Backend) {
    let limits =
        Limits { request_line_bytes: 100, head_bytes: 400, fields: 5, ..Limits::default() };
    let server = start(backend, limits);
    let many: String = (0..6).map(|n| format!("x{n}: y\r\n")).collect();
    for (bytes, status) in [
        (format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(100)), 414),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(400)), 431),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
    ] {
        let mut client = Client::connect(&server);
        assert_eq!(client.send(bytes).answer().status, status);
        client.assert_closed();
    }
    eventually("three are refused", || server.statistics().closed(CloseReason::Refused) == 3);
    let fits = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(300));
    assert_eq!(Client::connect(&server).send(fits).answer().status, 200);
}

fn lengths_of_bodies(backend: Backend) {
    let server = start(backend, Limits { body_bytes: 1_000, ..Limits::default() });
    let known = |path, length: usize| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")
    };
    let chunked = |path, length: usize| {
        let chunk = "x".repeat(length);
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
             {length:x}\r\n{chunk}\r\n0\r\n\r\n"
        )
    };
    for bytes in [known("/", 1_001), known("/large", 2_001), chunked("/", 1_001)] {
        let mut client = Client::connect(&server);
        assert_eq!(client.send(bytes).answer().status, 413);
        client.assert_closed();
    }
    // The answer arrives although the client goes on sending.
    let mut client = Client::connect(&server);
    client.send(known("/", 5_000_000)).send(vec![b'x'; 1_000_000]);
    assert_eq!(client.answer().status, 413);
    for (bytes, text) in [(chunked("/", 1_000), "1000"), (chunked("/large", 2_000), "2000")] {
        assert_eq!(Client::connect(&server).send(bytes).answer().text(), text);
    }
}

fn silence_before_the_first_byte(backend: Backend) {
    let server = start(backend, Limits { first_byte_timeout: SHORT, ..Limits::default() });
    Client::connect(&server).assert_closed();
    assert_closed_for(&server, CloseReason::FirstByteTimeout);
}

fn a_head_that_takes_too_long(backend: Backend) {
    let server = start(backend, Limits { head_timeout: SHORT, ..Limits::default() });
    let mut client = Client::connect(&server);
    let answer = client.send("GET / HTTP/1.1\r\nho").answer();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    client.finish_sending().assert_closed();
    assert_closed_for(&server, CloseReason::HeadTimeout);
}

fn a_body_that_comes_too_slowly(backend: Backend) {
    let limits = Limits { body_grace: SHORT, body_bytes_per_second: 1_000, ..Limits::default() };
    let server = start(backend, limits);
    for head in ["content-length: 100000", "content-length: 10", "transfer-encoding: chunked"] {
        let mut client = Client::connect(&server);
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n1"));
        assert_eq!(client.answer().status, 408, "{head}");
        client.finish_sending().assert_closed();
    }
    assert_eq!(server.statistics().workers, 0, "a request that is not whole holds no thread");
}

fn an_idle_connection(backend: Backend) {
    let server = start(backend, Limits { idle_timeout: SHORT, ..Limits::default() });
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/").text(), "ok");
    client.assert_closed();
    assert_closed_for(&server, CloseReason::IdleTimeout);
}

fn a_peer_that_reads_nothing(backend: Backend) {
    let limits = Limits { write_stall_timeout: SHORT, ..Limits::default() };
    let body = bytes::Bytes::from(vec![b'x'; 64 << 20]);
    let router = Router::new().get("/", |_| "ok").get("/large", move |_| body.clone());
    let server = serve_with(backend, limits, router);
    let mut client = Client::connect(&server);
    client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_closed_for(&server, CloseReason::WriteStalled);
    eventually("the connections are gone", || server.statistics().connections == 0);
}

fn a_peer_that_reads_too_slowly(backend: Backend) {
    // No pause of this peer is as long as a stall, and yet at its rate it would take hours.
    let limits = Limits {
        write_stall_timeout: 4 * SHORT,
        send_bytes_per_second: 1 << 30,
        ..Limits::default()
    };
    let body = bytes::Bytes::from(vec![b'x'; 64 << 20]);
    let router = Router::new().get("/", |_| "ok").get("/large", move |_| body.clone());
    let server = serve_with(backend, limits, router);
    let mut client = Client::connect(&server);
    client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut sip = vec![0; 128 * 1024];
    eventually("it is cut", || {
        std::thread::sleep(SHORT / 5);
        let _ = client.stream().read(&mut sip);
        server.statistics().closed(CloseReason::WriteStalled) == 1
    });
    assert_eq!(Client::connect(&server).get("/").text(), "ok", "others are served");
}

fn connections_in_all(backend: Backend) {
    let server = start(backend, Limits { connections: 3, ..Limits::default() });
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&server)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "ok");
    }
    let mut waiting: Vec<Client> = (0..2).map(|_| Client::connect(&server)).collect();
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    std::thread::sleep(SHORT);
    assert_eq!(server.statistics().connections, 3, "the others wait");
    assert_eq!(clients[0].get("/").text(), "ok");
    drop(clients);
    for client in &mut waiting {
        assert_eq!(client.answer().text(), "ok", "there is room now");
    }
}

fn connections_of_one_peer(backend: Backend) {
    let server = start(backend, Limits { connections_per_peer: 2, ..Limits::default() });
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(&server)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "ok");
    }
    Client::connect(&server).assert_closed();
    assert_eq!(server.statistics().closed(CloseReason::PeerLimit), 1);
    drop(clients);
    eventually("the connections are gone", || server.statistics().connections == 0);
    assert_eq!(Client::connect(&server).get("/").text(), "ok");
}

fn requests_of_one_connection(backend: Backend) {
    let server = start(backend, Limits { requests_per_connection: 3, ..Limits::default() });
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(client.get("/").header("connection"), Some("close"));
    client.assert_closed();
}

fn a_full_queue(backend: Backend) {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let router = Router::new().route("/", get(|_| "ok").inline()).get("/slow", move |_| {
        gate.lock().unwrap().recv().expect("the test releases it");
        "slow"
    });
    let limits = Limits { workers: 1, queued_requests: 2, ..Limits::default() };
    let server = serve_with(backend, limits, router);
    let ask = || {
        let mut client = Client::connect(&server);
        client.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
        client
    };
    let mut served = vec![ask()];
    eventually("the worker has it", || {
        let now = server.statistics();
        now.workers == 1 && now.queued_requests == 0 && now.connections == 1
    });
    served.extend([ask(), ask()]);
    eventually("the queue is full", || server.statistics().queued_requests == 2);
    let mut refused = ask();
    let answer = refused.answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.get("/").text(), "ok", "the connection goes on");
    assert_eq!(server.statistics().overloaded, 1);
    (0..3).for_each(|_| release.send(()).unwrap());
    for client in &mut served {
        assert_eq!(client.answer().text(), "slow");
    }
}

fn memory_for_bodies(backend: Backend) {
    let limits = Limits { bodies_bytes: 100_000, ..Limits::default() };
    let server = start(backend, limits);
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n";
    let mut first = Client::connect(&server);
    let wanted = first.send(head).send("expect: 100-continue\r\n\r\n").answer();
    assert_eq!(wanted.status, 100, "there is room for it");
    let answer = Client::connect(&server).send(head).send("\r\nx").answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(first.send([b'x'; 60_000]).answer().text(), "60000");
    let mut second = Client::connect(&server);
    let answer = second.send(head).send("\r\n").send([b'x'; 60_000]).answer();
    assert_eq!(answer.text(), "60000", "all came back");
}

fn receive_blocks_run_out_and_come_back(backend: Backend) {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let router = Router::new().route("/", get(|_| "ok").inline()).get("/slow", move |request| {
        gate.lock().unwrap().recv().expect("the test releases it");
        Response::text(request.path().to_owned())
    });
    // Four blocks, and sixteen requests that are held by handlers.
    let limits = Limits { receive_bytes: 32 * 1024, ..Limits::default() };
    let server = serve_with(backend, limits, router);
    let mut held: Vec<Client> = (0..16).map(|_| Client::connect(&server)).collect();
    for client in &mut held {
        client.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    eventually("all are with workers", || server.statistics().workers == 16);
    assert_eq!(Client::connect(&server).get("/").text(), "ok", "nobody is starved");
    (0..16).for_each(|_| release.send(()).unwrap());
    for client in &mut held {
        assert_eq!(client.answer().text(), "/slow");
    }
}
