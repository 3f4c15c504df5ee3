//! Hooks around handlers, wherever these run.

use std::sync::{Arc, Mutex};
use std::thread;

use wharf::hooks::{Hook, Refused};
use wharf::{Backend, Limits, Request, Response, Router, StatusCode, get, post};

use crate::support::{Client, on_every_backend, serve, serve_with};

on_every_backend!(
    the_order_is_the_onions,
    they_run_where_the_handler_runs,
    a_panic_in_a_hook_costs_one_answer,
    errors_of_all_kinds_reach_the_hook,
    refused_heads_reach_the_hook,
    hosts_have_their_own_routes,
);

/// Notes that it was passed, on the way in and out.
struct Trace(&'static str, Arc<Mutex<Vec<String>>>);

impl Trace {
    fn note(&self, what: &str) {
        self.1.lock().unwrap().push(format!("{}.{what}", self.0));
    }
}

impl Hook for Trace {
    fn before(&self, request: &mut Request) -> Option<Response> {
        self.note("before");
        let stops = request.header("x-stop-at") == Some(self.0);
        stops.then(|| Response::text("stopped"))
    }

    fn after(&self, _: &Request, response: Response) -> Response {
        self.note("after");
        response
    }

    fn refused(&self, refused: &Refused<'_>, response: Response) -> Response {
        assert!(refused.peer().ip().is_loopback());
        self.note("refused");
        response
    }
}

fn the_order_is_the_onions(backend: Backend) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let trace = |name| Trace(name, log.clone());
    let inner = Router::new()
        .hook(trace("inner1"))
        .route("/pooled", get(|_| "answer").hook(trace("route")))
        .route("/inline", get(|_| "answer").inline().hook(trace("route")))
        .route("/streaming", get(|_| "answer").streaming().hook(trace("route")))
        .hook(trace("inner2"));
    let router = Router::new()
        .nest("/in", inner)
        .route("/short", post(|_| "").body_limit(1))
        .hook(trace("outer"));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let mut passed = |request: &str| {
        log.lock().unwrap().clear();
        let answer = client.send(request).answer();
        (answer.status, log.lock().unwrap().join(" "))
    };
    let all = "outer.before inner1.before inner2.before route.before \
               route.after inner2.after inner1.after outer.after";
    for path in ["/in/pooled", "/in/inline", "/in/streaming"] {
        let whole = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(passed(&whole), (200, all.to_owned()), "{path}");
        let stopped = format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-stop-at: inner2\r\n\r\n");
        let half = "outer.before inner1.before inner2.before inner1.after outer.after";
        assert_eq!(passed(&stopped), (200, half.to_owned()), "{path}");
        let method = format!("DELETE {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(passed(&method), (405, all.to_owned()), "{path}");
    }
    let around = |status| (status, "outer.before outer.after".to_owned());
    assert_eq!(passed("GET /in/none HTTP/1.1\r\nhost: a\r\n\r\n"), around(404));
    assert_eq!(passed("OPTIONS /short HTTP/1.1\r\nhost: a\r\n\r\n"), around(204));
    let refused = |status| (status, "outer.refused".to_owned());
    assert_eq!(passed("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"), refused(204));
    let long = "POST /short HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n";
    assert_eq!(passed(long), refused(413));
}

fn they_run_where_the_handler_runs(backend: Backend) {
    fn here() -> String {
        thread::current().name().unwrap_or("nameless").to_owned()
    }
    let router = Router::new()
        .route("/inline", get(|_| here()).inline())
        .route("/pooled", get(|_| here()).pooled())
        .before(|request: &mut Request| {
            request.extensions_mut().insert(here());
        })
        .after(|request, response| {
            let before = request.extensions().get::<String>().expect("the hook attached it");
            response.header("x-before", before.as_str()).header("x-after", here())
        });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for (path, thread) in [("/inline", "wharf-shard-"), ("/pooled", "wharf-worker-")] {
        let answer = client.get(path);
        assert!(answer.text().starts_with(thread), "{path}: {answer:?}");
        assert_eq!(answer.header("x-before"), Some(answer.text()), "{path}");
        assert_eq!(answer.header("x-after"), Some(answer.text()), "{path}");
    }
}

fn a_panic_in_a_hook_costs_one_answer(backend: Backend) {
    let panics = |at: &'static str| {
        move |request: &Request| {
            assert_ne!(request.query_string(), at, "as asked");
        }
    };
    let (before, after) = (panics("before"), panics("after"));
    let inner = Router::new()
        .route("/inline", get(panics("handler")).inline())
        .route("/pooled", get(panics("handler")))
        .before(move |request: &mut Request| before(request))
        .after(move |request, response| {
            after(request);
            response
        });
    let router =
        Router::new().nest("/in", inner).after(|_, response| response.header("x-outer", "passed"));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in ["/in/inline", "/in/pooled"] {
        for at in ["before", "after", "handler"] {
            let answer = client.get(&format!("{path}?{at}"));
            assert_eq!(answer.status, 500, "{path} {at}");
            assert_eq!(answer.header("x-outer"), Some("passed"), "{path} {at}");
            assert_eq!(client.get(path).status, 204, "the connection goes on");
        }
    }
    assert_eq!(server.statistics().panics, 6);
}

