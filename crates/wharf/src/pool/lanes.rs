//! Who may go to the workers, and who has to wait: a lane for each route, a bound for each lane.
//!
//! ```text
//!   submitted ──lane has room──────────────────────► ready ──take──► run ──finished──►
//!        │                                             ▲                     │
//!        └──lane is full──► the lane's line ──advance──┴──── makes room ◄────┘
//! ```
//!
//! A lane lets no more of its jobs out of its line than its limit; threads take what is ready and
//! know no lanes. As no lane's limit is all threads, a lane whose jobs all block leaves threads to
//! the others. Among lanes that are full, who finishes makes one of its own lane ready, at the end
//! of the queue: so they take turns.
//!
//! A lane's `load` is its jobs from submission to finish. At every moment `min(load, limit)` of
//! them are out of the line: who raises it from below the limit, or lowers it from above, has to
//! let one out. A job is in the line before it raises the load; so the line holds as many jobs as
//! there are calls for one, and nobody ever looks into it in vain.

use std::collections::VecDeque;

use crate::sync::{ArrayQueue, AtomicUsize, Mutex, Ordering, PoisonError};

/// What runs on a worker.
pub(crate) trait Job {
    /// The number of the lane that it belongs to.
    fn lane(&self) -> usize;
}

pub(crate) struct Lanes<J> {
    /// Jobs that the next thread takes. Has room for all that wait.
    ready: ArrayQueue<J>,
    lanes: Box<[Lane<J>]>,
    /// Jobs that are ready or in a line. Invariant: `<= places`.
    waiting: AtomicUsize,
    places: usize,
}

struct Lane<J> {
    /// How many of its jobs may be ready or running at one time.
    limit: usize,
    /// How many of its jobs may wait at one time.
    places: usize,
    /// Its jobs that wait, running ones included. See above.
    load: AtomicUsize,
    /// Its jobs that are ready or in line. Invariant: `<= places`.
    waiting: AtomicUsize,
    /// Locked only when the lane is full.
    line: Mutex<VecDeque<J>>,
}

/// The bounds of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneLimits {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
}

/// How much of `all` one lane may have, so that there is some left for the others: three quarters.
pub(crate) fn share(all: usize) -> usize {
    if all > 1 { all - (all / 4).max(1) } else { all }
}

impl<J: Job> Lanes<J> {
    pub(crate) fn new(places: usize, lanes: impl Iterator<Item = LaneLimits>) -> Lanes<J> {
        let lane = |limits: LaneLimits| Lane {
            limit: limits.running,
            places: limits.waiting,
            load: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            line: Mutex::new(VecDeque::new()),
        };
        Lanes {
            ready: ArrayQueue::new(places),
            lanes: lanes.map(lane).collect(),
            waiting: AtomicUsize::new(0),
            places,
        }
    }

    /// Takes a job in, or gives it back when there is no place. Whether one has become ready.
    pub(crate) fn submit(&self, job: J) -> Result<bool, J> {
        let lane = &self.lanes[job.lane()];
        if !raise_below(&lane.waiting, lane.places) {
            return Err(job);
        }
        if !raise_below(&self.waiting, self.places) {
            lane.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(job);
        }
        if raise_below(&lane.load, lane.limit) {
            self.make_ready(job);
            return Ok(true);
        }
        lane.line.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
        // Some may have finished meanwhile.
        let has_room = lane.load.fetch_add(1, Ordering::AcqRel) < lane.limit;
        if has_room {
            self.advance(lane);
        }
        Ok(has_room)
    }

    /// The next job that is ready. Its [`finished`](Lanes::finished) has to follow.
    pub(crate) fn take(&self) -> Option<J> {
        let job = self.ready.pop()?;
        self.lanes[job.lane()].waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(job)
    }

    /// How many jobs are ready.
    #[cfg(test)]
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Makes a job that was taken ready again, behind the others.
    #[cfg(test)]
    pub(crate) fn put_back(&self, job: J) {
        self.lanes[job.lane()].waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.make_ready(job);
    }

    /// A job that was taken has run. Another one may have become ready: look.
    pub(crate) fn finished(&self, lane: usize) {
        let lane = &self.lanes[lane];
        if lane.load.fetch_sub(1, Ordering::AcqRel) > lane.limit {
            self.advance(lane);
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Jobs that nobody has taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn advance(&self, lane: &Lane<J>) {
        let first = lane.line.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        debug_assert!(first.is_some(), "the line is shorter than the lane's load says");
        if let Some(job) = first {
            self.make_ready(job);
        }
    }

    fn make_ready(&self, job: J) {
        // There is room: each job has a place, and there are as many.
        let full = self.ready.push(job).is_err();
        debug_assert!(!full, "more jobs are ready than places");
    }
}

/// Adds one, unless that makes it more than `max`.
fn raise_below(count: &AtomicUsize, max: usize) -> bool {
    count
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| (now < max).then_some(now + 1))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Job for (usize, u32) {
        fn lane(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_share_leaves_something_where_something_can_be_left() {
        let shares: Vec<_> = [0, 1, 2, 3, 4, 5, 8, 256].into_iter().map(share).collect();
        assert_eq!(shares, [0, 1, 1, 2, 3, 4, 6, 192]);
    }

    #[test]
    fn lanes_beyond_their_limits_take_turns_and_refuse_beyond_their_places() {
        let limits = LaneLimits { running: 1, waiting: 3 };
        let lanes = Lanes::new(5, [limits, limits].into_iter());
        let becomes_ready: Vec<_> = (0..4).map(|n| lanes.submit((0, n))).collect();
        assert_eq!(becomes_ready, [Ok(true), Ok(false), Ok(false), Err((0, 3))]);
        assert_eq!(lanes.submit((1, 0)), Ok(true));
        assert_eq!(lanes.submit((1, 1)), Ok(false));
        assert_eq!(lanes.submit((1, 2)), Err((1, 2)), "no place is left at all");
        assert_eq!(lanes.waiting(), 5);
        let mut order = Vec::new();
        while let Some(job) = lanes.take() {
            lanes.finished(job.0);
            order.push(job);
        }
        assert_eq!(order, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]);
        assert_eq!((lanes.waiting(), lanes.has_ready()), (0, false));
        assert_eq!(lanes.submit((0, 4)), Ok(true), "all is as at the beginning");
    }

    #[test]
    fn a_lane_with_room_lets_no_more_out_than_its_limit() {
        let lanes = Lanes::new(9, [LaneLimits { running: 2, waiting: 9 }].into_iter());
        (0..6).for_each(|n| assert!(lanes.submit((0, n)).is_ok()));
        let taken: Vec<_> = std::iter::from_fn(|| lanes.take()).collect();
        assert_eq!(taken, [(0, 0), (0, 1)], "two run");
        lanes.finished(0);
        assert_eq!((lanes.take(), lanes.take()), (Some((0, 2)), None));
    }
}
