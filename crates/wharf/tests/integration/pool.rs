//! The worker pool, as handlers that block see it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use wharf::{Backend, Limits, Request, Router, ServerHandle, get};

use crate::support::{Client, PATIENCE, eventually, on_every_backend, serve, serve_with};

on_every_backend! {
    requests_that_wait_for_each_other_run_at_once,
    a_flood_on_a_blocking_route_leaves_threads_and_places_to_others,
    no_more_calls_than_the_route_allows_run_at_once,
    threads_come_with_the_load_and_go_without_it,
    after_exhaustion_the_pool_serves_as_before,
    panics_on_workers_cost_one_answer_each,
    a_drain_runs_what_waits_in_line,
    a_share_of_the_threads_may_be_said_otherwise,
}

/// Where handlers stand still until the test lets them on.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    is_open: bool,
    inside: usize,
    most: usize,
}

impl Gate {
    /// A handler that waits at the gate.
    fn handler(self: &Arc<Gate>) -> impl Fn(&Request) -> &'static str + Send + Sync + 'static {
        let gate = self.clone();
        move |_| gate.pass()
    }

    fn pass(&self) -> &'static str {
        let mut state = self.state.lock().expect("no handler panics");
        state.inside += 1;
        state.most = state.most.max(state.inside);
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |it| !it.is_open);
        let (mut state, outcome) = waited.expect("no handler panics");
        state.inside -= 1;
        if outcome.timed_out() { "too late" } else { "passed" }
    }

    fn set_open(&self, is_open: bool) {
        self.state.lock().expect("no handler panics").is_open = is_open;
        self.changed.notify_all();
    }

    fn inside(&self) -> usize {
        self.state.lock().expect("no handler panics").inside
    }

    /// The most that were inside at one time.
    fn most(&self) -> usize {
        self.state.lock().expect("no handler panics").most
    }
}

fn ask(server: &ServerHandle, path: &str) -> Client {
    let mut client = Client::connect(server);
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    client
}

fn assert_all_pass(clients: &mut [Client]) {
    for client in clients {
        assert_eq!(client.answer().text(), "passed");
    }
}

/// Of 4 threads one route has 3, of 8 places 6.
fn a_flood_on_a_blocking_route_leaves_threads_and_places_to_others(backend: Backend) {
    let gate = Arc::new(Gate::default());
    let router = Router::new()
        .route("/slow", get(gate.handler()).pooled())
        .route("/fast", get(|_| "fast").pooled());
    let limits = Limits { workers: 4, queued_requests: 8, ..Limits::default() };
    let server = serve_with(backend, limits, router);
    let mut flood: Vec<_> = (0..3).map(|_| ask(&server, "/slow")).collect();
    eventually("its share of the threads is taken", || gate.inside() == 3);
    flood.extend((0..6).map(|_| ask(&server, "/slow")));
    eventually("its share of the places is taken", || server.statistics().queued_requests == 6);
    let refused = ask(&server, "/slow").answer();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let mut client = Client::connect(&server);
    for _ in 0..100 {
        assert_eq!(client.get("/fast").text(), "fast", "the others are served meanwhile");
    }
    assert_eq!((gate.inside(), gate.most()), (3, 3));
    assert_eq!(server.statistics().queued_requests, 6);
    gate.set_open(true);
    assert_all_pass(&mut flood);
    assert_eq!(gate.most(), 3, "the line is let in as others leave");
}

fn no_more_calls_than_the_route_allows_run_at_once(backend: Backend) {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (running.clone(), most.clone());
    let report = move |_: &Request| {
        let here = now.fetch_add(1, Ordering::SeqCst) + 1;
        peak.fetch_max(here, Ordering::SeqCst);
        // The first waits for a second one.
        eventually("as many run as may", || peak.load(Ordering::SeqCst) >= 2);
        // Long enough for others to come in, were they let in.
        std::thread::sleep(Duration::from_millis(1));
        now.fetch_sub(1, Ordering::SeqCst);
        "reported"
    };
    let router = Router::new()
        .route("/report", get(report).pooled().concurrency(2))
        .route("/other", get(|_| "other").pooled());
    let server = serve(backend, router);
    let address = server.local_address();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let mut client = Client::connect_to(address);
                for _ in 0..25 {
                    assert_eq!(client.get("/report").text(), "reported");
                }
            });
        }
        let mut other = Client::connect(&server);
        for _ in 0..25 {
            assert_eq!(other.get("/other").text(), "other");
        }
    });
    assert_eq!((running.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 2));
    assert_eq!(server.statistics().queued_requests, 0);
}

