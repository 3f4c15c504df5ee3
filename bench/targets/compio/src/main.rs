//! axum on compio: `target-compio PORT`, one io_uring runtime and one listener a worker.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use axum::extract::{DefaultBodyLimit, Path};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use compio::net::TcpListener;
use compio::runtime::Runtime;
use send_wrapper::SendWrapper;
use socket2::{Domain, Protocol, Socket, Type};
use target_contract as contract;

fn main() -> io::Result<()> {
    let address = contract::address();
    // Bound here once, so that a port in use is an error and not a silent worker.
    drop(listener(address)?);
    contract::ready_once_listening(address);
    contract::on_each_worker(move || {
        let runtime = Runtime::new().expect("a runtime");
        if let Err(error) = runtime.block_on(serve(address)) {
            eprintln!("a worker ended: {error}");
        }
    });
    Ok(())
}

fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

async fn serve(address: SocketAddr) -> io::Result<()> {
    let router = Router::new()
        .route("/plaintext", get(async || contract::PLAINTEXT))
        .route("/json", get(async || Json(contract::MESSAGE)))
        .route("/users/{id}", get(async |Path(id): Path<String>| id))
        .route("/echo", post(async |body: Bytes| body))
        .route("/body64k", get(async || Bytes::from_static(&contract::BODY_64K)))
        .route("/sleep", get(sleep))
        .route("/pooled", get(pooled))
        .layer(DefaultBodyLimit::max(contract::BODY_LIMIT));
    let listener = TcpListener::from_std(listener(address)?)?;
    cyper_axum::serve(listener, router).await
}

fn sleep() -> impl Future<Output = &'static str> + Send {
    SendWrapper::new(async {
        compio::time::sleep(contract::SLEEP).await;
        contract::PLAINTEXT
    })
}

fn pooled() -> impl Future<Output = Result<&'static str, StatusCode>> + Send {
    SendWrapper::new(async {
        compio::runtime::spawn_blocking(|| contract::PLAINTEXT)
            .await
            .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    })
}
