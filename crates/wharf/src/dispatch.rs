//! Where a route's calls run, and the measurements that decide it.
//!
//! An adaptive route has its calls on the worker pool until they prove fast, then on the I/O thread
//! until one of them proves slow:
//!
//! ```text
//!             a window's calls were fast, and none stalled
//!        ┌──────────────────────────────────────────────────┐
//!        │                                                  ▼
//!      Trial ◄──────────────────────────────────────────  Inline
//!        │  ▲     a call stalled, or too many were slow;
//!        └──┘     the next window is longer
//!   a call stalled, or too many were slow: the window begins anew
//! ```
//!
//! *Slow* is a call beyond the budget; a call *stalls* if it takes [`STALL`] budgets, since that is
//! what the shard's other connections would feel. A window is that long in two ways. Calls, since a
//! share of 1 % cannot be told from few. Time, since a burst shows a route at its best: its data in
//! the cache, its locks free.
//!
//! Each demotion doubles the window's time and quadruples its calls, and after a stall it takes a
//! hundred times as long as that at the least. So what is asked of a route grows with the harm it has done: one that sleeps once in 1,000 calls
//! may pass its first window by luck, but not the longer ones, in which that sleep shows. Inline,
//! each minute without a stall forgives one doubling, for a stall need not be the handler's. That
//! the thread had to wait for a processor is known on Linux and taken off; that a virtual machine
//! stood still, or that a page had to be read from the disk, looks the same.
//!
//! Nothing here reads a clock or knows of connections.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wharf_port::Time;

/// How it is decided where a handler runs: set for a [server](crate::Server::dispatch), overridden
/// for a route by [`Route::inline`](crate::Route::inline), [`Route::pooled`](crate::Route::pooled)
/// and [`Route::adaptive`](crate::Route::adaptive).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// By measuring: on the worker pool until the route has proved fast, then on the I/O thread
    /// until a call is slow. This is the default.
    #[default]
    Adaptive,
    /// On the I/O thread, always.
    Inline,
    /// On the worker pool, always.
    Pooled,
}

/// Where a route's handler runs at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// On a worker of the pool.
    Pooled,
    /// On the I/O thread.
    Inline,
}

/// What is known of a route at one moment; see [`ServerHandle::routes`](crate::ServerHandle::routes).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouteStatistics {
    /// The route's method and path, as in `GET /orders/{id}`.
    pub route: String,
    /// How it is decided where the handler runs.
    pub dispatch: Dispatch,
    /// Where it runs now.
    pub mode: Mode,
    /// Calls that have ended since the start.
    pub calls: u64,
    /// Half of the calls since the start took no longer than this, which is a power of two in
    /// nanoseconds, 256 ns at the least. On a worker that is the handler's own time. Inline calls
    /// are measured some at a time, together with reading the request and writing the answer, and
    /// each counts with their mean.
    pub p50: Duration,
    /// The same for 99 of 100 calls.
    pub p99: Duration,
    /// How often the route was promoted from the pool to the I/O thread.
    pub promotions: u64,
    /// How often it was demoted.
    pub demotions: u64,
}

/// A call that takes so many budgets stalls its shard.
const STALL: u32 = 20;
/// One call in so many may be slow.
const SLOW_ONE_IN: u64 = 100;
/// A stall is followed by a window of so many times its length, so that stalls take at most a
/// hundredth of a shard's time.
const STALL_SHARE: u32 = 100;
/// Calls without a stall after which a route may yet be promoted.
const PROMISING_CALLS: u64 = 10;
/// How often windows double.
const DOUBLINGS: u32 = 12;
/// The calls of a window quadruple as often as its time doubles, as it is their number that shows
/// what is rare; but less often, so that a route that is asked rarely gets through one at all.
const QUADRUPLINGS: u32 = 5;
/// Inline for so long without a stall, a route is forgiven one doubling.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// What a server's routes are measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// For routes that do not say.
    pub(crate) dispatch: Dispatch,
    /// What a call may take.
    pub(crate) budget: Duration,
    /// The first window.
    pub(crate) window_calls: u32,
    pub(crate) window_time: Duration,
}

