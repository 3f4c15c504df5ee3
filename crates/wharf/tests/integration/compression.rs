//! Answers that are compressed for those who take it.

use std::io::Read;

use wharf::hooks::Compress;
use wharf::test::{Answer, App};
use wharf::{Response, Router, StatusCode, get};

fn long() -> String {
    (0..2_000).map(|n| format!("line {n} of a text\n")).collect()
}

fn app() -> App {
    let with = |name: &'static str, value: &'static str| {
        move |_: &wharf::Request| Response::text(long()).header(name, value)
    };
    App::new(
        Router::new()
            .route("/inline", get(|_| long()).inline())
            .route("/pooled", get(|_| long()).pooled())
            .get("/short", |_| "short")
            .get("/tagged", |_| Response::text(long()).header("etag", "\"v1\""))
            .get("/weak", |_| Response::text(long()).header("etag", "W/\"v1\""))
            .get("/image", |_| Response::text(long()).set_header("content-type", "image/png"))
            .get("/encoded", with("content-encoding", "x-mine"))
            .get("/fixed", with("cache-control", "private, No-Transform"))
            .get("/varies", with("vary", "Accept-Encoding, Cookie"))
            .get("/stream", |_| {
                let pieces = (0..2_000).map(|n| Ok(format!("line {n} of a text\n")));
                Response::text("").body_iter(pieces)
            })
            .hook(Compress::new()),
    )
}

fn ask(app: &App, path: &str, accept: &str) -> Answer {
    app.get(path).header("accept-encoding", accept).send()
}

fn plain(answer: &Answer) -> String {
    let mut text = String::new();
    match answer.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(answer.bytes()).read_to_string(&mut text),
        Some("br") => brotli::Decompressor::new(answer.bytes(), 4_096).read_to_string(&mut text),
        None => return answer.text().to_owned(),
        Some(other) => panic!("nobody asked for {other}"),
    }
    .expect("the body is in that coding");
    text
}

#[test]
fn the_coding_is_the_one_that_the_client_likes_best() {
    let app = app();
    for (accept, coding) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("gzip, br", Some("br")),
        ("gzip;q=1, br;q=0.5", Some("gzip")),
        ("GZIP", Some("gzip")),
        ("*", Some("br")),
        ("*, br;q=0", Some("gzip")),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("deflate, zstd", None),
        ("", None),
    ] {
        for path in ["/inline", "/pooled", "/stream"] {
            let answer = ask(&app, path, accept);
            assert_eq!(answer.header("content-encoding"), coding, "{path} for {accept:?}");
            assert_eq!(answer.header("vary"), Some("accept-encoding"), "{path} for {accept:?}");
            assert_eq!(plain(&answer), long(), "{path} for {accept:?}");
            if coding.is_some() {
                assert!(answer.bytes().len() < long().len(), "{path} for {accept:?}");
            }
        }
    }
    assert_eq!(app.get("/inline").send().header("content-encoding"), None, "nothing was asked for");
}

#[test]
fn what_gains_nothing_or_must_not_change_is_left_alone() {
    let app = app();
    for path in ["/short", "/image", "/fixed"] {
        let answer = ask(&app, path, "gzip, br");
        assert_eq!(answer.header("content-encoding"), None, "{path}");
        assert_eq!(answer.header("vary"), None, "{path}");
    }
    let encoded = ask(&app, "/encoded", "gzip");
    assert_eq!(encoded.header("content-encoding"), Some("x-mine"), "never twice");
    assert_eq!(encoded.text(), long());
    let part =
        app.get("/inline").header("accept-encoding", "gzip").header("range", "bytes=0-9").send();
    assert_eq!(part.header("content-encoding"), None);
    assert_eq!(part.header("vary"), Some("accept-encoding"));
    let varies = ask(&app, "/varies", "gzip");
    assert_eq!(varies.headers().get_all("vary").iter().count(), 1, "it was said already");
}

#[test]
fn validators_and_head_agree_with_the_compressed_answer() {
    let app = app();
    assert_eq!(ask(&app, "/tagged", "gzip").header("etag"), Some("W/\"v1\""));
    assert_eq!(ask(&app, "/tagged", "identity").header("etag"), Some("\"v1\""));
    assert_eq!(ask(&app, "/weak", "gzip").header("etag"), Some("W/\"v1\""));
    let get = ask(&app, "/inline", "gzip");
    let head = app.head("/inline").header("accept-encoding", "gzip").send();
    assert_eq!(head.status(), StatusCode::OK);
    for name in ["content-encoding", "content-length", "vary"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}
