//! What reaches a shard from other threads: answered requests, notices of bodies that flow, and
//! handed-over connections.

use std::collections::VecDeque;
use std::fmt;

use wharf_port::{Incoming, Waker};

use crate::Request;
use crate::shared::Shared;
use crate::sync::{Arc, ArrayQueue, AtomicBool, Mutex, OnceLock, Ordering, PoisonError};

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
    /// Answers, as long as there is room.
    answers: ArrayQueue<Box<Request>>,
    /// Answers beyond that: workers may answer faster than a busy shard takes a turn.
    more: Mutex<VecDeque<Box<Request>>>,
    /// `more` is not empty. Changes under its lock.
    has_more: AtomicBool,
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
            more: Mutex::new(VecDeque::new()),
            has_more: AtomicBool::new(false),
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
        if let Err(request) = self.answers.push(request) {
            let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
            more.push_back(request);
            // Relaxed: the wake comes after it, and the shard looks after the wake.
            self.has_more.store(true, Ordering::Relaxed);
        }
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
        self.answers.pop().or_else(|| self.next_of_more())
    }

    fn next_of_more(&self) -> Option<Box<Request>> {
        if !self.has_more.load(Ordering::Relaxed) {
            return None;
        }
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        let request = more.pop_front();
        self.has_more.store(!more.is_empty(), Ordering::Relaxed);
        request
    }

    pub(crate) fn take_incoming(&self) -> Vec<Incoming> {
        std::mem::take(&mut *self.incoming.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_beyond_the_queue_come_too_and_once() {
        let mailbox = Mailbox::new(2);
        for round in 0..3 {
            for stream in 0..5 {
                let mut request = Box::new(Request::blank());
                request.reply.stream = stream;
                mailbox.answer(request);
            }
            let answers = std::iter::from_fn(|| mailbox.next_answer());
            let streams: Vec<_> = answers.map(|request| request.reply.stream).collect();
            assert_eq!(streams, [0, 1, 2, 3, 4], "round {round}");
        }
    }
}
