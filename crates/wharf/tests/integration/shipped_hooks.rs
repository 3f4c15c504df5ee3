//! The hooks that Wharf brings, as clients meet them.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use wharf::hooks::{AccessLog, Cors, RequestId, RequestIds, SecurityHeaders};
use wharf::{Backend, Method, Response, Router, Server, get};

use crate::support::{Answer, Client, on_every_backend, serve};

on_every_backend!(
    security_headers_are_everywhere,
    request_ids_are_believed_only_if_trusted,
    preflights_are_answered_by_the_standard,
    answers_are_shared_by_the_standard,
    every_request_is_logged_once,
    a_hook_that_is_set_up_wrongly_keeps_the_server_from_starting,
);

fn ask(client: &mut Client, line: &str, fields: &[&str]) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client.send(format!("{line} HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).answer()
}

fn security_headers_are_everywhere(backend: Backend) {
    let headers = SecurityHeaders::new()
        .with("Content-Security-Policy", "default-src 'none'")
        .without("X-Frame-Options");
    let router = Router::new()
        .get("/", |_| Response::text("own").header("referrer-policy", "no-referrer"))
        .hook(headers);
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for line in ["GET /", "GET /none", "DELETE /", "OPTIONS *"] {
        let answer = ask(&mut client, line, &[]);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{line}");
        assert_eq!(answer.header("content-security-policy"), Some("default-src 'none'"), "{line}");
        assert_eq!(answer.header("x-frame-options"), None, "{line}");
    }
    let answer = ask(&mut client, "GET /", &[]);
    assert_eq!(answer.head.matches("referrer-policy").count(), 1);
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "the handler's own stays");
    let refused = Client::connect(&server).send("bad\r\n\r\n").answer();
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("x-content-type-options"), Some("nosniff"));
}

fn request_ids_are_believed_only_if_trusted(backend: Backend) {
    let routes = || {
        Router::new().get("/", |request| {
            request.extensions().get::<RequestId>().expect("the hook attached it").to_string()
        })
    };
    let router = Router::new()
        .nest("/trusting", routes().hook(RequestIds::new().trust(|peer| peer.ip().is_loopback())))
        .nest("/other", routes().hook(RequestIds::new().trust(|peer| !peer.ip().is_loopback())));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let mut id = |path: &str, sent: &str| {
        let answer = ask(&mut client, &format!("GET {path}"), &[&format!("x-request-id: {sent}")]);
        assert_eq!(answer.header("x-request-id"), Some(answer.text()), "{path}");
        answer.text().to_owned()
    };
    assert_eq!(id("/trusting", "abc-123"), "abc-123");
    assert_eq!(id("/trusting", "a\"b").len(), 32, "it could do harm in a log");
    let made = id("/other", "abc-123");
    assert_eq!(made.len(), 32);
    assert_ne!(made, id("/other", "abc-123"));
}

const ORIGIN: &str = "origin: https://app.example";

