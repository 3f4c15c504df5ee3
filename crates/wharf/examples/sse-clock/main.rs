//! A page that shows what happens while it happens: server-sent events, a second's tick each.
//!
//! ```text
//! cargo run --release --example sse-clock            # or with an address: 127.0.0.1:8080
//! ```
//!
//! One thread serves all who listen, however many there are: it hands each tick to every stream
//! and waits for none. `clock` has the streams, this file the pages.

mod clock;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;

use wharf::{Error, Request, Response, Router, Server, StatusCode, get, with};

use crate::clock::Clock;

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let clock = Arc::new(Clock::new());
    let router = Router::new()
        .get("/", with(&clock, page))
        .get("/events", with(&clock, events))
        .route("/clock.js", get(|_| asset("text/javascript", include_str!("clock.js"))).inline())
        .route("/style.css", get(|_| asset("text/css", include_str!("style.css"))).inline());
    std::thread::spawn(move || clock.run());
    let announce = |address| _ = writeln!(io::stdout(), "listening on http://{address}");
    Server::bind(address.as_str())?.on_start(announce).serve(router)
}

/// The stream. A browser that lost it connects again by itself and says which event it saw last.
fn events(clock: &Clock, request: &Request) -> Response {
    let last_seen = request.last_event_id().and_then(|id| id.parse().ok());
    let (events, response) = Response::events();
    clock.subscribe(events, last_seen);
    response
}

/// The page as it is now, with the latest ticks. Its script goes on from there; without one the
/// page asks for itself again every few seconds.
fn page(clock: &Clock, _: &Request) -> Response {
    let (mut list, mut last) = (String::new(), 0);
    for tick in clock.latest(8) {
        last = last.max(tick.number);
        let _ = writeln!(list, "<li value=\"{}\"><time>{}</time></li>", tick.number, tick.time);
    }
    let page = format!(include_str!("page.html"), last = last, list = list);
    Response::html(page)
        .header("cache-control", "no-store")
        .header(
            "content-security-policy",
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        .header("x-content-type-options", "nosniff")
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    Response::new(StatusCode::OK)
        .header("content-type", content_type)
        .header("cache-control", "max-age=3600")
        .header("x-content-type-options", "nosniff")
        .body(text)
}
