//! Measuring inline calls without asking for the time twice a call.
//!
//! Calls of one route that follow one another are a batch: the clock is read behind the last of
//! them, and what has passed since the batch began counts for all. Between them lies only what
//! serving them takes, so the mean is right; whatever may take long besides
//! [interrupts](Context::interrupt_batch) the batch.
//!
//! A call that stalls is seen before the next one begins, or a batch of them would hold up the shard
//! many times over. What is asked after each call is only whether the port's tick has changed. On
//! Linux a stall may hide between two ticks, a few milliseconds apart at the most; then the end of
//! the batch shows it.
//!
//! What looks slow may be none of the handler's doing: on a busy machine the shard's thread waits for
//! a processor itself. So that is asked for where it counts, and taken off.

use wharf_port::{Backend, ProcessorWait, Time};

use super::context::Context;

/// Calls that are measured together: so few that together they stall only if one does, or if each
/// is beyond the budget.
const MAX_CALLS: u32 = 16;

#[derive(Default)]
pub(super) struct Batch {
    /// The route of the calls in it.
    target: usize,
    calls: u32,
    /// None: to be asked for when a call begins. Some if there are calls.
    began: Option<Time>,
    /// Slow calls of that route change where the next one runs.
    is_adaptive: bool,
    /// The port's tick when it was last asked for.
    tick: u64,
    waited: ProcessorWait,
}

impl Context {
    /// The wait is over and `now` is fresh: a batch may begin from it.
    pub(super) fn begin_turn(&mut self) {
        self.now = self.port.now();
        self.idle_deadline = self.now + self.shared.limits.idle_timeout;
        self.stall_deadline = self.now + self.shared.limits.write_stall_timeout;
        self.batch.began = Some(self.now);
    }

    /// An inline call of that route begins.
    #[inline(always)]
    pub(super) fn begin_call(&mut self, target: usize) {
        if self.batch.calls == 0 || self.batch.target != target {
            self.begin_batch(target);
        }
    }

    #[inline(never)]
    fn begin_batch(&mut self, target: usize) {
        if self.batch.calls > 0 {
            self.end_batch();
        }
        self.batch.target = target;
        self.batch.is_adaptive = self.shared.dispatch[target].is_adaptive();
        // What the thread waited before, the batch does not know of, and so must not count.
        if self.batch.is_adaptive && self.batch.waited.begin() {
            self.batch.began = None;
        }
        if self.batch.began.is_none() {
            self.batch.began = Some(self.port.clock());
        }
    }

    /// The call that was begun has ended.
    #[inline(always)]
    pub(super) fn end_call(&mut self) {
        self.batch.calls += 1;
        if self.batch.calls >= MAX_CALLS || self.may_have_stalled() {
            self.end_batch();
        }
    }

    /// Whether the last call may have been long. That of a route which stays inline whatever it
    /// takes is none the wiser for being seen at once.
    #[inline(always)]
    fn may_have_stalled(&mut self) -> bool {
        if !self.batch.is_adaptive {
            return false;
        }
        let tick = self.port.tick();
        std::mem::replace(&mut self.batch.tick, tick) != tick
    }

    /// What comes next is no part of serving inline calls.
    pub(super) fn interrupt_batch(&mut self) {
        if self.batch.calls > 0 {
            self.end_batch();
        }
        self.batch.began = None;
    }

    #[inline(never)]
    fn end_batch(&mut self) {
        let now = self.port.clock();
        let calls = std::mem::take(&mut self.batch.calls);
        let mut took = now.since(self.batch.began.replace(now).unwrap_or(now));
        let target = self.batch.target;
        let dispatch = &self.shared.dispatch[target];
        if dispatch.is_over_budget(calls, took) && self.port.backend() != Backend::Sim {
            took = took.saturating_sub(self.batch.waited.end());
        }
        dispatch.ran_inline(self.shard, calls, took, now, &self.shared.routes.target(target).name);
    }
}
