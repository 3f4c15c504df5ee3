//! Routes: which handler answers which method and path.
//!
//! A [`Router`] collects; [`Routes`] is what the server makes of it once, and what every shard
//! looks requests up in. Nothing here knows of connections.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};

use crate::dispatch::{Dispatch, Rules};
use crate::error::{Error, Kind};
use crate::exact::Exact;
use crate::hooks::{After, Before, Hook, Hooks, OnError, Verdict};
use crate::hosts::{Host, Hosts};
use crate::statistics::Counts;
use crate::{IntoResponse, Request, Response};

/// A handler whose type is forgotten.
pub(crate) type Handler = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

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
    connect: Option<Route>,
}

/// A route and where it stands.
struct Entry {
    /// None: every host that has no routes of its own.
    host: Option<Host>,
    path: String,
    route: Route,
}

/// A method, its handler, and how the handler is run. Made by [`get`], [`post`] and their like.
pub struct Route {
    /// None: every method.
    method: Option<Method>,
    handler: Handler,
    options: RouteOptions,
    hooks: Hooks,
    name: Option<Cow<'static, str>>,
    /// It stands for a fallback that there is not.
    is_not_found: bool,
    /// Its path ends in a slash that is a part of it, also when it is nested.
    is_folder: bool,
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

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteOptions {
    /// None: the server's.
    pub(crate) dispatch: Option<Dispatch>,
    pub(crate) body_bytes: Option<usize>,
    /// The handler runs before the body has come.
    pub(crate) streaming: bool,
    /// None: the pool's share for one route.
    pub(crate) concurrency: Option<usize>,
}

impl RouteOptions {
    /// How it is decided where the handler runs. One that reads its body as it comes waits for the
    /// client, so there is nothing to find out.
    pub(crate) fn dispatch(&self, rules: &Rules) -> Dispatch {
        match self.dispatch.unwrap_or(rules.dispatch) {
            Dispatch::Adaptive if self.streaming => Dispatch::Pooled,
            dispatch => dispatch,
        }
    }
}

impl Route {
    fn new<F, R>(method: Option<Method>, handler: F) -> Route
    where
        F: Fn(&Request) -> R + Send + Sync + 'static,
        R: IntoResponse,
    {
        Route {
            method,
            handler: Arc::new(move |request| handler(request).into_response()),
            options: RouteOptions::default(),
            hooks: Hooks::default(),
            name: None,
            is_not_found: false,
            is_folder: false,
        }
    }

    /// Keeps the slash of its path where it is nested, and redirects the path without it there.
    #[cfg(feature = "files")]
    pub(crate) fn folder(mut self) -> Route {
        self.is_folder = true;
        self
    }

    /// A name for lists of [routes](Router::routes).
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Route {
        self.name = Some(name.into());
        self
    }

    /// Puts a hook around this route alone, inside of its router's. See [`hooks`](crate::hooks).
    pub fn hook(mut self, hook: impl Hook) -> Route {
        self.hooks.push(hook);
        self
    }

    /// Runs the handler on the I/O thread, which saves the way to a worker and back, from the
    /// first call on and whatever it takes. Only for handlers that never block and take
    /// microseconds: while one runs, every other connection of its shard waits.
    ///
    /// An [adaptive](Route::adaptive) route gets there by itself; this is for one that is to be
    /// there at once, or to stay there on a machine whose other work makes it look slow.
    pub fn inline(mut self) -> Route {
        self.options.dispatch = Some(Dispatch::Inline);
        self
    }

    /// Runs the handler on the worker pool, where it may block, always.
    ///
    /// Say this of a handler that is fast as a rule and may yet wait for long: for a lock that is
    /// held for seconds, for another server, and above all for another request to this server,
    /// which the waiting shard could not serve.
    pub fn pooled(mut self) -> Route {
        self.options.dispatch = Some(Dispatch::Pooled);
        self
    }

