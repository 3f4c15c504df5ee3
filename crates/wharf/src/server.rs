//! Starting, running and stopping a server.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wharf_port::{Choice, Config, ListenOptions, Listener, Port};

use crate::dispatch::{Dispatch, RouteStatistics, Rules};
use crate::error::{Error, Kind};
use crate::shard::{self, Drained, Shard};
use crate::shared::Shared;
use crate::statistics::Statistics;
use crate::{Limits, Monitor, Router};

/// Descriptors that the connections leave to the rest of the program.
const RESERVED_DESCRIPTORS: u64 = 128;
/// How long [`Server::serve`] drains when it is told to end.
const SERVE_GRACE: Duration = Duration::from_secs(10);

/// A server that has its address and is set up further, then started.
///
/// ```no_run
/// use wharf::{Router, Server};
///
/// fn main() -> Result<(), wharf::Error> {
///     let router = Router::new().get("/", |_| "Hello, world!\n");
///     Server::bind("127.0.0.1:8080")?.serve(router)
/// }
/// ```
#[must_use = "a server serves once it is started"]
pub struct Server {
    listener: Listener,
    limits: Limits,
    shards: Option<usize>,
    backend: Option<Backend>,
    dispatch: Dispatch,
    monitor: Option<Monitor>,
    on_start: Option<OnStart>,
}

type OnStart = Box<dyn FnOnce(SocketAddr) + Send>;

/// Which of the operating system's interfaces serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The best one that the system allows. This is the default.
    #[default]
    Auto,
    /// Linux's io_uring.
    Uring,
    /// epoll or kqueue.
    Readiness,
    /// Windows' I/O completion ports.
    Iocp,
}

impl Backend {
    fn choice(self) -> Choice {
        match self {
            Backend::Auto => Choice::Auto,
            Backend::Uring => Choice::Only(wharf_port::Backend::Uring),
            Backend::Readiness => Choice::Only(wharf_port::Backend::Readiness),
            Backend::Iocp => Choice::Only(wharf_port::Backend::Iocp),
        }
    }
}

impl Server {
    /// Takes an address: a [`SocketAddr`], a text such as `"127.0.0.1:8080"`, or a host name and a
    /// port. Port 0 lets the system choose a free one; see [`Server::local_address`].
    ///
    /// # Errors
    /// If the address is not one, is in use, or may not be listened on.
    pub fn bind(address: impl ToSocketAddrs + fmt::Debug) -> Result<Server, Error> {
        let resolved = address.to_socket_addrs().map_err(|error| {
            Error::with_source(Kind::Bind, format!("{address:?} is not an address"), error)
        })?;
        let mut failed = None;
        for candidate in resolved {
            match Listener::bind(candidate, &ListenOptions::default()) {
                Ok(listener) => {
                    return Ok(Server {
                        listener,
                        limits: Limits::default(),
                        shards: None,
                        backend: None,
                        dispatch: Dispatch::default(),
                        monitor: None,
                        on_start: None,
                    });
                }
                Err(error) => failed = Some((candidate, error)),
            }
        }
        Err(match failed {
            Some((candidate, error)) => cannot_listen(candidate, error),
            None => Error::new(Kind::Bind, format!("{address:?} stands for no address")),
        })
    }

    /// The address that clients connect to.
    pub fn local_address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Sets limits and timeouts.
    pub fn limits(mut self, limits: Limits) -> Server {
        self.limits = limits;
        self
    }

    /// Sets the number of shards, each a thread with connections of its own. Default: one a core.
    pub fn shards(mut self, shards: usize) -> Server {
        self.shards = Some(shards);
        self
    }

    /// Forces a backend, so that starting fails where the system has or allows it not. Default:
    /// what the environment variable `WHARF_BACKEND` says (`auto`, `uring`, `readiness` or
    /// `iocp`), else [`Backend::Auto`].
    pub fn backend(mut self, backend: Backend) -> Server {
        self.backend = Some(backend);
        self
    }

    /// Sets where the handlers of routes run that do not say so themselves. Default
    /// [`Dispatch::Adaptive`].
    ///
    /// ```no_run
    /// # use wharf::{Error, Router, Server, get};
    /// # fn main() -> Result<(), Error> {
    /// use wharf::Dispatch;
    ///
    /// // Handlers that all ask a database, and one that does not.
    /// let router = Router::new()
    ///     .get("/orders", |_| "from the database")
    ///     .route("/health", get(|_| "well").inline());
    /// Server::bind("127.0.0.1:8080")?.dispatch(Dispatch::Pooled).serve(router)
    /// # }
    /// ```
    pub fn dispatch(mut self, dispatch: Dispatch) -> Server {
        self.dispatch = dispatch;
        self
    }

