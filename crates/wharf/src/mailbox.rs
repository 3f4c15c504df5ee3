//! What reaches a shard from other threads: answered requests and handed-over connections.

use std::sync::{Mutex, OnceLock, PoisonError};

use crossbeam_queue::ArrayQueue;
use wharf_port::{Incoming, Waker};

use crate::Request;

pub(crate) struct Mailbox {
    /// Room for every request that can be with a worker at one time.
    answers: ArrayQueue<Box<Request>>,
    /// Connections that another shard accepted. Touched once a connection.
    incoming: Mutex<Vec<Incoming>>,
    /// Set by the shard before it first looks into its mailbox.
    waker: OnceLock<Waker>,
}

impl Mailbox {
    pub(crate) fn new(answers: usize) -> Mailbox {
        Mailbox {
            answers: ArrayQueue::new(answers),
            incoming: Mutex::new(Vec::new()),
            waker: OnceLock::new(),
        }
    }

    /// Says whom to wake. The shard does this once, before anything can come.
    pub(crate) fn open(&self, waker: Waker) {
        self.waker.set(waker).expect("a mailbox is opened once");
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Brings an answered request back.
    pub(crate) fn answer(&self, request: Box<Request>) {
        // There is room: requests with workers are bounded by the queue's length and the threads.
        let full = self.answers.push(request).is_err();
        debug_assert!(!full, "more answers than requests");
        self.wake();
    }

    /// Hands a connection over.
    pub(crate) fn hand_over(&self, incoming: Incoming) {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner).push(incoming);
        self.wake();
    }

    pub(crate) fn next_answer(&self) -> Option<Box<Request>> {
        self.answers.pop()
    }

    pub(crate) fn take_incoming(&self) -> Vec<Incoming> {
        std::mem::take(&mut *self.incoming.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
