//! Routes: which handler answers which method and path.
//!
//! A [`Router`] collects; [`Routes`] is what the server makes of it once, and what every shard
//! looks requests up in. Nothing here knows of connections.

mod route;
mod routes;
mod state;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};

use crate::dispatch::{Dispatch, Rules};
use crate::error::{Error, Kind};
use crate::exact::Exact;
use crate::hooks::{After, Before, Hook, Hooks, OnError, Verdict};
use crate::hosts::{Host, Hosts};
use crate::response::Plain;
use crate::statistics::Counts;
use crate::{IntoResponse, Request, Response};

pub(crate) use self::route::{Handler, RouteOptions};
pub use self::route::{Route, any, delete, get, method, patch, post, put};
use self::routes::not_found;
pub(crate) use self::routes::{Found, Routes, Target, to_folder};
pub use self::state::with;

/// Handlers by method and path.
///
/// A path is matched segment by segment: `/orders/{id}` takes one segment, `/files/{*rest}` the
/// rest of the path, which is not empty. A segment that is spelled out wins over a parameter. The
/// path of a request is matched as it was sent; parameters are percent-decoded.
///
/// What Wharf answers by itself: HEAD as the path's GET without the body; OPTIONS with the methods
/// that the path allows; `405 Method Not Allowed` with Allow where only the method is wrong; and
/// `404 Not Found` where there is no [fallback](Router::fallback).
///
/// ```
/// use wharf::{Error, Request, Router};
///
/// fn greet(request: &Request) -> Result<String, Error> {
///     let name: &str = request.param("name")?;
///     Ok(format!("Hello, {name}!\n"))
/// }
///
/// let orders = Router::new()
///     .get("/", |_| "all orders")
///     .get("/{id}", |request| -> Result<String, Error> {
///         Ok(format!("order {}", request.param::<u64>("id")?))
///     });
/// let router = Router::new().get("/hello/{name}", greet).nest("/orders", orders);
/// # let _ = router;
/// ```
#[derive(Default)]
pub struct Router {
    routes: Vec<Entry>,
    fallbacks: Vec<Entry>,
    /// Around every route, also those that are added later.
    hooks: Hooks,
    /// For every route that does not say otherwise, also those that are added later.
    body_bytes: Option<usize>,
    /// The same.
    timeout: Option<Duration>,
    connect: Option<Route>,
}

/// A route and where it stands.
struct Entry {
    /// None: every host that has no routes of its own.
    host: Option<Host>,
    path: String,
    route: Route,
}

/// What [`Router::routes`] tells of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteInfo<'r> {
    /// The method; `None` for [every one](any).
    pub method: Option<&'r Method>,
    /// The [host](Router::host) that it is for; `None` for every one that has no routes of its own.
    pub host: Option<&'r str>,
    /// The path with its parameters in braces.
    pub path: &'r str,
    /// What [`Route::name`] was given.
    pub name: Option<&'r str>,
}

impl fmt::Display for RouteInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.method.map_or("*", Method::as_str);
        write!(f, "{method:7} {}{}", self.host.unwrap_or(""), self.path)?;
        self.name.map_or(Ok(()), |name| write!(f, "  {name}"))
    }
}

impl Router {
    /// No routes.
    pub fn new() -> Router {
        Router::default()
    }

    /// Adds a route that was set up by hand.
    pub fn route(mut self, path: &str, route: Route) -> Router {
        self.routes.push(Entry { host: None, path: path.to_owned(), route });
        self
    }

    /// Adds the routes of `router` below `prefix`. Its `/` becomes the prefix itself, its hooks
    /// stay around its own routes.
    pub fn nest(mut self, prefix: &str, router: Router) -> Router {
        let prefix = prefix.trim_end_matches('/');
        let (routes, fallbacks) = router.into_entries();
        let is_folder = |entry: &&Entry| entry.path == "/" && entry.route.is_folder;
        if !prefix.is_empty() {
            self.routes.extend(routes.iter().filter(is_folder).map(|entry| {
                let mut route = get(to_folder);
                route.hooks = entry.route.hooks.clone();
                Entry { host: entry.host.clone(), path: prefix.to_owned(), route }
            }));
        }
        let under = |mut entry: Entry| {
            entry.path = match entry.path.as_str() {
                "/" if !prefix.is_empty() && !entry.route.is_folder => prefix.to_owned(),
                path => format!("{prefix}{path}"),
            };
            entry
        };
        self.routes.extend(routes.into_iter().map(under));
        self.fallbacks.extend(fallbacks.into_iter().map(under));
        self
    }

