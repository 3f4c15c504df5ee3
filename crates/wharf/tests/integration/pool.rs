//! The worker pool, as handlers that block see it.

use std::sync::Arc;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use wharf::{Backend, Request, Router};

use crate::support::{Client, on_every_backend, serve};

on_every_backend! {
    requests_that_wait_for_each_other_run_at_once,
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
                let waited =
                    all.wait_timeout_while(arrived, Duration::from_secs(10), |it| *it < enough);
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
