//! The worker pool: threads that run the handlers which may block.
//!
//! Requests come as pointers through a bounded queue and go back, answered, through the mailbox of
//! their shard. Threads start when nobody is idle and end when idle for long. Neither way takes a
//! lock unless a thread sleeps.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use crate::Request;
use crate::shared::Shared;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) struct Pool {
    queue: ArrayQueue<Box<Request>>,
    /// Threads there may be. 0: only [`Pool::run_one`] runs anything.
    max_threads: usize,
    threads: AtomicUsize,
    /// Threads that sleep, or are about to and will look at the queue once more.
    idle: AtomicUsize,
    /// Held only to go to sleep and to wake.
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
            idle: AtomicUsize::new(0),
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
        // A worker counts itself idle, then looks at the queue; here the queue is filled, then the
        // count looked at. The fences keep both orders, so at least one side sees the other.
        fence(Ordering::SeqCst);
        self.call_worker(shared);
        Ok(())
    }

    /// Wakes an idle thread, or starts one.
    fn call_worker(&self, shared: &Arc<Shared>) {
        if self.idle.load(Ordering::Relaxed) > 0 {
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
        let shared = shared.clone();
        let started = thread::Builder::new()
            .name(format!("wharf-worker-{number}"))
            .spawn(move || shared.pool.work(&shared));
        if let Err(error) = started {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("a worker thread could not be started: {error}");
        }
    }

    fn work(&self, shared: &Arc<Shared>) {
        loop {
            while let Some(request) = self.queue.pop() {
                // A thread counts as idle until it has woken, so of requests that came meanwhile
                // some may have called on this thread alone. They must not wait for its handler.
                if !self.queue.is_empty() {
                    self.call_worker(shared);
                }
                run(shared, request);
            }
            if !self.sleep_until_work() && self.queue.is_empty() {
                break;
            }
        }
        let guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.threads.fetch_sub(1, Ordering::Release);
        drop(guard);
        self.ended.notify_all();
        // Who came after the last look at the queue may have found no room for another thread.
        fence(Ordering::SeqCst);
        if !self.queue.is_empty() {
            self.call_worker(shared);
        }
    }

    /// False: this thread should end.
    fn sleep_until_work(&self) -> bool {
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.idle.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut go_on = true;
        while self.queue.is_empty() {
            if self.closed.load(Ordering::Relaxed) {
                go_on = false;
                break;
            }
            let (returned, timeout) =
                self.work.wait_timeout(guard, IDLE).unwrap_or_else(PoisonError::into_inner);
            guard = returned;
            if timeout.timed_out() && self.queue.is_empty() {
                go_on = false;
                break;
            }
        }
        self.idle.fetch_sub(1, Ordering::Relaxed);
        // Whoever saw this thread idle has filled the queue before the look at it that follows.
        fence(Ordering::SeqCst);
        go_on
    }

    /// Runs one waiting request on this thread. False: none waits.
    #[cfg(test)]
    pub(crate) fn run_one(&self, shared: &Shared) -> bool {
        match self.queue.pop() {
            Some(request) => {
                run(shared, request);
                true
            }
            None => false,
        }
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

fn run(shared: &Shared, mut request: Box<Request>) {
    let reply = request.reply;
    request.response = Some(shared.routes.target(reply.target).call(&request, &shared.counts));
    shared.mailboxes[reply.shard].answer(request);
}
