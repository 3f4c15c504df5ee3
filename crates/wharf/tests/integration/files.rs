//! Files, parts of them, and folders of them.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use wharf::{
    Backend, CloseReason, Error, Files, Limits, Request, Response, Router, Validators, put,
};

use crate::support::{Answer, Client, eventually, on_every_backend, serve, serve_with};

on_every_backend! {
    a_large_file_comes_as_it_is,
    a_range_is_that_of_the_file,
    several_ranges_come_as_one_multipart,
    conditions_come_before_ranges,
    a_fresh_file_has_a_weak_tag,
    head_and_keep_alive,
    answers_in_memory_are_conditional_too,
    changes_are_made_on_conditions,
    hooks_may_answer_files_and_set_tags,
    what_cannot_be_opened_has_its_status,
    a_file_that_becomes_shorter_cuts_the_connection,
    a_client_that_stops_reading_holds_up_nobody,
    a_folder_is_served,
    nothing_outside_a_folder_is_served,
    folders_have_slashes,
    folders_are_listed,
    compressed_siblings_are_sent,
    an_application_of_one_page,
    a_file_of_a_folder_by_name,
    an_open_file_is_answered_with,
}

/// A folder that is gone with the test, and what every byte of its large file is.
struct Tree(tempfile::TempDir);

const LARGE: usize = 5_000_003;

fn large() -> Vec<u8> {
    (0..LARGE as u32).map(|at| (at ^ (at >> 7) ^ (at >> 15)) as u8).collect()
}

impl Tree {
    fn new() -> Tree {
        Tree(tempfile::tempdir().expect("there is room"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file that was last changed long ago as far as programs say.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("there is room");
        fs::write(&path, content).expect("there is room");
        File::options().write(true).open(&path).unwrap().set_modified(long_ago()).unwrap();
        path
    }
}

/// Sun, 06 Nov 1994 08:49:37 GMT.
fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
}
const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn file_route(path: PathBuf) -> Router {
    // The tag of a fresh file is weak and changes; one of our own stands in its place.
    Router::new().get("/file", move |_| Response::file(&path).etag("v1")).get("/after", |_| "after")
}

fn ask(client: &mut Client, path: &str, fields: &str) -> Answer {
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).answer()
}

fn a_large_file_comes_as_it_is(backend: Backend) {
    let tree = Tree::new();
    let server = serve(backend, file_route(tree.write("a.bin", large())));
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        // Two requests at once: the second answer follows the file.
        let pipelined =
            "GET /file HTTP/1.1\r\nhost: a\r\n\r\nGET /after HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = client.send(pipelined).answer();
        assert_eq!(answer.status, 200);
        assert!(answer.body == large(), "the file came changed");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(answer.header("last-modified"), Some(LONG_AGO));
        assert_eq!(answer.header("etag"), Some("\"v1\""));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(client.answer().text(), "after");
    }
}

fn a_range_is_that_of_the_file(backend: Backend) {
    let tree = Tree::new();
    let server = serve(backend, file_route(tree.write("a.bin", large())));
    let mut client = Client::connect(&server);
    let end = LARGE - 1;
    for (range, expected) in [
        ("0-0", 0..1),
        ("0-", 0..LARGE),
        ("1000-2000999", 1_000..2_001_000),
        ("-1", end..LARGE),
        ("4000000-", 4_000_000..LARGE),
        ("5000000-99999999", 5_000_000..LARGE),
        ("0-99,50-199", 0..200),
    ] {
        let answer = ask(&mut client, "/file", &format!("range: bytes={range}\r\n"));
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.body == large()[expected.clone()], "{range} came changed");
        let place = format!("bytes {}-{}/{LARGE}", expected.start, expected.end - 1);
        assert_eq!(answer.header("content-range"), Some(&*place));
        assert_eq!(answer.header("etag"), Some("\"v1\""));
    }
    for range in ["bytes=9-1", "lines=0-1", "bytes=0-1\r\nrange: bytes=0-1"] {
        let answer = ask(&mut client, "/file", &format!("range: {range}\r\n"));
        assert_eq!((answer.status, answer.body.len()), (200, LARGE), "{range}");
        assert_eq!(answer.header("content-range"), None);
    }
    let answer = ask(&mut client, "/file", "range: bytes=5000003-\r\n");
    assert_eq!(answer.status, 416);
    assert_eq!(answer.header("content-range"), Some("bytes */5000003"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
}

/// The parts of a multipart answer: head and content.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    let kind = answer.header("content-type").expect("it has a type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("it has a boundary");
    let delimiter = format!("--{boundary}");
    let body = &answer.body;
    let at = |from: usize, what: &[u8]| {
        let found = body[from..].windows(what.len()).position(|bytes| bytes == what);
        from + found.unwrap_or_else(|| panic!("{what:?} is missing"))
    };
    let mut parts = Vec::new();
    assert!(body.starts_with(delimiter.as_bytes()));
    let mut start = delimiter.len();
    while body[start..] != *b"--\r\n" {
        let head_end = at(start, b"\r\n\r\n");
        let end = at(head_end + 4, format!("\r\n{delimiter}").as_bytes());
        let head = String::from_utf8(body[start + 2..head_end].to_vec()).expect("ASCII");
        parts.push((head, body[head_end + 4..end].to_vec()));
        start = end + 2 + delimiter.len();
    }
    parts
}