    /// Answers requests to `host` by `router` and nothing else: what it has no route for is `404`,
    /// unless it has a [fallback](Router::fallback). Requests to other hosts go on to the routes
    /// that were given without a host.
    ///
    /// A host is a name such as `api.example.com`, or `*.example.com` for every name below
    /// `example.com`, but not for itself; a name that is spelled out wins over a `*`, a longer one
    /// over a shorter. Letter case and the port do not count.
    ///
    /// ```
    /// use wharf::Router;
    ///
    /// let router = Router::new()
    ///     .get("/", |_| "the site")
    ///     .host("api.example.com", Router::new().get("/", |_| "the API"))
    ///     .host("*.example.com", Router::new().get("/", |request| {
    ///         format!("the site of {}", request.host().unwrap_or_default())
    ///     }));
    /// # let _ = router;
    /// ```
    pub fn host(mut self, host: &str, mut router: Router) -> Router {
        router.ensure_fallback(None);
        let (routes, fallbacks) = router.into_entries();
        let host = Host::new(host);
        let at = |mut entry: Entry| {
            entry.host.get_or_insert_with(|| host.clone());
            entry
        };
        self.routes.extend(routes.into_iter().map(at));
        self.fallbacks.extend(fallbacks.into_iter().map(at));
        self
    }

    /// Puts a hook around every route of this router. See [`hooks`](crate::hooks) for the order and
    /// for those that Wharf brings.
    pub fn hook(mut self, hook: impl Hook) -> Router {
        self.hooks.push(hook);
        self
    }

    /// Runs a function before every handler of this router; it may attach data to the request, or
    /// answer in the handler's place.
    ///
    /// ```
    /// use wharf::{Request, Router, StatusCode};
    ///
    /// fn only_local(request: &mut Request) -> Result<(), StatusCode> {
    ///     if request.peer().ip().is_loopback() { Ok(()) } else { Err(StatusCode::FORBIDDEN) }
    /// }
    ///
    /// let router = Router::new().get("/", |_| "hello, you here").before(only_local);
    /// # let _ = router;
    /// ```
    pub fn before<F, V>(self, function: F) -> Router
    where
        F: Fn(&mut Request) -> V + Send + Sync + 'static,
        V: Verdict + 'static,
    {
        self.hook(Before(function))
    }

    /// Runs a function after every handler of this router; what it returns is answered.
    ///
    /// ```
    /// let router = wharf::Router::new()
    ///     .get("/", |_| "fresh")
    ///     .after(|_, response| response.header("cache-control", "no-store"));
    /// # let _ = router;
    /// ```
    pub fn after<F>(self, function: F) -> Router
    where
        F: Fn(&Request, Response) -> Response + Send + Sync + 'static,
    {
        self.hook(After(function))
    }

    /// Runs a function on every answer of this router whose status is 400 or above, whoever made
    /// it: a handler, an error that a handler returned, a panic, another hook further in, or
    /// Wharf. The request is missing if not even its head was whole.
    ///
    /// Answers that Wharf makes before any handler could run get here on the I/O thread, so the
    /// function must not block.
    ///
    /// ```
    /// use wharf::{Response, Router};
    ///
    /// let router = Router::new().get("/", |_| "hello").on_error(|_, response| {
    ///     let status = response.status();
    ///     Response::json(format!("{{\"status\":{}}}", status.as_u16())).with_status(status)
    /// });
    /// # let _ = router;
    /// ```
    pub fn on_error<F>(self, function: F) -> Router
    where
        F: Fn(Option<&Request>, Response) -> Response + Send + Sync + 'static,
    {
        self.hook(OnError(function))
    }

    /// The length of a body that the routes of this router accept, in bytes, unless a route or a
    /// router further in [says otherwise](Route::body_limit).
    pub fn body_limit(mut self, bytes: usize) -> Router {
        self.body_bytes = Some(bytes);
        self
    }

