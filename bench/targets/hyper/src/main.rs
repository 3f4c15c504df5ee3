//! hyper: `target-hyper PORT`, one current-thread runtime and one listener a worker.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use target_contract as contract;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

type Answer = Response<Full<Bytes>>;

fn main() -> io::Result<()> {
    let address = contract::address();
    // Bound here once, so that a port in use is an error and not a silent worker.
    drop(listener(address)?);
    contract::ready_once_listening(address);
    contract::on_each_worker(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        if let Err(error) = LocalSet::new().block_on(&runtime, serve(address)) {
            eprintln!("a worker ended: {error}");
        }
    });
    Ok(())
}

fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

async fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::from_std(listener(address)?)?;
    let mut http = http1::Builder::new();
    http.pipeline_flush(true);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = http.serve_connection(TokioIo::new(stream), service_fn(route));
        tokio::task::spawn_local(async move {
            // A client that leaves is no news.
            let _ = connection.await;
        });
    }
}

async fn route(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path();
    Ok(match (request.method(), path) {
        (&Method::GET, "/plaintext") => plaintext(),
        (&Method::GET, "/json") => answer("application/json", contract::json()),
        (&Method::GET, "/body64k") => {
            answer("application/octet-stream", Bytes::from_static(&contract::BODY_64K))
        }
        (&Method::GET, "/sleep") => {
            tokio::time::sleep(contract::SLEEP).await;
            plaintext()
        }
        (&Method::GET, "/pooled") => {
            tokio::task::spawn_blocking(plaintext).await.unwrap_or_else(|_| failure())
        }
        (&Method::POST, "/echo") => {
            match Limited::new(request.into_body(), contract::BODY_LIMIT).collect().await {
                Ok(body) => answer("application/octet-stream", body.to_bytes()),
                Err(_) => status(StatusCode::PAYLOAD_TOO_LARGE),
            }
        }
        (&Method::GET, path) => match path.strip_prefix("/users/") {
            Some(id) => answer("text/plain; charset=utf-8", id.to_owned()),
            None => status(StatusCode::NOT_FOUND),
        },
        _ => status(StatusCode::NOT_FOUND),
    })
}

fn plaintext() -> Answer {
    answer("text/plain; charset=utf-8", contract::PLAINTEXT)
}

fn answer(content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn failure() -> Answer {
    status(StatusCode::INTERNAL_SERVER_ERROR)
}

fn status(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