fn several_ranges_come_as_one_multipart(backend: Backend) {
    let tree = Tree::new();
    let path = tree.write("a.bin", large());
    let router = file_route(path.clone())
        .get("/typed", move |_| Response::file(&path).header("content-type", "video/mp4"));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let asked = "range: bytes=4000000-4899999, 0-9, -3\r\n";
    let answer = ask(&mut client, "/file", asked);
    assert_eq!((answer.status, answer.header("content-range")), (206, None));
    let expected = [(4_000_000, 4_900_000), (0, 10), (LARGE - 3, LARGE)];
    let found = parts(&answer);
    assert_eq!(found.len(), expected.len());
    for ((head, content), (start, end)) in found.iter().zip(expected) {
        let place = format!("content-range: bytes {start}-{}/{LARGE}", end - 1);
        assert_eq!(*head, format!("content-type: application/octet-stream\r\n{place}"));
        assert!(content == &large()[start..end], "{place} came changed");
    }
    let answer = ask(&mut client, "/typed", asked);
    assert!(parts(&answer)[1].0.starts_with("content-type: video/mp4\r\n"));
    assert_eq!(client.get("/after").text(), "after", "the connection goes on");
}

fn conditions_come_before_ranges(backend: Backend) {
    let tree = Tree::new();
    let server = serve(backend, file_route(tree.write("a.txt", "0123456789")));
    let mut client = Client::connect(&server);
    let range = "range: bytes=0-3\r\n";
    for (fields, status) in [
        (String::new(), 200),
        ("if-none-match: \"v1\"\r\n".to_owned(), 304),
        ("if-none-match: W/\"v1\", \"v0\"\r\n".to_owned(), 304),
        ("if-none-match: *\r\n".to_owned(), 304),
        ("if-none-match: \"v0\"\r\n".to_owned(), 200),
        (format!("if-none-match: \"v0\"\r\nif-modified-since: {LONG_AGO}\r\n"), 200),
        (format!("if-modified-since: {LONG_AGO}\r\n"), 304),
        ("if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT\r\n".to_owned(), 200),
        ("if-modified-since: yesterday\r\n".to_owned(), 200),
        ("if-match: \"v1\"\r\n".to_owned(), 200),
        ("if-match: \"v0\"\r\n".to_owned(), 412),
        (format!("if-unmodified-since: {LONG_AGO}\r\n"), 200),
        ("if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT\r\n".to_owned(), 412),
        (range.to_owned(), 206),
        (format!("{range}if-range: \"v1\"\r\n"), 206),
        (format!("{range}if-range: \"v0\"\r\n"), 200),
        (format!("{range}if-range: {LONG_AGO}\r\n"), 206),
        (format!("{range}if-none-match: \"v1\"\r\n"), 304),
        (format!("{range}if-match: \"v0\"\r\n"), 412),
    ] {
        let answer = ask(&mut client, "/file", &fields);
        assert_eq!(answer.status, status, "{fields}");
        let has_tag = answer.header("etag") == Some("\"v1\"");
        match status {
            200 => assert_eq!(answer.text(), "0123456789", "{fields}"),
            206 => assert_eq!(answer.text(), "0123", "{fields}"),
            304 => {
                assert!(has_tag, "RFC 9110 section 15.4.5");
                for name in ["content-type", "content-length", "content-range", "last-modified"] {
                    assert_eq!(answer.header(name), None, "{fields}");
                }
            }
            _ => assert!(answer.text().contains("condition"), "{fields}"),
        }
    }
}