    /// Runs the handler where measuring says, whatever the [server](crate::Server::dispatch) does
    /// by default.
    ///
    /// The route's calls start on the worker pool. Once 99 % of them were within
    /// [`Limits::inline_budget`](crate::Limits::inline_budget) and none took 20 times that, over
    /// 1,000 calls and 100 ms at least, they run on the I/O thread. There a call that takes 20
    /// budgets, or more than 1 % of calls beyond the budget, bring the route back to the pool, on
    /// all shards at once, for twice as long as the last time or longer. So a handler that may
    /// block is safe by default, and one that never does is served as by an event loop.
    ///
    /// What to know of it:
    ///
    /// - A call that is slow for the first time, after all were fast, holds up the other
    ///   connections of its shard, once. If that may not be, say [`pooled`](Route::pooled).
    /// - Only time counts. What a thread waits for a processor is taken off on Linux; elsewhere, and
    ///   where a virtual machine stands still, a route may be demoted for nothing.
    /// - What a handler does is measured for all who call the route together. A route that is fast
    ///   for most and slow for few had better be two.
    ///
    /// [`ServerHandle::routes`](crate::ServerHandle::routes) tells where each route stands, and
    /// every change is logged at debug.
    pub fn adaptive(mut self) -> Route {
        self.options.dispatch = Some(Dispatch::Adaptive);
        self
    }

    /// Runs the handler as soon as the request's head has come; it reads the body while that
    /// arrives, with [`Request::reader`]. The body takes no more memory than a window
    /// ([`Limits::stream_bytes`](crate::Limits::stream_bytes)), so its
    /// [limit](Route::body_limit) may be high; the handler holds a worker for as long as it reads,
    /// so there can be no more such requests at one time than [workers](crate::Limits::workers).
    pub fn streaming(mut self) -> Route {
        self.options.streaming = true;
        self
    }

    /// The length of a body that this route accepts, in bytes; beyond it: 413. Default
    /// [`Limits::body_bytes`](crate::Limits::body_bytes).
    pub fn body_limit(mut self, bytes: usize) -> Route {
        self.options.body_bytes = Some(bytes);
        self
    }

    /// How many of the route's calls may be on workers at one time, at least 1: as many as the
    /// database has connections, say. Further ones wait without a thread, up to
    /// [`Limits::queued_requests`](crate::Limits::queued_requests). Calls on the I/O thread do not
    /// count.
    ///
    /// Default: three quarters of [`Limits::workers`](crate::Limits::workers) (all but one of two
    /// or three), so that a route whose calls all block leaves threads to the others; all, if there
    /// is no other that runs on workers. A number given here replaces that share, so it may also
    /// be more.
    ///
    /// ```
    /// use wharf::{Router, get};
    ///
    /// // One report at a time, whatever the rest of the server does.
    /// let router = Router::new().route("/report", get(|_| "long").pooled().concurrency(1));
    /// # let _ = router;
    /// ```
    pub fn concurrency(mut self, calls: usize) -> Route {
        self.options.concurrency = Some(calls);
        self
    }
}

macro_rules! methods {
    ($($name:ident $method:ident $text:literal),*) => {
        $(
            #[doc = concat!("A route that answers ", $text, ", to be set up further and given to [`Router::route`].")]
            ///
            /// ```
            #[doc = concat!("use wharf::{Router, ", stringify!($name), "};")]
            ///
            #[doc = concat!("let router = Router::new().route(\"/ping\", ", stringify!($name), "(|_| \"pong\").inline());")]
            /// # let _ = router;
            /// ```
            pub fn $name<F, R>(handler: F) -> Route
            where
                F: Fn(&Request) -> R + Send + Sync + 'static,
                R: IntoResponse,
            {
                Route::new(Some(Method::$method), handler)
            }
        )*

        impl Router {
            $(
                #[doc = concat!("Answers ", $text, " of `path` with `handler`.")]
                pub fn $name<F, R>(self, path: &str, handler: F) -> Router
                where
                    F: Fn(&Request) -> R + Send + Sync + 'static,
                    R: IntoResponse,
                {
                    self.route(path, $name(handler))
                }
            )*
        }
    };
}

methods!(get GET "GET", post POST "POST", put PUT "PUT", patch PATCH "PATCH", delete DELETE "DELETE");

/// A route that answers `method`.
///
/// ```
/// use wharf::{Method, Router, method};
///
/// let purge = Method::from_bytes(b"PURGE").unwrap();
/// let router = Router::new().route("/cache/{key}", method(purge, |_| "gone"));
/// # let _ = router;
/// ```
pub fn method<F, R>(method: Method, handler: F) -> Route
where
    F: Fn(&Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    Route::new(Some(method), handler)
}

/// A route that answers every method for which its path has no route of its own.
pub fn any<F, R>(handler: F) -> Route
where
    F: Fn(&Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    Route::new(None, handler)
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
        F: Fn(&Request) -> R + Send + Sync + 'static,
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
        F: Fn(&Request) -> R + Send + Sync + 'static,
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
        let mut built = Routes { hooks: self.hooks.clone(), ..Routes::default() };
        if let Some(mut route) = self.connect.take() {
            route.hooks.wrap_in(&self.hooks);
            built.connect = Some(built.targets.len());
            built.targets.push(Target::new(route, "CONNECT".to_owned(), Arc::new([])));
        }
        let (routes, fallbacks) = self.into_entries();
        for entry in routes {
            built.add(entry)?;
        }
        for entry in fallbacks {
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
        Ok(built)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes().map(|route| route.to_string())).finish()
    }
}

