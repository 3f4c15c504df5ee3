//! Loom's twins of what `sync.rs` in `wharf` and in `wharf-port` names. Those two files are all of
//! the server's code that a model does not run.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::LockResult;
use std::time::Duration;

pub(crate) use std::sync::{OnceLock, PoisonError};

pub(crate) use loom::sync::Arc;
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence,
};

thread_local! {
    static TIME_PASSES: Cell<bool> = const { Cell::new(false) };
}

/// Whether waits with a timeout end by it, from now on. Loom runs all threads on one.
pub(crate) fn set_time_passes(passes: bool) {
    TIME_PASSES.set(passes);
}

/// Knows in its guards where they come from, for the sake of [`Condvar`].
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: loom::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(data: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(data))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let guard = self.0.lock().expect("no model poisons a lock");
        Ok(MutexGuard { mutex: self, guard })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Loom's own never times out.
#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    /// Where time passes, the wait is over as soon as the others had their chance.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let MutexGuard { mutex, guard } = guard;
        let passes = TIME_PASSES.get();
        let guard = if passes {
            drop(guard);
            mutex.0.lock()
        } else {
            self.0.wait(guard)
        };
        let guard = guard.expect("no model poisons a lock");
        Ok((MutexGuard { mutex, guard }, WaitTimeoutResult(passes)))
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// In the place of crossbeam's queue, with no more order between threads than that one gives: who
/// finds it empty has met nobody's lock.
#[derive(Debug)]
pub(crate) struct ArrayQueue<T> {
    len: AtomicUsize,
    items: loom::sync::Mutex<VecDeque<T>>,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> ArrayQueue<T> {
        let items = loom::sync::Mutex::new(VecDeque::new());
        ArrayQueue { len: AtomicUsize::new(0), items, capacity }
    }

    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.items.lock().expect("no model poisons a lock");
        if items.len() == self.capacity {
            return Err(item);
        }
        items.push_back(item);
        drop(items);
        self.len.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.len
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |len| len.checked_sub(1))
            .ok()?;
        self.items.lock().expect("no model poisons a lock").pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }
}
