//! The worker pool: threads that run the handlers which may block.
//!
//! Requests come as pointers through the [lanes] of their routes and go back, answered, through the
//! mailbox of their shard. The [crew] starts threads when nobody is there to take a request and
//! ends them when idle for long. Neither way takes a lock, unless a thread sleeps or a route has
//! more to do than its share.

mod crew;
mod lanes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderValue};
use wharf_port::ProcessorWait;

use self::crew::{Called, Crew};
use self::lanes::{Job, LaneLimits, Lanes};
use crate::dispatch::Dispatch;
use crate::request::{Piece, Work};
use crate::router::{Routes, Target};
use crate::shared::Shared;
use crate::stream::Produce;
use crate::{Limits, Request, Response};

pub(crate) struct Pool {
    crew: Crew<Box<Request>>,
}

impl Job for Box<Request> {
    fn lane(&self) -> usize {
        self.reply.target
    }
}

impl Pool {
    /// `max_threads` may be 0: then only [`Pool::run_one`] runs anything.
    pub(crate) fn new(limits: &Limits, routes: &Routes, max_threads: usize) -> Pool {
        let targets = routes.targets();
        let may_be_pooled = |target: &&Target| target.options.dispatch != Some(Dispatch::Inline);
        // A route that has nobody to leave anything to has all.
        let is_alone = targets.iter().filter(may_be_pooled).count() <= 1;
        let share = |all| if is_alone { all } else { lanes::share(all) };
        let lanes = targets.iter().map(|target| LaneLimits {
            running: target.options.concurrency.unwrap_or_else(|| share(limits.workers)),
            waiting: share(limits.queued_requests),
        });
        let lanes = Lanes::new(limits.queued_requests, lanes);
        Pool { crew: Crew::new(lanes, max_threads, limits.worker_idle_timeout) }
    }

    /// Takes a request for a worker, or gives it back when there is no place for it. Whether one
    /// has become ready: then a [call](Pool::call) has to follow.
    pub(crate) fn submit(&self, request: Box<Request>) -> Result<bool, Box<Request>> {
        self.crew.lanes.submit(request)
    }

    /// Has a worker look for what was submitted. Once for many requests, since who takes one of
    /// them calls another worker for the next.
    pub(crate) fn call(&self, shared: &Arc<Shared>) {
        if let Called::Start(number) = self.crew.call() {
            self.start_thread(shared, number);
        }
    }

    fn start_thread(&self, shared: &Arc<Shared>, number: usize) {
        let shared = shared.clone();
        let started = thread::Builder::new()
            .name(format!("wharf-worker-{number}"))
            .spawn(move || shared.pool.work(&shared));
        if let Err(error) = started {
            self.crew.not_started();
            tracing::warn!("a worker thread could not be started: {error}");
        }
    }

    fn work(&self, shared: &Arc<Shared>) {
        let mut waited = ProcessorWait::default();
        self.crew.work(
            |request| run(shared, request, Some(&mut waited)),
            |request| deliver(shared, request),
            |number| self.start_thread(shared, number),
        );
    }

    /// Runs one waiting request on this thread, that would not wait. False: there is none.
    #[cfg(test)]
    pub(crate) fn run_one(&self, shared: &Shared) -> bool {
        let request = self.begin_one(shared);
        request.map(|request| deliver(shared, request)).is_some()
    }

    /// Does the same, but keeps the answer, to be delivered later.
    #[cfg(test)]
    pub(crate) fn begin_one(&self, shared: &Shared) -> Option<Box<Request>> {
        let lanes = &self.crew.lanes;
        for _ in 0..lanes.ready() {
            let mut request = lanes.take()?;
            if request.work_mut().is_ready() {
                let request = run(shared, request, None);
                lanes.finished(request.lane());
                return Some(request);
            }
            lanes.put_back(request);
        }
        None
    }

    /// Lets the threads end once no request waits.
    pub(crate) fn close(&self) {
        self.crew.close();
    }

    /// Waits until the threads of a closed pool have ended, for `grace` at the most. Returns how
    /// many have not.
    pub(crate) fn join(&self, grace: Duration) -> usize {
        self.crew.join(grace)
    }

    /// Threads that have not ended.
    pub(crate) fn threads(&self) -> usize {
        self.crew.threads()
    }

    /// Requests that no thread has taken yet.
    pub(crate) fn queued(&self) -> usize {
        self.crew.lanes.waiting()
    }
}

fn run(
    shared: &Shared,
    mut request: Box<Request>,
    waited: Option<&mut ProcessorWait>,
) -> Box<Request> {
    let done = match std::mem::take(request.work_mut()) {
        Work::Handle => Work::Answered(handle(shared, &mut request, waited)),
        Work::Produce(source) => produce(source, shared),
        Work::Run(run) => {
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                shared.counts.panics.fetch_add(1, Ordering::Relaxed);
            }
            Work::Done
        }
        done @ (Work::Answered(_) | Work::Produced(..) | Work::Done) => done,
    };
    *request.work_mut() = done;
    request
}

/// Asks a body's source for its next piece. Its panic ends this answer and nothing else.
fn produce(mut source: Box<dyn Produce>, shared: &Shared) -> Work {
    let asked = catch_unwind(AssertUnwindSafe(|| {
        let piece = source.produce();
        piece.map(|piece| piece.map_or_else(|| Piece::End(source.trailers()), Piece::Bytes))
    }));
    let piece = match asked {
        Ok(Ok(piece)) => piece,
        Ok(Err(error)) => {
            tracing::warn!("an answer is cut off: its body could not be read: {error}");
            Piece::Failed
        }
        Err(_) => {
            shared.counts.panics.fetch_add(1, Ordering::Relaxed);
            Piece::Failed
        }
    };
    Work::Produced(source, piece)
}

/// Calls the handler, and measures it.
fn handle(shared: &Shared, request: &mut Request, waited: Option<&mut ProcessorWait>) -> Response {
    if request.is_late() {
        return too_late(shared, request);
    }
    let number = request.reply.target;
    let (target, dispatch) = (shared.routes.target(number), &shared.dispatch[number]);
    let mut waited = waited.filter(|_| dispatch.is_promising());
    if let Some(waited) = &mut waited {
        waited.begin();
    }
    let began = (shared.clock)();
    let response = target.call(request, &shared.counts);
    let mut took = (shared.clock)() - began;
    if let Some(waited) = waited
        && dispatch.is_stall(took)
    {
        took = took.saturating_sub(waited.end());
    }
    request.took = Some(took);
    response
}

/// The answer to a request that has waited for longer than it may take.
#[cold]
fn too_late(shared: &Shared, request: &Request) -> Response {
    shared.counts.overloaded.fetch_add(1, Ordering::Relaxed);
    let message = "The request has waited for too long; try again soon.\n";
    let response = Response::message(StatusCode::SERVICE_UNAVAILABLE, message)
        .header(header::RETRY_AFTER, HeaderValue::from_static("1"));
    shared.routes.refused(request, response, &shared.counts)
}

/// Brings an answered request back to its shard.
pub(crate) fn deliver(shared: &Shared, request: Box<Request>) {
    shared.mailboxes[request.reply.shard].answer(request);
}
