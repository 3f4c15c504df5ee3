//! A route: a method, its handler, and how the handler is run.

use super::*;

/// A handler whose type is forgotten. An answer that is plain is returned, any other put into the
/// place for it: so what nearly all answers have in them is all that is handed on, and what a type
/// of answer never has is not looked for.
pub(crate) type Handler =
    Box<dyn Fn(&Request, &mut Option<Response>) -> Option<Plain> + Send + Sync>;

/// A method, its handler, and how the handler is run. Made by [`get`], [`post`] and their like.
pub struct Route {
    /// None: every method.
    pub(super) method: Option<Method>,
    pub(super) handler: Handler,
    pub(super) options: RouteOptions,
    pub(super) hooks: Hooks,
    pub(super) name: Option<Cow<'static, str>>,
    /// It stands for a fallback that there is not.
    pub(super) is_not_found: bool,
    /// Its path ends in a slash that is a part of it, also when it is nested.
    pub(super) is_folder: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteOptions {
    /// None: the server's.
    pub(crate) dispatch: Option<Dispatch>,
    pub(crate) body_bytes: Option<usize>,
    /// None: as long as it takes.
    pub(crate) timeout: Option<Duration>,
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
    pub(super) fn new<F, R>(method: Option<Method>, handler: F) -> Route
    where
        F: Fn(&Request) -> R + Send + Sync + 'static, // `impl Trait` needs `+ use<>`
        R: IntoResponse,
    {
        Route {
            method,
            handler: Box::new(move |request, other| {
                handler(request).into_response().or_into(other)
            }),
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

    /// How long a request may take from when its handler could run, on the worker pool. Default: as
    /// long as it takes.
    ///
    /// When that time is over before a worker has taken the request, its handler does not run: it
    /// is answered `503 Service Unavailable` with Retry-After as soon as a worker gets to it, so
    /// that a server which is behind does not work for clients that have given up.
    ///
    /// When the handler runs already it is told, and nothing more, since a thread cannot be ended
    /// from outside: [`Request::is_cancelled`] becomes true, what was given to
    /// [`Request::on_cancel`] is called, and a body that it still [reads](Route::streaming) ends
    /// with [`BodyError::Timeout`](crate::BodyError::Timeout). What it then answers is sent, however
    /// late. [`Request::deadline`] tells it beforehand how much time there is. Bodies that flow
    /// behind the answer's head have all the time that they take, and calls on the I/O thread are
    /// over before anybody could tell them anything.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wharf::{Request, Router, StatusCode, get};
    ///
    /// fn search(request: &Request) -> Result<String, StatusCode> {
    ///     for _part in 0..100 {
    ///         if request.is_cancelled() {
    ///             return Err(StatusCode::GATEWAY_TIMEOUT);
    ///         }
    ///         // Look through this part.
    ///     }
    ///     Ok("nothing found".to_owned())
    /// }
    ///
    /// let route = get(search).timeout(Duration::from_secs(2));
    /// let router = Router::new().route("/search", route);
    /// # let _ = router;
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Route {
        self.options.timeout = Some(timeout);
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
                F: Fn(&Request) -> R + Send + Sync + 'static, // `impl Trait` needs `+ use<>`
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
                    F: Fn(&Request) -> R + Send + Sync + 'static, // `impl Trait` needs `+ use<>`
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
    F: Fn(&Request) -> R + Send + Sync + 'static, // `impl Trait` needs `+ use<>`
    R: IntoResponse,
{
    Route::new(Some(method), handler)
}

/// A route that answers every method for which its path has no route of its own.
pub fn any<F, R>(handler: F) -> Route
where
    F: Fn(&Request) -> R + Send + Sync + 'static, // `impl Trait` needs `+ use<>`
    R: IntoResponse,
{
    Route::new(None, handler)
}

impl Route {
    pub(super) fn method_name(&self) -> &str {
        self.method.as_ref().map_or("any method", Method::as_str)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({}, {:?})", self.method_name(), self.options)
    }
}
