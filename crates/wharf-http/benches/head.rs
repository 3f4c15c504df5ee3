//! What does it cost to parse a head? This crate beside httparse, on the same bytes.
//!
//! `cargo bench -p wharf-http` prints nanoseconds. For instructions, run one case alone under
//! callgrind, for two numbers of rounds, and divide the difference by theirs:
//!
//! ```text
//! valgrind --tool=callgrind target/release/deps/head-... only plaintext wharf 1000
//! valgrind --tool=callgrind target/release/deps/head-... only plaintext wharf 3000
//! ```
//!
//! Run by `cargo test`, it parses each head a few times and checks that both parsers agree.

mod heads;

use std::hint::black_box;
use std::time::Instant;

use heads::HEADS;
use wharf_http::{HeadLimits, RequestHead};

/// Parses a head so many times; the sum of the heads' lengths and fields, which both parsers must
/// agree on.
type Parser = fn(&[u8], usize) -> usize;

const PARSERS: [(&str, Parser); 2] = [("wharf", wharf), ("httparse", httparse)];

#[inline(never)]
fn wharf(bytes: &[u8], rounds: usize) -> usize {
    let limits = HeadLimits::default();
    let mut head = RequestHead::new();
    let mut sum = 0;
    for _ in 0..rounds {
        head.clear();
        let length = black_box(&mut head).parse(black_box(bytes), &limits);
        sum += length.expect("good").expect("whole") + head.fields().len();
    }
    sum
}

#[inline(never)]
fn httparse(bytes: &[u8], rounds: usize) -> usize {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut sum = 0;
    for _ in 0..rounds {
        let mut request = httparse::Request::new(&mut fields);
        let length = black_box(&mut request).parse(black_box(bytes)).expect("good").unwrap();
        sum += length + request.headers.len();
    }
    sum
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [only, head, parser, rounds] = &arguments[..]
        && only == "only"
    {
        let (_, bytes) = HEADS.iter().find(|(name, _)| name == head).expect("a head's name");
        let (_, parser) = PARSERS.iter().find(|(name, _)| name == parser).expect("a parser's name");
        black_box(parser(bytes, rounds.parse().expect("a number of rounds")));
        return;
    }
    let rounds = if arguments.iter().any(|argument| argument == "--bench") { 1_000_000 } else { 3 };
    for (name, bytes) in HEADS {
        let sums = PARSERS.map(|(parser_name, parser)| {
            let start = Instant::now();
            let sum = parser(bytes, rounds);
            let nanoseconds = start.elapsed().as_nanos() as f64 / rounds as f64;
            println!("{name:>10} {parser_name:>9} {nanoseconds:8.1} ns {:5} bytes", bytes.len());
            sum
        });
        assert_eq!(sums[0], sums[1], "{name}: the parsers differ");
    }
}
