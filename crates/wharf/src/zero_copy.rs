//! By pointer: what a handler sees lies in the block that the bytes were received into.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

use crate::request::{Body, View};
use crate::{Backend, Request, Router, Server, ServerHandle, post, shard};

fn lies_in(part: &[u8], block: &Range<*const u8>) -> bool {
    let part = part.as_ptr_range();
    block.start <= part.start && part.end <= block.end && part.start < part.end
}

/// Says which part of the request is a copy, if one is.
fn find_copies(request: &Request) -> String {
    let View::Lease(lease) = &request.bytes else { return "the head was copied".to_owned() };
    let block = lease.as_ptr_range();
    let header = request.header_bytes("x-one").unwrap_or_default();
    let parameter: &str = request.param("id").unwrap_or_default();
    let parts = [
        ("path", request.path().as_bytes()),
        ("query", request.query_string().as_bytes()),
        ("header", header),
        ("parameter", parameter.as_bytes()),
        ("host", request.host().unwrap_or_default().as_bytes()),
    ];
    let body_block = match &request.body {
        Body::BehindHead(_) => block.clone(),
        Body::Apart(View::Lease(lease)) => lease.as_ptr_range(),
        _ => return "the body was copied".to_owned(),
    };
    let shared = request.bytes();
    for (name, part) in parts {
        if !lies_in(part, &block) {
            return format!("the {name} was copied");
        }
    }
    if !lies_in(request.body(), &body_block) || shared.as_ptr() != request.body().as_ptr() {
        return "the body was copied".to_owned();
    }
    format!("no copies of {}", request.body().len())
}

fn each_backend(test: impl Fn(&ServerHandle)) {
    for backend in [Backend::Uring, Backend::Readiness, Backend::Iocp] {
        let router = Router::new()
            .route("/inline/{id}", post(find_copies).inline())
            .route("/pooled/{id}", post(find_copies).pooled());
        let server = Server::bind("127.0.0.1:0").unwrap().backend(backend).shards(1);
        match server.start(router) {
            Ok(server) => test(&server),
            Err(error) => println!("{backend:?} is not run: {error}"),
        }
    }
}

/// Sends the pieces with a pause between them and returns the answer's body.
fn ask(server: &ServerHandle, pieces: &[&str]) -> String {
    let mut client = TcpStream::connect(server.local_address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.set_nodelay(true).unwrap();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        client.write_all(piece.as_bytes()).unwrap();
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

#[test]
fn a_request_that_arrives_in_one_piece_is_not_copied() {
    each_backend(|server| {
        for mode in ["inline", "pooled"] {
            let head = format!(
                "POST /{mode}/seven?a=b HTTP/1.1\r\nhost: h\r\nx-one: value\r\nconnection: close\r\n"
            );
            let whole = format!("{head}content-length: 4\r\n\r\nbody");
            assert_eq!(ask(server, &[&whole]), "no copies of 4", "{mode}");
            let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
            assert_eq!(ask(server, &[&chunked]), "no copies of 4", "{mode}, one chunk");
            let head = format!("{head}content-length: 4000\r\n\r\n");
            let body = "x".repeat(4000);
            assert_eq!(ask(server, &[&head, &body]), "no copies of 4000", "{mode}, two pieces");
        }
    });
}

#[test]
fn the_check_tells_a_copy() {
    each_backend(|server| {
        // It lies in two blocks, however it comes.
        let long = "x".repeat(shard::RECEIVE_BLOCK_BYTES);
        let head = format!("POST /inline/7 HTTP/1.1\r\nx: {long}\r\nhost: h\r\nconnection: close");
        assert_eq!(ask(server, &[&head, "\r\n\r\n"]), "the head was copied");
    });
}