impl Rules {
    pub(crate) fn new(dispatch: Dispatch, budget: Duration) -> Rules {
        let window_time = Duration::from_millis(100);
        Rules { dispatch, budget, window_calls: 1000, window_time }
    }

    pub(crate) fn stall(&self) -> Duration {
        self.budget.saturating_mul(STALL)
    }

    fn calls(&self, doublings: u32) -> u64 {
        u64::from(self.window_calls) << (2 * doublings.min(QUADRUPLINGS))
    }

    fn time(&self, doublings: u32) -> Duration {
        self.window_time.saturating_mul(1 << doublings)
    }

    /// How often the first window has to double until it is long enough after such a stall.
    fn doublings_after(&self, stall: Duration) -> u32 {
        let long = stall.saturating_mul(STALL_SHARE);
        (0..DOUBLINGS).find(|&doublings| self.time(doublings) >= long).unwrap_or(DOUBLINGS)
    }
}

/// Where an adaptive route stands. Time is an argument.
#[derive(Debug)]
struct Standing {
    state: State,
    /// How often the window has doubled. Invariant: at most [`DOUBLINGS`].
    doublings: u32,
    promotions: u64,
    demotions: u64,
}

#[derive(Debug)]
enum State {
    /// On the pool, measured.
    Trial(Window),
    /// On the I/O thread since then.
    Inline(Time),
}

#[derive(Debug, Default)]
struct Window {
    /// When its first call ended.
    began: Option<Time>,
    calls: u64,
    slow: u64,
}

/// What a call made of its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Promoted,
    Demoted,
}

impl Standing {
    fn new() -> Standing {
        let state = State::Trial(Window::default());
        Standing { state, doublings: 0, promotions: 0, demotions: 0 }
    }

    /// A call on the pool has ended.
    fn ran_pooled(&mut self, took: Duration, now: Time, rules: &Rules) -> Change {
        let window = match &mut self.state {
            State::Trial(window) => window,
            // It was on its way when the route was promoted: what takes long is known last.
            State::Inline(_) if took > rules.stall() => return self.demote(took, now, rules),
            State::Inline(_) => return Change::None,
        };
        let began = *window.began.get_or_insert(now);
        window.calls += 1;
        window.slow += u64::from(took > rules.budget);
        if took > rules.stall() {
            *window = Window { began: Some(now), ..Window::default() };
            return Change::None;
        }
        let is_over = window.calls >= rules.calls(self.doublings)
            && now.since(began) >= rules.time(self.doublings);
        if !is_over {
            return Change::None;
        }
        if window.slow * SLOW_ONE_IN > window.calls {
            *window = Window { began: Some(now), ..Window::default() };
            return Change::None;
        }
        self.state = State::Inline(now);
        self.promotions += 1;
        Change::Promoted
    }

    fn is_promising(&self) -> bool {
        match &self.state {
            State::Trial(window) => window.calls >= PROMISING_CALLS,
            State::Inline(_) => true,
        }
    }

    /// The route goes back to the pool, because of a stall that long, or of many slow calls.
    fn demote(&mut self, stall: Duration, now: Time, rules: &Rules) -> Change {
        let State::Inline(since) = self.state else { return Change::None };
        let forgiven = now.since(since).as_secs() / FORGIVEN_AFTER.as_secs();
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        self.doublings = (self.doublings.saturating_sub(forgiven) + 1)
            .max(rules.doublings_after(stall))
            .min(DOUBLINGS);
        self.state = State::Trial(Window { began: Some(now), ..Window::default() });
        self.demotions += 1;
        Change::Demoted
    }
}

/// A route's dispatch: where it runs, and how its calls went.
pub(crate) struct RouteDispatch {
    /// What the shards read for each call, and what changes rarely while a route is inline.
    is_inline: AtomicBool,
    /// Whether the route may be promoted: its last calls did not stall. Only then it is worth
    /// finding out whether a stall is its own.
    is_promising: AtomicBool,
    dispatch: Dispatch,
    rules: Rules,
    /// Of an adaptive route. Held for a few instructions, and for inline calls only to demote.
    standing: Mutex<Standing>,
    /// One a shard.
    tallies: Box<[Tally]>,
}

