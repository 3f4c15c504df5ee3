//! The server without sockets: the same answers as with them.

use std::io::{Read, Write};
use std::time::Duration;

use wharf::test::App;
use wharf::{Limits, Request, Response, Router, StatusCode, get, post};

fn router() -> Router {
    Router::new()
        .route("/inline", get(|_| "inline").inline())
        .route("/pooled", get(|_| "pooled").pooled())
        .post("/echo", |request: &Request| Response::text(request.bytes()))
        .route(
            "/count",
            post(|request: &Request| -> Result<String, wharf::Error> {
                let mut body = Vec::new();
                request.reader().read_to_end(&mut body).map_err(wharf::Error::internal)?;
                Ok(body.len().to_string())
            })
            .streaming(),
        )
        .get("/stream", |_| {
            Response::new(StatusCode::OK)
                .body_writer(|body| (0..1_000).try_for_each(|n| writeln!(body, "line {n}")))
        })
        .get("/slow", |_| {
            std::thread::sleep(Duration::from_millis(120));
            "at last"
        })
        .get("/peer", |request| request.peer().ip().to_string())
        .post("/json", |request: &Request| -> Result<String, wharf::Error> {
            Ok(serde_json::to_string(&request.json::<Vec<u32>>()?).unwrap_or_default())
        })
        .get("/panic", |_| -> String { panic!("as asked") })
}

#[test]
fn it_answers_as_a_server_does() {
    let app = App::new(router());
    assert_eq!(app.get("/inline").send().text(), "inline");
    assert_eq!(app.get("/pooled").send().text(), "pooled");
    assert_eq!(app.get("/slow").send().text(), "at last");
    assert_eq!(app.get("/none").send().status(), 404);
    assert_eq!(app.delete("/inline").send().header("allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(app.get("/panic").send().status(), 500);
    let head = app.head("/inline").send();
    assert_eq!((head.status(), head.header("content-length")), (StatusCode::OK, Some("6")));
    assert!(head.bytes().is_empty());
    for _ in 0..3 {
        assert_eq!(app.get("/peer").from([192, 0, 2, 7].into()).send().text(), "192.0.2.7");
    }
    let numbers = app.post("/json").json(&[1, 2, 3]).send().json::<Vec<u32>>();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn bodies_of_any_length_and_framing_go_through() {
    let app = App::new(router());
    for length in [0, 1, 5_000, 1_000_000] {
        let body = vec![b'x'; length];
        assert_eq!(app.post("/echo").body(body.clone()).send().bytes(), body);
        assert_eq!(app.post("/echo").chunked(body.clone()).send().bytes(), body);
        assert_eq!(app.post("/count").body(body.clone()).send().text(), length.to_string());
        assert_eq!(app.post("/count").chunked(body).send().text(), length.to_string());
    }
    let streamed = app.get("/stream").send();
    assert!(streamed.header("content-length").is_none());
    assert_eq!(streamed.text().lines().count(), 1_000);
    let expecting = app.post("/echo").header("expect", "100-continue").body("x").send();
    assert_eq!((expecting.status(), expecting.text()), (StatusCode::OK, "x"));
}

#[test]
fn limits_are_the_servers() {
    let limits =
        Limits { body_bytes: 10, head_timeout: Duration::from_secs(1), ..Limits::default() };
    let app = App::with_limits(router(), limits);
    assert_eq!(app.post("/echo").body("1234567890").send().status(), 200);
    assert_eq!(app.post("/echo").body("12345678901").send().status(), 413);
    assert_eq!(app.get("/inline").header("a b", "c").send().status(), 400);
    let raw = app.send_bytes(
        "GET /inline HTTP/1.1\r\nhost: a\r\n\r\nGET /pooled HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    let raw = String::from_utf8(raw).expect("text");
    assert!(raw.contains("\r\n\r\ninlineHTTP/1.1 200 OK") && raw.ends_with("pooled"), "{raw}");
}
