//! `parsers PARSER`: nanoseconds for each head, on a line with its name and its length.
//! `parsers PARSER HEAD ROUNDS` parses one head so many times, for counting instructions.
//!
//! httparse and picohttpparser find the parts of a head. Wharf's parser finds out what they mean
//! besides: framing, host, and what becomes of the connection.

#[path = "../../../crates/wharf-http/benches/heads/mod.rs"]
mod heads;

use std::hint::black_box;
use std::process::ExitCode;
use std::ptr;
use std::time::Instant;

use heads::HEADS;
use picohttpparser_sys::{phr_header, phr_parse_request};
use wharf_http::{HeadLimits, RequestHead};

/// Parses a head so many times; the sum of its length and its number of fields, on which all
/// parsers have to agree.
type Parser = fn(&[u8], usize) -> usize;

const PARSERS: [(&str, Parser); 3] =
    [("wharf", wharf), ("httparse", httparse), ("picohttpparser", picohttpparser)];
/// Room for as many fields as Wharf takes by default.
const FIELDS: usize = 100;
/// Rounds between two looks at the clock, and how often: the least of the times is the one that
/// nothing else took part in.
const ROUNDS: usize = 10_000;
const BATCHES: usize = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let find = |name| PARSERS.iter().find(|(known, _)| *known == name);
    match arguments[..] {
        [name] if let Some((_, parser)) = find(name) => {
            for (head, bytes) in HEADS {
                println!("{head} {} {:.2}", bytes.len(), nanoseconds(*parser, bytes));
            }
        }
        [name, head, rounds] => {
            let head = HEADS.iter().find(|(known, _)| *known == head);
            let (Some((_, parser)), Some((_, bytes)), Ok(rounds)) =
                (find(name), head, rounds.parse())
            else {
                return usage();
            };
            black_box(parser(bytes, rounds));
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: parsers PARSER [HEAD ROUNDS]");
    ExitCode::FAILURE
}

fn nanoseconds(parser: Parser, bytes: &[u8]) -> f64 {
    let batch = |_| {
        let start = Instant::now();
        black_box(parser(bytes, ROUNDS));
        start.elapsed().as_nanos() as f64 / ROUNDS as f64
    };
    (0..BATCHES).map(batch).fold(f64::MAX, f64::min)
}

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
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut sum = 0;
    for _ in 0..rounds {
        let mut request = httparse::Request::new(&mut fields);
        let length = black_box(&mut request).parse(black_box(bytes)).expect("good").unwrap();
        sum += length + request.headers.len();
    }
    sum
}

#[inline(never)]
fn picohttpparser(bytes: &[u8], rounds: usize) -> usize {
    let mut fields = [phr_header::default(); FIELDS];
    let mut sum = 0;
    for _ in 0..rounds {
        let (mut method, mut method_bytes) = (ptr::null(), 0);
        let (mut path, mut path_bytes) = (ptr::null(), 0);
        let (mut minor, mut count) = (0, FIELDS);
        let bytes = black_box(bytes);
        // SAFETY: it reads the bytes of the slice and writes where it is pointed to, no more than
        // `count` fields.
        let length = unsafe {
            phr_parse_request(
                bytes.as_ptr().cast(),
                bytes.len(),
                &mut method,
                &mut method_bytes,
                &mut path,
                &mut path_bytes,
                &mut minor,
                black_box(fields.as_mut_ptr()),
                &mut count,
                0,
            )
        };
        sum += usize::try_from(length).expect("good and whole") + count;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parsers_agree() {
        for (head, bytes) in HEADS {
            let sums = PARSERS.map(|(_, parser)| parser(bytes, 3));
            assert!(sums.iter().all(|sum| *sum == sums[0]), "{head}: {sums:?}");
        }
    }
}
