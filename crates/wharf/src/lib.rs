//! An HTTP server library: completion ports, zero copies, plain functions as handlers.
//!
//! A program makes a [`Router`] of its handlers, binds a [`Server`] and serves:
//!
//! ```no_run
//! use wharf::{Error, Request, Router, Server};
//!
//! fn hello(request: &Request) -> Result<String, Error> {
//!     Ok(format!("Hello, {}!\n", request.param::<&str>("name")?))
//! }
//!
//! fn main() -> Result<(), Error> {
//!     Server::bind("127.0.0.1:8080")?.serve(Router::new().get("/hello/{name}", hello))
//! }
//! ```
//!
//! # Handlers
//!
//! A handler is a function or closure that takes a `&Request` and returns what
//! [can be answered with](IntoResponse): texts, bytes, statuses, [`Json`], [`Html`], files, an
//! `Option` or a `Result` of these. It may block, and starts when its request is whole. A [`Request`]
//! gives out views of the bytes as they were received; errors pass through `?`. State that handlers
//! share is what their closures capture; [`with`] writes the closure:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use wharf::{Request, Router, with};
//!
//! #[derive(Default)]
//! struct Shop {
//!     visits: AtomicU64,
//! }
//!
//! fn visit(shop: &Shop, _: &Request) -> String {
//!     format!("visit {}\n", shop.visits.fetch_add(1, Ordering::Relaxed) + 1)
//! }
//!
//! let shop = Arc::new(Shop::default());
//! let router = Router::new()
//!     .get("/visit", with(&shop, visit))
//!     .get("/count", move |_| shop.visits.load(Ordering::Relaxed).to_string());
//! ```
//!
//! Where a handler runs is measured. A route's calls begin on a pool of worker threads; if they
//! prove fast they are moved to the I/O thread, which saves the way to a worker and back, and a slow
//! one moves them back. [`Route::adaptive`] has the rules and their limits, above all this one: a
//! handler that waits for another request to the same server has to say
//! [`pooled()`](Route::pooled). A route or a [server](Server::dispatch) that says where its
//! handlers run is obeyed, and [`ServerHandle::routes`] tells where they are:
//!
//! ```
//! use wharf::{Router, get};
//!
//! let router = Router::new()
//!     .get("/orders", |_| "measured")
//!     .route("/health", get(|_| "on the I/O thread").inline())
//!     .route("/report", get(|_| "on a worker").pooled());
//! # let _ = router;
//! ```
//!
//! What a request says can be had as typed values, which borrow from it where they can:
//! [`param`](Request::param) from the path, `query`, `form` and `json` by way of serde,
//! `multipart` for forms with files, [`cookie`](Request::cookie),
//! [`bearer_token`](Request::bearer_token). What does not fit is refused by `?` with the right
//! status and a [`Problem`] that says where. A program's own errors say what the client is told by
//! [`ToProblem`]; `?` takes them too, and the log has the cause.
//!
//! ```
//! # #[cfg(feature = "json")] mod it {
//! use serde::Deserialize;
//! use wharf::{Error, Request, Router, StatusCode};
//!
//! #[derive(Deserialize)]
//! struct NewOrder<'r> {
//!     item: &'r str,
//!     count: u32,
//! }
//!
//! fn create(request: &Request) -> Result<(StatusCode, String), Error> {
//!     let NewOrder { item, count } = request.json()?; // 400, 413, 415 or 422
//!     if count > 100 {
//!         return Err(Error::request(StatusCode::CONFLICT, "there are not so many"));
//!     }
//!     std::fs::write("orders.log", item)?; // 500, and the log says why
//!     Ok((StatusCode::CREATED, format!("{count} of {item}\n")))
//! }
//!
//! # fn add() {
//! let router = Router::new().post("/orders", create);
//! # let _ = router;
//! # }
//! # }
//! ```
//!
//! # Bodies that flow
//!
//! A body may be longer than memory, or not there yet. Answers are [read](Response::body_reader),
//! [iterated](Response::body_iter), [written](Response::body_writer), [pushed](Response::channel), or
//! [files](Response::file) that the kernel sends; [events](Response::events) are pushed to a page for
//! as long as it is open, without a thread. A request's body is read while it comes where the route
//! is [streaming](Route::streaming):
//!
//! ```
//! use std::fs::File;
//! use wharf::{Error, Event, Request, Response, Router, StatusCode, post};
//!
//! fn store(request: &Request) -> Result<StatusCode, Error> {
//!     std::io::copy(&mut request.reader(), &mut File::create("upload.bin")?)?;
//!     Ok(StatusCode::CREATED)
//! }
//!
//! let router = Router::new()
//!     .route("/upload", post(store).streaming().body_limit(1 << 30))
//!     .get("/events", |_| {
//!         let (events, response) = Response::events();
//!         std::thread::spawn(move || events.send(&Event::new("from any thread, at any time")));
//!         response
//!     });
//! # let _ = router;
//! ```
//!
//! # Around handlers
//!
//! [Hooks](hooks) run before and after the handlers of a router or a route: they let in, log, add
//! fields, and answer in a handler's place. Some come with the crate.
//!
//! ```
//! use wharf::Router;
//! use wharf::hooks::{AccessLog, SecurityHeaders};
//!
//! let router = Router::new()
//!     .get("/", |_| "hello")
//!     .after(|_, response| response.header("x-served-by", "wharf"))
//!     .hook(SecurityHeaders::new())
//!     .hook(AccessLog::tracing());
//! # let _ = router;
//! ```
//!
//! # Servers
//!
//! [`Server::serve`] runs until Ctrl-C or SIGTERM and then drains. [`Server::start`] returns a
//! [`ServerHandle`] instead, for a program that does other things too, and for tests:
//!
//! ```
//! use std::time::Duration;
//! use wharf::{Router, Server};
//!
//! let server = Server::bind("127.0.0.1:0")?.start(Router::new().get("/", |_| "hello"))?;
//! let address = server.local_address();
//! // ... clients connect to `address` ...
//! let drained = server.shutdown(Duration::from_secs(5));
//! assert_eq!(drained.cut, 0);
//! # Ok::<(), wharf::Error>(())
//! ```
//!
//! Each core has a shard: a thread that owns its connections and its completion port (io_uring, I/O
//! completion ports, epoll or kqueue; see [`Backend`]). Every limit and timeout is on and can be set
//! in [`Limits`]. What happens is logged with [`tracing`](https://docs.rs/tracing), and counted in
//! [`Statistics`].
//!
//! # Further
//!
//! With the feature `test`, `wharf::test` asks routers without sockets. The repository has a guide
//! (`docs/guide`: errors, hooks, limits, testing, deploying, coming from other libraries) and examples
//! that are whole programs.
//!
//! # Features
//!
//! - `json` (default): [`Request::json`], [`Json`], members of a [`Problem`]; by `serde_json`.
//! - `form` (default): [`Request::form`] and [`Request::query`]; by `serde_html_form`.
//! - `multipart` (default): [`Request::multipart`].
//! - `basic-auth` (default): [`Request::basic_auth`]; by `base64`.
//! - `cookies`: `Response::cookie`; by `cookie`. [`Request::cookie`] is always there.
//! - `anyhow`: handlers may return `anyhow::Error`, and turn it into an [`Error`] with `?`.
//! - `files` (default): [`Response::file`], [`Files`].
//! - `auth`: the hooks `RequireBasicAuth` and `RequireBearer`.
//! - `compression`: the hooks `Compress` and `Decompress`, by brotli and gzip.
//! - `zstd`: the same by Zstandard, which needs a C compiler.
//! - `etag`: the hook `Etag`; by `sha2`.
//! - `test`: `wharf::test`, to try routers without sockets, or on a real server.
//! - `signals` (default): [`Server::serve`] listens for Ctrl-C and SIGTERM.
#![forbid(unsafe_code)]
// On docs.rs, items say which feature they need.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The guide's code, compiled and run.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../../docs/guide/getting-started.md")]
    struct GettingStarted;
    #[doc = include_str!("../../../docs/guide/handlers.md")]
    struct Handlers;
    #[doc = include_str!("../../../docs/guide/bodies.md")]
    struct Bodies;
    #[doc = include_str!("../../../docs/guide/errors.md")]
    struct Errors;
    #[doc = include_str!("../../../docs/guide/hooks.md")]
    struct Hooks;
    #[doc = include_str!("../../../docs/guide/limits.md")]
    struct Limits;
    #[doc = include_str!("../../../docs/guide/testing.md")]
    struct Testing;
    #[doc = include_str!("../../../docs/guide/deploying.md")]
    struct Deploying;
    #[doc = include_str!("../../../docs/guide/windows.md")]
    struct Windows;
    #[doc = include_str!("../../../docs/guide/performance.md")]
    struct Performance;
    #[doc = include_str!("../../../docs/guide/coming-from.md")]
    struct ComingFrom;
}

