//! Routes with a time that requests may take.

use std::io::Read;
use std::sync::mpsc;
use std::time::Duration;

use wharf::{Backend, Error, Request, Router, Server, StatusCode, get, post};

use crate::support::{Answer, Client, eventually, on_every_backend, serve};

on_every_backend!(a_handler_is_told_when_its_time_is_over, a_body_that_is_read_ends_with_the_time,);

const TIMEOUT: Duration = Duration::from_millis(50);

/// Asks until a worker is there in time, as it may not be on a machine that is busy: then the
/// answer is 503.
fn answer_of_a_worker(mut ask: impl FnMut() -> Answer) -> Answer {
    let mut answer = ask();
    eventually("a worker comes in time", || {
        let is_late = answer.status == 503;
        if is_late {
            answer = ask();
        }
        !is_late
    });
    answer
}

/// Waits until it is told, and answers nevertheless.
fn wait(request: &Request) -> Result<&'static str, StatusCode> {
    let (tell, told) = mpsc::channel();
    request.on_cancel(move || tell.send(()).unwrap_or_default());
    told.recv().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let is_over = request.deadline().is_some() && request.is_cancelled();
    if is_over { Ok("late") } else { Err(StatusCode::INTERNAL_SERVER_ERROR) }
}

fn a_handler_is_told_when_its_time_is_over(backend: Backend) {
    let router = Router::new()
        .route("/", get(wait).pooled().timeout(TIMEOUT))
        .get("/free", |request| format!("{:?} {}", request.deadline(), request.is_cancelled()));
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        assert_eq!(answer_of_a_worker(|| client.get("/")).text(), "late");
        assert_eq!(client.get("/free").text(), "None false", "the next one has its own time");
    }
}

fn a_body_that_is_read_ends_with_the_time(backend: Backend) {
    fn read(request: &Request) -> Result<String, Error> {
        let mut text = String::new();
        request.reader().read_to_string(&mut text)?;
        Ok(text)
    }
    let router = Router::new().route("/", post(read).streaming()).timeout(TIMEOUT);
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    let answer = answer_of_a_worker(|| {
        client = Client::connect(&server);
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nha").answer()
    });
    assert_eq!(answer.status, 408);
    client.assert_closed();
}

#[test]
fn no_time_at_all_is_no_timeout() {
    let router = Router::new().route("/", get(wait).timeout(Duration::ZERO));
    let server = Server::bind("127.0.0.1:0").expect("loopback is there");
    let error = server.start(router).expect_err("nothing could run");
    assert!(error.is_configuration() && error.to_string().contains("GET /"), "{error}");
}
