//! A turn: deliver, recover what was parked, enter the kernel, take its completions.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::cqueue::{self, buffer_select, more};
use slotmap::{Key, KeyData};

use super::ring::Sleep;
use super::{CANCEL, Kind, OF_SOCKET, RETRY_DELAY, SENDS, SHARE, State, Uring, WAKE, socket_of};
use crate::listener::IncomingOrigin;
use crate::port::{Implementation, peer_of};
use crate::{Completion, Event, Failure, Incoming, Operation, Time, Token};

/// Marks of a send that its socket's entry keeps.
const OF_SOCKET_SENDS: u64 = OF_SOCKET | SENDS;
/// Completions taken off the ring at a time.
const BATCH: usize = 32;
/// Failures of an accept, one after another, after which it waits before it goes on, whatever they
/// are: a failure that does not pass must not make the port spin.
const ACCEPT_FAILURES_MAX: u8 = 16;
/// How long a port's drop waits for its operations to end.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// What the kernel says when an operation failed.
pub(super) fn failure(result: i32) -> Failure {
    match -result {
        libc::ECANCELED => Failure::Cancelled,
        errno => Failure::Io(io::Error::from_raw_os_error(errno)),
    }
}

/// Makes room for one completion more. Asked before it is made, that lets it be made in its place.
#[inline(always)]
pub(super) fn make_room(completions: &mut Vec<Completion>) {
    if completions.len() == completions.capacity() {
        completions.reserve(BATCH);
        assert!(completions.len() < completions.capacity());
    }
}

impl Uring {
    pub(super) fn turn(
        &mut self,
        completions: &mut Vec<Completion>,
        until: Option<Time>,
    ) -> io::Result<()> {
        let before = completions.len();
        completions.append(&mut self.queued);
        self.blocks.top_up();
        self.recover(completions);
        let ready = completions.len() > before || self.ring.has_completions();
        let submissions = self.ring.submissions();
        // With completions at hand and nothing to submit there is nothing to enter for; the work
        // that the kernel deferred has its turn when they are taken.
        let mut wanted = 0;
        if !self.ring.has_completions() || submissions > 0 {
            let mut sleep = if ready { Sleep::No } else { self.may_sleep(until) };
            if let Sleep::Until(until) = sleep {
                let busy = || Time::monotonic().since(self.now);
                wanted = self.pace.wanted(self.sockets.len(), busy);
                if wanted > 1 && self.ring.absolute {
                    sleep = Sleep::Several(wanted, until);
                }
            }
            let entered = self.ring.enter(sleep);
            self.waker.awake();
            entered?;
        } else {
            self.waker.awake();
        }
        let before = completions.len();
        self.called = false;
        self.take_completions(completions);
        let completed = (completions.len() - before).saturating_sub(submissions);
        self.pace.turned(wanted, completed as u32, self.called);
        self.now = Time::monotonic();
        Ok(())
    }

    /// Whether there is nothing to do but to sleep, and until when.
    fn may_sleep(&mut self, until: Option<Time>) -> Sleep {
        if until.is_some_and(|until| until <= self.now) {
            return Sleep::No;
        }
        if !self.parked_receives.is_empty()
            && (self.blocks.provided() > 0 || !self.blocks.starve(&self.waker))
        {
            return Sleep::No;
        }
        if !self.waker.about_to_sleep() {
            return Sleep::No;
        }
        Sleep::Until(match (until, self.retry_at) {
            (Some(until), Some(retry_at)) => Some(until.min(retry_at)),
            (until, retry_at) => until.or(retry_at),
        })
    }

    /// Lets what was parked go on, as far as it can.
    #[inline]
    fn recover(&mut self, completions: &mut Vec<Completion>) {
        if !self.parked_receives.is_empty() {
            self.unpark_receives();
        }
        if self.retry_at.is_some() {
            self.retry(completions);
        }
        if !self.cancel_again.is_empty() {
            for key in std::mem::take(&mut self.cancel_again) {
                if self.is_in_flight(key) {
                    self.push_cancel(key);
                }
            }
        }
    }

    /// Arms as many parked receives as there are blocks. Those that have bytes waiting take one
    /// each; those that only began when there was none take nothing, and more follow next turn.
    #[cold]
    fn unpark_receives(&mut self) {
        let mut blocks = self.blocks.provided();
        while blocks > 0 {
            let Some(key) = self.parked_receives.pop_front() else { return };
            // A later receive of the socket may have its key, but then it is not parked.
            if self.sockets.get(socket_of(key)).is_some_and(|entry| entry.receive_parked) {
                self.arm_receive(key);
                blocks -= 1;
            }
        }
    }

    #[cold]
    fn retry(&mut self, completions: &mut Vec<Completion>) {
        if self.retry_at.is_none_or(|at| at > Time::monotonic()) {
            return;
        }
        self.retry_at = None;
        for key in std::mem::take(&mut self.parked_accepts) {
            self.arm(key);
        }
        self.unpark_files(completions);
    }