impl Route {
    fn method_name(&self) -> &str {
        self.method.as_ref().map_or("any method", Method::as_str)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({}, {:?})", self.method_name(), self.options)
    }
}

/// The routes as the shards look them up.
#[derive(Default)]
pub(crate) struct Routes {
    /// For requests to hosts that have no table of their own.
    table: Table,
    hosts: Hosts<Table>,
    targets: Vec<Target>,
    /// The target for CONNECT.
    pub(crate) connect: Option<usize>,
    /// Methods that some route has and RFC 9110 does not know.
    own_methods: Vec<Method>,
    /// The outermost router's.
    hooks: Hooks,
}

/// The routes of a host, or of all others.
#[derive(Default)]
struct Table {
    /// Indexes of `endpoints` by path.
    paths: matchit::Router<usize>,
    /// The same of paths without parameters.
    exact: Exact,
    endpoints: Vec<Endpoint>,
    /// Prefixes and the targets for what is below them and matches no path, longest first.
    fallbacks: Vec<(String, usize)>,
}

/// A path and its handlers.
struct Endpoint {
    path: String,
    /// Indexes of `targets`. A path has few methods, so a list is searched faster than a map.
    by_method: Vec<(Method, usize)>,
    any: Option<usize>,
    /// What answers other methods, if that has hooks.
    otherwise: Option<usize>,
    /// The value of Allow.
    allow: HeaderValue,
    parameters: Arc<[Box<str>]>,
}

/// A handler with what is needed to run it.
pub(crate) struct Target {
    pub(crate) handler: Handler,
    pub(crate) options: RouteOptions,
    /// The route's name in logs: its method and path.
    pub(crate) name: String,
    /// The names of the path's parameters, in order.
    pub(crate) parameters: Arc<[Box<str>]>,
    hooks: Hooks,
}

impl Target {
    fn new(route: Route, name: String, parameters: Arc<[Box<str>]>) -> Target {
        let Route { handler, options, hooks, .. } = route;
        Target { handler, options, name, parameters, hooks }
    }

    /// Runs the handler behind its hooks.
    #[inline]
    pub(crate) fn call(&self, request: &mut Request, counts: &Counts) -> Response {
        if self.hooks.is_empty() {
            return self.run(request, counts);
        }
        self.call_hooked(request, counts)
    }

    fn call_hooked(&self, request: &mut Request, counts: &Counts) -> Response {
        let handler = |request: &mut Request| self.run(request, counts);
        self.hooks.around(request, handler, |panic| panicked(&self.name, panic, counts))
    }

