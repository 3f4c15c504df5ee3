//! tiny_http: `target-tiny-http PORT`, requests taken by a fixed number of threads.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::thread;

use target_contract as contract;
use tiny_http::{Header, Method, Request, Response, Server};

/// Threads that take requests, where the harness asks for no other number.
const THREADS: usize = 4;

fn main() {
    let server = match Server::http(contract::address()) {
        Ok(server) => Arc::new(server),
        Err(error) => {
            eprintln!("cannot listen: {error}");
            std::process::exit(1);
        }
    };
    contract::ready();
    let threads: Vec<_> = (0..contract::pool().unwrap_or(THREADS * contract::workers()))
        .map(|_| {
            let server = server.clone();
            thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    // A client that leaves is no news.
                    let _ = route(request);
                }
            })
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
}

fn route(mut request: Request) -> std::io::Result<()> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const OCTETS: &str = "application/octet-stream";
    match (request.method(), request.url()) {
        (Method::Get, "/plaintext" | "/pooled") => answer(request, TEXT, contract::PLAINTEXT),
        (Method::Get, "/json") => answer(request, "application/json", contract::json()),
        (Method::Get, "/body64k") => answer(request, OCTETS, &contract::BODY_64K[..]),
        (Method::Get, "/file10m") => {
            let file = File::open(contract::file())?;
            request.respond(Response::from_file(file).with_chunked_threshold(usize::MAX))
        }
        (Method::Get, "/sleep") => {
            thread::sleep(contract::SLEEP);
            answer(request, TEXT, contract::PLAINTEXT)
        }
        (Method::Post, "/echo") => {
            let mut body = Vec::with_capacity(request.body_length().unwrap_or(0));
            request.as_reader().take(contract::BODY_LIMIT as u64).read_to_end(&mut body)?;
            answer(request, OCTETS, body)
        }
        (Method::Get, path) => match path.strip_prefix("/users/").map(str::to_owned) {
            Some(id) => answer(request, TEXT, id),
            None => request.respond(Response::empty(404)),
        },
        _ => request.respond(Response::empty(404)),
    }
}

fn answer(request: Request, content_type: &str, body: impl AsRef<[u8]>) -> std::io::Result<()> {
    let header = Header::from_bytes("Content-Type", content_type)
        .expect("the targets' content types are valid");
    let body = body.as_ref();
    let length = body.len();
    // Otherwise tiny_http would frame bodies from 32 KiB on as chunks.
    request.respond(
        Response::new(200.into(), vec![header], body, Some(length), None)
            .with_chunked_threshold(usize::MAX),
    )
}
