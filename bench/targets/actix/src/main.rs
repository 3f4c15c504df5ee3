//! actix-web: `target-actix PORT`, one single-threaded runtime a worker.
#![forbid(unsafe_code)]

use std::io;

use actix_files::NamedFile;
use actix_web::http::KeepAlive;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use target_contract as contract;

#[actix_web::main]
async fn main() -> io::Result<()> {
    let server = HttpServer::new(|| {
        App::new()
            .app_data(web::PayloadConfig::new(contract::BODY_LIMIT))
            .route("/plaintext", web::get().to(plaintext))
            .route("/json", web::get().to(async || web::Json(contract::MESSAGE)))
            .route("/users/{id}", web::get().to(user))
            .route("/echo", web::post().to(async |body: web::Bytes| body))
            .route("/body64k", web::get().to(body_64k))
            .route("/file10m", web::get().to(file))
            .route("/sleep", web::get().to(sleep))
            .route("/pooled", web::get().to(pooled))
    })
    .keep_alive(KeepAlive::Os)
    .workers(contract::workers())
    .backlog(4096)
    .bind(contract::address())?
    .run();
    contract::ready();
    server.await
}

async fn plaintext() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body(contract::PLAINTEXT)
}

async fn user(id: web::Path<String>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body(id.into_inner())
}

async fn body_64k() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::octet_stream())
        .body(web::Bytes::from_static(&contract::BODY_64K))
}

async fn file() -> io::Result<NamedFile> {
    NamedFile::open(contract::file())
}

async fn sleep() -> HttpResponse {
    actix_web::rt::time::sleep(contract::SLEEP).await;
    plaintext().await
}

async fn pooled() -> HttpResponse {
    match web::block(|| contract::PLAINTEXT).await {
        Ok(text) => HttpResponse::Ok().content_type(ContentType::plaintext()).body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}