    /// A handler's panic is its own: the client gets a 500, nobody else notices.
    #[inline]
    fn run(&self, request: &Request, counts: &Counts) -> Response {
        let answer = || (self.handler)(request).selected(request);
        match catch_unwind(AssertUnwindSafe(answer)) {
            Ok(response) => response.checked(),
            Err(panic) => panicked(&self.name, panic, counts),
        }
    }
}

#[cold]
fn panicked(route: &str, panic: Box<dyn Any + Send>, counts: &Counts) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!("the handler of {route} panicked: {message}");
    counts.panics.fetch_add(1, Ordering::Relaxed);
    Response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
}

/// To the same path with a slash behind it, so that relative links of a page lead into the folder.
///
/// The location is relative, and begins with a dot: what the client has asked for cannot make it
/// another host (`//host`) or another scheme (`a:b`).
pub(crate) fn to_folder(request: &Request) -> Response {
    let last = request.path().rsplit('/').next().unwrap_or_default();
    let query = request.query_string();
    let mark = if query.is_empty() { "" } else { "?" };
    Response::new(StatusCode::MOVED_PERMANENTLY)
        .header(header::LOCATION, format!("./{last}/{mark}{query}"))
}

/// Methods that any server is expected to know, TRACE and CONNECT aside: those nobody is to use
/// here unless a route says so.
fn is_standard(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ]
    .contains(method)
}

fn not_implemented() -> Response {
    let message = "This server does not know the request's method.\n";
    Response::message(StatusCode::NOT_IMPLEMENTED, message)
}

fn not_found() -> Response {
    Response::message(StatusCode::NOT_FOUND, "Not Found\n")
}

/// What a method and a path lead to.
pub(crate) enum Found {
    /// The number of a target.
    Target(usize),
    /// An answer that needs no handler.
    Answer(Response),
}

impl Routes {
    fn add(&mut self, entry: Entry) -> Result<(), Error> {
        let Entry { host, path, route } = entry;
        if !path.starts_with('/') {
            return Err(Error::new(
                Kind::Configuration,
                format!("the route {} {path:?} has to begin with '/'", route.method_name()),
            ));
        }
        let at_host = host.as_ref().map_or("", Host::as_str).to_owned();
        let table = self.hosts.table_of(host, &mut self.table)?;
        let endpoint = match table.endpoints.iter().position(|endpoint| endpoint.path == path) {
            Some(existing) => existing,
            None => table.add_endpoint(path, &route)?,
        };
        let endpoint = &mut table.endpoints[endpoint];
        let name = format!("{} {at_host}{}", route.method_name(), endpoint.path);
        let taken = match &route.method {
            Some(method) => endpoint.by_method.iter().any(|(existing, _)| existing == method),
            None => endpoint.any.is_some(),
        };
        if taken {
            return Err(Error::new(
                Kind::Configuration,
                format!("the route {name} is there twice: remove one of the two"),
            ));
        }
        let index = self.targets.len();
        match &route.method {
            Some(method) => {
                endpoint.by_method.push((method.clone(), index));
                if !is_standard(method) {
                    self.own_methods.push(method.clone());
                }
            }
            None => endpoint.any = Some(index),
        }
        endpoint.allow = endpoint.allowed();
        let parameters = endpoint.parameters.clone();
        self.targets.push(Target::new(route, name, parameters));
        Ok(())
    }

    fn add_fallback(&mut self, entry: Entry) -> Result<(), Error> {
        let Entry { host, path, route } = entry;
        let prefix = path.trim_end_matches('/').to_owned();
        let name = format!("the fallback of {}{path}", host.as_ref().map_or("", Host::as_str));
        let table = self.hosts.table_of(host, &mut self.table)?;
        if table.fallbacks.iter().any(|(existing, _)| *existing == prefix) {
            return Err(Error::new(
                Kind::Configuration,
                format!("{name} is there twice: remove one of the two"),
            ));
        }
        table.fallbacks.push((prefix, self.targets.len()));
        table.fallbacks.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        self.targets.push(Target::new(route, name, Arc::new([])));
        Ok(())
    }