    /// Has `monitor` watch this server, once it has started.
    pub fn monitor(mut self, monitor: &Monitor) -> Server {
        self.monitor = Some(monitor.clone());
        self
    }

    /// Calls `tell` with the address once the server serves and, in [`serve`](Server::serve),
    /// listens for signals: the time to print a line.
    ///
    /// ```no_run
    /// # use wharf::{Error, Router, Server};
    /// # fn main() -> Result<(), Error> {
    /// Server::bind("127.0.0.1:0")?
    ///     .on_start(|address| println!("listening on http://{address}"))
    ///     .serve(Router::new())
    /// # }
    /// ```
    pub fn on_start(mut self, tell: impl FnOnce(SocketAddr) + Send + 'static) -> Server {
        self.on_start = Some(Box::new(tell));
        self
    }

    /// Starts serving on threads of its own.
    ///
    /// # Errors
    /// If routes conflict, a limit cannot be, the [monitor](Server::monitor) watches another server,
    /// or the system refuses a thread or its I/O interface.
    pub fn start(self, router: Router) -> Result<ServerHandle, Error> {
        let address = self.local_address();
        let choice = self.choice()?;
        let mut limits = self.limits;
        limits.check()?;
        let routes = router.build()?;
        let count = self.shards.unwrap_or_else(default_shards);
        if count == 0 {
            return Err(Error::new(Kind::Configuration, "a server needs at least one shard"));
        }
        let config = make_room(&mut limits, choice, count);
        let listeners =
            self.listener.spread(count).map_err(|error| cannot_listen(address, error))?;
        let hands_over = listeners.len() < count;
        let workers = limits.workers;
        let rules = Rules::new(self.dispatch, limits.inline_budget);
        let shared = Arc::new(Shared::new(routes, rules, limits, count, workers));
        if let Some(monitor) = &self.monitor {
            monitor.watch(&shared)?;
        }
        let mut handle = ServerHandle { shared, shards: Vec::new(), address };
        let (started, starts) = mpsc::channel();
        let mut listeners = listeners.into_iter();
        for number in 0..count {
            let listener = listeners.next();
            let shared = handle.shared.clone();
            let (config, started) = (config.clone(), started.clone());
            let shard = thread::Builder::new()
                .name(format!("wharf-shard-{number}"))
                .spawn(move || {
                    let port = Port::open(choice, &config);
                    run_shard(number, port, listener, hands_over, shared, &started)
                })
                .map_err(|error| system("a thread could not be started", error))?;
            handle.shards.push(shard);
        }
        drop(started);
        let mut log = None;
        for _ in 0..count {
            match starts.recv() {
                Ok(Ok(line)) => log = Some(line),
                Ok(Err(error)) => return Err(system("the server could not start", error)),
                Err(_) => return Err(Error::new(Kind::System, "a shard died while starting")),
            }
        }
        if let Some(tell) = self.on_start {
            tell(address);
        }
        if let Some(line) = log {
            tracing::info!("serving on http://{address} with {count} shards through {line}");
        }
        Ok(handle)
    }

    /// Starts serving and does not return until Ctrl-C is pressed or the process is told to end
    /// (SIGTERM or SIGHUP; on Windows a close of the console). The server then drains for at most
    /// 10 seconds. Without the feature `signals` it serves until the process ends.
    ///
    /// # Errors
    /// As for [`start`](Server::start).
    pub fn serve(self, router: Router) -> Result<(), Error> {
        #[cfg(feature = "signals")]
        crate::signals::listen()?;
        let handle = self.start(router)?;
        #[cfg(feature = "signals")]
        crate::signals::wait();
        // Nothing ends this wait; the process ends around it.
        #[cfg(not(feature = "signals"))]
        std::sync::Barrier::new(2).wait();
        handle.shutdown(SERVE_GRACE);
        Ok(())
    }

    fn choice(&self) -> Result<Choice, Error> {
        match (self.backend, std::env::var("WHARF_BACKEND")) {
            (Some(backend), _) => Ok(backend.choice()),
            (None, Ok(name)) => Choice::from_str(&name).map_err(|error| {
                Error::with_source(Kind::Configuration, "the variable WHARF_BACKEND", error)
            }),
            (None, Err(_)) => Ok(Choice::Auto),
        }
    }
}