fn a_fresh_file_has_a_weak_tag(backend: Backend) {
    let tree = Tree::new();
    let path = tree.write("a.txt", "0123456789");
    // As if it had been written in the future: so it stays fresh however slow this machine is.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(SystemTime::now() + Duration::from_secs(3600))
        .unwrap();
    let server = serve(backend, Router::new().get("/", move |_| Response::file(&path)));
    let mut client = Client::connect(&server);
    let answer = client.get("/");
    let tag = answer.header("etag").expect("it has one").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let date = answer.header("last-modified").expect("it has one").to_owned();
    assert_eq!(ask(&mut client, "/", &format!("if-none-match: {tag}\r\n")).status, 304);
    assert_not_later_than_now(&date);
    for validator in [&tag, &date] {
        let fields = format!("range: bytes=0-3\r\nif-range: {validator}\r\n");
        assert_eq!(ask(&mut client, "/", &fields).status, 200, "no range by {validator}");
    }
    assert_eq!(ask(&mut client, "/", &format!("if-match: {tag}\r\n")).status, 412);
    assert_eq!(ask(&mut client, "/", "range: bytes=0-3\r\n").text(), "0123");
}

/// RFC 9110 section 8.8.2.1: so it cannot be a date of the next hour, which would still be
/// unmodified then.
fn assert_not_later_than_now(date: &str) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let seconds = wharf_http::http_date_seconds(date.as_bytes(), now).expect("a date");
    assert!(seconds <= now, "{date}");
}

