//! The program that the cases are written for. A server that is to be compared needs the same
//! routes; most cases ask for `/` alone.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use wharf::{
    Error, HeaderName, HeaderValue, Request, Response, Router, StatusCode, Validators, get, post,
    put,
};

pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(|_| "hello").inline())
        .get("/pooled", |_| "hello")
        .route("/echo", post(echo).inline())
        .post("/pooled/echo", echo)
        .route("/understood", get(understood).inline())
        .route("/understood", post(understood).inline())
        .route("/small", post(echo).body_limit(100))
        .get("/large", |_| "x".repeat(50_000))
        .get("/close", |_| Response::text("bye").header("connection", "close"))
        .get("/status/{code}", with_status)
        .get("/lies", |_| {
            Response::text("truth")
                .header("content-length", "1000")
                .header("transfer-encoding", "chunked")
                .header("keep-alive", "timeout=5")
        })
        .get("/splits", |_| Response::text("x").header("x-split", "a\r\nset-cookie: b"))
        .route("/tagged", get(tagged).inline())
        .get("/tagged/long", |_| Response::text("0123456789abcdefghij".repeat(25)).etag("v1"))
        .route("/tagged", put(change))
        .get("/pooled/tagged", tagged)
        .get("/weak", |_| Response::text("x").header("etag", "W/\"v1\"").conditional())
        .get("/file", |_| {
            Response::file(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/served.txt"))
        })
        .get("/flowing", flowing)
        .get("/flowing/known", |request| flowing(request).content_length(11))
        .route("/ignores", post(|_| "ignored").streaming())
        .get("/upgrade", |_| Response::upgrade("wharf-test", drop))
        .connect(tunnel)
        .nest("/hooked", hooked())
        .get("/panics", |_| -> &'static str { panic!("this handler is there to panic") })
}

fn echo(request: &Request) -> Response {
    Response::new(StatusCode::OK)
        .header("content-type", "application/octet-stream")
        .body(request.bytes())
}

/// What has a state that is named by a tag and a date.
fn tagged(_: &Request) -> Response {
    let sunday = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    Response::text("0123456789").etag("v1").last_modified(sunday)
}

/// Changes that state, as far as the client can tell.
fn change(request: &Request) -> Result<&'static str, Error> {
    request.check_conditions(Some(&Validators::new().etag("v1")))?;
    Ok("changed")
}

/// A body that is produced while it is sent, and a trailer behind it.
fn flowing(_: &Request) -> Response {
    let count = (HeaderName::from_static("x-count"), HeaderValue::from_static("3"));
    Response::new(StatusCode::OK).body_iter(["one", "two", "three"].map(Ok)).trailers(|| [count])
}

fn tunnel(request: &Request) -> Result<Response, StatusCode> {
    let through = |mut stream: wharf::Upgraded| {
        // A peer that has gone meanwhile has no use for it.
        let _ = stream.write_all(b"through");
    };
    if request.host() == Some("tunnel:1") {
        return Ok(Response::tunnel(through));
    }
    Err(StatusCode::FORBIDDEN)
}

fn hooked() -> Router {
    Router::new()
        .get("/", |_| "behind a hook")
        .after(|_, response| response.header("x-hook", "ran"))
}

/// A body of one line: what the server takes the request to be.
fn understood(request: &Request) -> String {
    let sum = request
        .body()
        .iter()
        .fold(7u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    format!(
        "{} {} query={} host={} body={}/{sum}",
        request.method(),
        request.path(),
        request.query_string(),
        request.host().unwrap_or("none"),
        request.body().len(),
    )
}

/// An answer of the status in the path, which has a body as far as the handler is concerned.
fn with_status(request: &Request) -> Result<Response, wharf::Error> {
    let status = StatusCode::from_u16(request.param("code")?).unwrap_or(StatusCode::IM_A_TEAPOT);
    Ok(Response::text("a body").with_status(status))
}
