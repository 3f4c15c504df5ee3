//! A short load: 400 connections at once that keep alive, pipeline, stop half-way and reset.
//! Every answer comes, and nothing is left behind.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use wharf::{Backend, Request, Router, get, post};

use crate::support::{Client, PATIENCE, eventually, on_every_backend, serve};

on_every_backend! {
    four_hundred_connections_get_every_answer,
}

const CLIENTS: usize = 8;
const CONNECTIONS_EACH: usize = 50;
const ROUNDS: usize = 5;
/// Requests sent before the first answer is read, in every second round.
const PIPELINED: usize = 6;

fn echo(request: &Request) -> Vec<u8> {
    request.body().to_vec()
}

/// Uses its connections in turn, so that all are open and most are idle at any time. Returns how
/// many requests were answered.
fn client(address: SocketAddr, number: usize) -> u64 {
    let mut connections: Vec<Client> =
        (0..CONNECTIONS_EACH).map(|_| Client::connect_to(address)).collect();
    let mut answered = 0;
    for round in 0..ROUNDS {
        let path = if round % 3 == 0 { "/pooled" } else { "/inline" };
        let body = format!("{number} sends this in round {round}");
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let count = if round % 2 == 0 { 1 } else { PIPELINED };
        for connection in &mut connections {
            connection.send(request.repeat(count));
        }
        for connection in &mut connections {
            for _ in 0..count {
                let answer = connection.answer();
                assert_eq!((answer.status, answer.text()), (200, &*body));
                answered += 1;
            }
        }
    }
    for (index, mut connection) in connections.into_iter().enumerate() {
        match index % 4 {
            0 => connection.finish_sending().assert_closed(),
            1 => _ = connection.send("POST /inline HTTP/1.1\r\nhost: a\r\ncontent-le"),
            2 => {
                // Its answer meets a connection that is reset.
                connection.send("POST /pooled HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
                let socket = socket2::SockRef::from(connection.stream());
                socket.set_linger(Some(Duration::ZERO)).expect("a socket option");
            }
            _ => {}
        }
    }
    answered
}

fn four_hundred_connections_get_every_answer(backend: Backend) {
    let router = Router::new()
        .route("/inline", post(echo).inline())
        .route("/pooled", post(echo))
        .route("/alive", get(|_| "yes").inline());
    let server = serve(backend, router);
    let address = server.local_address();
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| thread::spawn(move || client(address, number))).collect();
    let answered: u64 =
        clients.into_iter().map(|client| client.join().expect("no client fails")).sum();
    eventually("every connection is closed", || server.statistics().connections == 0);
    let statistics = server.statistics();
    assert_eq!(statistics.accepted, (CLIENTS * CONNECTIONS_EACH) as u64);
    assert!(statistics.requests >= answered, "{} of {answered}", statistics.requests);
    assert_eq!((statistics.panics, statistics.overloaded), (0, 0));
    assert_eq!(Client::connect(&server).get("/alive").text(), "yes");
    let drained = server.shutdown(PATIENCE);
    assert_eq!((drained.cut, drained.still_running), (0, 0));
}
