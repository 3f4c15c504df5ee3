//! The worker pool: threads that run the handlers which may block.
//!
//! Requests come as pointers through a bounded queue and go back, answered, through the mailbox of
//! their shard. Threads start when nobody is there to take a request and end when idle for long.
//! Neither way takes a lock unless a thread sleeps.
//!
//! ```text
//!   start ──► searching ──took one──► running
//!                │  ▲ ▲                  │
//!    queue empty │  │ └──── answered ────┘
//!                ▼  │ woken
//!              sleeping ──idle for long──► end
//! ```
//!
//! No request is left behind, because whoever stops searching looks at the queue once more: a
//! thread that took a request calls on another one if more wait, and a thread that goes to sleep
//! looks before it does. So who submits need not call on anybody while a thread searches.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use wharf_port::ProcessorWait;

use crate::request::{Piece, Work};
use crate::shared::Shared;
use crate::stream::Produce;
use crate::{Request, Response};

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) struct Pool {
    queue: ArrayQueue<Box<Request>>,
    /// Threads there may be. 0: only [`Pool::run_one`] runs anything.
    max_threads: usize,
    threads: AtomicUsize,
    /// Threads that are about to look at the queue.
    searching: AtomicUsize,
    /// Threads that sleep.
    sleeping: AtomicUsize,
    /// Held only to go to sleep, to wake, and to end.
    sleep: Mutex<()>,
    work: Condvar,
    /// A thread has ended.
    ended: Condvar,
    closed: AtomicBool,
}

impl Pool {
    pub(crate) fn new(queue: usize, max_threads: usize) -> Pool {
        Pool {
            queue: ArrayQueue::new(queue),
            max_threads,
            threads: AtomicUsize::new(0),
            searching: AtomicUsize::new(0),
            sleeping: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            work: Condvar::new(),
            ended: Condvar::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Hands a request to a worker, or gives it back when the queue is full.
    pub(crate) fn submit(
        &self,
        shared: &Arc<Shared>,
        request: Box<Request>,
    ) -> Result<(), Box<Request>> {
        self.queue.push(request)?;
        self.call_worker(shared);
        Ok(())
    }

    /// Sees to it that somebody looks at the queue, after it was filled or found not to be empty.
    ///
    /// Here the queue is filled, then the counts are read; a thread changes the counts, then looks
    /// at the queue. The fences keep both orders, so at least one side sees the other.
    fn call_worker(&self, shared: &Arc<Shared>) {
        fence(Ordering::SeqCst);
        if self.searching.load(Ordering::Relaxed) > 0 {
            return;
        }
        if self.sleeping.load(Ordering::Relaxed) > 0 {
            drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.work.notify_one();
        } else {
            self.start_thread(shared);
        }
    }

    fn start_thread(&self, shared: &Arc<Shared>) {
        let counted = self.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |threads| {
            (threads < self.max_threads).then_some(threads + 1)
        });
        let Ok(number) = counted else { return };
        self.searching.fetch_add(1, Ordering::Relaxed);
        let shared = shared.clone();
        let started = thread::Builder::new()
            .name(format!("wharf-worker-{number}"))
            .spawn(move || shared.pool.work(&shared));
        if let Err(error) = started {
            self.searching.fetch_sub(1, Ordering::Relaxed);
            self.threads.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("a worker thread could not be started: {error}");
        }
    }

    fn work(&self, shared: &Arc<Shared>) {
        let mut waited = ProcessorWait::default();
        loop {
            while let Some(request) = self.queue.pop() {
                self.stop_searching();
                if !self.queue.is_empty() {
                    self.call_worker(shared);
                }
                let request = run(shared, request, Some(&mut waited));
                // Before the answer is out: the request that follows it finds this thread.
                self.searching.fetch_add(1, Ordering::Relaxed);
                deliver(shared, request);
            }
            if !self.sleep_until_work() {
                break;
            }
        }
        let guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.threads.fetch_sub(1, Ordering::Release);
        drop(guard);
        self.ended.notify_all();
        // Who found nobody to call on and no room for another thread counted on this one.
        fence(Ordering::SeqCst);
        if !self.queue.is_empty() {
            self.call_worker(shared);
        }
    }

    /// After this the queue has to be looked at once more.
    fn stop_searching(&self) {
        self.searching.fetch_sub(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Returns searching again, or false: this thread should end.
    fn sleep_until_work(&self) -> bool {
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleeping.fetch_add(1, Ordering::Relaxed);
        self.stop_searching();
        let mut timed_out = false;
        while self.queue.is_empty() && !self.closed.load(Ordering::Relaxed) && !timed_out {
            let waited =
                self.work.wait_timeout(guard, IDLE).unwrap_or_else(PoisonError::into_inner);
            guard = waited.0;
            timed_out = waited.1.timed_out();
        }
        // In this order, so that no moment finds this thread in neither count.
        self.searching.fetch_add(1, Ordering::Relaxed);
        self.sleeping.fetch_sub(1, Ordering::Relaxed);
        if !self.queue.is_empty() {
            return true;
        }
        self.stop_searching();
        // Who still counted on this thread has filled the queue by now.
        let go_on = !self.queue.is_empty();
        if go_on {
            self.searching.fetch_add(1, Ordering::Relaxed);
        }
        go_on
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
        for _ in 0..self.queue.len() {
            let mut request = self.queue.pop()?;
            if request.work_mut().is_ready() {
                return Some(run(shared, request, None));
            }
            assert!(self.queue.push(request).is_ok(), "it had a place before");
        }
        None
    }

    /// Lets the threads end once the queue is empty.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.work.notify_all();
    }

    /// Waits until the threads of a closed pool have ended, for `grace` at the most. Returns how
    /// many have not.
    pub(crate) fn join(&self, grace: Duration) -> usize {
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + grace;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.threads() == 0 || left.is_zero() {
                return self.threads();
            }
            let waited = self.ended.wait_timeout(guard, left);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Threads that have not ended.
    pub(crate) fn threads(&self) -> usize {
        self.threads.load(Ordering::Acquire)
    }

    /// Requests that no thread has taken yet.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
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

/// Brings an answered request back to its shard.
pub(crate) fn deliver(shared: &Shared, request: Box<Request>) {
    shared.mailboxes[request.reply.shard].answer(request);
}
