//! Requests and answers: routing, bodies, framing.

use wharf::{Backend, Error, Parsed, Request, Response, Router, StatusCode, get, post};

use crate::support::{Client, on_every_backend, serve};

on_every_backend! {
    a_request_reaches_its_handler_whole,
    paths_and_methods_are_told_apart,
    parameters_are_decoded_and_typed,
    bodies_of_every_framing_arrive,
    a_body_may_come_in_pieces,
    large_bodies_go_both_ways,
    continue_is_sent_only_where_the_body_is_wanted,
    malformed_requests_are_refused_and_the_connection_closed,
    a_request_may_come_byte_by_byte,
    head_is_get_without_the_body,
    framing_fields_of_a_handler_are_wharfs_own,
    invalid_fields_split_no_answer,
    http_10_is_answered_and_closed,
}

fn describe(request: &Request) -> String {
    let headers: Vec<String> = request
        .headers()
        .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
        .collect();
    format!(
        "{} {} ?{} {:?} host={:?} {} body={}",
        request.method(),
        request.path(),
        request.query_string(),
        request.version(),
        request.host(),
        headers.join(","),
        String::from_utf8_lossy(request.body())
    )
}

fn echo(request: &Request) -> Response {
    Response::text(request.bytes())
}

fn a_request_reaches_its_handler_whole(backend: Backend) {
    let router = Router::new()
        .route("/inline/{id}", post(describe).inline())
        .route("/pooled/{id}", post(describe));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for mode in ["inline", "pooled"] {
        let answer = client
            .send(format!(
                "POST /{mode}/7?x=1&y=%20 HTTP/1.1\r\nHost: a.example:80\r\nX-One: 1\r\n\
                 x-two:  two words \r\nX-ONE: again\r\ncontent-length: 4\r\n\r\nbody"
            ))
            .answer();
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.text(),
            format!(
                "POST /{mode}/7 ?x=1&y=%20 HTTP/1.1 host=Some(\"a.example:80\") \
                 Host=a.example:80,X-One=1,x-two=two words,X-ONE=again,content-length=4 body=body"
            )
        );
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(answer.header("date").is_some_and(|date| date.ends_with("GMT")));
    }
    assert_eq!(server.statistics().requests, 2);
}

fn paths_and_methods_are_told_apart(backend: Backend) {
    let router = Router::new()
        .get("/", |_| "root")
        .get("/a", |_| "get a")
        .post("/a", |_| "post a")
        .nest("/n", Router::new().get("/", |_| "nested root").get("/x", |_| "nested x"))
        .get("/files/{*rest}", |request| -> Result<String, Error> { request.param("rest") });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for (path, text) in [
        ("/", "root"),
        ("/a", "get a"),
        ("/n", "nested root"),
        ("/n/x?q", "nested x"),
        ("/files/one/two", "one/two"),
        ("http://other.example/a", "get a"),
        ("http://other.example", "root"),
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text()), (200, text), "{path}");
    }
    assert_eq!(client.get("/none").status, 404);
    let answer = client.send("DELETE /a HTTP/1.1\r\nhost: a\r\n\r\n").answer();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST, HEAD, OPTIONS")));
    let answer = client.send("OPTIONS /a HTTP/1.1\r\nhost: a\r\n\r\n").answer();
    assert_eq!((answer.status, answer.header("allow")), (204, Some("GET, POST, HEAD, OPTIONS")));
    assert_eq!(answer.header("content-length"), None, "RFC 9110 section 8.6: not with 204");
    for target in ["*", "http://a"] {
        let asked = format!("OPTIONS {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = client.send(asked).answer();
        assert_eq!(answer.status, 204);
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("DELETE")), "of all");
    }
    assert_eq!(client.send("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n").answer().status, 501);

    let router = Router::new()
        .get("/a", |_| "a")
        .fallback(|request| (StatusCode::NOT_FOUND, format!("nothing at {}", request.path())));
    let server = serve(backend, router);
    let answer = Client::connect(&server).get("/b/c");
    assert_eq!((answer.status, answer.text()), (404, "nothing at /b/c"));
}