fn threads_come_with_the_load_and_go_without_it(backend: Backend) {
    let gate = Arc::new(Gate::default());
    let router = Router::new().route("/slow", get(gate.handler()).pooled());
    let limits =
        Limits { workers: 6, worker_idle_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = serve_with(backend, limits, router);
    assert_eq!(server.statistics().workers, 0, "nobody asked for one");
    for _ in 0..2 {
        gate.set_open(false);
        let mut clients: Vec<_> = (0..9).map(|_| ask(&server, "/slow")).collect();
        eventually("all threads run, and the rest waits", || {
            gate.inside() == 6 && server.statistics().queued_requests == 3
        });
        assert_eq!(server.statistics().workers, 6);
        gate.set_open(true);
        assert_all_pass(&mut clients);
        eventually("the threads end", || server.statistics().workers == 0);
    }
}

fn after_exhaustion_the_pool_serves_as_before(backend: Backend) {
    let gate = Arc::new(Gate::default());
    let router = Router::new().route("/slow", get(gate.handler()).pooled());
    let limits = Limits { workers: 2, queued_requests: 3, ..Limits::default() };
    let server = serve_with(backend, limits, router);
    for round in 1..=3 {
        gate.set_open(false);
        let mut served: Vec<_> = (0..2).map(|_| ask(&server, "/slow")).collect();
        eventually("the threads are taken", || gate.inside() == 2);
        served.extend((0..3).map(|_| ask(&server, "/slow")));
        eventually("the places are taken", || server.statistics().queued_requests == 3);
        let mut refused: Vec<_> = (0..4).map(|_| ask(&server, "/slow")).collect();
        for client in &mut refused {
            let answer = client.answer();
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        }
        assert_eq!(server.statistics().overloaded, 4 * round);
        gate.set_open(true);
        assert_all_pass(&mut served);
        for client in &mut refused {
            assert_eq!(client.get("/slow").text(), "passed", "the connection goes on");
        }
    }
}

fn panics_on_workers_cost_one_answer_each(backend: Backend) {
    let panicking = |request: &Request| -> String {
        let n: u32 = request.param("n").expect("the test sends a number");
        assert!(!n.is_multiple_of(2), "even numbers panic");
        n.to_string()
    };
    // One at a time, so that a call which is not counted out would end all others.
    let router = Router::new().route("/{n}", get(panicking).pooled().concurrency(1));
    let server = serve_with(backend, Limits { workers: 2, ..Limits::default() }, router);
    let mut clients = [Client::connect(&server), Client::connect(&server)];
    for n in 0..20 {
        for client in &mut clients {
            client.send(format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n"));
        }
        for client in &mut clients {
            let answer = client.answer();
            let expected = if n % 2 == 0 { 500 } else { 200 };
            assert_eq!(answer.status, expected, "{n}");
        }
    }
    assert_eq!(server.statistics().panics, 20);
}

/// The drain begins while calls run and more wait, ready or in line; it is as slow as they are.
fn a_drain_runs_what_waits_in_line(backend: Backend) {
    let gate = Arc::new(Gate::default());
    let router = Router::new()
        .route("/slow", get(gate.handler()).pooled().concurrency(1))
        .route("/other", get(gate.handler()).pooled().concurrency(5));
    let server = serve_with(backend, Limits { workers: 2, ..Limits::default() }, router);
    let address = server.local_address();
    let mut clients: Vec<_> =
        (0..8).map(|n| ask(&server, if n % 2 == 0 { "/slow" } else { "/other" })).collect();
    eventually("both threads run, the rest waits", || {
        gate.inside() == 2 && server.statistics().queued_requests == 6
    });
    let drained = std::thread::scope(|scope| {
        let drain = scope.spawn(move || server.shutdown(PATIENCE));
        eventually("nobody listens", || std::net::TcpStream::connect(address).is_err());
        gate.set_open(true);
        for client in &mut clients {
            let answer = client.answer();
            assert_eq!((answer.text(), answer.header("connection")), ("passed", Some("close")));
        }
        drain.join().expect("the server stops")
    });
    // The look whether anybody listens may have been a connection, too.
    assert!(drained.drained >= 8, "{drained:?}");
    assert_eq!((drained.cut, drained.still_running), (0, 0));
}

fn a_share_of_the_threads_may_be_said_otherwise(backend: Backend) {
    let gate = Arc::new(Gate::default());
    let router = Router::new()
        .route("/slow", get(gate.handler()).pooled().concurrency(4))
        .route("/other", get(|_| "other").pooled());
    let server = serve_with(backend, Limits { workers: 4, ..Limits::default() }, router);
    let mut clients: Vec<_> = (0..4).map(|_| ask(&server, "/slow")).collect();
    eventually("all threads are taken", || gate.inside() == 4);
    let mut other = ask(&server, "/other");
    eventually("the other waits", || server.statistics().queued_requests == 1);
    gate.set_open(true);
    assert_all_pass(&mut clients);
    assert_eq!(other.answer().text(), "other");
}

/// Each round has one more request than threads that idle. All of them come before a thread wakes,
/// and none ends before all run: one left behind in the queue would hold them all up.
fn requests_that_wait_for_each_other_run_at_once(backend: Backend) {
    let here: Arc<(Mutex<usize>, Condvar)> = Arc::default();
    let server = serve(
        backend,
        Router::new().get(
            "/meet/{count}",
            move |request: &Request| -> Result<String, wharf::Error> {
                let count: usize = request.param("count")?;
                let (arrived, all) = &*here;
                let mut arrived = arrived.lock().expect("no handler panics");
                *arrived += 1;
                all.notify_all();
                // Rounds follow one another, so the sum of all up to this one have arrived.
                let enough = count * (count + 1) / 2;
                let waited = all.wait_timeout_while(arrived, PATIENCE, |it| *it < enough);
                let (_arrived, outcome) = waited.expect("no handler panics");
                Ok(if outcome.timed_out() { "alone" } else { "met" }.to_owned())
            },
        ),
    );
    let mut clients: Vec<_> = (0..12).map(|_| Client::connect(&server)).collect();
    for count in 1..=clients.len() {
        for client in &mut clients[..count] {
            client.send(format!("GET /meet/{count} HTTP/1.1\r\nhost: a\r\n\r\n"));
        }
        for client in &mut clients[..count] {
            assert_eq!(client.answer().text(), "met", "of {count}");
        }
    }
}
