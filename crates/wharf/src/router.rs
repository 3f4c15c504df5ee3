//! Routes: which handler answers which method and path.
//!
//! A [`Router`] collects; [`Routes`] is what the server makes of it once, and what every shard
//! looks requests up in. Nothing here knows of connections.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};

use crate::error::{Error, Kind};
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
    routes: Vec<(String, Route)>,
    fallbacks: Vec<(String, Route)>,
}

/// A method, its handler, and how the handler is run. Made by [`get`], [`post`] and their like.
pub struct Route {
    /// None: every method.
    method: Option<Method>,
    handler: Handler,
    options: RouteOptions,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteOptions {
    pub(crate) mode: Mode,
    pub(crate) body_bytes: Option<usize>,
}

/// Where a handler runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// On the worker pool, free to block.
    #[default]
    Pooled,
    /// On the I/O thread.
    Inline,
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
        }
    }

    /// Runs the handler on the I/O thread, which saves the way to a worker and back. Only for
    /// handlers that never block and take microseconds: while one runs, every other connection of
    /// its shard waits.
    pub fn inline(mut self) -> Route {
        self.options.mode = Mode::Inline;
        self
    }

    /// Runs the handler on the worker pool, where it may block. This is the default.
    pub fn pooled(mut self) -> Route {
        self.options.mode = Mode::Pooled;
        self
    }

    /// The length of a body that this route accepts, in bytes; beyond it: 413. Default
    /// [`Limits::body_bytes`](crate::Limits::body_bytes).
    pub fn body_limit(mut self, bytes: usize) -> Route {
        self.options.body_bytes = Some(bytes);
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
        self.routes.push((path.to_owned(), route));
        self
    }

    /// Adds the routes of `router` below `prefix`. Its `/` becomes the prefix itself.
    pub fn nest(mut self, prefix: &str, router: Router) -> Router {
        let under = |path: String| match path.as_str() {
            "/" => prefix.to_owned(),
            _ => format!("{}{path}", prefix.trim_end_matches('/')),
        };
        self.routes.extend(router.routes.into_iter().map(|(path, route)| (under(path), route)));
        self.fallbacks
            .extend(router.fallbacks.into_iter().map(|(path, route)| (under(path), route)));
        self
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
        self.fallbacks.push(("/".to_owned(), route));
        self
    }

    /// The routes, once and for all.
    pub(crate) fn build(self) -> Result<Routes, Error> {
        let mut routes = Routes::default();
        for (path, route) in self.routes {
            routes.add(path, route)?;
        }
        for (path, route) in self.fallbacks {
            routes.add_fallback(path, route)?;
        }
        Ok(routes)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |(path, route): &(String, Route)| format!("{} {path}", route.method_name());
        f.debug_list().entries(self.routes.iter().map(name)).finish()
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
    /// Indexes of `endpoints` by path.
    paths: matchit::Router<usize>,
    endpoints: Vec<Endpoint>,
    targets: Vec<Target>,
    /// Prefixes and the targets for what is below them and matches no path, longest first.
    fallbacks: Vec<(String, usize)>,
}

/// A path and its handlers.
struct Endpoint {
    path: String,
    /// Indexes of `targets`. A path has few methods, so a list is searched faster than a map.
    by_method: Vec<(Method, usize)>,
    any: Option<usize>,
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
}

impl Target {
    /// Runs the handler. Its panic is its own: the client gets a 500, nobody else notices.
    pub(crate) fn call(&self, request: &Request, counts: &Counts) -> Response {
        let answer = catch_unwind(AssertUnwindSafe(|| (self.handler)(request)));
        answer.map_or_else(|panic| self.panicked(panic, counts), Response::checked)
    }

    #[cold]
    fn panicked(&self, panic: Box<dyn Any + Send>, counts: &Counts) -> Response {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!("the handler of {} panicked: {message}", self.name);
        counts.panics.fetch_add(1, Ordering::Relaxed);
        Response::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
    }
}

/// What a method and a path lead to.
pub(crate) enum Found {
    /// The number of a target.
    Target(usize),
    /// An answer that needs no handler.
    Answer(Response),
}

impl Routes {
    fn add(&mut self, path: String, route: Route) -> Result<(), Error> {
        if !path.starts_with('/') {
            return Err(Error::new(
                Kind::Configuration,
                format!("the route {} {path:?} has to begin with '/'", route.method_name()),
            ));
        }
        let endpoint = match self.endpoints.iter().position(|endpoint| endpoint.path == path) {
            Some(existing) => existing,
            None => self.add_endpoint(path, &route)?,
        };
        let endpoint = &mut self.endpoints[endpoint];
        let name = format!("{} {}", route.method_name(), endpoint.path);
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
        match route.method {
            Some(method) => endpoint.by_method.push((method, index)),
            None => endpoint.any = Some(index),
        }
        endpoint.allow = endpoint.allowed();
        let parameters = endpoint.parameters.clone();
        let (handler, options) = (route.handler, route.options);
        self.targets.push(Target { handler, options, name, parameters });
        Ok(())
    }

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
        let parameters = parameter_names(&path);
        self.endpoints.push(Endpoint {
            path,
            by_method: Vec::new(),
            any: None,
            allow: HeaderValue::from_static(""),
            parameters,
        });
        Ok(index)
    }

    fn add_fallback(&mut self, path: String, route: Route) -> Result<(), Error> {
        let prefix = path.trim_end_matches('/').to_owned();
        let name = format!("the fallback of {path}");
        if self.fallbacks.iter().any(|(existing, _)| *existing == prefix) {
            return Err(Error::new(
                Kind::Configuration,
                format!("{name} is there twice: remove one of the two"),
            ));
        }
        let (handler, options) = (route.handler, route.options);
        self.fallbacks.push((prefix, self.targets.len()));
        self.fallbacks.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        self.targets.push(Target { handler, options, name, parameters: Arc::new([]) });
        Ok(())
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

    pub(crate) fn target(&self, index: usize) -> &Target {
        &self.targets[index]
    }

    /// Looks a request up. `each_parameter` is told the bytes of the path that each parameter of
    /// the route took, in order.
    pub(crate) fn find(
        &self,
        method: &Method,
        path: &str,
        mut each_parameter: impl FnMut(&str),
    ) -> Found {
        let Ok(matched) = self.paths.at(path) else {
            return match self.fallback(path) {
                Some(target) => Found::Target(target),
                None => Found::Answer(Response::message(StatusCode::NOT_FOUND, "Not Found\n")),
            };
        };
        let endpoint = &self.endpoints[*matched.value];
        match endpoint.target(method) {
            Some(target) => {
                matched.params.iter().for_each(|(_, value)| each_parameter(value));
                Found::Target(target)
            }
            None => Found::Answer(endpoint.answer(method)),
        }
    }

    /// `OPTIONS *`: what the server as a whole can do (RFC 9110 section 9.3.7).
    pub(crate) fn options() -> Response {
        Response::new(StatusCode::NO_CONTENT)
            .header(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    }
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

    fn answer(&self, method: &Method) -> Response {
        if method == Method::OPTIONS {
            Response::new(StatusCode::NO_CONTENT).header(header::ALLOW, self.allow.clone())
        } else {
            Response::message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
                .header(header::ALLOW, self.allow.clone())
        }
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
        let found = routes.find(method, path, |value| parameters.push(value.to_owned()));
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
        let Found::Answer(answer) = routes.find(&Method::DELETE, "/a", |_| {}) else { panic!() };
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
