//! What runs around handlers: before them, after them, and on answers that Wharf makes itself.
//!
//! A [`Hook`] is given to a [`Router`](crate::Router::hook) or to a single
//! [`Route`](crate::Route::hook). It covers all routes of that router, whether they are added
//! before or after it, those of [nested](crate::Router::nest) routers too.
//!
//! # Order
//!
//! Hooks lie around a handler like the layers of an onion. Those of an outer router lie outside of
//! those of an inner one, these outside of those of the route, and in one place the hook that is
//! added first lies outermost:
//!
//! ```text
//!   request ──► outer.before ──► inner.before ──► route.before ──► handler
//!                                                                     │
//!   answer ◄─── outer.after  ◄── inner.after  ◄── route.after  ◄──────┘
//! ```
//!
//! - A `before` that answers ends the way in: what lies further in does not run, its own hook's
//!   `after` neither; the `after` of the hooks outside of it get its answer.
//! - They run on the thread where the handler runs: on a worker, where they may block, or for an
//!   inline route on the I/O thread, where they must not.
//! - A handler's panic is a `500` already when the hooks get it; a hook's own panic becomes one,
//!   and the hooks outside of it get that.
//! - Paths and methods that no route has (`404`, `405`, OPTIONS) are answered behind the hooks too:
//!   those of the router whose fallback would answer, and those that all routes of the path share.
//!
//! What is refused before any handler could run (a head that is not HTTP, a body too long or too
//! slow, no worker free) meets [`Hook::refused`] instead, on the I/O thread.
//!
//! Routes without hooks pay nothing for them.
//!
//! ```
//! use wharf::{Request, Response, Router, StatusCode};
//!
//! #[derive(Clone)]
//! struct User(String);
//!
//! fn sign_in(request: &mut Request) -> Result<(), StatusCode> {
//!     let name = request.header("x-user").ok_or(StatusCode::UNAUTHORIZED)?.to_owned();
//!     request.extensions_mut().insert(User(name));
//!     Ok(())
//! }
//!
//! fn hello(request: &Request) -> Option<String> {
//!     request.extensions().get::<User>().map(|User(name)| format!("Hello, {name}!\n"))
//! }
//!
//! let members = Router::new().get("/hello", hello).before(sign_in);
//! let router = Router::new()
//!     .nest("/members", members)
//!     .after(|_, response| response.header("x-served-by", "wharf"));
//! # let _ = router;
//! ```

mod access_log;
#[cfg(feature = "auth")]
mod auth;
#[cfg(feature = "compression")]
mod compress;
mod cors;
#[cfg(feature = "compression")]
mod decompress;
#[cfg(feature = "etag")]
mod etag;
mod rate_limit;
mod request_id;
mod security_headers;

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use access_log::AccessLog;
#[cfg(feature = "auth")]
pub use auth::{RequireBasicAuth, RequireBearer};
#[cfg(feature = "compression")]
pub use compress::Compress;
pub use cors::Cors;
#[cfg(feature = "compression")]
pub use decompress::Decompress;
#[cfg(feature = "etag")]
pub use etag::Etag;
pub use rate_limit::RateLimit;
pub use request_id::{RequestId, RequestIds};
pub use security_headers::SecurityHeaders;

use crate::problem::word;
use crate::{Error, IntoResponse, Request, Response, StatusCode};

/// What runs around handlers. See the [module](self) for the order.
///
/// Each method has a default that changes nothing. A hook that is a single function is made by
/// [`Router::before`](crate::Router::before), [`after`](crate::Router::after) or
/// [`on_error`](crate::Router::on_error).
pub trait Hook: Send + Sync + 'static {
    /// Runs before the handler, and may attach data to the request's
    /// [extensions](Request::extensions_mut). `Some`: this is the answer, and the handler does not
    /// run.
    fn before(&self, request: &mut Request) -> Option<Response> {
        let _ = request;
        None
    }

    /// Runs after the handler, or after a hook further in that answered, and returns what is
    /// answered instead: most often the same response with a field more.
    fn after(&self, request: &Request, response: Response) -> Response {
        let _ = request;
        response
    }

    /// Runs once when a server starts, and keeps it from starting if the hook is set up wrongly.
    ///
    /// # Errors
    /// What is wrong, and what to do about it. The default finds nothing wrong.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Runs when Wharf answers by itself before any handler could run. Neither `before` nor
    /// `after` has run then. This is on the I/O thread, unless a request's
    /// [time](crate::Route::timeout) was over: it must not block, and a body that it gives the
    /// answer must be whole.
    fn refused(&self, refused: &Refused<'_>, response: Response) -> Response {
        let _ = refused;
        response
    }
}

impl<H: Hook + ?Sized> Hook for Arc<H> {
    fn before(&self, request: &mut Request) -> Option<Response> {
        (**self).before(request)
    }

    fn after(&self, request: &Request, response: Response) -> Response {
        (**self).after(request, response)
    }

    fn check(&self) -> Result<(), Error> {
        (**self).check()
    }

    fn refused(&self, refused: &Refused<'_>, response: Response) -> Response {
        (**self).refused(refused, response)
    }
}

/// What is known of a request that Wharf refused.
#[derive(Debug)]
pub struct Refused<'r> {
    request: Option<&'r Request>,
    peer: SocketAddr,
}

impl<'r> Refused<'r> {
    pub(crate) fn new(request: &'r Request) -> Refused<'r> {
        let known = request.has_head().then_some(request);
        Refused { request: known, peer: request.peer() }
    }

    /// The request, perhaps without its body. `None` if not even its head was whole.
    pub fn request(&self) -> Option<&'r Request> {
        self.request
    }