    fn take_completions(&mut self, completions: &mut Vec<Completion>) {
        let mut batch = [const { MaybeUninit::<cqueue::Entry>::uninit() }; BATCH];
        loop {
            let entries = self.ring.completions(&mut batch);
            for entry in entries {
                self.completed(entry, completions);
            }
            if entries.len() < BATCH {
                return;
            }
        }
    }

    /// Dispatches one completion of the kernel's.
    #[inline]
    fn completed(&mut self, entry: &cqueue::Entry, completions: &mut Vec<Completion>) {
        let (user_data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
        let key = Operation::from(KeyData::from_ffi(user_data));
        match user_data & (CANCEL | OF_SOCKET | SENDS) {
            OF_SOCKET => self.received(key, result, flags, completions),
            OF_SOCKET_SENDS => self.sent(key, result, completions),
            _ => self.completed_of_table(key, result, flags, completions),
        }
    }

    fn completed_of_table(
        &mut self,
        key: Operation,
        result: i32,
        flags: u32,
        completions: &mut Vec<Completion>,
    ) {
        let Some(operation) = self.operations.get_mut(key) else {
            return self.completed_besides(key.data().as_ffi(), result, flags);
        };
        let token = operation.token;
        match &mut operation.kind {
            Kind::ReceiveInto(_) => self.received_into(key, result, completions),
            Kind::Accept => self.accepted(key, token, result, flags, completions),
            Kind::SendFile(_) => self.file_progressed(key, result, completions),
            Kind::ShutDown => self.shut_down(key, result, completions),
            Kind::Close { preparing, .. } => {
                // Where the kernel cannot set it up, the connection is closed without a reset.
                *preparing = false;
                let socket = operation.socket;
                self.close_joined(socket, completions);
            }
        }
    }

    /// A completion that belongs to no operation of the table.
    #[cold]
    fn completed_besides(&mut self, user_data: u64, result: i32, flags: u32) {
        if user_data == WAKE {
            self.called = true;
            if !more(flags) {
                self.watch_eventfd();
            }
        } else if user_data == SHARE {
            // The kernel is too old for it; the socket is left to the system.
        } else if user_data & CANCEL != 0 {
            let key = Operation::from(KeyData::from_ffi(user_data & !CANCEL));
            // If it is found to be running (EALREADY), it ends by itself.
            if result == -libc::ENOENT && self.is_in_flight(key) {
                self.cancel_again.push(key);
            }
        } else {
            debug_assert!(false, "a completion for an operation that has ended");
            if let Some(block) = buffer_select(flags) {
                self.blocks.give_back(block);
            }
        }
    }

    #[inline]
    fn received(
        &mut self,
        key: Operation,
        result: i32,
        flags: u32,
        completions: &mut Vec<Completion>,
    ) {
        let Some(entry) = self.sockets.get(socket_of(key)) else {
            return self.completed_besides(key.data().as_ffi(), result, flags);
        };
        debug_assert_eq!(entry.receiving, Some(key));
        if result > 0
            && let Some(block) = buffer_select(flags)
        {
            make_room(completions);
            let token = entry.receive_token;
            let lease = self.blocks.lease(block, result as usize);
            completions.push(Completion { token, event: Event::Received(lease) });
            if more(flags) {
                return;
            }
        }
        self.receive_stopped(key, result, flags, completions);
    }

    /// The kernel repeats the receive no more: it ended, or it must be armed again.
    #[cold]
    fn receive_stopped(
        &mut self,
        key: Operation,
        result: i32,
        flags: u32,
        completions: &mut Vec<Completion>,
    ) {
        if result <= 0
            && let Some(block) = buffer_select(flags)
        {
            // A receive that is cancelled or fails may have taken a block out of the ring before.
            self.blocks.give_back(block);
        }
        if more(flags) {
            return;
        }
        let Some(entry) = self.sockets.get_mut(socket_of(key)) else { return };
        match -result {
            0 => self.end_receive(key, Ok(()), completions),
            libc::ENOBUFS if !entry.receive_cancelled => {
                entry.receive_parked = true;
                self.parked_receives.push_back(key);
                self.blocks.was_empty();
            }
            errno if errno < 0 || errno == libc::EINTR || errno == libc::ENOBUFS => {
                if entry.receive_cancelled {
                    self.end_receive(key, Err(Failure::Cancelled), completions);
                } else {
                    self.arm_receive(key);
                }
            }
            _ => self.end_receive(key, Err(failure(result)), completions),
        }
    }

    fn received_into(&mut self, key: Operation, result: i32, completions: &mut Vec<Completion>) {
        let Some(operation) = self.operations.get(key) else { return };
        if result == -libc::EINTR && !operation.cancelled {
            return self.arm(key);
        }
        if result < 0 {
            let interrupted = result == -libc::EINTR;
            let why = if interrupted { Failure::Cancelled } else { failure(result) };
            return self.fail(key, why, completions);
        }
        let Some((operation, closing)) = self.take(key) else { return };
        if let Kind::ReceiveInto(mut block) = operation.kind {
            let count = result as usize;
            // SAFETY: the kernel wrote `count` bytes into the capacity behind `len`.
            unsafe { block.set_len(block.len() + count) };
            let event = Event::ReceivedInto { block, result: Ok(count) };
            completions.push(Completion { token: operation.token, event });
        }
        if closing {
            self.close_joined(operation.socket, completions);
        }
    }

    #[inline]
    fn sent(&mut self, key: Operation, result: i32, completions: &mut Vec<Completion>) {
        if result <= 0 {
            return self.send_failed(key, result, completions);
        }
        self.end_send(key, Ok(result as usize), completions);
    }

    #[cold]
    fn send_failed(&mut self, key: Operation, result: i32, completions: &mut Vec<Completion>) {
        let Some(entry) = self.sockets.get(socket_of(key)) else { return };
        let why = match -result {
            libc::EINTR if !entry.send_cancelled => return self.arm_send_again(key),
            libc::EINTR => Failure::Cancelled,
            // A stream takes at least one byte or fails.
            0 => Failure::Io(io::ErrorKind::WriteZero.into()),
            _ => failure(result),
        };
        self.end_send(key, Err(why), completions);
    }

    #[cold]
    fn shut_down(&mut self, key: Operation, result: i32, completions: &mut Vec<Completion>) {
        match result {
            0.. => self.end(key, Event::ShutDown(Ok(())), completions),
            _ => self.fail(key, failure(result), completions),
        }
    }

    fn accepted(
        &mut self,
        key: Operation,
        token: Token,
        result: i32,
        flags: u32,
        completions: &mut Vec<Completion>,
    ) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        if result >= 0 {
            operation.failures = 0;
            self.accepts_warned = false;
            // SAFETY: the kernel just made this descriptor for us.
            let socket = socket2::Socket::from(unsafe { OwnedFd::from_raw_fd(result) });
            // The address that a repeating accept could fill in is one for all its connections, so
            // each is asked for its own. A peer that is gone already has none: drop it quietly.
            if let Ok(peer) = socket.peer_addr().and_then(peer_of) {
                let incoming = Incoming { origin: IncomingOrigin::Os(socket), peer };
                completions.push(Completion { token, event: Event::Accepted(incoming) });
            }
        }
        if !more(flags) {
            self.accept_stopped(key, result, completions);
        }
    }

