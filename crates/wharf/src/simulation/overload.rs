//! A pool that is too small for its load, and a server that is drained while handlers run: each
//! request that is answered at all has its own answer, in order, from its handler or a 503.

use std::time::Duration;

use fastrand::Rng;
use wharf_port::sim::{Faults, Peer};

use super::workers::{self, Workers};
use super::{MAX_TURNS, Simulation, address, limits, panics};
use crate::{Limits, Router, get};

/// Longer than any run takes, so that nothing has to be cut.
const GRACE: Duration = Duration::from_secs(600);

fn router() -> Router {
    Router::new()
        .route("/pooled/{n}", get(workers::slow).pooled())
        .route("/panic/{n}", get(panics).pooled())
}

struct Client {
    peer: Peer,
    /// The paths that it asks for, in order.
    paths: Vec<String>,
    left: Vec<u8>,
    received: Vec<u8>,
    has_finished: bool,
}

impl Client {
    fn new(rng: &mut Rng, peer: Peer) -> Client {
        let route = |rng: &mut Rng| if rng.u8(0..4) == 0 { "panic" } else { "pooled" };
        let paths: Vec<_> = (0..rng.usize(1..12)).map(|n| format!("/{}/{n}", route(rng))).collect();
        let ask = |path: &String| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let left = paths.iter().map(ask).collect::<String>().into_bytes();
        Client { peer, paths, left, received: Vec::new(), has_finished: false }
    }

    fn act(&mut self, rng: &mut Rng) {
        if !self.left.is_empty() && rng.bool() {
            let piece = if rng.bool() { self.left.len() } else { rng.usize(1..=self.left.len()) };
            let sent = self.peer.send(&self.left[..piece]);
            self.left.drain(..sent);
        }
        self.received.append(&mut self.peer.receive());
        if !self.has_finished && answers(&self.received).len() == self.paths.len() {
            self.has_finished = true;
            self.peer.shutdown();
        }
    }

    /// Holds the answers against what was asked. How many of them were 503, and how many 500.
    fn check(&self, is_drained: bool) -> [u64; 2] {
        let answers = answers(&self.received);
        let mut counts = [0; 2];
        for (path, (head, body)) in self.paths.iter().zip(&answers) {
            match &head[9..12] {
                "503" => counts[0] += 1,
                "500" => counts[1] += 1,
                _ => {}
            }
            let is_right = match &head[9..12] {
                "200" => body.starts_with(&format!("GET {path} ")),
                "500" => path.starts_with("/panic/"),
                "503" => head.contains("\r\nretry-after: 1\r\n"),
                _ => false,
            };
            assert!(is_right, "{path} is answered {head}{body}");
        }
        let says_close = answers.last().is_some_and(|(head, _)| head.contains("connection: close"));
        if answers.len() < self.paths.len() {
            assert!(is_drained, "{} of {} answers came", answers.len(), self.paths.len());
            assert!(answers.is_empty() || says_close, "it is closed without a word");
        }
        counts
    }
}

/// The heads and bodies of what was received whole.
fn answers(mut received: &[u8]) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    while let Some(at) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&received[..at + 4]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|text| text.parse().ok()).expect("a length");
        let Some(body) = received.get(at + 4..at + 4 + length) else { break };
        answers.push((head, String::from_utf8_lossy(body).into_owned()));
        received = &received[at + 4 + length..];
    }
    answers
}

/// One run. Whether requests were refused, and whether handlers ran as the drain began.
fn run(seed: u64) -> [bool; 2] {
    let mut rng = Rng::with_seed(seed);
    let faults = if rng.bool() { Faults::none() } else { Faults::default() };
    let limits = Limits { queued_requests: rng.usize(1..4), ..limits() };
    let mut simulation = Simulation::limited(router(), limits, seed, faults);
    let network = simulation.network.clone();
    let mut clients: Vec<_> =
        (0..rng.usize(1..7)).map(|_| Client::new(&mut rng, network.connect(address()))).collect();
    let mut drains_at = rng.bool().then(|| rng.usize(1..60));
    let (is_drained, mut runs_on, mut ended) = (drains_at.is_some(), false, None);
    let (mut workers, mut next_look) = (Workers::default(), network.now());
    for turn in 0.. {
        assert!(turn < MAX_TURNS, "the clients are never done");
        clients.iter_mut().for_each(|client| client.act(&mut rng));
        if clients.iter().all(|client| client.peer.at_end() || client.peer.is_reset()) {
            break;
        }
        workers.act(&mut rng, &mut simulation);
        if drains_at.take_if(|at| *at == turn).is_some() {
            runs_on = workers.are_busy();
            simulation.shared.start_drain(GRACE);
        }
        if network.now() >= next_look {
            next_look = network.now() + Duration::from_millis(rng.u64(1..5));
            network.wake_at(next_look);
        }
        match ended {
            None => ended = simulation.turn(),
            // The last bytes are on their way, and nobody waits for anything.
            Some(_) => network.pass(Duration::from_millis(1)),
        }
    }
    let counts = clients.iter().map(|client| client.check(is_drained));
    let [refused, panicked] = counts.fold([0; 2], |[a, b], [c, d]| [a + c, b + d]);
    let statistics = simulation.shared.statistics();
    assert_eq!((statistics.overloaded, statistics.panics), (refused, panicked));
    match ended {
        Some(drained) => {
            assert_eq!((drained.cut, drained.still_running), (0, 0));
            simulation.assert_nothing_is_left();
        }
        None => simulation.end(),
    }
    [refused > 0, runs_on]
}

#[test]
fn requests_beyond_the_pool_are_refused_and_those_within_it_outlive_a_drain() {
    let mut seen = [0; 2];
    for seed in 0..500 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let outcome = outcome.unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        });
        seen.iter_mut().zip(outcome).for_each(|(sum, seen)| *sum += u32::from(seen));
    }
    assert!(seen.iter().all(|&runs| runs >= 50), "refused, drained while handlers ran: {seen:?}");
}
