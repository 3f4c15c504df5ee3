//! The threads' coming and going: who looks for work, who sleeps, who is woken.
//!
//! ```text
//!   start ──► searching ──took one──► running
//!                │  ▲ ▲                  │
//! nothing ready  │  │ └──── finished ────┘
//!                ▼  │ called
//!              sleeping ──idle for long──► end
//! ```
//!
//! No job is left behind, because whoever stops searching looks once more: a thread that took a job
//! calls another one if more are ready, and a thread that goes to sleep looks before it does. So
//! who submits need not call anybody while a thread searches; and a thread searches from the moment
//! it is called, not from when it is awake, so that a burst of submissions costs one system call.
//!
//! Who fell asleep last is called first: it has a warm stack, and those who are not needed sleep
//! until they end. What a job is, and how a thread is started, is not known here.

use std::time::{Duration, Instant};

use super::lanes::{Job, Lanes};
use crate::sync::{Arc, AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, PoisonError, fence};

pub(crate) struct Crew<J> {
    pub(crate) lanes: Lanes<J>,
    /// Threads there may be. 0: jobs are run by whoever takes them out of the lanes.
    max_threads: usize,
    /// How long a thread sleeps before it ends.
    idle_timeout: Duration,
    threads: AtomicUsize,
    /// Threads that are about to look for a job, those that were called included.
    searching: AtomicUsize,
    /// The length of `asleep`.
    sleeping: AtomicUsize,
    /// Who sleeps and has not been called, who fell asleep last at the end. Locked only to go to
    /// sleep, to call, and to end.
    asleep: Mutex<Vec<Arc<Sleeper>>>,
    /// A thread has ended.
    ended: Condvar,
    closed: AtomicBool,
}

/// A thread, as those who call it know it.
#[derive(Default)]
struct Sleeper {
    /// It is searching and no longer in the list. Changes under the list's lock.
    called: AtomicBool,
    bell: Condvar,
}

/// What somebody who called for a thread has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// Nothing: somebody looks, or all are at work and will look.
    Enough,
    /// Start the thread of that number, which is counted already, or else take it
    /// [back](Crew::not_started).
    Start(usize),
}

impl<J: Job> Crew<J> {
    pub(crate) fn new(lanes: Lanes<J>, max_threads: usize, idle_timeout: Duration) -> Crew<J> {
        Crew {
            lanes,
            max_threads,
            idle_timeout,
            threads: AtomicUsize::new(0),
            searching: AtomicUsize::new(0),
            sleeping: AtomicUsize::new(0),
            asleep: Mutex::new(Vec::with_capacity(max_threads)),
            ended: Condvar::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Sees to it that somebody looks for a job, after one became ready or was found to be.
    ///
    /// Here a job is made ready, then the counts are read; a thread changes the counts, then looks
    /// for a job. The fences keep both orders, so at least one side sees the other.
    pub(crate) fn call(&self) -> Called {
        fence(Ordering::SeqCst);
        if self.searching.load(Ordering::Relaxed) > 0 {
            return Called::Enough;
        }
        if self.sleeping.load(Ordering::Relaxed) > 0 && self.call_sleeper() {
            return Called::Enough;
        }
        self.count_thread()
    }

    fn call_sleeper(&self) -> bool {
        let mut asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sleeper) = asleep.pop() else { return false };
        // In this order, so that no moment finds the sleeper in neither count.
        self.searching.fetch_add(1, Ordering::Relaxed);
        self.sleeping.fetch_sub(1, Ordering::Relaxed);
        sleeper.called.store(true, Ordering::Relaxed);
        drop(asleep);
        sleeper.bell.notify_one();
        true
    }

    fn count_thread(&self) -> Called {
        let counted = self.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |threads| {
            (threads < self.max_threads).then_some(threads + 1)
        });
        match counted {
            Ok(number) => {
                self.searching.fetch_add(1, Ordering::Relaxed);
                Called::Start(number)
            }
            Err(_) => Called::Enough,
        }
    }

    /// The system refused a thread.
    pub(crate) fn not_started(&self) {
        self.searching.fetch_sub(1, Ordering::Relaxed);
        self.threads.fetch_sub(1, Ordering::Relaxed);
    }

    /// A thread's life. `run` runs a job, `deliver` takes it back to where it came from, and
    /// `start` starts a thread.
    pub(crate) fn work(
        &self,
        mut run: impl FnMut(J) -> J,
        mut deliver: impl FnMut(J),
        start: impl Fn(usize),
    ) {
        let call = || {
            if let Called::Start(number) = self.call() {
                start(number);
            }
        };
        let me = Arc::new(Sleeper::default());
        loop {
            while let Some(job) = self.lanes.take() {
                self.stop_searching();
                if self.lanes.has_ready() {
                    call();
                }
                let lane = job.lane();
                let job = run(job);
                // Before the lane has room and the answer is out: who comes next finds this thread.
                self.searching.fetch_add(1, Ordering::Relaxed);
                self.lanes.finished(lane);
                deliver(job);
            }
            if !self.sleep(&me) {
                break;
            }
        }
        let guard = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.threads.fetch_sub(1, Ordering::Release);
        drop(guard);
        self.ended.notify_all();
        // Who found nobody to call and no room for another thread counted on this one.
        fence(Ordering::SeqCst);
        if self.lanes.has_ready() {
            call();
        }
    }

    /// After this one has to look for a job once more.
    fn stop_searching(&self) {
        self.searching.fetch_sub(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Returns searching again, or false: this thread should end.
    fn sleep(&self, me: &Arc<Sleeper>) -> bool {
        let mut asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        me.called.store(false, Ordering::Relaxed);
        asleep.push(me.clone());
        self.sleeping.fetch_add(1, Ordering::Relaxed);
        self.stop_searching();
        let is_called = || me.called.load(Ordering::Relaxed);
        let mut timed_out = false;
        while !is_called()
            && !timed_out
            && !self.lanes.has_ready()
            && !self.closed.load(Ordering::Relaxed)
        {
            let waited = me.bell.wait_timeout(asleep, self.idle_timeout);
            let waited = waited.unwrap_or_else(PoisonError::into_inner);
            asleep = waited.0;
            timed_out = waited.1.timed_out();
        }
        if is_called() {
            return true;
        }
        asleep.retain(|sleeper| !Arc::ptr_eq(sleeper, me));
        // In this order, so that no moment finds this thread in neither count.
        self.searching.fetch_add(1, Ordering::Relaxed);
        self.sleeping.fetch_sub(1, Ordering::Relaxed);
        if self.lanes.has_ready() {
            return true;
        }
        self.stop_searching();
        // Who still counted on this thread has made a job ready by now.
        let go_on = self.lanes.has_ready();
        if go_on {
            self.searching.fetch_add(1, Ordering::Relaxed);
        }
        go_on
    }

    /// Lets the threads end once nothing is ready.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        asleep.iter().for_each(|sleeper| sleeper.bell.notify_one());
    }

    /// Waits until the threads of a closed crew have ended, for `grace` at the most. Returns how
    /// many have not.
    pub(crate) fn join(&self, grace: Duration) -> usize {
        let mut guard = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        loop {
            let left = grace.saturating_sub(began.elapsed());
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
}
