//! ntex: `target-ntex-uring PORT`, on its own io_uring runtime, one a worker.
#![forbid(unsafe_code)]

use std::io;

use ntex::SharedCfg;
use ntex::http::{HttpServiceConfig, KeepAlive};
use ntex::time::Seconds;
use ntex::util::Bytes;
use ntex::web::{self, App, HttpResponse, HttpServer};
use ntex_files::NamedFile;
use target_contract as contract;

#[ntex::main]
async fn main() -> io::Result<()> {
    let server = HttpServer::new(async || {
        App::new()
            .state(web::types::PayloadConfig::new(contract::BODY_LIMIT))
            .route("/plaintext", web::get().to(plaintext))
            .route("/json", web::get().to(json))
            .route("/users/{id}", web::get().to(user))
            .route("/echo", web::post().to(echo))
            .route("/body64k", web::get().to(body_64k))
            .route("/file10m", web::get().to(file))
            .route("/sleep", web::get().to(sleep))
            .route("/pooled", web::get().to(pooled))
    })
    .config(SharedCfg::new("target").add(
        HttpServiceConfig::new().set_keepalive(KeepAlive::Os).set_client_timeout(Seconds::ZERO),
    ))
    .workers(contract::workers())
    .maxconn(65_536)
    .backlog(4096)
    .bind(contract::address())?
    .run();
    contract::ready();
    server.await
}

async fn plaintext() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(Bytes::from_static(contract::PLAINTEXT.as_bytes()))
}

async fn json() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(contract::json())
}

async fn user(id: web::types::Path<String>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(id.into_inner())
}

async fn echo(body: Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("application/octet-stream").body(body)
}

async fn body_64k() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/octet-stream")
        .body(Bytes::from_static(&contract::BODY_64K))
}

async fn file() -> io::Result<NamedFile> {
    NamedFile::open(contract::file())
}

async fn sleep() -> HttpResponse {
    ntex::time::sleep(contract::SLEEP).await;
    plaintext().await
}

async fn pooled() -> HttpResponse {
    match web::block(|| Ok::<_, std::convert::Infallible>(contract::PLAINTEXT)).await {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}
