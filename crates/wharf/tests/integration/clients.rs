//! Clients that nobody here wrote.

use std::process::Command;

use wharf::{Backend, Request, Response, Router, post};

use crate::support::{on_every_backend, serve};

on_every_backend! {
    ureq_keeps_its_connection_and_posts,
    curl_agrees,
}

fn router() -> Router {
    Router::new()
        .get("/hello/{name}", |request| {
            request.param::<String>("name").map(|name| format!("Hello, {name}!"))
        })
        .route("/echo", post(|request: &Request| Response::text(request.bytes())))
}

fn ureq_keeps_its_connection_and_posts(backend: Backend) {
    let server = serve(backend, router());
    let at = |path: &str| format!("http://{}{path}", server.local_address());
    let agent = ureq::Agent::new_with_defaults();
    for round in 0..10 {
        let text = agent.get(at("/hello/w%C3%B6rld")).call().unwrap();
        assert_eq!(text.into_body().read_to_string().unwrap(), "Hello, wörld!");
        let body = "x".repeat(round * 10_000);
        let echoed = agent.post(at("/echo")).send(&body).unwrap();
        assert_eq!(echoed.into_body().read_to_string().unwrap(), body);
    }
    let error = agent.get(at("/none")).call().unwrap_err();
    assert!(matches!(error, ureq::Error::StatusCode(404)));
    assert_eq!(server.statistics().accepted, 1, "one connection served it all");
}

/// Where curl is not installed this prints so; the project's CI installs it, but not in Windows.
fn curl_agrees(backend: Backend) {
    let server = serve(backend, router());
    let curl = |arguments: &[&str], path: &str| {
        let url = format!("http://{}{path}", server.local_address());
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(arguments)
            .arg(url)
            .output();
        match output {
            Ok(output) => {
                Some((output.status.success(), String::from_utf8(output.stdout).unwrap()))
            }
            Err(error) if cfg!(windows) || std::env::var_os("CI").is_none() => {
                println!("curl is not run: {error}");
                None
            }
            Err(error) => panic!("CI has to have curl: {error}"),
        }
    };
    let Some(hello) = curl(&[], "/hello/curl") else { return };
    assert_eq!(hello, (true, "Hello, curl!".to_owned()));
    assert_eq!(curl(&["--http1.0"], "/hello/curl"), Some(hello));
    let posted = curl(&["-H", "expect: 100-continue", "--data-binary", "hello"], "/echo");
    assert_eq!(posted, Some((true, "hello".to_owned())));
    let chunked = curl(&["-H", "transfer-encoding: chunked", "--data-binary", "hello"], "/echo");
    assert_eq!(chunked, Some((true, "hello".to_owned())));
    let status = curl(&["--head", "--write-out", "%{http_code}", "--output", "-"], "/none");
    assert!(status.is_some_and(|(ok, text)| ok && text.ends_with("404")));
}
