//! monoio-http: `target-monoio PORT`, one io_uring runtime and one listener a worker.
//!
//! monoio-http reads and writes messages; routes and the Date field are this file's.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, HeaderValue};
use http::{Method, StatusCode};
use monoio::blocking::DefaultThreadPool;
use monoio::io::sink::SinkExt;
use monoio::io::stream::Stream;
use monoio::net::{ListenerOpts, TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use monoio_http::common::error::HttpError;
use monoio_http::common::request::Request;
use monoio_http::common::response::Response;
use monoio_http::h1::codec::ServerCodec;
use monoio_http::h1::codec::decoder::FillPayload;
use monoio_http::h1::payload::{FixedPayload, Payload};
use target_contract as contract;

thread_local! {
    /// The Date field's value, formatted once a second.
    static NOW: RefCell<HeaderValue> = RefCell::new(now());
}

fn main() -> io::Result<()> {
    let address = contract::address();
    contract::ready_once_listening(address);
    contract::on_each_worker(move || {
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .with_entries(4096)
            .attach_thread_pool(Box::new(DefaultThreadPool::new(contract::pool().unwrap_or(4))))
            .build()
            .expect("a runtime");
        if let Err(error) = runtime.block_on(serve(address)) {
            eprintln!("a worker ended: {error}");
        }
    });
    Ok(())
}

async fn serve(address: SocketAddr) -> io::Result<()> {
    monoio::spawn(async {
        loop {
            monoio::time::sleep(Duration::from_secs(1)).await;
            NOW.set(now());
        }
    });
    let options = ListenerOpts::new().reuse_port(true).reuse_addr(true).backlog(4096);
    let listener = TcpListener::bind_with_config(address, &options)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        monoio::spawn(async move {
            // A client that leaves is no news.
            let _ = connection(stream).await;
        });
    }
}

async fn connection(stream: TcpStream) -> Result<(), HttpError> {
    let mut codec = ServerCodec::new(stream);
    while let Some(request) = codec.next().await {
        let request = request?;
        if matches!(request.body(), Payload::Fixed(_)) {
            codec.fill_payload().await?;
        }
        let close = request
            .headers()
            .get(http::header::CONNECTION)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        let response = route(request).await;
        codec.send_and_flush(response).await?;
        if close {
            break;
        }
    }
    Ok(())
}

async fn route(request: Request) -> Response {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::GET, "/plaintext") => plaintext(),
        (&Method::GET, "/json") => answer("application/json", contract::json()),
        (&Method::GET, "/body64k") => {
            answer("application/octet-stream", Bytes::from_static(&contract::BODY_64K))
        }
        (&Method::GET, "/sleep") => {
            monoio::time::sleep(contract::SLEEP).await;
            plaintext()
        }
        (&Method::GET, "/pooled") => match monoio::spawn_blocking(|| contract::PLAINTEXT).await {
            Ok(text) => answer("text/plain; charset=utf-8", text),
            Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
        },
        (&Method::POST, "/echo") => match request.into_body() {
            Payload::Fixed(mut body) => match body.next().await {
                Some(Ok(body)) => answer("application/octet-stream", body),
                _ => status(StatusCode::BAD_REQUEST),
            },
            _ => status(StatusCode::LENGTH_REQUIRED),
        },
        (&Method::GET, path) => match path.strip_prefix("/users/") {
            Some(id) => answer("text/plain; charset=utf-8", id.to_owned()),
            None => status(StatusCode::NOT_FOUND),
        },
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn plaintext() -> Response {
    answer("text/plain; charset=utf-8", contract::PLAINTEXT)
}

fn answer(content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Payload::Fixed(FixedPayload::new(body.into())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(DATE, NOW.with_borrow(HeaderValue::clone));
    response
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Payload::None);
    *response.status_mut() = status;
    response
}

fn now() -> HeaderValue {
    HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
        .expect("a date has no control characters")
}
