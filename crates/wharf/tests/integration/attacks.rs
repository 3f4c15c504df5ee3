//! Clients that mean ill, or that go when it suits nobody. After each the server answers an honest
//! client, says by a close reason what happened, and has given everything back.

use std::io::Read;
use std::time::Duration;

use wharf::{Backend, CloseReason, Limits, Request, Response, Router, ServerHandle, get, post};

use crate::support::{Client, eventually, on_every_backend, serve_with};

on_every_backend! {
    a_connection_that_ends_anywhere_in_a_pipelined_exchange,
    a_connection_that_is_reset_anywhere_in_a_pipelined_exchange,
    half_open_connections,
    connections_beyond_every_limit,
    many_that_connect_and_vanish,
    one_byte_at_a_time,
    a_flood_of_requests_whose_answers_nobody_reads,
    heads_without_end,
    lengths_of_astronomical_size,
}

const SHORT: Duration = Duration::from_millis(150);
/// All that is kept of bodies at one time: what is not given back is missed by the next ones.
const BODIES_BYTES: usize = 10_000;

fn start(backend: Backend, limits: Limits) -> ServerHandle {
    let router = Router::new()
        .route("/", get(|_| "ok").inline())
        .route("/length", post(length).inline())
        .post("/pooled", length)
        .route("/large", get(|_| "x".repeat(100_000)).inline());
    serve_with(backend, Limits { bodies_bytes: BODIES_BYTES, ..limits }, router)
}

fn length(request: &Request) -> Response {
    Response::text(request.body().len().to_string())
}

/// An honest client gets an answer, with a body for which all memory is needed that there is for
/// bodies; and no connection is left, so each that was accepted has its reason.
fn assert_recovered(server: &ServerHandle) {
    let body = vec![b'x'; BODIES_BYTES];
    let head =
        format!("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: {BODIES_BYTES}\r\n\r\n");
    eventually("the memory for bodies is given back", || {
        let mut honest = Client::connect(server);
        // On a machine that is busy it may be too slow for limits that are as short as here.
        let Some(answer) = honest.send(&head).send(&body).answer_if_any() else { return false };
        assert!([200, 408, 503].contains(&answer.status), "{answer:?}");
        answer.status == 200 && answer.text() == BODIES_BYTES.to_string()
    });
    eventually("the connections are gone", || server.statistics().connections == 0);
    let now = server.statistics();
    let closed: u64 = CloseReason::ALL.iter().map(|&reason| now.closed(reason)).sum();
    assert_eq!(closed, now.accepted, "every connection ends for one reason: {now:?}");
    assert_eq!(now.panics, 0);
    // Requests whose clients have gone are still handled, or found to be nobody's.
    eventually("nothing is queued", || server.statistics().queued_requests == 0);
}

fn closed_for(server: &ServerHandle, reasons: &[CloseReason]) -> u64 {
    let now = server.statistics();
    reasons.iter().map(|&reason| now.closed(reason)).sum()
}

const PIPELINE: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n\
    POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello\
    POST /pooled HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

fn a_connection_that_ends_anywhere_in_a_pipelined_exchange(backend: Backend) {
    let server = start(backend, Limits::default());
    let whole = |sent: &str| {
        let ends = [27, 27 + 58, PIPELINE.len()];
        ends.iter().filter(|&&end| sent.len() >= end).count()
    };
    assert_eq!(&PIPELINE[27 + 58 - 5..27 + 58], "hello");
    for cut in 0..=PIPELINE.len() {
        let sent = &PIPELINE[..cut];
        let mut client = Client::connect(&server);
        let rest = client.send(sent).finish_sending().rest();
        let answers = String::from_utf8(rest).expect("ASCII").matches("HTTP/1.1 200 OK").count();
        assert_eq!(answers, whole(sent), "behind {sent:?}");
    }
    assert_recovered(&server);
    let between = 4; // Before the first request, and behind each.
    let truncated = PIPELINE.len() as u64 + 1 - between;
    assert_eq!(closed_for(&server, &[CloseReason::Truncated]), truncated);
}

fn a_connection_that_is_reset_anywhere_in_a_pipelined_exchange(backend: Backend) {
    let server = start(backend, Limits::default());
    for cut in 0..=PIPELINE.len() {
        let mut client = Client::connect(&server);
        client.send(&PIPELINE[..cut]);
        client.reset();
    }
    assert_recovered(&server);
    let gone = [CloseReason::PeerReset, CloseReason::Truncated, CloseReason::PeerClosed];
    // The honest ones end as they may.
    assert!(closed_for(&server, &gone[..1]) > 0);
    assert_eq!(closed_for(&server, &gone), server.statistics().accepted);
}