    /// Gives paths whose routes share hooks a target for the methods that they have no route for,
    /// so that `405` and OPTIONS are answered behind these hooks.
    fn hook_what_no_route_takes(&mut self) {
        let targets = &mut self.targets;
        let tables = std::iter::once(&mut self.table).chain(self.hosts.tables_mut());
        for endpoint in tables.flat_map(|table| &mut table.endpoints) {
            let mut indexes =
                endpoint.by_method.iter().map(|&(_, target)| target).chain(endpoint.any);
            let Some(first) = indexes.next() else { continue };
            let mut hooks = targets[first].hooks.clone();
            indexes.for_each(|other| hooks.keep_shared(&targets[other].hooks));
            if hooks.is_empty() {
                continue;
            }
            let allow = endpoint.allow.clone();
            let mut route = any(move |request| not_allowed(request.method(), &allow));
            route.hooks = hooks;
            route.options.body_bytes = targets[first].options.body_bytes;
            endpoint.otherwise = Some(targets.len());
            let name = format!("other methods of {}", endpoint.path);
            targets.push(Target::new(route, name, endpoint.parameters.clone()));
        }
    }

    /// All handlers, by their numbers.
    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    pub(crate) fn target(&self, index: usize) -> &Target {
        &self.targets[index]
    }

    /// What is answered in place of Wharf's own refusal: the route's hooks say, or the outermost
    /// router's where no route is known.
    pub(crate) fn refused(
        &self,
        request: &Request,
        response: Response,
        counts: &Counts,
    ) -> Response {
        let target = request.target.map(|target| &self.targets[target]);
        let hooks = target.map_or(&self.hooks, |target| &target.hooks);
        if hooks.is_empty() {
            return response;
        }
        let name = target.map_or("refused requests", |target| &target.name);
        hooks.refused(request, response, |panic| panicked(name, panic, counts))
    }

    /// Looks a request up whose path may have a route without parameters. None: look on.
    #[inline]
    pub(crate) fn find_exact(&self, method: &Method, path: &[u8]) -> Option<usize> {
        if !self.hosts.is_empty() {
            return None;
        }
        let endpoint = &self.table.endpoints[self.table.exact.find(path)?];
        endpoint.target(method).or(endpoint.otherwise)
    }

    /// Looks a request up. `each_parameter` is told the bytes of the path that each parameter of
    /// the route took, in order.
    pub(crate) fn find<'r>(
        &self,
        method: &Method,
        host: impl FnOnce() -> Option<&'r str>,
        path: &str,
        mut each_parameter: impl FnMut(&str),
    ) -> Found {
        let own =
            if self.hosts.is_empty() { None } else { host().and_then(|it| self.hosts.find(it)) };
        let table = own.unwrap_or(&self.table);
        let Ok(matched) = table.paths.at(path) else {
            return match table.fallback(path) {
                Some(target) => Found::Target(target),
                None if !self.knows(method) => Found::Answer(not_implemented()),
                None => Found::Answer(not_found()),
            };
        };
        let endpoint = &table.endpoints[*matched.value];
        match endpoint.target(method).or(endpoint.otherwise) {
            Some(target) => {
                matched.params.iter().for_each(|(_, value)| each_parameter(value));
                Found::Target(target)
            }
            None if !self.knows(method) => Found::Answer(not_implemented()),
            None => Found::Answer(not_allowed(method, &endpoint.allow)),
        }
    }

    /// Whether a method is known at all. One that is not gets 501 wherever it is tried (RFC 9110
    /// section 9.1).
    fn knows(&self, method: &Method) -> bool {
        is_standard(method) || self.own_methods.contains(method)
    }

    /// `OPTIONS *`: what the server as a whole can do (RFC 9110 section 9.3.7).
    pub(crate) fn options() -> Response {
        Response::new(StatusCode::NO_CONTENT)
            .header(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    }
}

