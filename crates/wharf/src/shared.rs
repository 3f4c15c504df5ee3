//! What all threads of one server share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wharf_port::Time;

use crate::Limits;
use crate::admission::Admission;
use crate::dispatch::{RouteDispatch, RouteStatistics, Rules};
use crate::mailbox::Mailbox;
use crate::pool::Pool;
use crate::router::Routes;
use crate::statistics::{Counts, Statistics};

pub(crate) struct Shared {
    pub(crate) routes: Routes,
    /// Of each of the routes' targets.
    pub(crate) dispatch: Box<[RouteDispatch]>,
    pub(crate) limits: Limits,
    pub(crate) admission: Admission,
    pub(crate) pool: Pool,
    /// One a shard.
    pub(crate) mailboxes: Box<[Mailbox]>,
    pub(crate) counts: Counts,
    pub(crate) bodies: Budget,
    /// What workers measure with: the time now.
    pub(crate) clock: fn() -> Time,
    /// Set once, when the server is to drain: how long that may take.
    pub(crate) drain: OnceLock<Duration>,
}

impl Shared {
    /// `workers` may be 0 for a simulated pool.
    pub(crate) fn new(
        routes: Routes,
        rules: Rules,
        limits: Limits,
        shards: usize,
        workers: usize,
    ) -> Shared {
        // As many as are with workers at one time; those that were answered since the shard last
        // looked may be more.
        let answers = limits.queued_requests + workers.max(1);
        let dispatch = routes
            .targets()
            .iter()
            .map(|target| RouteDispatch::new(target.options.dispatch(&rules), rules, shards))
            .collect();
        Shared {
            pool: Pool::new(&limits, &routes, workers),
            routes,
            dispatch,
            admission: Admission::new(limits.connections, limits.connections_per_peer),
            mailboxes: (0..shards).map(|_| Mailbox::new(answers)).collect(),
            counts: Counts::new(shards),
            bodies: Budget::new(limits.bodies_bytes),
            clock: Time::monotonic,
            drain: OnceLock::new(),
            limits,
        }
    }

    /// Tells every shard to drain. Later calls change nothing.
    pub(crate) fn start_drain(&self, grace: Duration) {
        if self.drain.set(grace).is_ok() {
            self.mailboxes.iter().for_each(Mailbox::wake);
        }
    }

    pub(crate) fn route_statistics(&self) -> Vec<RouteStatistics> {
        let targets = self.routes.targets().iter().zip(&self.dispatch);
        targets.map(|(target, dispatch)| dispatch.statistics(&target.name)).collect()
    }

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            connections: self.admission.total(),
            queued_requests: self.pool.queued(),
            workers: self.pool.threads(),
            ..self.counts.read()
        }
    }
}

/// Bytes of memory that may be used at one time.
pub(crate) struct Budget {
    max: usize,
    /// Invariant: `used <= max`.
    used: AtomicUsize,
}

impl Budget {
    fn new(max: usize) -> Budget {
        Budget { max, used: AtomicUsize::new(0) }
    }

    /// Takes `bytes`, if there are so many.
    fn take(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.max)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Bytes taken of the budget for bodies, given back when dropped.
#[derive(Default)]
pub(crate) struct Reservation(Option<(Arc<Shared>, usize)>);

impl Reservation {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes as many more bytes as make this `bytes` in all. False: the budget has not so many.
    pub(crate) fn grow_to(&mut self, bytes: usize, shared: &Arc<Shared>) -> bool {
        let (_, held) = self.0.get_or_insert_with(|| (shared.clone(), 0));
        let more = bytes.saturating_sub(*held);
        let taken = shared.bodies.take(more);
        if taken {
            *held += more;
        }
        taken
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some((shared, bytes)) = self.0.take() {
            shared.bodies.give_back(bytes);
        }
    }
}
