//! The router and the percent-decoding of parameters, against a plain search of all routes.
#![no_main]

use wharf::test::App;
use wharf::{Error, Request, Response, Router, get};

/// Parameters are called by their place: `a`, `b`.
const ROUTES: [&str; 12] = [
    "/",
    "/x",
    "/x/",
    "/x/y",
    "/x/{a}",
    "/x/{a}/y",
    "/x/{a}/{b}",
    "/x/y/z",
    "/{a}",
    "/{a}/y/{b}",
    "/f/{*a}",
    "/f/g/{a}",
];

thread_local! {
    static APP: App = App::new(ROUTES.iter().enumerate().fold(Router::new(), |router, (at, path)| {
        let handler = move |request: &Request| -> Result<Response, Error> {
            let mut text = format!("{at}");
            for name in ["a", "b"].into_iter().filter(|name| path.contains(&format!("{name}}}"))) {
                text = format!("{text}\n{}", request.param::<String>(name)?);
            }
            Ok(Response::text(text))
        };
        router.route(path, get(handler).inline())
    }));
}

/// What of the path each parameter takes, if the route matches; and how special it is: the less,
/// segment by segment, the more.
fn matched<'p>(route: &str, path: &'p str) -> Option<(Vec<u8>, Vec<&'p str>)> {
    let (mut rank, mut taken) = (Vec::new(), Vec::new());
    let (mut segments, mut rest) = (route[1..].split('/').peekable(), &path[1..]);
    while let Some(segment) = segments.next() {
        if segment.starts_with("{*") {
            rank.push(2);
            taken.push(rest);
            return (!rest.is_empty()).then_some((rank, taken));
        }
        let (part, behind) = match (segments.peek(), rest.split_once('/')) {
            (Some(_), Some((part, behind))) => (part, behind),
            (None, None) => (rest, ""),
            _ => return None,
        };
        let is_parameter = segment.starts_with('{');
        if is_parameter && !part.is_empty() {
            taken.push(part);
        } else if segment != part {
            return None;
        }
        rank.push(u8::from(is_parameter));
        rest = behind;
    }
    Some((rank, taken))
}

fn decoded(text: &str) -> Option<String> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = escape.filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        match value.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// The status and the body of the one answer.
fn answer(bytes: &[u8]) -> (u16, String) {
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

libfuzzer_sys::fuzz_target!(|path: &str| {
    let path = format!("/{path}");
    let is_visible = path.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    if !is_visible || path.contains(['?', '#']) || path.len() > 4_000 {
        return;
    }
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let (status, body) = answer(&APP.with(|app| app.send_bytes(request)));
    let found = ROUTES
        .iter()
        .enumerate()
        .filter_map(|(at, route)| matched(route, &path).map(|(rank, taken)| (rank, at, taken)));
    // What is no path is refused, whatever the routes are.
    if status == 400 && body.contains("target") {
        return;
    }
    match found.min() {
        None => assert_eq!(status, 404, "{path}"),
        Some((_, at, taken)) => {
            let taken: Option<Vec<String>> = taken.into_iter().map(decoded).collect();
            match taken {
                None => assert_eq!(status, 400, "{path}: {body}"),
                Some(taken) => {
                    let lines = [vec![at.to_string()], taken].concat();
                    assert_eq!((status, body), (200, lines.join("\n")), "{path}");
                }
            }
        }
    }
});