/// A type that knows nothing of Wharf.
struct Day(u32);

impl std::str::FromStr for Day {
    type Err = ();

    fn from_str(text: &str) -> Result<Day, ()> {
        text.strip_prefix("day ").and_then(|day| day.parse().ok()).map(Day).ok_or(())
    }
}

fn parameters_are_decoded_and_typed(backend: Backend) {
    let router = Router::new()
        .get("/u/{id}/{name}", |request| -> Result<String, Error> {
            let (id, name): (u8, &str) = (request.param("id")?, request.param("name")?);
            Ok(format!("{id} {name}"))
        })
        .get("/at/{day}", |request| -> Result<String, Error> {
            let Parsed(day): Parsed<Day> = request.param("day")?;
            Ok(format!("day {}", day.0))
        })
        .get("/wrong/{a}", |request| request.param::<String>("b"))
        .get("/failed", |_| -> Result<(), Error> { Err(Error::internal("the disk is full")) });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/u/7/J%C3%B6rg%2FX").text(), "7 Jörg/X");
    let answer = client.get("/u/300/x");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("the path parameter \\\"id\\\" is not a whole number in range"));
    assert_eq!(client.get("/u/7/%FF").status, 400, "not UTF-8");
    assert_eq!(client.get("/at/day%207").text(), "day 7");
    assert_eq!(client.get("/at/7").status, 400);
    for path in ["/wrong/x", "/failed"] {
        let answer = client.get(path);
        let problem = r#"{"title":"Internal Server Error","status":500}"#;
        assert_eq!((answer.status, answer.text()), (500, problem), "{path}");
    }
}

fn bodies_of_every_framing_arrive(backend: Backend) {
    let router = Router::new().route("/inline", post(echo).inline()).post("/pooled", echo);
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in ["/inline", "/pooled"] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\n");
        for (framed, body) in [
            ("\r\n", ""),
            ("content-length: 0\r\n\r\n", ""),
            ("content-length: 5\r\n\r\nhello", "hello"),
            ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
            (
                "transfer-encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nt: v\r\n\r\n",
                "hello",
            ),
            ("transfer-encoding: chunked\r\n\r\n0\r\n\r\n", ""),
        ] {
            let answer = client.send(format!("{head}{framed}")).answer();
            assert_eq!((answer.status, answer.text()), (200, body), "{framed:?}");
        }
    }
}

fn a_body_may_come_in_pieces(backend: Backend) {
    let server = serve(backend, Router::new().post("/", echo));
    let mut client = Client::connect(&server);
    let body: Vec<u8> = (0..30_000u32).map(|i| (i % 251) as u8).collect();
    for pieces in [1, 3, 17, 500] {
        client
            .send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()));
        for piece in body.chunks(body.len() / pieces + 1) {
            client.send(piece);
        }
        assert_eq!(client.answer().body, body, "{pieces} pieces");
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        for piece in body.chunks(body.len() / pieces + 1) {
            client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
        }
        assert_eq!(client.send("0\r\n\r\n").answer().body, body, "{pieces} chunks");
    }
}