    /// The kernel repeats the accept no more: it ended, or it is armed again, now or later.
    fn accept_stopped(&mut self, key: Operation, result: i32, completions: &mut Vec<Completion>) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        if operation.cancelled {
            return self.end(key, Event::AcceptEnded(Failure::Cancelled), completions);
        }
        if result >= 0 {
            return self.arm(key);
        }
        operation.failures = operation.failures.saturating_add(1);
        let repeated = operation.failures >= ACCEPT_FAILURES_MAX;
        match -result {
            errno @ (libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.park_accept(key, errno);
            }
            // The socket is not one that accepts.
            libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::ECANCELED => {
                self.end(key, Event::AcceptEnded(failure(result)), completions);
            }
            errno if repeated => self.park_accept(key, errno),
            // The failure of one connection that came and went (accept(2)).
            _ => self.arm(key),
        }
    }

    #[cold]
    fn park_accept(&mut self, key: Operation, errno: i32) {
        if !self.accepts_warned {
            self.accepts_warned = true;
            let error = io::Error::from_raw_os_error(errno);
            tracing::warn!(%error, "accepting waits: no connection can be taken now");
        }
        if let Some(operation) = self.operations.get_mut(key) {
            operation.state = State::Parked;
            self.parked_accepts.push(key);
            self.retry_at.get_or_insert(self.now + RETRY_DELAY);
        }
    }
}

impl Drop for Uring {
    /// Closes every socket and waits until the kernel has let go of everything.
    fn drop(&mut self) {
        let patience = Instant::now() + DROP_PATIENCE;
        let open = self.sockets.iter().filter(|(_, entry)| entry.closing.is_none());
        for socket in open.map(|(socket, _)| socket).collect::<Vec<_>>() {
            self.close(socket, false, Token::default());
        }
        let mut completions = Vec::new();
        while !self.sockets.is_empty() && Instant::now() < patience {
            let until = Time::monotonic() + Duration::from_millis(10);
            if self.turn(&mut completions, Some(until)).is_err() {
                break;
            }
            completions.clear();
        }
        let left = self.operations.len() + self.in_entries;
        if left == 0 {
            self.blocks.close(&self.ring);
        } else {
            // The kernel may still write to blocks and read from gathers: keep them for ever.
            tracing::error!(left, "operations outlive their port");
            std::mem::forget(std::mem::take(&mut self.operations));
            self.sockets
                .values_mut()
                .for_each(|entry| std::mem::forget((entry.gather.take(), entry.message.take())));
        }
    }
}
