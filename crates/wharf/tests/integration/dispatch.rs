//! Where handlers run: on a worker or on the I/O thread, by measuring or as a route says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wharf::{
    Backend, Dispatch, Limits, Mode, Monitor, Request, RouteStatistics, Router, Server,
    ServerHandle, get,
};

use crate::support::{Answer, Client, eventually, on_every_backend, serve_with};

on_every_backend! {
    a_fast_route_becomes_inline,
    a_slow_route_never_becomes_inline,
    a_route_that_turns_slow_goes_back_to_the_pool,
    pipelined_requests_behind_a_stall_go_to_the_pool,
    a_route_and_a_server_that_say_are_obeyed,
    a_panic_of_an_inline_handler_costs_one_answer,
    metrics_tell_of_every_route,
}

/// Twenty of it, a stall, are far beyond what a busy machine holds a thread up for, so that a test
/// tells slow from unlucky.
const BUDGET: Duration = Duration::from_millis(100);
/// Beyond the 20 budgets that are a stall.
const STALL: Duration = Duration::from_millis(2_100);
/// Clients that ask at once, so that a machine on which each answer takes long is asked often.
const CLIENTS: usize = 20;

fn limits() -> Limits {
    Limits { inline_budget: BUDGET, ..Limits::default() }
}

fn thread_name(_: &Request) -> String {
    thread::current().name().unwrap_or("").to_owned()
}

fn route(server: &ServerHandle, name: &str) -> RouteStatistics {
    let routes = server.routes();
    let names = || routes.iter().map(|it| it.route.as_str()).collect::<Vec<_>>();
    routes.iter().find(|it| it.route == name).unwrap_or_else(|| panic!("{:?}", names())).clone()
}

/// Asks until the route is inline.
fn promote(server: &ServerHandle, path: &str) {
    let name = format!("GET {path}");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(server)).collect();
    eventually("it is promoted", || {
        get_often(&mut clients, path, 10, |answer| assert_eq!(answer.status, 200));
        route(server, &name).mode == Mode::Inline
    });
}

/// Lets each client ask so many times.
fn get_often(clients: &mut [Client], path: &str, times: usize, check: impl Fn(Answer)) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").repeat(times);
    for client in &mut *clients {
        client.send(&request);
    }
    for client in clients {
        (0..times).for_each(|_| check(client.answer()));
    }
}

fn a_fast_route_becomes_inline(backend: Backend) {
    let server = serve_with(backend, limits(), Router::new().get("/", thread_name));
    let mut client = Client::connect(&server);
    assert!(client.get("/").text().starts_with("wharf-worker-"));
    let first = route(&server, "GET /");
    assert_eq!((first.mode, first.dispatch), (Mode::Pooled, Dispatch::Adaptive));
    promote(&server, "/");
    assert!(client.get("/").text().starts_with("wharf-shard-"));
    // Behind this answer the turn has ended, and with it the batch of the one before.
    client.get("/");
    let seen = route(&server, "GET /");
    assert_eq!((seen.promotions, seen.demotions), (1, 0));
    assert!(seen.calls > 1000, "{seen:?}");
    assert!(Duration::ZERO < seen.p50 && seen.p50 <= seen.p99, "{seen:?}");
}

fn a_slow_route_never_becomes_inline(backend: Backend) {
    let limits = Limits { inline_budget: Duration::from_nanos(1), ..Limits::default() };
    let server = serve_with(backend, limits, Router::new().get("/", thread_name));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
    get_often(&mut clients, "/", 150, |answer| {
        assert!(answer.text().starts_with("wharf-worker-"));
    });
    let seen = route(&server, "GET /");
    assert_eq!((seen.mode, seen.promotions), (Mode::Pooled, 0));
    assert_eq!(seen.calls, 3000);
}

/// A route whose next call sleeps when it is told.
fn sleeper() -> (Router, Arc<AtomicBool>) {
    let sleeps = Arc::new(AtomicBool::new(false));
    let told = sleeps.clone();
    let router = Router::new().get("/", move |request: &Request| {
        if told.swap(false, Ordering::SeqCst) {
            thread::sleep(STALL);
        }
        thread_name(request)
    });
    (router, sleeps)
}

fn a_route_that_turns_slow_goes_back_to_the_pool(backend: Backend) {
    let (router, sleeps) = sleeper();
    let server = serve_with(backend, limits(), router);
    let mut client = Client::connect(&server);
    promote(&server, "/");
    sleeps.store(true, Ordering::SeqCst);
    assert!(client.get("/").text().starts_with("wharf-shard-"), "the stall itself");
    assert!(client.get("/").text().starts_with("wharf-worker-"), "what follows");
    let seen = route(&server, "GET /");
    assert_eq!((seen.mode, seen.promotions, seen.demotions), (Mode::Pooled, 1, 1));
    // It may try again, after a window that is longer than the 1,000 calls of the first.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
    get_often(&mut clients, "/", 75, |answer| {
        assert!(answer.text().starts_with("wharf-worker-"));
    });
}