fn large_bodies_go_both_ways(backend: Backend) {
    let server = serve(
        backend,
        Router::new().route("/", post(echo).body_limit(8 << 20)).get("/after", |_| "after"),
    );
    let mut client = Client::connect(&server);
    let body: Vec<u8> = (0..5_000_001u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    // The next request follows in the same bytes, so the block must end where the body does.
    let mut bytes = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())
        .into_bytes();
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(b"GET /after HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut sender = Client::connect(&server);
    std::thread::scope(|scope| {
        let mut stream = sender.stream().try_clone().expect("a second handle");
        scope.spawn(move || std::io::Write::write_all(&mut stream, &bytes).expect("all is taken"));
        assert!(sender.answer().body == body, "5 MB came back changed");
        assert_eq!(sender.answer().text(), "after");
    });
    assert_eq!(client.get("/after").text(), "after");
}

fn continue_is_sent_only_where_the_body_is_wanted(backend: Backend) {
    let router = Router::new().route("/small", post(echo).body_limit(10));
    let server = serve(backend, router);
    let head = |path, length| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut client = Client::connect(&server);
    assert_eq!(client.send(head("/small", 5)).answer().status, 100);
    assert_eq!(client.send("hello").answer().text(), "hello");
    // Who sends the body without waiting needs no word.
    assert_eq!(client.send(format!("{}hello", head("/small", 5))).answer().status, 200);
    for (path, length, status) in [("/small", 11, 413), ("/none", 5, 404)] {
        let mut client = Client::connect(&server);
        let answer = client.send(head(path, length)).answer();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")));
        client.assert_closed();
    }
}

fn malformed_requests_are_refused_and_the_connection_closed(backend: Backend) {
    let server = serve(backend, Router::new().post("/", echo));
    for (bytes, status) in [
        ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\nhost: a\n\n", 400),
        ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\nexpect: a miracle\r\n\r\n", 417),
    ] {
        let mut client = Client::connect(&server);
        let answer = client.send(bytes).answer();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (status, Some("close")),
            "{bytes:?}"
        );
        assert!(answer.text().ends_with('\n'), "a sentence says what is wrong: {}", answer.text());
        client.assert_closed();
    }
}

fn a_request_may_come_byte_by_byte(backend: Backend) {
    let server = serve(backend, Router::new().post("/{x}", describe));
    let request = "POST /7?q HTTP/1.1\r\nHost: a\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    let whole = Client::connect(&server).send(request).answer();
    let mut client = Client::connect(&server);
    for byte in request.as_bytes() {
        client.send([*byte]);
        std::thread::yield_now();
    }
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, whole.text()));
}

fn head_is_get_without_the_body(backend: Backend) {
    let server = serve(backend, Router::new().get("/", |_| "twelve bytes"));
    let mut client = Client::connect(&server);
    let answer = client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").answer_to_head();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("12")));
    assert_eq!(client.get("/").text(), "twelve bytes", "no byte of a body was in the way");
}

fn framing_fields_of_a_handler_are_wharfs_own(backend: Backend) {
    let router = Router::new()
        .get("/lies", |_| {
            Response::text("truth")
                .header("content-length", "1000")
                .header("transfer-encoding", "chunked")
                .header("keep-alive", "timeout=5")
                .header("x-mine", "kept")
        })
        .get("/close", |_| Response::text("bye").header("connection", "close"))
        .get("/odd", |_| Response::text("").header("x-odd", "\t spaced \u{e9} "))
        .get("/date", |_| Response::text("").header("date", "Thu, 01 Jan 1970 00:00:00 GMT"));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let answer = client.get("/lies");
    assert_eq!(answer.text(), "truth");
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.header("x-mine"), Some("kept"));
    assert_eq!(client.get("/odd").header("x-odd"), Some("spaced \u{e9}"), "odd, but a value");
    let answer = client.get("/date");
    assert_eq!(answer.head.matches("GMT").count(), 1, "the handler's own date is the only one");
    assert_eq!(client.get("/close").header("connection"), Some("close"));
    client.assert_closed();
}

fn invalid_fields_split_no_answer(backend: Backend) {
    let router = Router::new()
        .route(
            "/value",
            get(|_| Response::text("x").header("x", "a\r\nset-cookie: stolen")).inline(),
        )
        .route("/name", get(|_| Response::text("x").header("x\r\ny", "a")).inline())
        .get("/location", |_| Response::new(StatusCode::SEE_OTHER).header("location", "/\r\nx: y"))
        .get("/interim", |_| StatusCode::CONTINUE);
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in ["/value", "/name", "/location", "/interim"] {
        let answer = client.get(path);
        assert_eq!(answer.status, 500, "{path}");
        assert!(!answer.head.contains("stolen") && !answer.head.contains("\r\nx:"));
    }
}

fn http_10_is_answered_and_closed(backend: Backend) {
    let server = serve(backend, Router::new().get("/", describe));
    let mut client = Client::connect(&server);
    let answer = client.send("GET / HTTP/1.0\r\n\r\n").answer();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(answer.head.starts_with("HTTP/1.1 200"), "RFC 9110 section 6.2: our own version");
    client.assert_closed();
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        let answer = client.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").answer();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
}
