//! What reaches a shard from other threads: answered requests, notices of bodies that flow, and
//! handed-over connections.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_queue::ArrayQueue;
use wharf_port::{Incoming, Waker};

use crate::Request;
use crate::shared::Shared;

/// Which request of which connection a body belongs to: its other end has something to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// The connection's key in its shard's table.
    pub(crate) connection: u64,
    /// Which of the connection's requests.
    pub(crate) stream: u32,
}

/// Where notices go.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) shared: Arc<Shared>,
    pub(crate) shard: usize,
    pub(crate) notice: Notice,
}

impl Address {
    pub(crate) fn notify(&self) {
        self.shared.mailboxes[self.shard].notify(self.notice);
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}, {:?}", self.shard, self.notice)
    }
}

pub(crate) struct Mailbox {
    /// Room for every request that can be with a worker at one time.
    answers: ArrayQueue<Box<Request>>,
    /// Connections that another shard accepted. Touched once a connection.
    incoming: Mutex<Vec<Incoming>>,
    /// At most a few for each body that flows.
    notices: Mutex<Vec<Notice>>,
    has_notices: AtomicBool,
    /// Set by the shard before it first looks into its mailbox.
    waker: OnceLock<Waker>,
}

impl Mailbox {
    pub(crate) fn new(answers: usize) -> Mailbox {
        Mailbox {
            answers: ArrayQueue::new(answers),
            incoming: Mutex::new(Vec::new()),
            notices: Mutex::new(Vec::new()),
            has_notices: AtomicBool::new(false),
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

    fn notify(&self, notice: Notice) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.push(notice);
        self.has_notices.store(true, Ordering::Release);
        drop(notices);
        self.wake();
    }

    /// Moves the notices to `to`, which is empty.
    pub(crate) fn take_notices(&self, to: &mut Vec<Notice>) {
        if self.has_notices.load(Ordering::Acquire) {
            let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *notices, to);
            self.has_notices.store(false, Ordering::Relaxed);
        }
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
