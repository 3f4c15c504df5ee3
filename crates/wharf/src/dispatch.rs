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
//! Each demotion doubles the window, and it begins no shorter than a hundred times the stall. So
//! what is asked of a route grows with the harm it has done: one that sleeps once in 1,000 calls
//! may pass its first window by luck, but not the longer ones, in which that sleep shows. Inline,
//! each minute without a stall forgives one doubling, for a stall need not be the handler's: a
//! machine with more to do than processors takes the thread's processor away, which looks the same.
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
/// How often windows double. The calls of a window double less often, so that a route that is
/// asked rarely gets through one at all.
const DOUBLINGS: u32 = 12;
const CALL_DOUBLINGS: u32 = 10;
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
        u64::from(self.window_calls) << doublings.min(CALL_DOUBLINGS)
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

    /// A call on the pool, for that shard, has ended. `route` is the route's name.
    pub(crate) fn ran_pooled(&self, shard: usize, took: Duration, now: Time, route: &str) {
        self.tallies[shard].add(took, 1);
        if self.dispatch != Dispatch::Adaptive {
            return;
        }
        let mut standing = match self.standing.try_lock() {
            Ok(standing) => standing,
            // A window can do without this call, unless it stalled.
            Err(_) if took <= self.rules.stall() => return,
            Err(_) => self.standing(),
        };
        match standing.ran_pooled(took, now, &self.rules) {
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
        if self.dispatch != Dispatch::Adaptive {
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
