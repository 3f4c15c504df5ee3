//! xitca-web: `target-xitca PORT`, on epoll, one single-threaded runtime a worker.
#![forbid(unsafe_code)]

use std::io;

use bytes::Bytes;
use target_contract as contract;
use xitca_web::App;
use xitca_web::handler::handler_service;
use xitca_web::handler::json::Json;
use xitca_web::handler::params::Params;
use xitca_web::http::header::{CONTENT_TYPE, HeaderValue};
use xitca_web::http::{StatusCode, WebResponse};
use xitca_web::route::{get, post};

fn main() -> io::Result<()> {
    contract::ready_once_listening(contract::address());
    App::new()
        .at("/plaintext", get(handler_service(async || contract::PLAINTEXT)))
        .at("/json", get(handler_service(async || Json(contract::MESSAGE))))
        .at("/users/{id}", get(handler_service(async |Params(id): Params<String>| id)))
        .at("/echo", post(handler_service(async |body: Vec<u8>| octets(body))))
        .at(
            "/body64k",
            get(handler_service(async || octets(Bytes::from_static(&contract::BODY_64K)))),
        )
        .at("/sleep", get(handler_service(sleep)))
        .at("/pooled", get(handler_service(pooled)))
        .serve()
        .worker_threads(contract::workers())
        .backlog(4096)
        .bind(contract::address())?
        .run()
        .wait()
}

fn octets(body: impl Into<Bytes>) -> WebResponse {
    let mut response = WebResponse::new(body.into().into());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

async fn sleep() -> &'static str {
    tokio::time::sleep(contract::SLEEP).await;
    contract::PLAINTEXT
}

async fn pooled() -> Result<&'static str, StatusCode> {
    tokio::task::spawn_blocking(|| contract::PLAINTEXT)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