impl Table {
    fn add_endpoint(&mut self, path: String, route: &Route) -> Result<usize, Error> {
        let index = self.endpoints.len();
        match self.paths.insert(path.clone(), index) {
            Ok(()) => {}
            Err(matchit::InsertError::Conflict { with }) => {
                return Err(self.conflict(&path, route, &with));
            }
            Err(error) => {
                return Err(Error::with_source(
                    Kind::Configuration,
                    format!("the route {} {path} is not a valid path", route.method_name()),
                    error,
                ));
            }
        }
        self.exact.insert(&path, index);
        let parameters = parameter_names(&path);
        self.endpoints.push(Endpoint {
            path,
            by_method: Vec::new(),
            any: None,
            otherwise: None,
            allow: HeaderValue::from_static(""),
            parameters,
        });
        Ok(index)
    }

    fn fallback(&self, path: &str) -> Option<usize> {
        let is_below = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.fallbacks.iter().find(|(prefix, _)| is_below(prefix)).map(|&(_, target)| target)
    }

    fn conflict(&self, path: &str, route: &Route, with: &str) -> Error {
        let other = self.endpoints.iter().find(|endpoint| endpoint.path == with);
        let other = other.map_or_else(|| with.to_owned(), Endpoint::name);
        Error::new(
            Kind::Configuration,
            format!(
                "the routes {} {path} and {other} match the same paths: \
                 rename the parameters to be alike, or change one of the paths",
                route.method_name()
            ),
        )
    }
}

/// The answer to a method that a path has no route for.
fn not_allowed(method: &Method, allow: &HeaderValue) -> Response {
    let response = if method == Method::OPTIONS {
        Response::new(StatusCode::NO_CONTENT)
    } else {
        Response::message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
    };
    response.header(header::ALLOW, allow.clone())
}

impl Endpoint {
    fn target(&self, method: &Method) -> Option<usize> {
        let of = |wanted: &Method| {
            self.by_method.iter().find(|(method, _)| method == wanted).map(|&(_, target)| target)
        };
        of(method)
            .or_else(|| if method == Method::HEAD { of(&Method::GET) } else { None })
            .or_else(|| if self.answers_options(method) { None } else { self.any })
    }

    /// Whether OPTIONS is answered from the list of methods rather than by an `any` route.
    fn answers_options(&self, method: &Method) -> bool {
        method == Method::OPTIONS && !self.by_method.is_empty()
    }

    fn allowed(&self) -> HeaderValue {
        let mut names: Vec<&str> =
            self.by_method.iter().map(|(method, _)| method.as_str()).collect();
        for (implied, by) in [("HEAD", Some("GET")), ("OPTIONS", None)] {
            let has = by.is_none_or(|by| names.contains(&by));
            if has && !names.contains(&implied) {
                names.push(implied);
            }
        }
        // Methods are tokens, so they always make a value.
        HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
    }

    fn name(&self) -> String {
        let method = match self.by_method.first() {
            Some((method, _)) => method.as_str(),
            None => "any method",
        };
        format!("{method} {}", self.path)
    }
}