fn head_and_keep_alive(backend: Backend) {
    let tree = Tree::new();
    let server = serve(backend, file_route(tree.write("a.bin", large())));
    let mut client = Client::connect(&server);
    for fields in ["", "range: bytes=0-9\r\n"] {
        let answer =
            client.send(format!("HEAD /file HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).answer_to_head();
        assert_eq!(answer.status, 200, "a range is asked of GET");
        assert_eq!(answer.header("content-length"), Some("5000003"));
        assert_eq!(answer.header("etag"), Some("\"v1\""));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    }
    let head = "HEAD /file HTTP/1.1\r\nhost: a\r\nif-none-match: \"v1\"\r\n\r\n";
    assert_eq!(client.send(head).answer_to_head().status, 304);
    assert_eq!(client.get("/after").text(), "after");

    let empty = serve(backend, file_route(tree.write("empty.txt", "")));
    let mut client = Client::connect(&empty);
    assert_eq!((client.get("/file").status, client.get("/after").text()), (200, "after"));
    assert_eq!(ask(&mut client, "/file", "range: bytes=0-\r\n").status, 416);
    assert_eq!(ask(&mut client, "/file", "range: bytes=-5\r\n").status, 200);
}

fn answers_in_memory_are_conditional_too(backend: Backend) {
    let router = Router::new()
        .get("/tagged", |_| Response::json("[1,2,3]").etag("v7").header("vary", "accept"))
        .get("/dated", |_| Response::text("text").last_modified(long_ago()))
        .get("/future", |_| {
            Response::text("text").last_modified(SystemTime::now() + Duration::from_secs(3_600))
        })
        .get("/weak", |_| Response::text("text").header("etag", "W/\"w\"").conditional())
        .get("/plain", |_| Response::text("text").header("etag", "\"v7\""))
        .get("/whole", |_| Response::text("text").etag("v7").header("accept-ranges", "none"))
        .get("/made", |_| {
            Response::text("text").etag("v7").with_status(wharf::StatusCode::CREATED)
        });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let none_match = "if-none-match: \"v7\"\r\n";
    let answer = ask(&mut client, "/tagged", none_match);
    assert_eq!((answer.status, answer.header("vary")), (304, Some("accept")));
    assert_eq!(ask(&mut client, "/tagged", "range: bytes=1-3\r\n").text(), "1,2");
    assert_eq!(ask(&mut client, "/tagged", "range: bytes=1-3\r\nif-range: \"v7\"\r\n").status, 206);
    let date = client.get("/future").header("last-modified").expect("it has one").to_owned();
    assert_not_later_than_now(&date);
    let dated = format!("if-modified-since: {LONG_AGO}\r\n");
    assert_eq!(ask(&mut client, "/dated", &dated).status, 304);
    assert_eq!(ask(&mut client, "/weak", "if-none-match: \"w\"\r\n").status, 304);
    assert_eq!(ask(&mut client, "/weak", "if-match: W/\"w\"\r\n").status, 412);
    assert_eq!(ask(&mut client, "/plain", none_match).status, 200, "it does not say so");
    assert_eq!(ask(&mut client, "/made", none_match).status, 201, "RFC 9110 section 13.2.1");
    let answer = ask(&mut client, "/whole", "range: bytes=1-3\r\n");
    assert_eq!((answer.status, answer.header("accept-ranges")), (200, Some("none")));
}

fn changes_are_made_on_conditions(backend: Backend) {
    let replace = |request: &Request| -> Result<&str, Error> {
        request.check_conditions(Some(&Validators::new().etag("v7").last_modified(long_ago())))?;
        Ok("replaced")
    };
    let make = |request: &Request| -> Result<&str, Error> {
        request.check_conditions(None)?;
        Ok("made")
    };
    let router = Router::new().route("/there", put(replace)).route("/new", put(make));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for (path, field, status) in [
        ("/there", "if-match: \"v7\"", 200),
        ("/there", "if-match: \"v6\"", 412),
        ("/there", "if-match: W/\"v7\"", 412),
        ("/there", "if-none-match: *", 412),
        ("/there", "if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT", 412),
        ("/there", "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT", 200),
        ("/new", "if-none-match: *", 200),
        ("/new", "if-match: *", 412),
    ] {
        client.send(format!("PUT {path} HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n"));
        assert_eq!(client.answer().status, status, "{path} {field}");
    }
}

fn hooks_may_answer_files_and_set_tags(backend: Backend) {
    let tree = Tree::new();
    let path = tree.write("a.txt", "0123456789");
    let answered = Router::new()
        .get("/", |_| "never")
        .before(move |_: &mut Request| Some(Response::file(&path).etag("v1")));
    let tagged = Router::new()
        .get("/", |_| "0123456789")
        .after(|_: &Request, response: Response| response.etag("v1"));
    // As compression does: what the handler's condition was compared to stays decided.
    let weakened = Router::new()
        .get("/", |_| Response::text("0123456789").etag("v1"))
        .after(|_: &Request, response: Response| response.header("etag", "W/\"v1\""));
    let router =
        Router::new().nest("/answered", answered).nest("/tagged", tagged).nest("/weak", weakened);
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in ["/answered", "/tagged", "/weak"] {
        assert_eq!(client.get(path).text(), "0123456789", "{path}");
        assert_eq!(ask(&mut client, path, "if-none-match: \"v1\"\r\n").status, 304, "{path}");
        assert_eq!(ask(&mut client, path, "if-match: \"v1\"\r\n").status, 200, "{path}");
        assert_eq!(ask(&mut client, path, "range: bytes=0-3\r\n").text(), "0123", "{path}");
    }
}

fn what_cannot_be_opened_has_its_status(backend: Backend) {
    let tree = Tree::new();
    let (none, folder) = (tree.path("none"), tree.0.path().to_owned());
    let router = Router::new()
        .get("/none", move |_| Response::file(&none))
        .get("/folder", move |_| Response::file(&folder))
        .get("/nul", |_| Response::file("a\0b"));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in ["/none", "/folder", "/nul"] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text()), (404, "Not Found\n"), "{path}");
    }
}

fn a_file_that_becomes_shorter_cuts_the_connection(backend: Backend) {
    let tree = Tree::new();
    let path = tree.write("a.bin", large());
    let shrink = path.clone();
    let router = Router::new().get("/file", move |_| {
        let response = Response::file(&path);
        // Between the moment its length was announced and that in which it is sent.
        File::options().write(true).open(&shrink).unwrap().set_len(1_000_000).unwrap();
        response
    });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    client.send("GET /file HTTP/1.1\r\nhost: a\r\n\r\n");
    let received = client.rest();
    let head_end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&received[..head_end]);
    assert!(head.contains("content-length: 5000003\r\n"), "{head}");
    let body = &received[head_end..];
    assert!(body.len() <= 1_000_000, "nothing is made up");
    assert!(large().starts_with(body));
    eventually("it is counted", || server.statistics().closed(CloseReason::AnswerAborted) == 1);
}

