//! Answers that are compressed for those who take it.

use std::io::{Read, Write};
use std::sync::{Mutex, mpsc};

use wharf::hooks::Compress;
use wharf::test::{Answer, App};
use wharf::{Backend, Event, Response, Router, StatusCode, get};

use crate::support::{Client, on_every_backend, serve};

on_every_backend!(
    what_is_pushed_can_be_read_at_once,
    what_is_cut_off_stays_so_when_it_is_compressed,
);

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
            .get("/writer", |_| {
                Response::text("").body_writer(|body| {
                    (0..2_000).try_for_each(|n| writeln!(body, "line {n} of a text"))
                })
            })
            .get("/pushed", |_| {
                let (sender, response) = Response::channel();
                let mut lines = long();
                // Some of it is there before the hook runs, and some comes later.
                let later = lines.split_off(lines.len() / 2);
                sender.send(lines).expect("there is room");
                std::thread::spawn(move || sender.send(later));
                response.header("content-type", "text/plain")
            })
            .get("/ended", |_| {
                let (sender, response) = Response::channel();
                sender.send(long()).expect("there is room");
                let name = "x-sum".try_into().expect("a name");
                sender.finish_with([(name, "1".try_into().expect("a value"))]);
                response.header("content-type", "text/plain")
            })
            .get("/events", |_| Response::events().1)
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
        Some("zstd") => {
            zstd::Decoder::new(answer.bytes()).and_then(|mut it| it.read_to_string(&mut text))
        }
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
        ("zstd", Some("zstd")),
        ("zstd, gzip, br", Some("br")),
        ("zstd, gzip;q=0.5, br;q=0.5", Some("zstd")),
        ("gzip, br", Some("br")),
        ("gzip;q=1, br;q=0.5", Some("gzip")),
        ("GZIP", Some("gzip")),
        ("*", Some("br")),
        ("*, br;q=0, zstd;q=0", Some("gzip")),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("deflate", None),
        ("", None),
    ] {
        for path in ["/inline", "/pooled", "/stream", "/writer", "/pushed", "/ended"] {
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
    for path in ["/short", "/image", "/fixed", "/events"] {
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

fn what_is_pushed_can_be_read_at_once(backend: Backend) {
    let (hand_out, handed_out) = mpsc::channel();
    let hand_out = Mutex::new(hand_out);
    let router = Router::new().hook(Compress::new().events()).get("/", move |_| {
        let (events, response) = Response::events();
        hand_out.lock().expect("no panic").send(events).expect("the test listens");
        response
    });
    let server = serve(backend, router);
    for coding in ["gzip", "br", "zstd"] {
        let mut client = Client::connect(&server);
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: {coding}\r\n\r\n"));
        let events = handed_out.recv().expect("the handler runs");
        let mut read = Vec::new();
        for n in 0..3 {
            events.send(&Event::new(format!("event {n}"))).expect("the client is there");
            let wanted: String = (0..=n).map(|n| format!("data: event {n}\n\n")).collect();
            let mut encoded = Vec::new();
            while decoded(coding, &encoded) != wanted {
                // Fails when nothing comes any more.
                read.extend_from_slice(&client.some());
                encoded = body_so_far(&read, coding);
            }
        }
        drop(events);
        while !read.ends_with(b"0\r\n\r\n") {
            read.extend_from_slice(&client.some());
        }
        let whole = body_so_far(&read, coding);
        let answer = decoded_whole(coding, &whole).expect("it has its end");
        assert!(answer.ends_with("data: event 2\n\n"), "{coding}: {answer:?}");
    }
}

/// The content of the chunks that have come whole.
fn body_so_far(read: &[u8], coding: &str) -> Vec<u8> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Vec::new() };
    let head = String::from_utf8_lossy(&read[..end]);
    assert!(head.contains(&format!("content-encoding: {coding}")), "{head}");
    let (mut rest, mut body) = (&read[end + 4..], Vec::new());
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&rest[..line]).expect("a chunk's length");
        let length = usize::from_str_radix(length, 16).expect("a chunk's length");
        let Some(chunk) = rest.get(line + 2..line + 2 + length) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(line + 2 + length + 2..).unwrap_or_default();
    }
    body
}

fn decoded_whole(coding: &str, bytes: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(bytes, 4_096).read_to_string(&mut text),
        _ => zstd::Decoder::new(bytes).and_then(|mut it| it.read_to_string(&mut text)),
    }
    .map(|_| text)
}

/// What can be read of the beginning of a body.
fn decoded(coding: &str, bytes: &[u8]) -> String {
    let mut decoder: Box<dyn Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4_096)),
        _ => Box::new(zstd::Decoder::new(bytes).expect("there is memory")),
    };
    let (mut text, mut block) = (Vec::new(), [0; 64]);
    while let Ok(count @ 1..) = decoder.read(&mut block) {
        text.extend_from_slice(&block[..count]);
    }
    String::from_utf8(text).expect("the text is ASCII")
}

fn what_is_cut_off_stays_so_when_it_is_compressed(backend: Backend) {
    let router = Router::new().hook(Compress::new()).get("/", |_| {
        let (sender, response) = Response::channel();
        sender.send(long()).expect("there is room");
        sender.abort();
        response.header("content-type", "text/plain")
    });
    let server = serve(backend, router);
    let mut client = Client::connect(&server);
    client.send("GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n");
    let all = client.rest();
    assert!(!all.ends_with(b"0\r\n\r\n"), "the client takes the part for the whole");
}