fn half_open_connections(backend: Backend) {
    // One limit is short at a time, so that a test that is held up meets no other one.
    let limits = Limits::default;
    let starts = [
        (Limits { first_byte_timeout: SHORT, ..limits() }, "", CloseReason::FirstByteTimeout),
        (Limits { head_timeout: SHORT, ..limits() }, "GET / HT", CloseReason::HeadTimeout),
        (
            Limits { body_grace: SHORT, ..limits() },
            "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx",
            CloseReason::BodyTimeout,
        ),
        (
            Limits { idle_timeout: SHORT, ..limits() },
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            CloseReason::IdleTimeout,
        ),
    ];
    for (limits, start_of_request, reason) in starts {
        let server = start(backend, limits);
        // None of them ever says that it has gone.
        let silent: Vec<Client> = (0..10)
            .map(|_| {
                let mut client = Client::connect(&server);
                client.send(start_of_request);
                client
            })
            .collect();
        eventually(reason.name(), || closed_for(&server, &[reason]) == 10);
        assert_recovered(&server);
        drop(silent);
    }
}

fn connections_beyond_every_limit(backend: Backend) {
    let limits = Limits { connections: 8, connections_per_peer: 4, ..Limits::default() };
    let server = start(backend, limits);
    let mut crowd: Vec<Client> = (0..40).map(|_| Client::connect(&server)).collect();
    eventually("those beyond the limit are closed", || {
        closed_for(&server, &[CloseReason::PeerLimit]) == 36
    });
    assert_eq!(server.statistics().connections, 4);
    assert_eq!(crowd[0].get("/").text(), "ok", "who came first is served");
    drop(crowd);
    eventually("there is room again", || server.statistics().connections == 0);
    assert_recovered(&server);
}

fn many_that_connect_and_vanish(backend: Backend) {
    let server = start(backend, Limits { connections: 50, ..Limits::default() });
    for n in 0..500 {
        let client = Client::connect(&server);
        if n % 2 == 0 {
            client.reset();
        }
    }
    assert_recovered(&server);
    let gone = [CloseReason::PeerClosed, CloseReason::PeerReset];
    assert_eq!(closed_for(&server, &gone), server.statistics().accepted);
}

fn one_byte_at_a_time(backend: Backend) {
    let server = start(backend, Limits::default());
    let mut client = Client::connect(&server);
    for byte in PIPELINE.as_bytes() {
        client.send([*byte]);
    }
    for text in ["ok", "5", "5"] {
        assert_eq!(client.answer().text(), text);
    }
    drop(client);
    assert_recovered(&server);
}

fn a_flood_of_requests_whose_answers_nobody_reads(backend: Backend) {
    let limits = Limits { write_stall_timeout: 2 * SHORT, ..Limits::default() };
    let server = start(backend, limits);
    let flood = "GET /large HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000);
    let mut client = Client::connect(&server);
    client.stream().set_nonblocking(true).expect("a socket option");
    client.send(flood);
    eventually("it is cut", || closed_for(&server, &[CloseReason::WriteStalled]) == 1);
    let answered = server.statistics().requests;
    assert!(answered < 1_000, "it stopped reading, but {answered} were answered");
    assert_recovered(&server);
}

fn heads_without_end(backend: Backend) {
    let server = start(backend, Limits::default());
    let bombs = [
        ("x-y: z\r\n".repeat(20_000), 431),
        (format!("x: {}", "y".repeat(200_000)), 431),
        ("y".repeat(200_000), 431),
    ];
    for (bomb, status) in &bombs {
        let mut client = Client::connect(&server);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n").send(bomb);
        let answer = client.answer();
        assert_eq!(answer.status, *status);
        client.finish_sending().assert_closed();
    }
    assert_recovered(&server);
    assert_eq!(closed_for(&server, &[CloseReason::Refused]), bombs.len() as u64);
}

fn lengths_of_astronomical_size(backend: Backend) {
    let server = start(backend, Limits::default());
    let post = "POST /length HTTP/1.1\r\nhost: a\r\n";
    let bodies = [
        "content-length: 9223372036854775808\r\n\r\nx",
        "content-length: 9223372036854775807\r\n\r\nx",
        "content-length: 18446744073709551615\r\n\r\nx",
        "content-length: 18446744073709551616\r\n\r\nx",
        "content-length: 99999999999999999999999999999999999999\r\n\r\nx",
        "transfer-encoding: chunked\r\n\r\n8000000000000000\r\nx",
        "transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        "transfer-encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    ];
    for body in bodies {
        let mut client = Client::connect(&server);
        let answer = client.send(post).send(body).answer();
        assert!([400, 413].contains(&answer.status), "{body:?}: {answer:?}");
        let mut left = Vec::new();
        client.finish_sending();
        let _ = client.stream().read_to_end(&mut left);
        assert!(left.is_empty(), "nothing is served behind it: {body:?}");
    }
    assert_recovered(&server);
    assert_eq!(closed_for(&server, &[CloseReason::Refused]), bodies.len() as u64);
}