fn a_client_that_stops_reading_holds_up_nobody(backend: Backend) {
    let tree = Tree::new();
    // More than the system's buffers take.
    let path = tree.path("a.bin");
    File::create(&path).unwrap().set_len(256 << 20).unwrap();
    let limits =
        Limits { write_stall_timeout: Duration::from_millis(300), workers: 1, ..Limits::default() };
    let server = serve_with(backend, limits, file_route(path));
    let mut stalled: Vec<Client> = (0..4).map(|_| Client::connect(&server)).collect();
    for client in &mut stalled {
        client.send("GET /file HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut first = [0; 1024];
        client.stream().read_exact(&mut first).expect("the answer begins");
    }
    assert_eq!(Client::connect(&server).get("/after").text(), "after", "others are served");
    eventually("they are cut", || server.statistics().closed(CloseReason::WriteStalled) == 4);
    assert_eq!(Client::connect(&server).get("/after").text(), "after");
}

fn site() -> Tree {
    let tree = Tree::new();
    for (name, content) in [
        ("site/index.html", "<h1>home</h1>"),
        ("site/app.js", "let it = 1;"),
        ("site/docs/index.html", "docs"),
        ("site/docs/a b.txt", "a b"),
        ("site/docs/ä&<.txt", "umlaut"),
        ("site/bare/one.txt", "1"),
        ("site/.env", "secret"),
        ("site/.git/config", "secret"),
        ("secret.txt", "secret"),
    ] {
        // Windows has no such name.
        let has_name = cfg!(not(windows)) || !name.contains('<');
        if has_name {
            tree.write(name, content);
        }
    }
    tree
}

fn files(tree: &Tree) -> Files {
    Files::new(tree.path("site")).expect("it is there")
}

fn a_folder_is_served(backend: Backend) {
    let tree = site();
    let router = Router::new()
        .get("/static/special", |_| "a route")
        .files("/static", files(&tree).cache_control("max-age=60").unwrap())
        .nest("/nested", Router::new().files("/", files(&tree)));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for prefix in ["/static", "/nested"] {
        for (path, text, kind) in [
            ("/", "<h1>home</h1>", "text/html; charset=utf-8"),
            ("/index.html", "<h1>home</h1>", "text/html; charset=utf-8"),
            ("/app.js?v=1", "let it = 1;", "text/javascript; charset=utf-8"),
            ("/docs/", "docs", "text/html; charset=utf-8"),
            ("/docs/a%20b.txt", "a b", "text/plain; charset=utf-8"),
            ("/%64ocs/a%20b.txt", "a b", "text/plain; charset=utf-8"),
        ] {
            let answer = client.get(&format!("{prefix}{path}"));
            assert_eq!((answer.status, answer.text()), (200, text), "{prefix}{path}");
            assert_eq!(answer.header("content-type"), Some(kind));
            let cache = (prefix == "/static").then_some("max-age=60");
            assert_eq!(answer.header("cache-control"), cache);
        }
    }
    assert_eq!(client.get("/static/special").text(), "a route");
    let answer = ask(&mut client, "/static/app.js", "range: bytes=4-5\r\n");
    assert_eq!((answer.status, answer.text()), (206, "it"));
    let fields = format!("if-modified-since: {LONG_AGO}\r\n");
    let answer = ask(&mut client, "/static/app.js", &fields);
    assert_eq!((answer.status, answer.header("cache-control")), (304, Some("max-age=60")));
    let answer = client.send("POST /static/app.js HTTP/1.1\r\nhost: a\r\n\r\n").answer();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(client.get("/static/none").status, 404);
    assert_eq!(client.get("/static/none").header("cache-control"), None);
    assert!(Files::new(tree.path("none")).is_err_and(|error| error.is_configuration()));
    assert!(Files::new(tree.path("secret.txt")).is_err(), "no folder");
}

fn nothing_outside_a_folder_is_served(backend: Backend) {
    let tree = site();
    let router = Router::new().files("/static", files(&tree)).files("/", files(&tree));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in [
        "/../secret.txt",
        "/docs/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/docs/%2e%2e/%2e%2e/secret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/.%2e/secret.txt",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/docs%2fa%20b.txt",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/.git/",
        "/.git",
        "/app.js%00",
        "/app.js%00.txt",
        "/app.js/",
        "/docs//a%20b.txt",
        "/docs/./a%20b.txt",
        "/C:/secret.txt",
        "/app.js::$DATA",
        "/app.js%20",
        "/app.js.",
        "/NUL",
        "/con",
        "/GIT~1/config",
        "/%c0%ae%c0%ae/",
    ] {
        for prefix in ["", "/static"] {
            let answer = client.get(&format!("{prefix}{path}"));
            assert!(matches!(answer.status, 404 | 400), "{prefix}{path}: {}", answer.status);
            assert!(!answer.text().contains("secret"), "{prefix}{path}");
        }
    }
    assert_eq!(client.get("/static/app.js").status, 200);
    let open = serve(backend, Router::new().files("/", files(&tree).dotfiles(true)));
    let mut client = Client::connect(&open);
    assert_eq!(client.get("/.git/config").text(), "secret");
    assert_eq!(client.get("/../secret.txt").status, 404);
    assert_eq!(client.get("/%2e%2e/secret.txt").status, 404);
    links_lead_out_only_if_they_may(backend, &tree);
}

#[cfg(unix)]
fn links_lead_out_only_if_they_may(backend: Backend, tree: &Tree) {
    use std::path::Path;

    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, tree.path(name)).unwrap();
    link(Path::new("app.js"), "site/inside.js");
    link(Path::new("../secret.txt"), "site/out.txt");
    link(tree.0.path(), "site/up");
    let router = Router::new()
        .files("/closed", files(tree).listing(true))
        .files("/open", files(tree).follow_links(true));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/closed/inside.js").text(), "let it = 1;");
    for path in ["/out.txt", "/up/secret.txt", "/up", "/up/"] {
        assert_eq!(client.get(&format!("/closed{path}")).status, 404, "{path}");
    }
    assert_eq!(client.get("/open/out.txt").text(), "secret");
    assert_eq!(client.get("/open/up/secret.txt").text(), "secret");
}

