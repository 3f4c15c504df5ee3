//! What time does on the simulated clock: routes whose requests may take so long, and idle events.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wharf_port::sim::{Faults, Peer};

use super::{Simulation, address};
use crate::{Event, Request, Response, Router, get, post};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Lets time go by, in which the server takes its turns and workers have no time.
fn wait(simulation: &mut Simulation, duration: Duration) {
    let until = simulation.network.now() + duration;
    while simulation.network.now() < until {
        let soon = simulation.network.now() + Duration::from_millis(10);
        simulation.network.wake_at(soon);
        simulation.turn();
    }
}

fn answer(simulation: &mut Simulation, peer: &mut Peer) -> String {
    while simulation.run_one() {}
    wait(simulation, Duration::from_millis(50));
    String::from_utf8(peer.receive()).expect("the answer is ASCII")
}

#[test]
fn who_waits_for_a_worker_for_too_long_is_not_handled() {
    let runs = Arc::new(AtomicUsize::new(0));
    let handler = {
        let runs = runs.clone();
        move |request: &Request| {
            assert!(request.deadline().is_some());
            runs.fetch_add(1, Ordering::Relaxed);
            "in time"
        }
    };
    let inner = Router::new().route("/own", get(handler).pooled().timeout(TIMEOUT));
    let router = Router::new()
        .nest("/in", inner)
        .timeout(2 * TIMEOUT)
        .on_error(|_, response| response.header("x-hook", "passed"));
    let mut simulation = Simulation::serving(router, 1, Faults::none());
    let mut peer = simulation.network.connect(address());
    // Neither is the time of the request before counted, nor is its end remembered.
    for (waits, is_in_time) in [(4, true), (6, false), (4, true)] {
        peer.send(b"GET /in/own HTTP/1.1\r\nhost: a\r\n\r\n");
        wait(&mut simulation, Duration::from_secs(waits));
        assert_eq!(peer.receive(), b"", "no worker had time");
        let before = runs.load(Ordering::Relaxed);
        let answer = answer(&mut simulation, &mut peer);
        assert_eq!(answer.ends_with("\r\n\r\nin time"), is_in_time, "{answer}");
        assert_eq!(answer.starts_with("HTTP/1.1 503 "), !is_in_time, "{answer}");
        assert_eq!(answer.contains("\r\nretry-after: 1\r\n"), !is_in_time, "{answer}");
        assert_eq!(answer.contains("\r\nx-hook: passed\r\n"), !is_in_time, "{answer}");
        assert_eq!(runs.load(Ordering::Relaxed) - before, usize::from(is_in_time));
    }
    assert_eq!(simulation.shared.statistics().overloaded, 1);
    drop(peer);
    simulation.end();
}

/// The default grace is 10 seconds, the rate 1,024 bytes a second. A body of 4,000 bytes lies in
/// receive blocks, the longer one is received into its own.
#[test]
fn a_body_that_keeps_the_rate_may_take_longer_than_its_grace() {
    for (length, rate, is_in_time) in
        [(40_000, 1_100, true), (40_000, 700, false), (4_000, 100, false)]
    {
        let echo = |request: &Request| request.body().len().to_string();
        let router = Router::new().route("/", post(echo).inline());
        let mut simulation = Simulation::serving(router, 1, Faults::none());
        let mut peer = simulation.network.connect(address());
        peer.send(
            format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n").as_bytes(),
        );
        let (mut left, mut answer) = (length, Vec::new());
        while left > 0 && answer.is_empty() {
            wait(&mut simulation, Duration::from_secs(1));
            left -= peer.send(&vec![b'x'; rate.min(left)]);
            answer = peer.receive();
        }
        wait(&mut simulation, Duration::from_secs(1));
        answer.extend(peer.receive());
        let answer = String::from_utf8(answer).expect("the answer is ASCII");
        let is_served = answer.ends_with(&format!("\r\n\r\n{length}"));
        assert_eq!(is_served, is_in_time, "{length} bytes at {rate}: {answer}");
        assert_eq!(
            answer.starts_with("HTTP/1.1 408 "),
            !is_in_time,
            "{length} at {rate}: {answer}"
        );
        drop(peer);
        simulation.end();
    }
}

/// A chunk with nothing for the client.
const COMMENT: &[u8] = b"3\r\n:\n\n\r\n";

#[test]
fn comments_keep_an_idle_stream_of_events_alive() {
    let listeners = Arc::new(Mutex::new(Vec::new()));
    let kept = listeners.clone();
    let subscribe = move |_: &Request| {
        let (events, response) = Response::events();
        kept.lock().expect("no panic").push(events);
        response
    };
    let router = Router::new().route("/events", get(subscribe).inline());
    let mut simulation = Simulation::serving(router, 1, Faults::none());
    let mut peer = simulation.network.connect(address());
    peer.send(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n");
    wait(&mut simulation, Duration::from_secs(14));
    let head = String::from_utf8(peer.receive()).expect("the head is ASCII");
    assert!(head.ends_with("\r\n\r\n"), "nothing but the head: {head}");
    wait(&mut simulation, Duration::from_secs(2));
    assert_eq!(peer.receive(), COMMENT);
    wait(&mut simulation, Duration::from_secs(9));
    assert_eq!(peer.receive(), b"");
    // An event is as good as a comment.
    listeners.lock().expect("no panic")[0].send(&Event::new("x")).expect("the client is there");
    wait(&mut simulation, Duration::from_secs(14));
    assert_eq!(peer.receive(), b"9\r\ndata: x\n\n\r\n");
    wait(&mut simulation, Duration::from_secs(2));
    assert_eq!(peer.receive(), COMMENT);
    // However long it takes, no timeout ends it.
    wait(&mut simulation, Duration::from_secs(600));
    let comments = peer.receive();
    let count = comments.len() / COMMENT.len();
    assert_eq!(comments, COMMENT.repeat(count));
    assert!((37..=40).contains(&count), "{count} comments in 600 s");
    listeners.lock().expect("no panic").clear();
    wait(&mut simulation, Duration::from_secs(1));
    assert_eq!(peer.receive(), b"0\r\n\r\n");
    drop(peer);
    simulation.end();
}
