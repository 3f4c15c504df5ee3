//! Answers of a hostile program: whatever a handler puts into its answer, a client reads one answer,
//! with fields that are the handler's or Wharf's, and what stands behind it is the next one.
//!
//! Bytes of 0x1e cut the input: the status, by `+` before it a body that flows; names and values of
//! fields, which a 0x1f keeps apart; and last the body.
#![no_main]

use std::cell::RefCell;
use std::sync::Mutex;

use wharf::test::App;
use wharf::{Request, Response, Router, StatusCode, get};

type Answer = (u16, Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>, bool);

static ANSWER: Mutex<Option<Answer>> = Mutex::new(None);
const OWN: [&str; 6] =
    ["content-type", "date", "content-length", "transfer-encoding", "connection", "vary"];

thread_local! {
    static APP: RefCell<App> = RefCell::new(App::new(
        Router::new().route("/", get(answer).inline()).route("/end", get(|_| "the end").inline()),
    ));
}

fn answer(_: &Request) -> Response {
    let (status, fields, body, flows) = ANSWER.lock().unwrap().take().unwrap();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = Response::new(status);
    for (name, value) in &fields {
        response = response.header(name.as_slice(), value.as_slice());
    }
    match flows {
        true => response.body_reader(std::io::Cursor::new(body)),
        false => response.body(body),
    }
}

/// Reads the answer to GET at the start of `bytes`. What is behind it.
fn read<'a>(bytes: &'a [u8], given: &[(Vec<u8>, Vec<u8>)], body: &[u8]) -> (&'a [u8], bool) {
    let mut fields = vec![httparse::EMPTY_HEADER; given.len() + OWN.len()];
    let mut answer = httparse::Response::new(&mut fields);
    let parsed = answer.parse(bytes).expect("a head that others can read");
    let httparse::Status::Complete(length) = parsed else { panic!("half a head") };
    let (status, mut rest) = (answer.code.unwrap(), &bytes[length..]);
    assert!(status >= 200, "no handler sends an interim answer");
    let value = |name: &str| {
        let is_it = |field: &&httparse::Header| field.name.eq_ignore_ascii_case(name);
        let mut values = answer.headers.iter().filter(is_it).map(|field| field.value);
        let first = values.next();
        assert!(values.next().is_none() || !OWN[1..5].contains(&name), "{name} is there twice");
        first
    };
    for field in answer.headers.iter() {
        let is_given = given.iter().any(|(name, value)| {
            field.name.as_bytes().eq_ignore_ascii_case(name)
                && field.value.trim_ascii() == value.trim_ascii()
        });
        let is_own = OWN.contains(&&*field.name.to_ascii_lowercase());
        assert!(is_given || is_own, "{field:?} is nobody's");
    }
    let is_close = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(b"close");
    let closes =
        value("connection").is_some_and(|value| value.split(|&byte| byte == b',').any(is_close));
    if value("transfer-encoding").is_some() {
        assert!(value("content-length").is_none());
        let mut data = Vec::new();
        while let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) {
            let (chunk, behind) = rest[line..].split_at(usize::try_from(size).unwrap());
            data.extend_from_slice(chunk);
            rest = behind.strip_prefix(b"\r\n").expect("a chunk ends in CRLF");
            if size == 0 {
                break;
            }
        }
        assert!(status >= 500 || data == body);
    } else if let Some(length) = value("content-length") {
        assert!(status != 204);
        let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
        if status != 304 {
            let (data, behind) = rest.split_at(length);
            assert!(status >= 400 || status == 205 || data == body || body == b"the end");
            rest = behind;
        }
    } else {
        assert!(matches!(status, 204 | 304) || closes, "an answer whose end nobody sees");
    }
    (rest, closes)
}

fn answer_of(input: &[u8]) -> Answer {
    let mut parts: Vec<&[u8]> = input.split(|&byte| byte == 0x1e).collect();
    let body = parts.pop().unwrap_or_default().to_vec();
    let mut parts = parts.into_iter();
    let status = std::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let flows = status.starts_with('+');
    let status = status.trim_start_matches('+').parse().unwrap_or(200);
    let fields = parts.map(|part| {
        let mut sides = part.splitn(2, |&byte| byte == 0x1f).map(<[u8]>::to_vec);
        (sides.next().unwrap_or_default(), sides.next().unwrap_or_default())
    });
    (status, fields.collect(), body, flows)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let input = answer_of(input);
    let (_, given, body, _) = &input;
    *ANSWER.lock().unwrap() = Some(input.clone());
    let requests = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /end HTTP/1.1\r\nhost: a\r\n\r\n";
    let answers = APP.with_borrow(|app| app.send_bytes(requests));
    let (rest, closes) = read(&answers, given, body);
    if closes {
        return assert!(rest.is_empty(), "{rest:?} behind the last answer");
    }
    let (rest, _) = read(rest, &[], b"the end");
    assert!(answers.ends_with(b"the end") && rest.is_empty());
});