#[cfg(windows)]
fn links_lead_out_only_if_they_may(_: Backend, _: &Tree) {
    // To make one takes a right that not every account has.
}

fn folders_have_slashes(backend: Backend) {
    let tree = site();
    tree.write("site/a:b/index.html", "colon");
    let router = Router::new()
        .files("/static", files(&tree))
        .nest("/nested", Router::new().files("/", files(&tree)));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for (path, location) in [
        ("/static", "./static/"),
        ("/nested", "./nested/"),
        ("/static/docs", "./docs/"),
        ("/static/docs?a=b&c", "./docs/?a=b&c"),
        ("/static/%64ocs", "./%64ocs/"),
        ("/static/a:b", "./a:b/"),
    ] {
        if cfg!(windows) && path.contains(':') {
            continue;
        }
        let answer = client.get(path);
        assert_eq!((answer.status, answer.header("location")), (301, Some(location)), "{path}");
    }
    let root = serve(backend, Router::new().files("/", files(&tree)));
    let mut client = Client::connect(&root);
    for path in ["//docs", "//evil.example/docs", "/docs//", "/%2fevil.example"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    assert_eq!(client.get("/docs").header("location"), Some("./docs/"));
}

fn folders_are_listed(backend: Backend) {
    let tree = site();
    let router = Router::new()
        .files("/list", files(&tree).listing(true).index(""))
        .files("/not", files(&tree));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/not/bare/").status, 404);
    let answer = client.get("/list/");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.header("content-security-policy").is_some_and(|it| it.contains("'none'")));
    let page = answer.text();
    for wanted in ["href=\"./docs/\"", "href=\"./app.js\"", LONG_AGO, "<td>11<td>"] {
        assert!(page.contains(wanted), "{wanted} is missing in {page}");
    }
    for unwanted in [".git", ".env", "secret", "href=\"../\""] {
        assert!(!page.contains(unwanted), "{unwanted} is in {page}");
    }
    assert!(page.find("./docs/") < page.find("./app.js"), "folders come first");
    let docs = client.get("/list/docs/");
    let page = docs.text();
    assert!(page.contains("href=\"../\"") && page.contains("href=\"./a%20b.txt\">a b.txt</a>"));
    if cfg!(not(windows)) {
        assert!(page.contains("href=\"./%C3%A4%26%3C.txt\">ä&amp;&lt;.txt</a>"), "{page}");
        assert_eq!(client.get("/list/docs/%C3%A4%26%3C.txt").text(), "umlaut");
    }
}

