//! Handlers that take time which no clock passes, and workers who are threads of nobody.
//!
//! Inline, a handler's time is the network's: it passes for all. A worker's handler has run at once
//! and its answer is held back for as long as it took; of the answers that are due any may be first.

use std::cell::RefCell;
use std::time::Duration;

use fastrand::Rng;
use wharf_port::Time;
use wharf_port::sim::Network;

use super::{Simulation, describe};
use crate::dispatch::{Dispatch, Mode, Rules};
use crate::shared::Shared;
use crate::{Method, Request, pool};

/// Requests that workers have at one time.
const WORKERS: usize = 4;
/// For so long a route's calls are fast, then for as long some of them stall, and so on.
const PHASE: Duration = Duration::from_millis(12);
/// The route that is watched.
pub(super) const MEASURED: &str = "/adaptive/{n}";

/// Small windows, so that a run of few requests has several.
pub(super) fn rules() -> Rules {
    Rules {
        dispatch: Dispatch::Adaptive,
        budget: Duration::from_micros(1),
        window_calls: 1,
        window_time: Duration::from_millis(4),
    }
}

/// What handlers on this thread know of the time.
struct Clock {
    network: Network,
    rng: Rng,
    /// On a worker: what its handler has taken so far.
    worker: Option<Duration>,
    /// Inline calls that stalled, of GET and of POST.
    stalls: [u64; 2],
}

thread_local! {
    static CLOCK: RefCell<Option<Clock>> = const { RefCell::new(None) };
    /// Promotions, demotions and inline stalls of all runs.
    static SEEN: RefCell<[u64; 3]> = const { RefCell::new([0; 3]) };
}

fn with_clock<T>(act: impl FnOnce(&mut Clock) -> T) -> T {
    CLOCK.with_borrow_mut(|clock| act(clock.as_mut().expect("a simulation runs on this thread")))
}

/// The time, for those who measure handlers.
pub(super) fn now() -> Time {
    with_clock(|clock| clock.network.now() + clock.worker.unwrap_or_default())
}

/// Whose time it is from now on. The state of the other clock comes back.
pub(super) struct Clocks(Option<Clock>);

impl Clocks {
    pub(super) fn new(network: &Network, seed: u64) -> Clocks {
        let rng = Rng::with_seed(seed);
        Clocks(Some(Clock { network: network.clone(), rng, worker: None, stalls: [0; 2] }))
    }

    /// Runs what may call handlers.
    pub(super) fn during<T>(&mut self, act: impl FnOnce() -> T) -> T {
        CLOCK.with_borrow_mut(|clock| std::mem::swap(clock, &mut self.0));
        let done = act();
        CLOCK.with_borrow_mut(|clock| std::mem::swap(clock, &mut self.0));
        done
    }
}

/// Takes a time that is left to chance.
pub(super) fn measured(request: &Request) -> String {
    with_clock(|clock| {
        let phase = clock.network.now().as_nanos() / PHASE.as_nanos() as u64;
        let stalls = phase % 2 == 1 && clock.rng.u8(0..4) == 0;
        let nanos = if stalls { clock.rng.u64(21_000..40_000) } else { clock.rng.u64(0..1000) };
        let took = Duration::from_nanos(nanos);
        match &mut clock.worker {
            Some(so_far) => *so_far += took,
            None => {
                clock.network.pass(took);
                clock.stalls[usize::from(*request.method() == Method::POST)] += u64::from(stalls);
            }
        }
    });
    describe(request)
}

/// Takes milliseconds of its worker's time.
pub(super) fn slow(request: &Request) -> String {
    with_clock(|clock| {
        let took = Duration::from_millis(clock.rng.u64(1..20));
        clock.worker = clock.worker.map(|so_far| so_far + took);
    });
    describe(request)
}

/// Requests for what is measured, so many that it is promoted and demoted.
pub(super) fn many_measured(rng: &mut Rng) -> Vec<u8> {
    let request =
        |rng: &mut Rng| format!("GET /adaptive/{} HTTP/1.1\r\nhost: a\r\n\r\n", rng.u16(..));
    (0..rng.usize(5..60)).flat_map(|_| request(rng).into_bytes()).collect()
}

/// The workers' requests, each with the time at which its handler has ended, and when to look at
/// them next.
#[derive(Default)]
pub(super) struct Workers(Vec<(Time, Box<Request>)>, Option<Time>);

impl Workers {
    /// Takes up work and hands in what is done, or not.
    pub(super) fn act(&mut self, rng: &mut Rng, simulation: &mut Simulation) {
        let shared = simulation.shared.clone();
        let now = simulation.network.now();
        if rng.bool() && self.0.len() < WORKERS {
            let begun = simulation.clocks.during(|| {
                with_clock(|clock| clock.worker = Some(Duration::ZERO));
                let request = shared.pool.begin_one(&shared);
                let took = with_clock(|clock| clock.worker.take()).unwrap_or_default();
                request.map(|request| (now + took, request))
            });
            self.0.extend(begun);
        }
        while rng.u8(0..4) > 0 && self.hand_in(rng, &shared, now) {}
        if let Some(next) = self.0.iter().map(|&(end, _)| end).min()
            && self.1.is_none_or(|look| look <= now)
        {
            let soon = now + Duration::from_micros(rng.u64(1..3000));
            self.1 = Some(next.max(soon));
            simulation.network.wake_at(next.max(soon));
        }
    }

    /// Hands in one answer that is due by then. False: there is none.
    fn hand_in(&mut self, rng: &mut Rng, shared: &Shared, by: Time) -> bool {
        let due = (0..self.0.len()).filter(|&at| self.0[at].0 <= by).collect::<Vec<_>>();
        let Some(at) = rng.choice(due) else { return false };
        pool::deliver(shared, self.0.swap_remove(at).1);
        true
    }

    /// Whether handlers run.
    pub(super) fn are_busy(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn hand_in_all(&mut self, rng: &mut Rng, shared: &Shared) {
        while self.hand_in(rng, shared, Time::FAR) {}
    }
}

/// Holds the measured routes of a run against the rules.
pub(super) fn check(simulation: &Simulation) {
    let clock = simulation.clocks.0.as_ref().expect("nothing runs");
    let routes = simulation.shared.route_statistics();
    for (method, stalls) in ["GET", "POST"].into_iter().zip(clock.stalls) {
        let name = format!("{method} {MEASURED}");
        let route = routes.iter().find(|route| route.route == name).expect("it is there");
        let is_inline = route.mode == Mode::Inline;
        assert_eq!(route.promotions, route.demotions + u64::from(is_inline), "{route:?}");
        assert!(stalls <= route.demotions, "{stalls} inline stalls: {route:?}");
        SEEN.with_borrow_mut(|[promotions, demotions, all_stalls]| {
            *promotions += route.promotions;
            *demotions += route.demotions;
            *all_stalls += stalls;
        });
    }
}

/// Asserts that the runs of this thread had something to check.
pub(super) fn check_that_dispatch_changed() {
    let seen = SEEN.take();
    assert!(seen.iter().all(|&count| count >= 10), "promotions, demotions, stalls: {seen:?}");
}