impl RouteDispatch {
    pub(crate) fn new(dispatch: Dispatch, rules: Rules, shards: usize) -> RouteDispatch {
        RouteDispatch {
            is_inline: AtomicBool::new(dispatch == Dispatch::Inline),
            is_promising: AtomicBool::new(false),
            dispatch,
            rules,
            standing: Mutex::new(Standing::new()),
            tallies: (0..shards).map(|_| Tally::default()).collect(),
        }
    }

    /// Whether the next call runs on the I/O thread.
    pub(crate) fn is_inline(&self) -> bool {
        self.is_inline.load(Ordering::Relaxed)
    }

    /// Whether slow calls change where the next one runs.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.dispatch == Dispatch::Adaptive
    }

    /// Whether what makes a call of this route look like a stall is worth finding out.
    pub(crate) fn is_promising(&self) -> bool {
        self.is_promising.load(Ordering::Relaxed)
    }

    /// Whether a run of inline calls that took so long speaks against the route, if it matters.
    pub(crate) fn is_over_budget(&self, calls: u32, took: Duration) -> bool {
        self.is_adaptive() && took > self.rules.budget.saturating_mul(calls)
    }

    /// Whether a call that took so long looks like a stall of this route, if it matters.
    pub(crate) fn is_stall(&self, took: Duration) -> bool {
        self.is_adaptive() && took > self.rules.stall()
    }

    /// A call on the pool, for that shard, has ended. `route` is the route's name.
    pub(crate) fn ran_pooled(&self, shard: usize, took: Duration, now: Time, route: &str) {
        self.tallies[shard].add(took, 1);
        if !self.is_adaptive() {
            return;
        }
        let mut standing = match self.standing.try_lock() {
            Ok(standing) => standing,
            // A window can do without this call, unless it stalled.
            Err(_) if took <= self.rules.stall() => return,
            Err(_) => self.standing(),
        };
        let change = standing.ran_pooled(took, now, &self.rules);
        if standing.is_promising() != self.is_promising() {
            self.is_promising.store(standing.is_promising(), Ordering::Relaxed);
        }
        match change {
            Change::None => {}
            Change::Promoted => {
                self.is_inline.store(true, Ordering::Relaxed);
                drop(standing);
                tracing::debug!("{route} runs inline from now on: 99 % of its calls were fast");
            }
            Change::Demoted => self.demoted(standing, took, route),
        }
    }

    /// A run of inline calls on that shard has ended, which took so long in all.
    pub(crate) fn ran_inline(
        &self,
        shard: usize,
        calls: u32,
        took: Duration,
        now: Time,
        route: &str,
    ) {
        let tally = &self.tallies[shard];
        let each = took / calls.max(1);
        tally.add(each, calls);
        if !self.is_adaptive() {
            return;
        }
        let is_slow = tally.is_mostly_slow(calls, each > self.rules.budget);
        let stall = if took > self.rules.stall() { took } else { Duration::ZERO };
        if is_slow || !stall.is_zero() {
            self.demote(stall, now, route);
        }
    }

    #[cold]
    fn demote(&self, stall: Duration, now: Time, route: &str) {
        let mut standing = self.standing();
        // Otherwise another shard was first.
        if standing.demote(stall, now, &self.rules) == Change::Demoted {
            self.demoted(standing, stall, route);
        }
    }

    #[cold]
    fn demoted(&self, standing: MutexGuard<Standing>, stall: Duration, route: &str) {
        self.is_inline.store(false, Ordering::Relaxed);
        let next = self.rules.time(standing.doublings);
        drop(standing);
        if stall.is_zero() {
            let budget = self.rules.budget;
            tracing::debug!("{route} runs on the pool: over 1 % took more than {budget:?}");
        } else {
            tracing::debug!(
                "{route} runs on the pool for {next:?} at least: a call took {stall:?}"
            );
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn statistics(&self, route: &str) -> RouteStatistics {
        let mut counts = [0; BUCKETS];
        for tally in &self.tallies {
            tally.add_to(&mut counts);
        }
        let standing = self.standing();
        RouteStatistics {
            route: route.to_owned(),
            dispatch: self.dispatch,
            mode: if self.is_inline() { Mode::Inline } else { Mode::Pooled },
            calls: counts.iter().sum(),
            p50: quantile(&counts, 50),
            p99: quantile(&counts, 99),
            promotions: standing.promotions,
            demotions: standing.demotions,
        }
    }
}

/// Buckets of a distribution: up to 256 ns, up to twice that, and so on to nine minutes.
const BUCKETS: usize = 32;
/// log2 of the first bucket's bound in nanoseconds.
const FIRST_BOUND_LOG2: u32 = 8;

/// How the calls for one shard went. Written by that shard alone, so that a count is a load and a
/// store; on cache lines of its own, so that shards do not take them from each other.
#[repr(align(128))]
#[derive(Default)]
struct Tally {
    by_duration: [AtomicU64; BUCKETS],
    /// Inline calls since it was last looked whether too many are slow, and the slow ones of them.
    recent: AtomicU32,
    recent_slow: AtomicU32,
}

/// Inline calls after which it is looked whether too many were slow.
const LOOK_CALLS: u32 = 1000;

impl Tally {
    fn add(&self, each: Duration, calls: u32) {
        let count = &self.by_duration[bucket(each)];
        count.store(count.load(Ordering::Relaxed) + u64::from(calls), Ordering::Relaxed);
    }

    /// Counts inline calls, and tells at times whether more than 1 % of the last ones were slow.
    fn is_mostly_slow(&self, calls: u32, slow: bool) -> bool {
        let add = |count: &AtomicU32, calls: u32| {
            let sum = count.load(Ordering::Relaxed).saturating_add(calls);
            count.store(sum, Ordering::Relaxed);
            sum
        };
        if slow {
            // Of a run whose mean is slow that is certain of one call at least.
            add(&self.recent_slow, 1);
        }
        if add(&self.recent, calls) < LOOK_CALLS {
            return false;
        }
        let recent = u64::from(self.recent.swap(0, Ordering::Relaxed));
        let slow = u64::from(self.recent_slow.swap(0, Ordering::Relaxed));
        slow * SLOW_ONE_IN > recent
    }

    fn add_to(&self, counts: &mut [u64; BUCKETS]) {
        for (sum, count) in counts.iter_mut().zip(&self.by_duration) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

fn bucket(duration: Duration) -> usize {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let bits = u64::BITS - nanos.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST_BOUND_LOG2) as usize).min(BUCKETS - 1)
}

/// The bound of the bucket below which so many per cent of the calls are.
fn quantile(counts: &[u64; BUCKETS], percent: u64) -> Duration {
    let total: u64 = counts.iter().sum();
    let mut seen = 0;
    let at = counts.iter().position(|count| {
        seen += count;
        seen * 100 >= total * percent
    });
    match at {
        Some(at) if total > 0 => Duration::from_nanos(1 << (FIRST_BOUND_LOG2 + at as u32)),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_micros(5);
    const SLOW: Duration = Duration::from_micros(60);
    const STALLED: Duration = Duration::from_millis(5);

    fn rules() -> Rules {
        Rules::new(Dispatch::Adaptive, Duration::from_micros(50))
    }

    /// A route and its time.
    struct Run {
        standing: Standing,
        now: Time,
    }

    impl Run {
        fn new() -> Run {
            Run { standing: Standing::new(), now: Time::ZERO }
        }

        /// So many calls on the pool, at 10,000 a second, until one changes something.
        fn pooled(&mut self, calls: u32, mut took: impl FnMut(u32) -> Duration) -> Option<u32> {
            (0..calls).find(|&call| {
                self.now = self.now + Duration::from_micros(100);
                self.standing.ran_pooled(took(call), self.now, &rules()) != Change::None
            })
        }

        fn promoted() -> Run {
            let mut run = Run::new();
            assert!(run.pooled(2000, |_| FAST).is_some());
            run
        }

        fn demoted(&mut self, stall: Duration) -> Change {
            self.standing.demote(stall, self.now, &rules())
        }
    }

    #[test]
    fn a_fast_route_is_promoted_after_a_window() {
        let mut run = Run::new();
        // The first call is at 0 of the window's time.
        assert_eq!(run.pooled(5000, |_| FAST), Some(1000), "1,000 calls and 100 ms");
        assert_eq!(run.standing.promotions, 1);
    }

    #[test]
    fn neither_calls_nor_time_alone_are_a_window() {
        let mut run = Run::new();
        for _ in 0..100_000 {
            let change = run.standing.ran_pooled(FAST, run.now, &rules());
            assert_eq!(change, Change::None, "a burst proves nothing");
        }
        let mut run = Run::new();
        for _ in 0..999 {
            run.now = run.now + Duration::from_secs(1);
            assert_eq!(run.standing.ran_pooled(FAST, run.now, &rules()), Change::None);
        }
        assert_eq!(run.standing.ran_pooled(FAST, run.now, &rules()), Change::Promoted);
    }

    #[test]
    fn one_slow_call_in_100_is_allowed_and_more_are_not() {
        let mut run = Run::new();
        let every = |n: u32| move |call: u32| if call % n == n - 1 { SLOW } else { FAST };
        assert!(run.pooled(2000, every(100)).is_some());
        let mut run = Run::new();
        assert_eq!(run.pooled(1_000_000, every(90)), None);
    }

    #[test]
    fn a_stall_begins_the_window_anew() {
        let mut run = Run::new();
        assert_eq!(run.pooled(900, |_| FAST), None);
        assert_eq!(run.pooled(1, |_| STALLED), None);
        assert!(run.pooled(5000, |_| FAST).is_some_and(|calls| calls >= 999));
    }

    #[test]
    fn a_route_that_sleeps_once_in_1000_calls_stalls_a_shard_once_at_the_most() {
        let mut stalls = Vec::new();
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut run = Run::new();
            let mut inline_stalls = 0;
            for _ in 0..500_000 {
                run.now = run.now + Duration::from_micros(100);
                let took = if rng.u32(..1000) == 0 { STALLED } else { FAST };
                if let State::Inline(_) = run.standing.state {
                    if took > rules().stall() {
                        inline_stalls += 1;
                        assert_eq!(run.demoted(took), Change::Demoted);
                    }
                } else {
                    run.standing.ran_pooled(took, run.now, &rules());
                }
            }
            stalls.push(inline_stalls);
        }
        // The first window is passed by luck, the next one never.
        assert_eq!(stalls.iter().max(), Some(&1), "{stalls:?}");
    }

    #[test]
    fn windows_double_from_one_that_outweighs_the_stall() {
        let window = |run: &Run| rules().time(run.standing.doublings);
        let mut run = Run::promoted();
        assert_eq!(run.demoted(Duration::ZERO), Change::Demoted);
        assert_eq!(
            window(&run),
            Duration::from_millis(200),
            "for many slow calls: twice the first"
        );
        let mut run = Run::promoted();
        assert_eq!(run.demoted(STALLED), Change::Demoted);
        assert_eq!(window(&run), Duration::from_millis(800), "at least 100 times 5 ms");
        for _ in 0..11 {
            let before = window(&run);
            let calls = run.pooled(5_000_000, |_| FAST).expect("it is promoted again");
            assert!(Duration::from_micros(100) * (calls + 1) >= before);
            run.demoted(STALLED);
            assert!(window(&run) == before * 2 || window(&run) == rules().time(DOUBLINGS));
        }
        assert_eq!(run.standing.doublings, DOUBLINGS);
        assert_eq!(run.standing.demotions, 12);
    }

    #[test]
    fn minutes_inline_forgive() {
        let mut run = Run::promoted();
        for _ in 0..5 {
            run.demoted(STALLED);
            assert!(run.pooled(2_000_000, |_| FAST).is_some());
        }
        let doublings = run.standing.doublings;
        run.now = run.now + FORGIVEN_AFTER * 3;
        run.demoted(STALLED);
        assert_eq!(run.standing.doublings, doublings - 3 + 1);
    }

    #[test]
    fn a_stall_that_is_known_after_the_promotion_takes_it_back() {
        let mut run = Run::promoted();
        assert_eq!(run.standing.ran_pooled(SLOW, run.now, &rules()), Change::None);
        assert_eq!(run.standing.ran_pooled(STALLED, run.now, &rules()), Change::Demoted);
        assert_eq!(run.demoted(STALLED), Change::None, "another shard was first");
        assert_eq!(run.standing.demotions, 1);
    }

    /// A route that was promoted.
    fn inline_route(shards: usize) -> RouteDispatch {
        let route = RouteDispatch::new(Dispatch::Adaptive, rules(), shards);
        for call in 0..=1000 {
            let now = Time::from_nanos(call * 100_000);
            assert!(!route.is_inline());
            route.ran_pooled(0, FAST, now, "GET /");
        }
        assert!(route.is_inline());
        route
    }

    #[test]
    fn a_stalled_batch_demotes() {
        let route = inline_route(2);
        route.ran_inline(1, 16, FAST * 16, Time::from_nanos(200_000_000), "GET /");
        assert!(route.is_inline());
        route.ran_inline(1, 16, STALLED, Time::from_nanos(300_000_000), "GET /");
        assert!(!route.is_inline());
        let seen = route.statistics("GET /");
        assert_eq!((seen.mode, seen.promotions, seen.demotions), (Mode::Pooled, 1, 1));
        assert_eq!((seen.calls, seen.route.as_str()), (1033, "GET /"));
    }

    #[test]
    fn slow_calls_demote_once_they_are_more_than_one_in_100() {
        let ran_inline = |slow_one_in: u32| {
            let route = inline_route(1);
            for call in 1..=5000 {
                let took = if call % slow_one_in == 0 { SLOW } else { FAST };
                route.ran_inline(0, 1, took, Time::from_nanos(200_000_000), "GET /");
            }
            route.is_inline()
        };
        assert!(ran_inline(100));
        assert!(!ran_inline(90));
    }

    #[test]
    fn what_a_route_says_is_obeyed() {
        for (dispatch, is_inline) in [(Dispatch::Inline, true), (Dispatch::Pooled, false)] {
            let route = RouteDispatch::new(dispatch, rules(), 1);
            for call in 0..5000 {
                let now = Time::from_nanos(call * 100_000);
                assert_eq!(route.is_inline(), is_inline);
                match dispatch {
                    Dispatch::Inline => route.ran_inline(0, 1, STALLED, now, "GET /"),
                    _ => route.ran_pooled(0, FAST, now, "GET /"),
                }
            }
            let seen = route.statistics("GET /");
            assert_eq!((seen.dispatch, seen.promotions, seen.demotions), (dispatch, 0, 0));
            assert_eq!(seen.calls, 5000);
        }
    }

    #[test]
    fn the_distribution_rounds_up_to_powers_of_two() {
        let nanos = Duration::from_nanos;
        for (took, bound) in [(0, 256), (256, 256), (257, 512), (1000, 1024), (1025, 2048)] {
            let mut counts = [0; BUCKETS];
            counts[bucket(nanos(took))] = 1;
            assert_eq!(quantile(&counts, 50), nanos(bound), "{took} ns");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(quantile(&[0; BUCKETS], 99), Duration::ZERO, "nothing was called");
        let mut counts = [0; BUCKETS];
        (counts[0], counts[1], counts[9]) = (50, 49, 1);
        assert_eq!(
            [50, 99, 100].map(|percent| quantile(&counts, percent)),
            [nanos(256), nanos(512), nanos(256 << 9)]
        );
    }
}
