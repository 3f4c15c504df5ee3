//! All that a client sends on one connection: it is answered alike however it was cut, and what a
//! handler gets to see is what another parser sees.
//!
//! The first byte says how the others are cut.
#![no_main]

use wharf::test::App;
use wharf::{Request, Response, Router, any, post};

thread_local! {
    static APP: App = App::new(
        Router::new()
            .route("/echo", post(|request: &Request| Response::text(request.bytes())).inline())
            .fallback_route(any(describe).inline()),
    );
}

fn describe(request: &Request) -> String {
    let body = request.body();
    let sum = body.iter().fold(7u32, |sum, &byte| sum.wrapping_mul(31) ^ u32::from(byte));
    format!("served {} {} {} {sum}\n", request.method(), request.path(), body.len())
}

/// Without the time, and without interim answers: whether these are sent depends on the cuts.
fn settled(mut answers: Vec<u8>) -> Vec<u8> {
    let date = b"\r\ndate: ";
    for at in 0..answers.len() {
        if answers[at..].starts_with(date) {
            let start = at + date.len();
            let end = answers.len().min(start + 29);
            answers[start..end].fill(b'-');
        }
    }
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    while let Some(at) = answers.windows(interim.len()).position(|part| part == interim) {
        answers.drain(at..at + interim.len());
    }
    answers
}

/// Whether a client may wait for an interim answer.
fn expects(bytes: &[u8]) -> bool {
    let expectation = b"100-continue";
    bytes.windows(expectation.len()).any(|part| part.eq_ignore_ascii_case(expectation))
}

/// Whether answers are the beginning of others, but for a last one that closes: a final answer in
/// place of an interim one, which nobody waits for if the body has come already.
fn ends_early(cut: &[u8], whole: &[u8]) -> bool {
    let start = b"HTTP/1.1 ";
    let Some(last) = cut.windows(start.len()).rposition(|part| part == start) else { return false };
    let says_so = String::from_utf8_lossy(&cut[last..]).contains("\r\nconnection: close\r\n");
    says_so && whole.starts_with(&cut[..last])
}

/// The first request as a parser sees it that nobody here wrote. None: as no request.
fn first_request(bytes: &[u8]) -> Option<(String, String)> {
    let mut fields = [httparse::EMPTY_HEADER; 512];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {
            Some((request.method?.to_owned(), request.path?.to_owned()))
        }
        _ => None,
    }
}

/// It knows HTTP/1.0 and HTTP/1.1 alone.
fn has_a_version_of_its_own(bytes: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; 512];
    httparse::Request::new(&mut fields).parse(bytes) == Err(httparse::Error::Version)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let whole = settled(APP.with(|app| app.send_bytes(bytes)));
    let mut chance = u32::from(cut);
    let (mut rest, mut pieces) = (bytes, Vec::new());
    while !rest.is_empty() {
        chance = chance.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let most = if cut == 0 { 1 } else { rest.len().min(1 + usize::from(cut) % 64) };
        let (piece, behind) = rest.split_at(1 + (chance >> 16) as usize % most);
        pieces.push(piece);
        rest = behind;
    }
    let cut = settled(APP.with(|app| app.send_pieces(pieces)));
    let text = String::from_utf8_lossy;
    let is_alike = cut == whole || (expects(bytes) && ends_early(&cut, &whole));
    assert!(is_alike, "whole:\n{}\ncut:\n{}", text(&whole), text(&cut));

    if whole.starts_with(b"HTTP/1.1 200 ") && !has_a_version_of_its_own(bytes) {
        let (method, target) = first_request(bytes).expect("what is served is a request");
        let body = whole.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let served = text(&whole[body.expect("a whole head")..]).into_owned();
        let mut words = served.split(' ');
        if words.next() == Some("served") && method != "HEAD" {
            assert_eq!(words.next(), Some(&*method));
            let path = words.next().unwrap_or_default();
            let target = target.split('?').next().unwrap_or_default();
            let is_root = path == "/" && target.contains("://");
            assert!(target.ends_with(path) || is_root, "{target} was taken for {path}");
        }
    }
});