fn run_shard(
    number: usize,
    port: io::Result<Port>,
    listener: Option<Listener>,
    hands_over: bool,
    shared: Arc<Shared>,
    started: &mpsc::Sender<io::Result<String>>,
) -> Option<Drained> {
    let accepts_for_all = hands_over && number == 0;
    let opened = port.and_then(|port| {
        let line = match port.fallback_reason() {
            Some(reason) => format!("{} ({reason})", port.backend()),
            None => port.backend().to_string(),
        };
        Ok((Shard::new(port, listener, accepts_for_all, shared, number)?, line))
    });
    // Nobody listens any more if another shard could not start: then this one ends too.
    let shard = match opened {
        Ok((shard, line)) => started.send(Ok(line)).ok().map(|()| shard)?,
        Err(error) => {
            let _ = started.send(Err(error));
            return None;
        }
    };
    match shard.run() {
        Ok(drained) => Some(drained),
        Err(error) => {
            tracing::error!("shard {number} ended: {error}");
            None
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.local_address())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A running server. Dropping it stops the server at once; [`shutdown`](ServerHandle::shutdown)
/// lets it finish what it has begun.
#[must_use = "dropping the handle stops the server"]
pub struct ServerHandle {
    shared: Arc<Shared>,
    shards: Vec<JoinHandle<Option<Drained>>>,
    address: SocketAddr,
}

impl ServerHandle {
    /// The address that clients connect to.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The server's counts now.
    pub fn statistics(&self) -> Statistics {
        self.shared.statistics()
    }

    /// Where the calls of each route run now and how they went, in the order in which the routes
    /// were added, fallbacks last.
    ///
    /// ```
    /// # use wharf::{Router, Server};
    /// # let server = Server::bind("127.0.0.1:0")?.start(Router::new().get("/", |_| "hello"))?;
    /// for route in server.routes() {
    ///     println!("{}: {:?}, 99 % within {:?}", route.route, route.mode, route.p99);
    /// }
    /// # Ok::<(), wharf::Error>(())
    /// ```
    pub fn routes(&self) -> Vec<RouteStatistics> {
        self.shared.route_statistics()
    }

    /// Stops accepting, answers what has been asked, closes idle connections, and after `grace` at
    /// the most cuts those that are left. Returns when no connection is left.
    ///
    /// Handlers are not interrupted; those that still run when the time is up are counted, and
    /// their threads end with them.
    pub fn shutdown(mut self, grace: Duration) -> Drained {
        self.stop(grace)
    }

    fn stop(&mut self, grace: Duration) -> Drained {
        let started = Instant::now();
        self.shared.start_drain(grace);
        let mut all = Drained::default();
        for shard in self.shards.drain(..) {
            // A shard that panicked was reported by its own panic; it has no connections left.
            if let Ok(Some(drained)) = shard.join() {
                all.drained += drained.drained;
                all.cut += drained.cut;
            }
        }
        self.shared.pool.close();
        let left = grace.saturating_sub(started.elapsed());
        all.still_running = self.shared.pool.join(left);
        all
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        if !self.shards.is_empty() {
            self.stop(Duration::ZERO);
        }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("address", &self.address).finish_non_exhaustive()
    }
}

fn default_shards() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Bounds the connections by what there is room for: the process's descriptors, and beyond these
/// what the ports can hold without. Returns how the ports are to be set up for it.
fn make_room(limits: &mut Limits, choice: Choice, shards: usize) -> Config {
    let descriptors = descriptors_allow();
    let mut config = shard::port_config(limits);
    config.unsent_bytes /= shards as u64;
    if limits.connections > descriptors {
        config.direct_sockets = wharf_port::direct_sockets_max(choice);
        // Its own share for each shard, the listener's included.
        config.plain_sockets = descriptors / shards + 1;
        let direct = (config.direct_sockets as usize).saturating_mul(shards);
        limits.connections = limits.connections.min(descriptors.saturating_add(direct));
    }
    config
}

/// Connections that there are descriptors for.
fn descriptors_allow() -> usize {
    match wharf_port::descriptor_limit() {
        Some(limit) => {
            usize::try_from(limit.saturating_sub(RESERVED_DESCRIPTORS)).unwrap_or(usize::MAX).max(1)
        }
        None => usize::MAX,
    }
}

fn cannot_listen(address: SocketAddr, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => ": another program uses it; choose another port",
        io::ErrorKind::AddrNotAvailable => ": it is not an address of this machine",
        io::ErrorKind::PermissionDenied => ": ports below 1024 may need more rights",
        _ => "",
    };
    Error::with_source(Kind::Bind, format!("cannot listen on {address}{hint}"), error)
}

fn system(what: &'static str, error: io::Error) -> Error {
    Error::with_source(Kind::System, what, error)
}
