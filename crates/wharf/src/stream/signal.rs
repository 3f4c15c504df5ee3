//! Tells a handler that its client has gone, or its time is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Shared by a request that is with a worker and its connection.
#[derive(Default)]
pub(crate) struct Signal {
    is_cancelled: AtomicBool,
    /// The request's time is over.
    is_late: AtomicBool,
    told: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Signal {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Calls `tell` when the client goes, or now if it has.
    pub(crate) fn on_cancel(&self, tell: Box<dyn FnOnce() + Send>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_cancelled() {
            drop(told);
            tell();
        } else {
            told.push(tell);
        }
    }

    pub(crate) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Acquire)
    }

    /// The request's time is over: what does not run yet need not, and what runs may stop.
    pub(crate) fn time_is_over(&self) {
        self.is_late.store(true, Ordering::Release);
        self.cancel();
    }

    pub(crate) fn cancel(&self) {
        let told = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            self.is_cancelled.store(true, Ordering::Release);
            std::mem::take(&mut *told)
        };
        told.into_iter().for_each(|tell| tell());
    }

    /// Makes it as new, for the next request. Nobody else has it.
    pub(crate) fn clear(&mut self) {
        *self.is_cancelled.get_mut() = false;
        *self.is_late.get_mut() = false;
        self.told.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
