//! A folder of files as a web site: pages, styles, pictures, with ranges, conditions and caching.
//!
//! ```text
//! cargo run --release --example static-site -- 127.0.0.1:8080 path/to/folder
//! ```
//!
//! Without a folder it serves its own `public`.

use wharf::hooks::SecurityHeaders;
use wharf::{Error, Files, Html, Request, Response, Router, Server, StatusCode};

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/static-site/public");
    let folder = arguments.next().unwrap_or_else(|| own.to_owned());
    // Browsers ask each time whether they still have the latest, and mostly get a 304.
    let site = Files::new(folder)?.precompressed(true).cache_control("no-cache")?;
    let headers = SecurityHeaders::new().with("content-security-policy", "default-src 'self'");
    let router = Router::new().files("/", site).on_error(not_found_page).hook(headers);
    let announce = |address| println!("listening on http://{address}");
    Server::bind(address.as_str())?.on_start(announce).serve(router)
}

/// Who follows a dead link gets a page; other failures stay as they are.
fn not_found_page(_: Option<&Request>, response: Response) -> Response {
    if response.status() != StatusCode::NOT_FOUND {
        return response;
    }
    let page = Html(include_str!("not-found.html"));
    wharf::IntoResponse::into_response((StatusCode::NOT_FOUND, page))
}
