//! The small examples, each as a process of its own. The guestbook has tests of its own.

use std::io::Write;
use std::net::TcpStream;

use serde_json::{Value, json};
use wharf::{Backend, Request, Response, Router, StatusCode, post};

use crate::programs::Program;
use crate::support::{Answer, Client, eventually, serve};

const LOOPBACK: &str = "127.0.0.1:0";

/// The numbers of so many events from a stream that begins with the answer's head.
fn ticks(client: &mut Client, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        // Chunks' sizes and ends are lines of their own.
        if let Some(number) = client.line_of_text().strip_prefix("id: ") {
            numbers.push(number.parse().expect("a number"));
        }
    }
    numbers
}

#[test]
fn sse_clock_ticks_and_sends_what_was_missed() {
    let clock = Program::start("sse-clock", &[LOOPBACK]);
    let mut first = clock.client();
    first.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n");
    let seen = ticks(&mut first, 2);
    assert_eq!(seen[1], seen[0] + 1);
    drop(first);
    let mut again = clock.client();
    again.send(format!("GET /events HTTP/1.1\r\nhost: a\r\nlast-event-id: {}\r\n\r\n", seen[0]));
    assert_eq!(ticks(&mut again, 3), [seen[0] + 1, seen[0] + 2, seen[0] + 3]);

    let page = clock.get("/");
    assert!(page.text().contains(&format!("<li value=\"{}\">", seen[0])), "{}", page.text());
    assert!(page.text().contains("<noscript><meta http-equiv=\"refresh\""));
    assert_eq!(clock.get("/style.css").header("content-type"), Some("text/css"));
    assert_eq!(clock.get("/clock.js").header("content-type"), Some("text/javascript"));
}

#[test]
fn hello_greets() {
    let hello = Program::start("hello", &[LOOPBACK]);
    assert_eq!(hello.get("/").text(), "Hello, world!\n");
    assert_eq!(hello.get("/hello/J%C3%BCrgen").text(), "Hello, Jürgen!\n");
    assert_eq!(hello.get("/hello/%ff").status, 400);
    assert_eq!(hello.get("/none").status, 404);
}

