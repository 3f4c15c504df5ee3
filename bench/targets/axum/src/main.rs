//! axum: `target-axum PORT`, on tokio's multi-threaded runtime.
#![forbid(unsafe_code)]

use std::io;

use axum::extract::{DefaultBodyLimit, Path};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use target_contract as contract;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tower_http::services::ServeFile;

fn main() -> io::Result<()> {
    let runtime =
        Builder::new_multi_thread().worker_threads(contract::workers()).enable_all().build()?;
    // Spawned, so that it is a worker that accepts and not the thread that waits for it.
    runtime.block_on(async {
        tokio::spawn(serve()).await.map_err(io::Error::other).and_then(|result| result)
    })
}

async fn serve() -> io::Result<()> {
    let router = Router::new()
        .route("/plaintext", get(async || contract::PLAINTEXT))
        .route("/json", get(async || Json(contract::MESSAGE)))
        .route("/users/{id}", get(async |Path(id): Path<String>| id))
        .route("/echo", post(async |body: Bytes| body))
        .route("/body64k", get(async || Bytes::from_static(&contract::BODY_64K)))
        .route_service("/file10m", ServeFile::new(contract::file()))
        .route("/sleep", get(sleep))
        .route("/pooled", get(pooled))
        .layer(DefaultBodyLimit::max(contract::BODY_LIMIT));
    let listener = TcpListener::bind(contract::address()).await?.tap_io(|stream| {
        // Without it the answer is as right, only later.
        let _ = stream.set_nodelay(true);
    });
    contract::ready();
    axum::serve(listener, router).await
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
