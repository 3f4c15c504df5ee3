//! What fails, in the log: handlers with their requests, and not in the answer; connections with the
//! reason for their end.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use tracing::subscriber::with_default;
use wharf::hooks::RequestIds;
use wharf::test::App;
use wharf::{CloseReason, Error, IntoResponse, Request, Response, Router, StatusCode, get};

/// What is logged meanwhile, by this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged while something is done by this thread.
fn logged<T>(act: impl FnOnce() -> T) -> (T, String) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    let outcome = with_default(subscriber, act);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (outcome, text)
}

/// The answer to a request, and what was logged of problems. Routes are inline, so that handlers run
/// on this thread.
fn ask(router: Router, path: &str) -> (wharf::test::Answer, Vec<String>) {
    let (answer, text) = logged(|| App::new(router).get(path).send());
    (answer, text.lines().filter(|line| line.contains("problem")).map(str::to_owned).collect())
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no file rates.txt")
}

fn in_context(_: &Request) -> anyhow::Result<()> {
    Err(not_found()).context("while reading the rates")
}

fn with_question_mark(_: &Request) -> Result<(), Error> {
    Err(not_found())?;
    Ok(())
}

fn refused_in_context(request: &Request) -> anyhow::Result<String> {
    let id: u64 = request.param("id").context("while looking for the order")?;
    Ok(id.to_string())
}

fn restyled(_: &Request) -> Response {
    Error::internal(not_found()).into_response().body("sorry")
}

#[test]
fn a_failure_is_logged_once_with_its_causes_and_its_request() {
    let failed = |router, path: &str| {
        let (answer, lines) = ask(router, path);
        assert_eq!(answer.status(), 500);
        assert!(!answer.text().contains("rates"), "{}", answer.text());
        let [line] = &lines[..] else { panic!("one line: {lines:?}") };
        assert!(line.contains("ERROR") && line.contains("no file rates.txt"), "{line}");
        line.clone()
    };
    for hooked in [false, true] {
        let router = |handler| {
            let router = Router::new().route("/orders/{id}", handler);
            if hooked { router.hook(RequestIds::new()) } else { router }
        };
        for (handler, words) in [
            (get(in_context), "while reading the rates: no file"),
            (get(with_question_mark), "a handler failed: no file"),
        ] {
            let line = failed(router(handler.inline()), "/orders/7?secret=1");
            assert!(line.contains(words) && line.contains("GET"), "{line}");
            assert!(line.contains("/orders/7") && !line.contains("secret"), "{line}");
            assert_eq!(line.contains("id="), hooked, "{line}");
        }
    }
    // Who gives the answer another body has not hidden the cause.
    failed(Router::new().route("/", get(restyled).inline()), "/");
    let before = |request: &mut Request| with_question_mark(request);
    failed(Router::new().route("/", get(|_| "").inline()).before(before), "/");
}

/// On a connection that goes on, and a path without parameters: the way that most requests take.
#[test]
fn a_failure_is_logged_with_its_request_whichever_way_that_took() {
    let router = Router::new().route("/rates", get(with_question_mark).inline());
    let request = "GET /rates HTTP/1.1\r\nhost: a\r\n\r\n";
    let (_, text) = logged(|| App::new(router).send_bytes(request.repeat(2)));
    let failures: Vec<_> = text.lines().filter(|line| line.contains("a handler failed")).collect();
    assert_eq!(failures.len(), 2, "{text}");
    assert!(failures.iter().all(|line| line.contains("GET") && line.contains("/rates")), "{text}");
}

#[test]
fn a_refusal_keeps_its_status_whatever_its_context() {
    let router = Router::new().route("/orders/{id}", get(refused_in_context).inline());
    let (answer, lines) = ask(router, "/orders/x");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("path parameter"), "{}", answer.text());
    assert!(!answer.text().contains("looking"), "the context is ours: {}", answer.text());
    let [line] = &lines[..] else { panic!("one line: {lines:?}") };
    assert!(line.contains("DEBUG") && line.contains("while looking for the order"), "{line}");
}

#[test]
fn why_a_connection_ended_is_logged_in_the_words_that_are_counted() {
    for (bytes, reason) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", CloseReason::PeerClosed),
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", CloseReason::Answered),
        ("GET / HTTP/1.1\r\n\r\n", CloseReason::Refused),
        ("GET / HTTP/1.1\r\nhos", CloseReason::Truncated),
    ] {
        let router = Router::new().route("/", get(|_| "").inline());
        let (_, text) = logged(|| App::new(router).send_bytes(bytes));
        let lines: Vec<_> = text.lines().filter(|line| line.contains(" ends: ")).collect();
        let [line] = lines[..] else { panic!("one line: {text}") };
        assert!(line.contains("DEBUG") && line.ends_with(&format!(" ends: {reason}")), "{line}");
    }
}
