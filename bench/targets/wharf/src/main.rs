//! Wharf: `target-wharf PORT`. `WHARF_BACKEND` forces a backend; `SLEEP=pooled` tells Wharf of the
//! route that sleeps what it otherwise finds out.
#![forbid(unsafe_code)]

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use target_contract as contract;
use wharf::{Error, Limits, Request, Response, Route, Router, Server, get, post};

/// How long `/nap` sleeps, whose route says nothing of it.
const NAP: Duration = Duration::from_millis(50);

fn main() -> Result<(), Error> {
    let file = contract::file();
    let router = Router::new()
        .route("/plaintext", get(|_| contract::PLAINTEXT).inline())
        .route("/json", get(|_| Response::json(contract::json())).inline())
        .route("/users/{id}", get(user).inline())
        .route("/echo", post(echo).inline().body_limit(contract::BODY_LIMIT))
        .route("/body64k", get(|_| Bytes::from_static(&contract::BODY_64K)).inline())
        .get("/file10m", move |_| Response::file(&file))
        .get("/adaptive", |_| contract::PLAINTEXT)
        .route("/pooled", get(|_| contract::PLAINTEXT).pooled())
        .route("/sleep", sleep())
        .get("/nap", |_| {
            thread::sleep(NAP);
            contract::PLAINTEXT
        });
    let mut limits = Limits {
        // The load comes from few addresses and stays: neither is a fault here.
        connections_per_peer: usize::MAX,
        // As many as there is room for.
        connections: usize::MAX,
        requests_per_connection: u32::MAX,
        idle_timeout: Duration::from_secs(600),
        ..Limits::default()
    };
    if let Some(workers) = contract::pool() {
        limits.workers = workers;
    }
    let server = Server::bind(contract::address())?.limits(limits).shards(contract::workers());
    contract::ready();
    server.serve(router)
}

fn sleep() -> Route {
    let route = get(|_| {
        thread::sleep(contract::SLEEP);
        contract::PLAINTEXT
    });
    match std::env::var("SLEEP").as_deref() {
        Ok("pooled") => route.pooled(),
        _ => route,
    }
}

fn user(request: &Request) -> Result<String, Error> {
    request.param("id")
}

fn echo(request: &Request) -> Bytes {
    request.bytes()
}