/// The names in braces, in order; `{{` and `}}` stand for braces.
fn parameter_names(path: &str) -> Arc<[Box<str>]> {
    let mut names = Vec::new();
    let mut rest = path;
    while let Some(open) = rest.find('{') {
        rest = &rest[open + 1..];
        if let Some(escaped) = rest.strip_prefix('{') {
            rest = escaped;
            continue;
        }
        let Some(close) = rest.find('}') else { break };
        names.push(rest[..close].trim_start_matches('*').into());
        rest = &rest[close + 1..];
    }
    names.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(routes: &Routes, method: &Method, path: &str) -> (Result<String, u16>, Vec<String>) {
        let mut parameters = Vec::new();
        let found = routes.find(method, || None, path, |value| parameters.push(value.to_owned()));
        let found = match found {
            Found::Target(target) => Ok(routes.target(target).name.clone()),
            Found::Answer(response) => Err(response.status().as_u16()),
        };
        (found, parameters)
    }

    fn refused(router: Router) -> String {
        match router.build() {
            Ok(_) => panic!("the router was accepted"),
            Err(error) => {
                assert!(error.is_configuration());
                error.to_string()
            }
        }
    }

    #[test]
    fn the_most_specific_route_wins_and_parameters_come_in_order() {
        let routes = Router::new()
            .get("/", |_| "")
            .get("/a/{x}/b/{y}", |_| "")
            .get("/a/fixed/b/{y}", |_| "")
            .get("/files/{*rest}", |_| "")
            .build()
            .unwrap();
        let get = |path| find(&routes, &Method::GET, path);
        assert_eq!(get("/").0, Ok("GET /".into()));
        assert_eq!(
            get("/a/1/b/2"),
            (Ok("GET /a/{x}/b/{y}".into()), vec!["1".to_owned(), "2".to_owned()])
        );
        assert_eq!(get("/a/fixed/b/2").0, Ok("GET /a/fixed/b/{y}".into()));
        assert_eq!(get("/files/x/y").1, ["x/y"]);
        assert_eq!(get("/files/").0, Err(404));
        assert_eq!(get("/none").0, Err(404));
    }

    #[test]
    fn methods_are_told_apart() {
        let routes = Router::new()
            .get("/a", |_| "")
            .post("/a", |_| "")
            .route("/any", any(|_| ""))
            .build()
            .unwrap();
        let status = |method: &Method, path| find(&routes, method, path).0;
        assert_eq!(status(&Method::POST, "/a"), Ok("POST /a".into()));
        assert_eq!(status(&Method::HEAD, "/a"), Ok("GET /a".into()), "HEAD is GET");
        assert_eq!(status(&Method::DELETE, "/a"), Err(405));
        assert_eq!(status(&Method::OPTIONS, "/a"), Err(204));
        assert_eq!(status(&Method::TRACE, "/any"), Ok("any method /any".into()));
        let Found::Answer(answer) = routes.find(&Method::DELETE, || None, "/a", |_| {}) else {
            panic!()
        };
        let allow: Vec<_> = answer.headers().filter(|(name, _)| *name == header::ALLOW).collect();
        assert_eq!(allow[0].1, "GET, POST, HEAD, OPTIONS");
    }

    #[test]
    fn nested_routers_keep_their_fallbacks() {
        let inner = Router::new().get("/", |_| "").get("/{id}", |_| "").fallback(|_| "");
        let routes = Router::new().nest("/orders", inner).get("/x", |_| "").build().unwrap();
        let get = |path| find(&routes, &Method::GET, path).0;
        assert_eq!(get("/orders"), Ok("GET /orders".into()));
        assert_eq!(get("/orders/7"), Ok("GET /orders/{id}".into()));
        assert_eq!(get("/orders/7/lines"), Ok("the fallback of /orders".into()));
        assert_eq!(get("/ordersx"), Err(404));
        assert_eq!(get("/other"), Err(404));
        let routes = Router::new().get("/x", |_| "").fallback(|_| "").build().unwrap();
        let status = |method: &Method, path| find(&routes, method, path).0;
        assert!(status(&Method::PUT, "/").is_ok());
        assert!(status(&Method::PUT, "/anything/at/all").is_ok());
        assert_eq!(status(&Method::PUT, "/x"), Err(405), "the path is there, the method is not");
    }

    #[test]
    fn conflicts_name_both_routes() {
        let message = refused(Router::new().get("/a/{id}", |_| "").post("/a/{name}", |_| ""));
        assert!(message.contains("POST /a/{name}") && message.contains("GET /a/{id}"), "{message}");
        let message = refused(Router::new().get("/a", |_| "").get("/a", |_| ""));
        assert!(message.contains("GET /a is there twice"), "{message}");
        let message = refused(Router::new().get("a", |_| ""));
        assert!(message.contains("begin with '/'"), "{message}");
        let message = refused(Router::new().route("/a", get(|_| "").concurrency(0)));
        assert!(message.contains("the concurrency of GET /a is 0"), "{message}");
        let message = refused(Router::new().get("/{", |_| ""));
        assert!(message.contains("not a valid path"), "{message}");
    }

    #[test]
    fn parameter_names_are_read_as_matchit_reads_them() {
        let names = |path| parameter_names(path).iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(names("/a/{x}/{{no}}/{y}-{*z}"), ["x", "y", "z"]);
        assert!(names("/plain").is_empty());
    }
}