fn errors_of_all_kinds_reach_the_hook(backend: Backend) {
    let router = Router::new()
        .get("/", |_| "fine")
        .get("/panic", |_| -> String { panic!("as asked") })
        .route("/inline", get(|_| StatusCode::IM_A_TEAPOT).inline())
        .post("/", |_| "read")
        .body_limit(4)
        .on_error(|request, response| {
            let path = request.map_or("-", Request::path).to_owned();
            Response::text(format!("{} {path}", response.status().as_u16()))
                .with_status(response.status())
        });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/").text(), "fine");
    for (path, text) in
        [("/panic", "500 /panic"), ("/inline", "418 /inline"), ("/none", "404 /none")]
    {
        assert_eq!(client.get(path).text(), text);
    }
    client.send("PUT / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "405 /");
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n1234");
    assert_eq!(client.answer().text(), "read", "as long as may be");
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n12345");
    assert_eq!(client.answer().text(), "413 /");
}

fn refused_heads_reach_the_hook(backend: Backend) {
    let router = Router::new().get("/", |_| "fine").on_error(|request, response| {
        let status = response.status().as_u16();
        let text = format!("{status} {}", if request.is_none() { "unknown" } else { "known" });
        Response::text(text).with_status(response.status())
    });
    let limits = Limits { head_bytes: 512, ..Limits::default() };
    let server = serve_with(backend, limits, router);
    let bad = "GET / HTTP/1.1\r\nhost: a\r\nbad header: x\r\n\r\n";
    let answer = Client::connect(&server).send(bad).answer();
    assert_eq!((answer.status, answer.text()), (400, "400 unknown"));
    // The head of the request before it was another one.
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/").text(), "fine");
    let (first, last) = bad.split_at(20);
    client.send(first);
    thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(client.send(last).answer().text(), "400 unknown");
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(600));
    let answer = Client::connect(&server).send(long).answer();
    assert!(answer.text().ends_with("unknown"), "{answer:?}");
}

fn hosts_have_their_own_routes(backend: Backend) {
    let api = Router::new()
        .get("/", |_| "the API")
        .route("/users/{id}", get(|request: &Request| request.path().to_owned()).inline())
        .after(|_, response| response.header("x-api", "1"));
    let router = Router::new()
        .get("/", |_| "the site")
        .get("/site", |_| "more of the site")
        .host("api.example.com", api)
        .nest("/blog", Router::new().host("*.example.com", Router::new().get("/", |_| "a blog")))
        .after(|_, response| response.header("x-site", "1"));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let mut get = |host: &str, path: &str| {
        let answer = client.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).answer();
        assert_eq!(answer.header("x-site"), Some("1"), "{host}{path}");
        let is_api = answer.header("x-api").is_some();
        (answer.status, String::from_utf8(answer.body).unwrap(), is_api)
    };
    assert_eq!(get("localhost", "/"), (200, "the site".to_owned(), false));
    assert_eq!(get("api.example.com:8080", "/"), (200, "the API".to_owned(), true));
    assert_eq!(get("API.example.com", "/users/7"), (200, "/users/7".to_owned(), true));
    assert_eq!(get("api.example.com", "/site").0, 404);
    assert!(get("api.example.com", "/site").2, "a host's hooks see its 404");
    assert_eq!(get("me.example.com", "/blog"), (200, "a blog".to_owned(), false));
    assert_eq!(get("me.example.com", "/").0, 404);
    assert_eq!(get("example.com", "/site"), (200, "more of the site".to_owned(), false));
}