fn compressed_siblings_are_sent(backend: Backend) {
    let tree = site();
    tree.write("site/app.js.br", "as br");
    tree.write("site/app.js.gz", "as gzip");
    // Older than what it was made of.
    let stale = tree.write("site/index.html.gz", "stale");
    let earlier = long_ago() - Duration::from_secs(10);
    File::options().write(true).open(stale).unwrap().set_modified(earlier).unwrap();
    let router =
        Router::new().files("/on", files(&tree).precompressed(true)).files("/off", files(&tree));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for (accept, encoding, text) in [
        ("gzip, deflate, br, zstd", Some("br"), "as br"),
        ("gzip", Some("gzip"), "as gzip"),
        ("br;q=0.5, gzip", Some("gzip"), "as gzip"),
        ("br;q=0, gzip;q=0", None, "let it = 1;"),
        ("zstd", None, "let it = 1;"),
        ("*", Some("br"), "as br"),
        ("", None, "let it = 1;"),
        ("identity, gzip;q=0.5", None, "let it = 1;"),
    ] {
        let answer = ask(&mut client, "/on/app.js", &format!("accept-encoding: {accept}\r\n"));
        assert_eq!(
            (answer.header("content-encoding"), answer.text()),
            (encoding, text),
            "{accept}"
        );
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
    }
    let tags: Vec<String> = ["br", "gzip", "zstd"]
        .iter()
        .map(|accept| {
            let answer = ask(&mut client, "/on/app.js", &format!("accept-encoding: {accept}\r\n"));
            answer.header("etag").expect("it has one").to_owned()
        })
        .collect();
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2], "{tags:?}");
    let answer = ask(&mut client, "/on/", "accept-encoding: gzip\r\n");
    assert_eq!((answer.header("content-encoding"), answer.text()), (None, "<h1>home</h1>"));
    let answer = ask(&mut client, "/off/app.js", "accept-encoding: br\r\n");
    assert_eq!((answer.header("vary"), answer.text()), (None, "let it = 1;"));
}

fn an_application_of_one_page(backend: Backend) {
    let tree = site();
    let router = Router::new()
        .get("/api/orders", |_| "orders")
        .files("/", files(&tree).fallback("index.html"));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for path in ["/", "/orders/7", "/orders/7/", "/no/such/page", "/bare/"] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text()), (200, "<h1>home</h1>"), "{path}");
    }
    assert_eq!(client.get("/api/orders").text(), "orders");
    for path in ["/missing.js", "/docs/missing.png", "/.env", "/%2e%2e/x", "/a%2fb"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
}

fn a_file_of_a_folder_by_name(backend: Backend) {
    let tree = site();
    let site = files(&tree);
    let router = Router::new().get("/get/{name}", move |request| -> Result<Response, Error> {
        Ok(site.file(request.param("name")?))
    });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/get/app.js").text(), "let it = 1;");
    assert_eq!(client.get("/get/docs%2Fa%20b.txt").text(), "a b", "the program's own path");
    for name in ["..%2Fsecret.txt", "%2Fetc%2Fpasswd", "none", "docs", "docs%2F", ".env", "a%00b"] {
        assert_eq!(client.get(&format!("/get/{name}")).status, 404, "{name}");
    }
}

fn an_open_file_is_answered_with(backend: Backend) {
    let tree = Tree::new();
    let (file, folder) = (tree.write("report", "0123456789"), tree.0.path().to_owned());
    let router = Router::new()
        .get("/file", move |_| -> Result<File, Error> {
            let mut file = File::open(&file)?;
            // Where it was read to does not count.
            file.read_exact(&mut [0; 4])?;
            Ok(file)
        })
        .get("/folder", move |_| File::open(&folder).map_err(Error::from));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let answer = client.get("/file");
    assert_eq!((answer.status, answer.text()), (200, "0123456789"));
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert!(answer.header("etag").is_some());
    client.send("GET /file HTTP/1.1\r\nhost: a\r\nrange: bytes=-2\r\n\r\n");
    let part = client.answer();
    assert_eq!((part.status, part.text()), (206, "89"));
    assert_eq!(client.get("/folder").status, 500);
}
