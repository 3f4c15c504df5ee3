//! astra: `target-astra PORT`. A connection holds a worker for as long as it is open, so that the
//! pool's default of 15 a core would leave the others of 64 connections waiting without end.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::thread;

use astra::{Body, ConnectionInfo, Request, Response, ResponseBuilder, Server};
use bytes::Bytes;
use target_contract as contract;

/// More than there are ever connections; workers are started as they are needed.
const WORKERS: usize = 20_000;

fn main() -> io::Result<()> {
    let address = contract::address();
    let server = Server::bind(address).http1_pipeline_flush(true).max_workers(WORKERS);
    contract::ready_once_listening(address);
    server.serve(route)
}

fn route(mut request: Request, _: ConnectionInfo) -> Response {
    match request.uri().path() {
        "/plaintext" | "/pooled" => text(contract::PLAINTEXT),
        "/json" => answer("application/json", contract::json()),
        "/body64k" => answer("application/octet-stream", Bytes::from_static(&contract::BODY_64K)),
        "/file10m" => file().unwrap_or_else(|_| status(404)),
        "/sleep" => {
            thread::sleep(contract::SLEEP);
            text(contract::PLAINTEXT)
        }
        "/echo" => {
            let mut body = Vec::new();
            let limit = contract::BODY_LIMIT as u64;
            match request.body_mut().reader().take(limit).read_to_end(&mut body) {
                Ok(_) => answer("application/octet-stream", body),
                Err(_) => status(400),
            }
        }
        path => match path.strip_prefix("/users/") {
            Some(id) => text(id.to_owned()),
            None => status(404),
        },
    }
}

fn text(body: impl Into<Bytes>) -> Response {
    answer("text/plain; charset=utf-8", body)
}

fn answer(content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let body = body.into();
    // Without the length astra would send chunks.
    ResponseBuilder::new()
        .header("content-type", content_type)
        .header("content-length", body.len())
        .body(body.into())
        .expect("a fixed status and field are always valid")
}

fn file() -> io::Result<Response> {
    let file = File::open(contract::file())?;
    let length = file.metadata()?.len();
    Ok(ResponseBuilder::new()
        .header("content-type", "application/octet-stream")
        .header("content-length", length)
        .body(Body::wrap_reader(file))
        .expect("fixed fields are always valid"))
}

fn status(status: u16) -> Response {
    ResponseBuilder::new()
        .status(status)
        .body(Body::empty())
        .expect("a fixed status is always valid")
}