fn preflights_are_answered_by_the_standard(backend: Backend) {
    let open = Cors::any_origin().any_request_header();
    let strict = Cors::origins(["https://app.example"])
        .methods([Method::PUT, Method::DELETE])
        .request_headers(["content-type", "x-token"])
        .credentials()
        .max_age(std::time::Duration::from_secs(600));
    let handlers = || {
        Router::new().put("/", |_| "put").before(|_: &mut wharf::Request| {
            Some(
                Response::text("only for those who signed in")
                    .with_status(wharf::StatusCode::UNAUTHORIZED),
            )
        })
    };
    let open_routes = handlers().route("/inline", get(|_| "").inline());
    let router = Router::new()
        .nest("/open", Router::new().nest("/", open_routes).hook(open))
        .nest("/strict", Router::new().nest("/", handlers()).hook(strict));
    // A hook of the outer router lies outside of those of the inner one.
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let mut preflight =
        |path: &str, fields: &[&str]| ask(&mut client, &format!("OPTIONS {path}"), fields);
    let put = "access-control-request-method: PUT";
    let answer = preflight("/strict", &[ORIGIN, put, "access-control-request-headers: x-token"]);
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("PUT, DELETE"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type, x-token"));
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    let varies = "origin, access-control-request-method, access-control-request-headers";
    assert_eq!(answer.header("vary"), Some(varies));
    for origin in ["https://app.example.evil", "http://app.example", "null", "https://APP.example"]
    {
        let answer = preflight("/strict", &[&format!("origin: {origin}"), put]);
        assert_eq!(answer.status, 204);
        assert!(!answer.head.contains("access-control-allow"), "{origin}: {}", answer.head);
        assert_eq!(answer.header("vary"), Some(varies), "{origin}");
    }
    assert_eq!(preflight("/strict", &[ORIGIN]).status, 401, "OPTIONS alone is no preflight");
    assert_eq!(preflight("/strict", &[put]).status, 401, "one without an origin neither");
    let wanted = "access-control-request-headers: authorization,x-any";
    let answer = preflight("/open/inline", &[ORIGIN, put, wanted]);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,x-any"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert_eq!(answer.header("access-control-max-age"), None);
}

fn answers_are_shared_by_the_standard(backend: Backend) {
    let routes = || {
        Router::new()
            .get("/", |_| Response::text("x").header("vary", "Accept"))
            .post("/", |_| "read")
            .body_limit(1)
    };
    let strict = Cors::origins(["https://app.example"]).expose_headers(["x-total"]).credentials();
    let router = Router::new()
        .nest("/strict", routes().hook(strict))
        .nest("/open", routes().hook(Cors::any_origin()))
        .nest("/by", routes().hook(Cors::origins_if(|origin| origin.ends_with(".app.example"))));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(str::to_owned);
    let answer = ask(&mut client, "GET /strict", &[ORIGIN]);
    assert_eq!(allowed(&answer).as_deref(), Some("https://app.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("x-total"));
    assert!(answer.head.contains("vary: Accept\r\n") && answer.head.contains("vary: origin\r\n"));
    for fields in [&["origin: https://other.example"][..], &[]] {
        let answer = ask(&mut client, "GET /strict", fields);
        assert_eq!(answer.status, 200, "CORS does not refuse");
        assert!(!answer.head.contains("access-control-"), "{}", answer.head);
        assert!(answer.head.contains("vary: origin\r\n"), "caches must know also then");
    }
    let answer = ask(&mut client, "GET /open", &[ORIGIN]);
    assert_eq!(allowed(&answer).as_deref(), Some("*"));
    assert!(!answer.head.contains("vary: origin"), "it is the same for all");
    let answer = ask(&mut client, "GET /by", &["origin: https://x.app.example"]);
    assert_eq!(allowed(&answer).as_deref(), Some("https://x.app.example"));
    assert_eq!(
        allowed(&ask(&mut client, "DELETE /strict", &[ORIGIN])).as_deref(),
        Some("https://app.example")
    );
    let long = ask(&mut client, "POST /strict", &[ORIGIN, "content-length: 2"]);
    assert_eq!(long.status, 413);
    assert_eq!(allowed(&long).as_deref(), Some("https://app.example"), "scripts may see why");
}

/// What was written, for the test to look at.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).expect("text")
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn every_request_is_logged_once(backend: Backend) {
    let (combined, json) = (Paper::default(), Paper::default());
    let router = Router::new()
        .get("/", |_| "hello")
        .route("/inline", get(|_| "hello").inline())
        .hook(RequestIds::new())
        .hook(AccessLog::combined(combined.clone()))
        .hook(AccessLog::json(json.clone()));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for (line, status, agent, written) in [
        ("GET /?q=%22", 200, "plain", "plain"),
        ("GET /inline", 200, "tab\tbed", "tab\\x09bed"),
        ("GET /none", 404, "\"x\\", "\\\"x\\\\"),
        ("DELETE /", 405, "plain", "plain"),
        ("OPTIONS *", 204, "plain", "plain"),
    ] {
        let fields = [&format!("user-agent: {agent}"), "referer: http://b/"];
        let answer = ask(&mut client, line, &fields);
        assert_eq!(answer.status, status, "{line}");
        let bytes = if status == 204 { "-".to_owned() } else { answer.body.len().to_string() };
        let end =
            format!(" +0000] \"{line} HTTP/1.1\" {status} {bytes} \"http://b/\" \"{written}\"\n");
        let text = combined.take();
        assert!(text.starts_with("127.0.0.1 - - [") && text.ends_with(&end), "{text}{end}");
        assert_eq!(text.lines().count(), 1);
        let object: serde_json::Value = serde_json::from_str(&json.take()).expect("one object");
        let (method, target) = line.split_once(' ').unwrap();
        assert_eq!((&object["method"], &object["target"]), (&method.into(), &target.into()));
        assert_eq!((&object["status"], &object["user_agent"]), (&status.into(), &agent.into()));
        if line != "OPTIONS *" {
            assert_eq!(object["request_id"].as_str(), answer.header("x-request-id"));
            assert!(object["microseconds"].is_u64());
        }
    }
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").answer_to_head();
    assert!(combined.take().contains("\"HEAD / HTTP/1.1\" 200 - "), "no body is sent");
    assert_eq!(Client::connect(&server).send("bad\r\n\r\n").answer().status, 400);
    assert!(combined.take().contains("] \"-\" 400 "));
}

fn a_hook_that_is_set_up_wrongly_keeps_the_server_from_starting(backend: Backend) {
    let start = |router: Router| {
        let server = Server::bind("127.0.0.1:0").expect("loopback is there");
        server.backend(backend).shards(1).start(router).err().map(|error| error.to_string())
    };
    let cors = Cors::any_origin().credentials();
    let message = start(Router::new().route("/", get(|_| "").hook(cors))).expect("refused");
    assert!(message.contains("name the origins"), "{message}");
    let headers = SecurityHeaders::new().with("a b", "c");
    let message = start(Router::new().hook(headers)).expect("refused");
    assert!(message.contains("a b"), "{message}");
}

mod auth {
    use super::*;
    use wharf::hooks::{RequireBasicAuth, RequireBearer, User};

    on_every_backend!(only_known_users_pass, a_realm_that_cannot_be_is_refused);

    fn only_known_users_pass(backend: Backend) {
        let paper = Paper::default();
        let routes = || {
            let who = |request: &wharf::Request| {
                request.extensions().get::<User>().map(|user| user.name().to_owned())
            };
            Router::new().get("/pooled", who).route("/inline", get(who).inline())
        };
        let tokens = [("aaa", "first"), ("bbb", "second")];
        let router = Router::new()
            .nest("/basic", routes().hook(RequireBasicAuth::users("r", [("me", "a:b"), ("x", "")])))
            .nest("/bearer", routes().hook(RequireBearer::tokens("r", tokens)))
            .hook(AccessLog::common(paper.clone()));
        let server = serve(backend, router);
        let mut client = Client::connect(&server);
        let mut get = |path: &str, credentials: &str| {
            let field = format!("authorization: {credentials}");
            let answer = ask(&mut client, &format!("GET {path}"), &[&field]);
            let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
            (answer.status, challenge, String::from_utf8(answer.body).unwrap())
        };
        let passes = |name: &str| (200, String::new(), name.to_owned());
        for place in ["pooled", "inline"] {
            let path = format!("/basic/{place}");
            paper.take();
            // me:a:b and x:
            assert_eq!(get(&path, "Basic bWU6YTpi"), passes("me"));
            assert!(paper.take().starts_with("127.0.0.1 - me ["));
            assert_eq!(get(&path, "basic eDo="), passes("x"));
            // me:a:c, me:, x:a:b, nothing, no base64, another scheme
            for wrong in
                ["Basic bWU6YTpj", "Basic bWU6", "Basic eDphOmI=", "Basic", "Basic %", "Bearer aaa"]
            {
                let (status, challenge, _) = get(&path, wrong);
                assert_eq!(status, 401, "{wrong}");
                assert_eq!(challenge, "Basic realm=\"r\", charset=\"UTF-8\"", "{wrong}");
            }
            let path = format!("/bearer/{place}");
            assert_eq!(get(&path, "Bearer aaa"), passes("first"));
            assert_eq!(get(&path, "Bearer bbb"), passes("second"));
            let (status, challenge, _) = get(&path, "Bearer ccc");
            assert_eq!((status, &*challenge), (401, "Bearer realm=\"r\", error=\"invalid_token\""));
            let (status, challenge, _) = get(&path, "Basic bWU6YTpi");
            assert_eq!((status, &*challenge), (401, "Bearer realm=\"r\""));
        }
    }

    fn a_realm_that_cannot_be_is_refused(backend: Backend) {
        let router = Router::new().hook(RequireBearer::check("a\"b", |_| None));
        let server = Server::bind("127.0.0.1:0").expect("loopback is there").backend(backend);
        assert!(server.shards(1).start(router).is_err_and(|error| error.is_configuration()));
    }
}
