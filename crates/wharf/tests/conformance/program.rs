//! The program that the cases are written for. A server that is to be compared needs the same
//! routes; most cases ask for `/` alone.

use wharf::{Request, Response, Router, StatusCode, get, post};

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
        .get("/panics", |_| -> &'static str { panic!("this handler is there to panic") })
}

fn echo(request: &Request) -> Response {
    Response::new(StatusCode::OK)
        .header("content-type", "application/octet-stream")
        .body(request.bytes())
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