// The conformance suite's program is part of this crate's tests too, and names it as users do.
#[cfg(test)]
extern crate self as wharf;

mod admission;
mod cookies;
mod credentials;
mod dispatch;
mod error;
mod exact;
mod fields;
#[cfg(feature = "files")]
mod files;
pub mod hooks;
mod hosts;
mod html;
mod into_response;
mod limits;
mod mailbox;
mod monitor;
#[cfg(feature = "multipart")]
mod multipart;
mod pool;
mod problem;
mod redirect;
mod request;
mod response;
mod router;
mod selection;
mod server;
mod shard;
mod shared;
#[cfg(feature = "signals")]
mod signals;
#[cfg(test)]
mod simulation;
mod statistics;
mod stream;
mod sync;
#[cfg(feature = "test")]
pub mod test;
mod typed;
#[cfg(test)]
mod zero_copy;

#[cfg(feature = "cookies")]
pub use cookie;
#[cfg(feature = "basic-auth")]
pub use credentials::BasicAuth;
pub use dispatch::{Dispatch, Mode, RouteStatistics};
pub use error::Error;
#[cfg(feature = "files")]
pub use files::Files;
pub use html::{Escaped, Html};
pub use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header,
};
#[cfg(feature = "json")]
pub use into_response::Json;
pub use into_response::{IntoResponse, ResponseParts};
pub use limits::Limits;
pub use monitor::Monitor;
#[cfg(feature = "multipart")]
pub use multipart::{Multipart, MultipartLimits, Part};
pub use problem::{Problem, ToProblem};
pub use redirect::Redirect;
pub use request::{AsHeaderName, FromParam, Parsed, Request};
pub use response::{InvalidHeader, Response};
pub use router::{Route, RouteInfo, Router, any, delete, get, method, patch, post, put, with};
pub use selection::{Ranges, Validators};
pub use server::{Backend, Server, ServerHandle};
pub use shard::Drained;
pub use statistics::{CloseReason, Statistics};
pub use stream::{
    BodyError, BodyReader, BodySender, BodyWriter, Event, EventSender, SendError, Upgraded,
    UpgradedReader, UpgradedWriter,
};