    /// The address at the other end of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// Who a request is from, as a hook found out and attached to its
/// [extensions](Request::extensions). The [access log](AccessLog) writes the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User(String);

impl User {
    /// A user of that name.
    pub fn new(name: impl Into<String>) -> User {
        User(name.into())
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// What a [`Router::before`](crate::Router::before) function returns: nothing, or whether it
/// answers in the handler's place.
///
/// `()` never answers; `Some(answer)` and `Err(answer)` do, `None` and `Ok(())` do not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a hook can return before a handler",
    label = "a hook returns `()`, `Option<answer>` or `Result<(), answer>`, where the answer is \
             something that a handler could return"
)]
pub trait Verdict {
    /// The answer in the handler's place, if there is one.
    fn into_answer(self) -> Option<Response>;
}

impl Verdict for () {
    fn into_answer(self) -> Option<Response> {
        None
    }
}

impl<R: IntoResponse> Verdict for Option<R> {
    fn into_answer(self) -> Option<Response> {
        self.map(IntoResponse::into_response)
    }
}

impl<R: IntoResponse> Verdict for Result<(), R> {
    fn into_answer(self) -> Option<Response> {
        self.err().map(IntoResponse::into_response)
    }
}

/// A function as a hook's `before`.
pub(crate) struct Before<F>(pub(crate) F);

impl<F, V> Hook for Before<F>
where
    F: Fn(&mut Request) -> V + Send + Sync + 'static,
    V: Verdict,
{
    fn before(&self, request: &mut Request) -> Option<Response> {
        (self.0)(request).into_answer()
    }
}

/// A function as a hook's `after`.
pub(crate) struct After<F>(pub(crate) F);

impl<F> Hook for After<F>
where
    F: Fn(&Request, Response) -> Response + Send + Sync + 'static,
{
    fn after(&self, request: &Request, response: Response) -> Response {
        (self.0)(request, response)
    }
}

/// A function that gets every answer of 400 and above.
pub(crate) struct OnError<F>(pub(crate) F);

impl<F> OnError<F>
where
    F: Fn(Option<&Request>, Response) -> Response + Send + Sync + 'static,
{
    fn apply(&self, request: Option<&Request>, response: Response) -> Response {
        match response.status().as_u16() {
            400.. => (self.0)(request, response),
            _ => response,
        }
    }
}

impl<F> Hook for OnError<F>
where
    F: Fn(Option<&Request>, Response) -> Response + Send + Sync + 'static,
{
    fn after(&self, request: &Request, response: Response) -> Response {
        self.apply(Some(request), response)
    }

    fn refused(&self, refused: &Refused<'_>, response: Response) -> Response {
        self.apply(refused.request(), response)
    }
}

/// Hooks, outermost first. Empty for most routes, and then nothing is allocated.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Vec<Arc<dyn Hook>>);

impl Hooks {
    pub(crate) fn push(&mut self, hook: impl Hook) {
        self.0.push(Arc::new(hook));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts `outer` around these.
    pub(crate) fn wrap_in(&mut self, outer: &Hooks) {
        self.0.splice(0..0, outer.0.iter().cloned());
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0.iter().try_for_each(|hook| hook.check())
    }

    /// Keeps only the outermost ones that `other` has too.
    pub(crate) fn keep_shared(&mut self, other: &Hooks) {
        let pairs = self.0.iter().zip(&other.0);
        let shared = pairs.take_while(|(mine, theirs)| Arc::ptr_eq(mine, theirs)).count();
        self.0.truncate(shared);
    }

    /// Runs `handler` behind the hooks. `panicked` makes the answer to a hook's panic.
    pub(crate) fn around(
        &self,
        request: &mut Request,
        handler: impl FnOnce(&mut Request) -> Response,
        panicked: impl Fn(Box<dyn Any + Send>) -> Response,
    ) -> Response {
        let mut entered = 0;
        let mut answer = None;
        for hook in &self.0 {
            match catch_unwind(AssertUnwindSafe(|| hook.before(request))) {
                Ok(None) => entered += 1,
                Ok(Some(response)) => answer = Some(response.selected(request).checked()),
                Err(panic) => answer = Some(panicked(panic)),
            }
            if answer.is_some() {
                break;
            }
        }
        let response = answer.unwrap_or_else(|| handler(request));
        let mut response = word(response.with_cause_told(request), Some(request));
        for hook in self.0[..entered].iter().rev() {
            let changed = catch_unwind(AssertUnwindSafe(|| hook.after(request, response)));
            let selected = |changed: Response| changed.selected(request).checked();
            response = changed.map_or_else(&panicked, selected);
        }
        response
    }

    /// What is answered in place of Wharf's own refusal.
    pub(crate) fn refused(
        &self,
        request: &Request,
        response: Response,
        panicked: impl Fn(Box<dyn Any + Send>) -> Response,
    ) -> Response {
        let refused = Refused::new(request);
        let response = word(response, refused.request());
        let response = self.0.iter().rev().fold(response, |response, hook| {
            let changed = catch_unwind(AssertUnwindSafe(|| hook.refused(&refused, response)));
            changed.map_or_else(&panicked, Response::checked)
        });
        if response.body_bytes().is_none() {
            tracing::error!("a hook's answer to a refused request is not sent: its body streams");
            return Response::new(StatusCode::INTERNAL_SERVER_ERROR);
        }
        response
    }
}
