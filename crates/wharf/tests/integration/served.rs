//! `wharf::test` with a real server.

use std::io::Read;
use std::time::Duration;

use wharf::test::{serve, serve_by};
use wharf::{Error, Limits, Request, Router, Server, post};

fn router() -> Router {
    let echo = |request: &Request| -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        request.reader().read_to_end(&mut body)?;
        Ok(body)
    };
    Router::new()
        .get("/", |request| format!("hello, {}", request.header("x-name").unwrap_or("you")))
        .route("/echo", post(echo).streaming().body_limit(10 << 20))
}

#[test]
fn a_real_server_is_asked_as_an_app_is() {
    let server = serve(router());
    let answer = server.get("/").header("x-name", "Wharf").send();
    assert_eq!((answer.status().as_u16(), answer.text()), (200, "hello, Wharf"));
    assert_eq!(server.head("/").send().header("content-length"), Some("10"));
    assert_eq!(server.delete("/").send().status(), 405);
    let large: Vec<u8> = (0..3_000_000).map(|n| (n % 251) as u8).collect();
    assert!(server.post("/echo").chunked(large.clone()).send().bytes() == large);
    let bytes = server.send_bytes("nonsense\r\n\r\n");
    assert!(bytes.starts_with(b"HTTP/1.1 400 "), "{bytes:?}");
    assert_eq!(server.handle().statistics().accepted, 5);
    let url = server.url("/");
    let mut from_outside = ureq::get(&url).call().expect("any client may ask");
    assert_eq!(from_outside.body_mut().read_to_string().expect("text"), "hello, you");
    assert_eq!(server.into_handle().shutdown(Duration::from_secs(60)).cut, 0);
}

#[test]
fn a_server_that_was_set_up_is_too() {
    let server = Server::bind("127.0.0.1:0").expect("loopback is there");
    let server = server.limits(Limits { body_bytes: 1, ..Limits::default() });
    let served = serve_by(server.shards(1), Router::new().post("/", |_| "read"));
    assert_eq!(served.post("/").body("1").send().status(), 200);
    // It is answered before it is read.
    assert_eq!(served.post("/").body(vec![0; 2_000_000]).send().status(), 413);
}

#[test]
#[should_panic(expected = "the server does not start")]
fn routes_that_conflict_are_told_of() {
    serve(Router::new().get("/{a}", |_| "").get("/{b}", |_| ""));
}
