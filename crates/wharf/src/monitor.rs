//! A server seen from any thread, its own handlers included: its counts, its routes, and both as
//! metrics in Prometheus' text format.

use std::fmt::{self, Write as _};
use std::sync::{Arc, OnceLock, Weak};

use http::header::{self, HeaderValue};

use crate::Response;
use crate::dispatch::{Mode, RouteStatistics};
use crate::error::{Error, Kind};
use crate::shared::Shared;
use crate::statistics::{CloseReason, Statistics};

/// Watches a server; given to it by [`Server::monitor`](crate::Server::monitor), and cloned into
/// whatever wants to know.
///
/// ```no_run
/// use wharf::{Monitor, Request, Router, Server};
///
/// # fn main() -> Result<(), wharf::Error> {
/// let monitor = Monitor::new();
/// let watched = monitor.clone();
/// let router = Router::new().get("/metrics", move |_: &Request| watched.metrics());
/// Server::bind("127.0.0.1:8080")?.monitor(&monitor).serve(router)
/// # }
/// ```
///
/// What it tells is for those who run the server: serve it where only they can ask, behind
/// credentials or from a second server on another port.
#[derive(Clone, Default)]
pub struct Monitor {
    /// Weak, since the server's own routes may hold the monitor.
    server: Arc<OnceLock<Weak<Shared>>>,
}

impl Monitor {
    /// A monitor for one server.
    pub fn new() -> Monitor {
        Monitor::default()
    }

    /// The server's counts now. Before it has started and after it has ended all are 0.
    pub fn statistics(&self) -> Statistics {
        self.shared().map(|shared| shared.statistics()).unwrap_or_default()
    }

    /// What is known of each route now; see [`ServerHandle::routes`](crate::ServerHandle::routes).
    /// Before the server has started and after it has ended there is none.
    pub fn routes(&self) -> Vec<RouteStatistics> {
        self.shared().map(|shared| shared.route_statistics()).unwrap_or_default()
    }

    /// Both as an answer, in the text format that Prometheus and others read.
    ///
    /// | metric | what it is |
    /// |---|---|
    /// | `wharf_connections`, `wharf_workers`, `wharf_queued_requests` | how many there are now |
    /// | `wharf_connections_accepted_total`, `wharf_requests_total`, `wharf_overloaded_total`, `wharf_panics_total` | how many since the start; see [`Statistics`] |
    /// | `wharf_connections_closed_total{reason}` | the same for each [`CloseReason`] |
    /// | `wharf_route_calls_total{route}` | calls that have ended |
    /// | `wharf_route_inline{route}` | 1 where calls run on the I/O thread now, else 0 |
    /// | `wharf_route_seconds{route,quantile}` | the median, and what 99 of 100 calls took at the most; see [`RouteStatistics`] |
    /// | `wharf_route_promotions_total{route}`, `wharf_route_demotions_total{route}` | changes from the pool to the I/O thread and back |
    pub fn metrics(&self) -> Response {
        const TEXT: HeaderValue =
            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        Response::text(text(&self.statistics(), &self.routes()))
            .set_header(header::CONTENT_TYPE, TEXT)
    }

    /// Watches that server from now on.
    pub(crate) fn watch(&self, shared: &Arc<Shared>) -> Result<(), Error> {
        self.server.set(Arc::downgrade(shared)).map_err(|_| {
            let message = "a monitor watches one server: give each one of its own";
            Error::new(Kind::Configuration, message)
        })
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.server.get().and_then(Weak::upgrade)
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("runs", &self.shared().is_some()).finish()
    }
}

fn text(now: &Statistics, routes: &[RouteStatistics]) -> String {
    let mut text = Text::default();
    text.one("connections", "gauge", now.connections);
    text.one("workers", "gauge", now.workers);
    text.one("queued_requests", "gauge", now.queued_requests);
    text.one("connections_accepted_total", "counter", now.accepted);
    text.one("requests_total", "counter", now.requests);
    text.one("overloaded_total", "counter", now.overloaded);
    text.one("panics_total", "counter", now.panics);
    text.begin("connections_closed_total", "counter");
    for &reason in CloseReason::ALL {
        text.sample("connections_closed_total", &[("reason", reason.name())], now.closed(reason));
    }
    let mut each = |name, kind, value: fn(&RouteStatistics) -> u64| {
        text.begin(name, kind);
        for route in routes {
            text.sample(name, &[("route", &route.route)], value(route));
        }
    };
    each("route_calls_total", "counter", |route| route.calls);
    each("route_inline", "gauge", |route| u64::from(route.mode == Mode::Inline));
    each("route_promotions_total", "counter", |route| route.promotions);
    each("route_demotions_total", "counter", |route| route.demotions);
    text.begin("route_seconds", "gauge");
    for route in routes {
        for (quantile, took) in [("0.5", route.p50), ("0.99", route.p99)] {
            let labels = [("route", &*route.route), ("quantile", quantile)];
            text.sample("route_seconds", &labels, took.as_secs_f64());
        }
    }
    text.0
}

/// Metrics, one line each. Writing to it cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn begin(&mut self, name: &str, kind: &str) {
        let _ = writeln!(self.0, "# TYPE wharf_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let _ = write!(self.0, "wharf_{name}");
        for (number, (label, of)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let of = of.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(self.0, "{before}{label}=\"{of}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, value: impl fmt::Display) {
        self.begin(name, kind);
        self.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_named_labelled_and_escaped() {
        let mut text = Text::default();
        text.one("workers", "gauge", 3);
        text.sample("route_inline", &[("route", "GET /\"a\\b\"\n"), ("quantile", "0.5")], 1e-6);
        assert_eq!(
            text.0,
            "# TYPE wharf_workers gauge\nwharf_workers 3\n\
             wharf_route_inline{route=\"GET /\\\"a\\\\b\\\"\\n\",quantile=\"0.5\"} 0.000001\n"
        );
    }

    #[test]
    fn a_monitor_without_a_server_tells_of_none() {
        let monitor = Monitor::new();
        assert_eq!((monitor.statistics().requests, monitor.routes().len()), (0, 0));
        let text = text(&monitor.statistics(), &monitor.routes());
        assert!(text.contains("wharf_requests_total 0\n") && !text.contains("route=\""), "{text}");
    }
}
