//! What does it cost to write a response's head? The usual five lines into a vector with room.
//!
//! `cargo bench -p wharf-http` prints nanoseconds; for instructions see `head.rs`, with the
//! arguments `only 1000` and `only 3000`. Run by `cargo test`, it writes a few and checks them.

use std::hint::black_box;
use std::time::Instant;
use wharf_http::{Date, HEAD_END, Version, content_length, field, status_line};

const RIGHT: &[u8] = b"HTTP/1.1 200 OK\r\nserver: wharf\r\n\
    date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 13\r\n\r\n";

#[inline(never)]
fn write(out: &mut Vec<u8>, rounds: usize) {
    let date = Date::at(784_111_777);
    for _ in 0..rounds {
        let out = black_box(&mut *out);
        out.clear();
        status_line(out, Version::Http11, black_box(200));
        field(out, black_box(b"server"), black_box(b"wharf")).expect("good");
        date.write_field(out);
        let text = black_box(b"text/plain; charset=utf-8");
        field(out, black_box(b"content-type"), text).expect("good");
        content_length(out, black_box(13));
        out.extend_from_slice(HEAD_END);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = Vec::with_capacity(1024);
    if let [only, rounds] = &arguments[..]
        && only == "only"
    {
        return write(&mut out, rounds.parse().expect("a number of rounds"));
    }
    let rounds = if arguments.iter().any(|argument| argument == "--bench") { 1_000_000 } else { 3 };
    let start = Instant::now();
    write(&mut out, rounds);
    let nanoseconds = start.elapsed().as_nanos() as f64 / rounds as f64;
    println!("  response {nanoseconds:8.1} ns {:5} bytes", out.len());
    assert_eq!(out, RIGHT);
}