fn pipelined_requests_behind_a_stall_go_to_the_pool(backend: Backend) {
    let (router, sleeps) = sleeper();
    let server = serve_with(backend, limits(), router);
    let mut client = Client::connect(&server);
    promote(&server, "/");
    sleeps.store(true, Ordering::SeqCst);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(10));
    assert!(client.answer().text().starts_with("wharf-shard-"), "the stall itself");
    for behind in 1..10 {
        assert!(client.answer().text().starts_with("wharf-worker-"), "request {behind} behind it");
    }
}

fn a_route_and_a_server_that_say_are_obeyed(backend: Backend) {
    let router = || {
        Router::new()
            .get("/default", thread_name)
            .route("/adaptive", get(thread_name).adaptive())
            .route("/inline", get(thread_name).inline())
            .route("/pooled", get(thread_name).pooled())
    };
    for (dispatch, default) in [
        (Dispatch::Adaptive, "wharf-worker-"),
        (Dispatch::Pooled, "wharf-worker-"),
        (Dispatch::Inline, "wharf-shard-"),
    ] {
        let server = Server::bind("127.0.0.1:0").unwrap().backend(backend).shards(1);
        let server = server.dispatch(dispatch).limits(limits()).start(router()).unwrap();
        let mut client = Client::connect(&server);
        for (path, thread) in [
            ("/default", default),
            ("/adaptive", "wharf-worker-"),
            ("/inline", "wharf-shard-"),
            ("/pooled", "wharf-worker-"),
        ] {
            assert!(client.get(path).text().starts_with(thread), "{path}, {dispatch:?}");
        }
        promote(&server, "/adaptive");
        if dispatch == Dispatch::Pooled {
            let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
            get_often(&mut clients, "/default", 150, |answer| {
                assert!(answer.text().starts_with(default), "not measured");
            });
            assert_eq!(route(&server, "GET /default").promotions, 0);
        }
        assert_eq!(route(&server, "GET /default").dispatch, dispatch);
        assert_eq!(route(&server, "GET /pooled").dispatch, Dispatch::Pooled);
    }
}

fn a_panic_of_an_inline_handler_costs_one_answer(backend: Backend) {
    let router = Router::new().get("/", |request: &Request| {
        assert!(request.query_string().is_empty(), "asked to panic");
        thread_name(request)
    });
    let server = serve_with(backend, limits(), router);
    let mut client = Client::connect(&server);
    promote(&server, "/");
    client.send(
        ["/", "/?panic", "/"].map(|at| format!("GET {at} HTTP/1.1\r\nhost: a\r\n\r\n")).concat(),
    );
    assert!(client.answer().text().starts_with("wharf-shard-"));
    assert_eq!(client.answer().status, 500);
    assert!(client.answer().text().starts_with("wharf-shard-"), "the same connection goes on");
    assert_eq!(server.statistics().panics, 1);
    assert_eq!(route(&server, "GET /").mode, Mode::Inline, "a panic is not slow");
}

fn metrics_tell_of_every_route(backend: Backend) {
    let monitor = Monitor::new();
    let watched = monitor.clone();
    let router = Router::new()
        .get("/", thread_name)
        .route("/metrics", get(move |_: &Request| watched.metrics()).pooled());
    let server = Server::bind("127.0.0.1:0").unwrap().backend(backend).shards(1);
    let server = server.monitor(&monitor).limits(limits()).start(router).unwrap();
    let second = Server::bind("127.0.0.1:0").unwrap().monitor(&monitor).start(Router::new());
    assert!(second.is_err(), "a monitor is for one server");
    let mut client = Client::connect(&server);
    promote(&server, "/");
    let answer = client.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("{name} is missing: {text}"));
        value.parse::<f64>().expect("a number")
    };
    assert!(value("wharf_connections") >= 1.0);
    assert_eq!(value("wharf_connections_closed_total{reason=\"idle-timeout\"}"), 0.0);
    assert!(value("wharf_requests_total") >= 1000.0);
    assert_eq!(value("wharf_route_inline{route=\"GET /\"}"), 1.0);
    assert_eq!(value("wharf_route_inline{route=\"GET /metrics\"}"), 0.0);
    assert_eq!(value("wharf_route_promotions_total{route=\"GET /\"}"), 1.0);
    assert!(value("wharf_route_calls_total{route=\"GET /\"}") >= 1000.0);
    let [p50, p99] = ["0.5", "0.99"]
        .map(|q| value(&format!("wharf_route_seconds{{route=\"GET /\",quantile=\"{q}\"}}")));
    assert!(0.0 < p50 && p50 <= p99, "{p50} {p99}");
    server.shutdown(Duration::from_secs(20));
    eventually("nothing is kept of a server that has ended", || monitor.routes().is_empty());
}