#[test]
fn embedded_starts_and_stops_at_will() {
    let mut program = Program::start("embedded", &[LOOPBACK]);
    let mut orders = program.process.stdin.take().expect("it is piped");
    let count = |program: &Program| program.get("/count").text().trim().parse::<u64>().unwrap();
    let before = count(&program);
    let mut idle = program.client();
    assert_eq!(idle.get("/count").status, 200);
    writeln!(orders, "stop").expect("it reads");
    idle.assert_closed();
    eventually("nobody listens", || TcpStream::connect(program.address).is_err());
    writeln!(orders, "start").expect("it reads");
    eventually("it listens again", || TcpStream::connect(program.address).is_ok());
    eventually("it has gone on counting", || count(&program) > before);
    writeln!(orders, "quit").expect("it reads");
    let mut status = None;
    eventually("it ends", || {
        status = program.process.try_wait().expect("it is a child");
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

/// Says what it was asked.
fn told(request: &Request) -> Response {
    let via = request.header("via").unwrap_or("-");
    let client = request.header("x-forwarded-for").unwrap_or("-");
    let hop = request.header("x-hop").unwrap_or("-");
    let target = format!("{}?{}", request.path(), request.query_string());
    Response::text(format!("{} {target} {via} {client} {hop}", request.method()))
        .header("keep-alive", "timeout=5")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
}

/// Sends back as much as it has got, while it gets it.
fn echo(request: &Request) -> Response {
    Response::new(StatusCode::OK).body_reader(request.reader())
}

#[test]
fn proxy_passes_on_what_is_not_of_one_hop() {
    let router = Router::new()
        .get("/told", told)
        .get("/gone", |_| StatusCode::GONE)
        .get("/moved", |_| wharf::Redirect::see_other("/told"))
        .get("/same", |_| StatusCode::NOT_MODIFIED)
        .route("/echo", post(echo).streaming().body_limit(1 << 30))
        .get("/long", |_| {
            Response::new(StatusCode::OK).body_reader(&b"12345"[..]).content_length(5)
        });
    let upstream = serve(Backend::Auto, router);
    let address = format!("http://{}/", upstream.local_address());
    let proxy = Program::start("proxy", &[LOOPBACK, &address]);
    let mut client = proxy.client();
    client.send(
        "GET /told?a=1%202 HTTP/1.1\r\nhost: a\r\nx-hop: mine\r\nconnection: x-hop\r\n\
         x-forwarded-for: 192.0.2.1\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.text(), "GET /told?a=1%202 1.1 wharf 192.0.2.1, 127.0.0.1 -");
    assert_eq!(answer.header("keep-alive"), None);
    assert_eq!(answer.head.matches("set-cookie").count(), 2, "{}", answer.head);
    for (path, status) in [("/gone", 410), ("/moved", 303), ("/same", 304), ("/none", 404)] {
        assert_eq!(client.get(path).status, status, "{path}");
    }
    assert_eq!(client.get("/long").header("content-length"), Some("5"));
    client.send("HEAD /long HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.answer_to_head();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("5")));

    let body: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let head = "POST /echo HTTP/1.1\r\nhost: a\r\n";
    client.send(format!("{head}content-length: {}\r\n\r\n", body.len())).send(&body);
    assert!(client.answer().body == body, "a body of a known length comes back");
    assert_eq!(client.line(), "");
    client.send(format!("{head}transfer-encoding: chunked\r\n\r\n"));
    client.send("5\r\nhello\r\n").send("0\r\n\r\n");
    assert_eq!(client.answer().text(), "hello");
    assert_eq!(client.line(), "");

    drop(upstream);
    let mut client = proxy.client();
    client.send("GET /told HTTP/1.1\r\nhost: a\r\naccept: application/json\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
}

/// Sends a JSON body, if there is one.
fn ask(client: &mut Client, method: &str, path: &str, body: Option<Value>) -> (Answer, Value) {
    let body = body.map_or(String::new(), |body| body.to_string());
    let answer = client
        .send(format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\naccept: application/json\r\n\
             content-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .answer();
    let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    (answer, value)
}

#[test]
fn json_api_keeps_tasks() {
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let file = folder.path().join("tasks.db");
    let file = file.to_str().expect("the test's own name");
    let api = Program::start("json-api", &[LOOPBACK, file]);
    let mut client = api.client();
    for number in 1..=5 {
        let title = json!({"title": format!(" task {number} ")});
        let (answer, task) = ask(&mut client, "POST", "/tasks", Some(title));
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("location"), Some(&*format!("/tasks/{number}")));
        let made = json!({"id": number, "title": format!("task {number}"), "done": false});
        assert_eq!(task, made);
    }
    let (_, task) = ask(&mut client, "PATCH", "/tasks/3", Some(json!({"done": true})));
    assert_eq!(task, json!({"id": 3, "title": "task 3", "done": true}));
    assert_eq!(ask(&mut client, "GET", "/tasks/3", None).1, task);
    assert_eq!(ask(&mut client, "DELETE", "/tasks/2", None).0.status, 204);

    let (mut next, mut seen) = (Some("/tasks?done=false&limit=2".to_owned()), Vec::new());
    while let Some(path) = next {
        let (answer, list) = ask(&mut client, "GET", &path, None);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let ids = list["tasks"].as_array().expect("a list").iter().map(|task| task["id"].as_i64());
        seen.push(ids.collect::<Vec<_>>());
        next = list["next"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, [vec![Some(1), Some(4)], vec![Some(5)]]);

    let title = |title: &str| Some(json!({ "title": title }));
    for (method, path, body, status) in [
        ("GET", "/tasks/2", None, 404),
        ("DELETE", "/tasks/2", None, 404),
        ("PATCH", "/tasks/2", title("x"), 404),
        ("GET", "/tasks/x", None, 400),
        ("GET", "/tasks?limit=0", None, 422),
        ("GET", "/tasks?limit=101", None, 422),
        ("POST", "/tasks", title("  "), 422),
        ("POST", "/tasks", title(&"x".repeat(201)), 422),
        ("POST", "/tasks", title(&"x".repeat(20_000)), 413),
        ("POST", "/tasks", Some(json!({"name": "x"})), 422),
        ("POST", "/tasks", None, 400),
    ] {
        // A body that is too long ends its connection.
        let (answer, problem) = ask(&mut api.client(), method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert_eq!(problem["status"], status);
    }
    drop(api);
    let api = Program::start("json-api", &[LOOPBACK, file]);
    assert_eq!(ask(&mut api.client(), "GET", "/tasks/3", None).1, task, "it is kept");
}

#[test]
fn upload_stores_files_and_tells_of_progress() {
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let path = folder.path().to_str().expect("the test's own name");
    let upload = Program::start("upload", &[LOOPBACK, path]);
    let page = upload.get("/");
    let form = page.text().split_once("action=\"").expect("a form").1;
    let action = form.split('"').next().expect("it ends");
    let mut frame = upload.client();
    let progress = action.replace("upload", "progress");
    frame.send(format!("GET {progress} HTTP/1.1\r\nhost: a\r\n\r\n"));
    while !frame.line_of_text().contains("<body class=\"frame\">") {}

    let start = "--x\r\ncontent-disposition: form-data; name=\"files\"; \
                 filename=\"../<b>.txt\"\r\n\r\n";
    let (first, second, end) = ("a".repeat(50_000), "b".repeat(50_000), "\r\n--x--\r\n");
    let length = start.len() + 100_000 + end.len();
    let mut client = upload.client();
    client.send(format!(
        "POST {action} HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=x\r\n\
         content-length: {length}\r\n\r\n{start}{first}"
    ));
    // It tells of the first half before the second one is sent.
    let mut line = String::new();
    while !line.contains("<progress max=\"100\"") {
        line = frame.line_of_text();
    }
    assert!(!line.contains("Over"), "{line}");
    let answer = client.send(second).send(end).answer();
    assert!(answer.text().contains("Stored 1 file."), "{}", answer.text());
    while !frame.line_of_text().contains("Over") {}

    let page = upload.get("/");
    assert!(page.text().contains(">&lt;b&gt;.txt</a> <span>100.0 kB</span>"), "{}", page.text());
    let file = upload.get("/files/0");
    assert_eq!(file.body.len(), 100_000);
    assert!(file.header("content-disposition").is_some_and(|it| it.starts_with("attachment")));
    assert_eq!(upload.get("/files/1").status, 404);
    assert_eq!(folder.path().read_dir().expect("it is there").count(), 1);

    // Half an upload leaves nothing behind.
    let mut client = upload.client();
    client.send(format!(
        "POST {action} HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=x\r\n\
         content-length: {length}\r\n\r\n{start}{first}"
    ));
    let files = || folder.path().read_dir().expect("it is there").count();
    // The first one's name is taken, as its form was sent again.
    client.finish_sending();
    assert!(client.answer().status >= 400);
    eventually("nothing is left of it", || files() == 1);
}

#[test]
fn static_site_sends_its_files() {
    let site = Program::start("static-site", &[LOOPBACK]);
    let page = site.get("/");
    assert!(page.text().contains("A site made of files"));
    assert_eq!(page.header("content-security-policy"), Some("default-src 'self'"));
    let style = site.get("/style.css");
    assert_eq!(style.header("content-type"), Some("text/css; charset=utf-8"));
    let tag = style.header("etag").expect("a file has one").to_owned();
    let mut client = site.client();
    client.send(format!("GET /style.css HTTP/1.1\r\nhost: a\r\nif-none-match: {tag}\r\n\r\n"));
    assert_eq!(client.answer().status, 304);
    let lost = site.get("/lost.html");
    assert_eq!(lost.status, 404);
    assert!(lost.text().contains("There is nothing here"), "{}", lost.text());
    for path in ["/../main.rs", "/%2e%2e/main.rs", "/..%2fmain.rs"] {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
}