    /// How long requests to the routes of this router may take, unless a route or a router further
    /// in [says otherwise](Route::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Router {
        self.timeout = Some(timeout);
        self
    }

    /// The routes in the order they were added, nested ones too; fallbacks are not among them.
    ///
    /// ```
    /// use wharf::{Router, get};
    ///
    /// let router = Router::new()
    ///     .route("/orders/{id}", get(|_| "an order").name("show_order"));
    /// for route in router.routes() {
    ///     println!("{route}"); // GET     /orders/{id}  show_order
    /// }
    /// assert_eq!(router.routes().next().unwrap().path, "/orders/{id}");
    /// ```
    pub fn routes(&self) -> impl Iterator<Item = RouteInfo<'_>> {
        self.routes.iter().map(|entry| RouteInfo {
            method: entry.route.method.as_ref(),
            host: entry.host.as_ref().map(Host::as_str),
            path: &entry.path,
            name: entry.route.name.as_deref(),
        })
    }

    /// Answers what no route's path matches. The fallback of a [nested](Router::nest) router
    /// answers for what lies below its prefix.
    pub fn fallback<F, R>(self, handler: F) -> Router
    where
        F: Fn(&Request) -> R + Send + Sync + 'static, // `impl Trait` needs `+ use<>`
        R: IntoResponse,
    {
        self.fallback_route(any(handler))
    }

    /// A fallback that was set up by hand.
    pub fn fallback_route(mut self, route: Route) -> Router {
        self.fallbacks.push(Entry { host: None, path: "/".to_owned(), route });
        self
    }

    /// The routes and fallbacks, each with what the router has for all of them.
    fn into_entries(self) -> (Vec<Entry>, Vec<Entry>) {
        let (mut routes, mut fallbacks) = (self.routes, self.fallbacks);
        for Entry { route, .. } in routes.iter_mut().chain(&mut fallbacks) {
            route.hooks.wrap_in(&self.hooks);
            route.options.body_bytes = route.options.body_bytes.or(self.body_bytes);
            route.options.timeout = route.options.timeout.or(self.timeout);
        }
        (routes, fallbacks)
    }

    /// Adds what a host is answered whose routes have no fallback.
    fn ensure_fallback(&mut self, host: Option<Host>) {
        if self.fallbacks.iter().any(|entry| entry.path == "/" && entry.host == host) {
            return;
        }
        let mut route = any(|_| not_found());
        route.is_not_found = true;
        self.fallbacks.push(Entry { host, path: "/".to_owned(), route });
    }

    /// Answers CONNECT (RFC 9110 section 9.3.6), whose target is no path but
    /// [a host and a port](Request::host); without this it is `501 Not Implemented`. A handler that
    /// agrees returns [`Response::tunnel`].
    pub fn connect<F, R>(mut self, handler: F) -> Router
    where
        F: Fn(&Request) -> R + Send + Sync + 'static, // `impl Trait` needs `+ use<>`
        R: IntoResponse,
    {
        self.connect = Some(method(Method::CONNECT, handler));
        self
    }

    /// The routes, once and for all.
    pub(crate) fn build(mut self) -> Result<Routes, Error> {
        // What there is no route for is answered behind the hooks, at every host.
        let mut hosts = vec![None];
        hosts.extend(self.routes.iter().map(|entry| entry.host.clone()));
        for host in hosts {
            self.ensure_fallback(host);
        }
        let mut built = Routes::behind(self.hooks.clone());
        if let Some(mut route) = self.connect.take() {
            route.hooks.wrap_in(&self.hooks);
            built.connect = Some(built.targets.len());
            built.targets.push(Target::new(route, "CONNECT".to_owned(), Arc::new([])));
        }
        let (routes, fallbacks) = self.into_entries();
        for entry in routes {
            built.add(entry)?;
        }
        for mut entry in fallbacks {
            if entry.route.is_not_found {
                entry.route.handler = built.not_found();
            }
            // Without hooks the lookup answers by itself.
            if !entry.route.is_not_found || !entry.route.hooks.is_empty() {
                built.add_fallback(entry)?;
            }
        }
        built.hook_what_no_route_takes();
        built.hooks.check()?;
        built.targets.iter().try_for_each(|target| target.hooks.check())?;
        if let Some(never) = built.targets.iter().find(|it| it.options.concurrency == Some(0)) {
            return Err(Error::new(
                Kind::Configuration,
                format!("the concurrency of {} is 0: it could not run, give it 1", never.name),
            ));
        }
        let never = |target: &&Target| target.options.timeout == Some(Duration::ZERO);
        if let Some(never) = built.targets.iter().find(never) {
            return Err(Error::new(
                Kind::Configuration,
                format!("the timeout of {} is 0: give it the time that it may take", never.name),
            ));
        }
        Ok(built)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes().map(|route| route.to_string())).finish()
    }
}
