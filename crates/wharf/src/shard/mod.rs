//! A shard: one thread, one port, and the connections that are served there.
//!
//! Its turn is always the same: wait, dispatch completions, drain the mailbox, expire timers. What
//! is to be sent is submitted on the way and reaches the kernel with the next wait; workers are
//! called at the end, once for all that was handed to them.

mod batch;
mod body;
mod connection;
mod context;
mod encode;
mod flow;
mod opening;
mod outflow;
mod pending;
mod wheel;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slotmap::{Key, KeyData, SlotMap};
use wharf_port::{
    Completion, Config, Event, Failure, Incoming, Listener, Operation, Port, Socket, Time, Token,
};

use self::connection::Connection;
use self::context::Context;
use self::wheel::Wheel;
use crate::admission::Denied;
use crate::mailbox::Notice;
use crate::shared::Shared;
use crate::statistics::CloseReason;
use crate::{Limits, Request};

/// Length of a receive block. Most requests fit into one whole; bodies that do not get a block of
/// their own.
pub(crate) const RECEIVE_BLOCK_BYTES: usize = 8 * 1024;
/// Connections that were active less than this ago may answer one more request while draining, so
/// that a request that is already on its way does not fail.
const DRAIN_QUIET: Duration = Duration::from_secs(1);
/// How often a shard that does not accept, all connections being taken, looks for room.
const ROOM_POLL: Duration = Duration::from_millis(20);
/// How often work that the pool had no room for is tried again.
const DEFERRED_POLL: Duration = Duration::from_millis(5);
/// Completions behind which workers are called in the midst of a turn, as a long one is no reason
/// for them to wait.
const CALL_AFTER: usize = 32;
/// Four megabytes of addresses for the connections' table, which cost no memory until there are so
/// many.
const ROOM_MAX: usize = 16 * 1024;
/// The token of the accept; the token of a connection is never 0, slotmap's versions being odd.
const ACCEPT: Token = Token(0);

slotmap::new_key_type! {
    struct ConnectionKey;
}

pub(crate) struct Shard {
    cx: Context,
    connections: SlotMap<ConnectionKey, Connection>,
    wheel: Wheel<ConnectionKey>,
    listening: Option<Listening>,
    /// Accepted when all connections were taken; served when there is room.
    waiting: VecDeque<Incoming>,
    /// The shard to hand the next connection to, if this one accepts for all.
    next_shard: usize,
    hands_over: bool,
    drain: Option<Drain>,
    unix_time: u64,
    completions: Vec<Completion>,
    due: Vec<ConnectionKey>,
    notices: Vec<Notice>,
}

struct Listening {
    socket: Socket,
    accept: Option<Operation>,
}

struct Drain {
    /// When connections that were active lately are closed too.
    quiet: Time,
    deadline: Time,
    drained: Drained,
}

/// What became of the connections of a server that was shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were served to their end.
    pub drained: usize,
    /// Connections that were cut when the time was up.
    pub cut: usize,
    /// Handlers that were still running when the time was up.
    pub still_running: usize,
}

/// The port's sizes that follow from the limits.
pub(crate) fn port_config(limits: &Limits) -> Config {
    let max = (limits.receive_bytes / RECEIVE_BLOCK_BYTES).max(1).next_power_of_two();
    Config {
        receive_block_bytes: RECEIVE_BLOCK_BYTES,
        receive_blocks: max.min(256),
        receive_blocks_max: max,
        room: room(limits),
        ..Config::default()
    }
}

/// Connections that a shard has room for from the start, so that no table is moved as it fills:
/// what it leaves behind is memory that was written to, and adds to what connections cost.
fn room(limits: &Limits) -> usize {
    limits.connections.min(ROOM_MAX)
}

impl Shard {
    /// A shard on `port`. Accepts from `listener`, if it has one; hands connections on to the other
    /// shards, if it is the only one that does.
    pub(crate) fn new(
        mut port: Port,
        listener: Option<Listener>,
        hands_over: bool,
        shared: Arc<Shared>,
        number: usize,
    ) -> io::Result<Shard> {
        shared.mailboxes[number].open(port.waker());
        let listening = match listener {
            Some(listener) => {
                let socket = port.listen(listener)?;
                Some(Listening { accept: Some(port.accept(socket, ACCEPT)), socket })
            }
            None => None,
        };
        let room = room(&shared.limits);
        Ok(Shard {
            wheel: Wheel::new(shared.limits.shortest_timeout(), port.now()),
            unix_time: port.unix_time(),
            cx: Context::new(port, shared, number),
            connections: SlotMap::with_capacity_and_key(room),
            listening,
            waiting: VecDeque::new(),
            next_shard: 0,
            hands_over,
            drain: None,
            completions: Vec::new(),
            due: Vec::with_capacity(wheel::FEW),
            notices: Vec::new(),
        })
    }

    /// Serves until the server is drained.
    pub(crate) fn run(mut self) -> io::Result<Drained> {
        loop {
            if let Some(drained) = self.turn()? {
                return Ok(drained);
            }
        }
    }

    /// What the port holds.
    #[cfg(test)]
    pub(crate) fn counters(&mut self) -> wharf_port::Counters {
        self.cx.port.counters()
    }

    /// Whether the wheel, turned to its end, holds nothing and knows of no live connection.
    #[cfg(test)]
    pub(crate) fn has_no_timers(&mut self) -> bool {
        let mut due = Vec::new();
        while self.wheel.next_expiry().is_some() {
            self.wheel.expire(Time::FAR, &mut due);
        }
        !due.iter().any(|&key| self.connections.contains_key(key))
    }

    /// One turn. Returns what was drained, when all is.
    pub(crate) fn turn(&mut self) -> io::Result<Option<Drained>> {
        let mut completions = std::mem::take(&mut self.completions);
        self.cx.port.wait(&mut completions, self.next_time())?;
        self.cx.begin_turn();
        self.update_date();
        let mut before_call = CALL_AFTER;
        for completion in completions.drain(..) {
            self.dispatch(completion);
            before_call -= 1;
            if before_call == 0 {
                self.cx.call_workers();
                before_call = CALL_AFTER;
            }
        }
        self.completions = completions;
        self.cx.interrupt_batch();
        self.drain_mailbox();
        self.expire();
        self.admit_waiting();
        self.cx.interrupt_batch();
        self.cx.call_workers();
        Ok(self.drain_on())
    }

    #[inline(always)]
    fn dispatch(&mut self, Completion { token, event }: Completion) {
        let key = ConnectionKey::from(KeyData::from_ffi(token.0));
        let cx = &mut self.cx;
        let Some(connection) = self.connections.get_mut(key) else {
            return self.dispatch_other(Completion { token, event });
        };
        match event {
            Event::Received(lease) => connection.received(lease, cx),
            Event::Sent { gather, result } => connection.sent(gather, result, cx),
            event => self.dispatch_rare(Completion { token, event }),
        }
    }

    /// What happens to a connection once in many requests.
    #[inline(never)]
    fn dispatch_rare(&mut self, completion: Completion) {
        let key = ConnectionKey::from(KeyData::from_ffi(completion.token.0));
        let cx = &mut self.cx;
        let Some(connection) = self.connections.get_mut(key) else { return };
        match completion.event {
            Event::ReceiveEnded(result) => connection.receive_ended(result, cx),
            Event::ReceivedInto { block, result } => connection.received_into(block, result, cx),
            Event::ShutDown(_) => connection.shut_down(cx),
            Event::Closed => self.remove(key),
            Event::FileSent { range, result } => connection.file_sent(range, result, cx),
            Event::Received(_) | Event::Sent { .. } => {
                debug_assert!(false, "these are not rare");
            }
            Event::Accepted(_) | Event::AcceptEnded(_) => {
                debug_assert!(false, "no connection submits these");
            }
        }
    }

    #[inline(never)]
    fn dispatch_other(&mut self, completion: Completion) {
        self.cx.interrupt_batch();
        match completion.event {
            Event::Accepted(incoming) => self.accepted(incoming),
            Event::AcceptEnded(failure) => {
                if let Some(listening) = &mut self.listening {
                    listening.accept = None;
                }
                if let Failure::Io(error) = failure {
                    tracing::error!("accepting ended: {error}");
                }
            }
            Event::Closed => self.listening = None,
            // Of a connection that is gone.
            _ => {}
        }
    }

    // Connections.

    fn accepted(&mut self, incoming: Incoming) {
        self.cx.shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
        if !self.hands_over {
            return self.admit(incoming);
        }
        let to = self.next_shard;
        self.next_shard = (to + 1) % self.cx.shared.mailboxes.len();
        if to == self.cx.shard {
            self.admit(incoming);
        } else {
            self.cx.shared.mailboxes[to].hand_over(incoming);
        }
    }

    fn admit(&mut self, incoming: Incoming) {
        match self.cx.shared.admission.admit(incoming.peer().ip()) {
            Ok(()) => self.begin(incoming),
            Err(Denied::PeerFull) => {
                let (peer, reason) = (incoming.peer(), CloseReason::PeerLimit);
                tracing::debug!("the connection from {peer} ends: {reason}");
                self.cx.count_closed(reason);
            }
            Err(Denied::Full) => {
                self.waiting.push_back(incoming);
                if let Some(Listening { accept: Some(accept), .. }) = self.listening {
                    self.cx.port.cancel(accept);
                }
            }
        }
    }

    fn begin(&mut self, incoming: Incoming) {
        let peer = incoming.peer();
        let socket = match self.cx.port.adopt(incoming) {
            Ok(socket) => socket,
            Err(error) => {
                let reason = CloseReason::PeerReset;
                tracing::debug!("the connection from {peer} ends: {reason}: {error}");
                self.cx.shared.admission.release(peer.ip());
                return self.cx.count_closed(reason);
            }
        };
        let cx = &mut self.cx;
        let key = self
            .connections
            .insert_with_key(|key| Connection::new(Token(key.data().as_ffi()), socket, peer, cx));
        let deadline = self.connections[key].deadline();
        self.wheel.insert(key, deadline, self.cx.now);
    }

    fn remove(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.remove(key) else { return };
        self.cx.shared.admission.release(connection.peer().ip());
        if let Some(drain) = &mut self.drain
            && !connection.was_cut()
        {
            drain.drained.drained += 1;
        }
    }

    /// Lets those in who came when all connections were taken, and accepts again behind them.
    fn admit_waiting(&mut self) {
        while let Some(incoming) = self.waiting.pop_front() {
            let before = self.waiting.len();
            self.admit(incoming);
            if self.waiting.len() > before {
                return; // Still no room: it was put back, behind others that wait no less.
            }
        }
        let has_room = self.cx.shared.admission.has_room();
        if let Some(listening) = &mut self.listening
            && listening.accept.is_none()
            && self.drain.is_none()
            && has_room
        {
            listening.accept = Some(self.cx.port.accept(listening.socket, ACCEPT));
        }
    }

    // The turn's further parts.

    fn drain_mailbox(&mut self) {
        let shared = self.cx.shared.clone();
        let mailbox = &shared.mailboxes[self.cx.shard];
        while let Some(request) = mailbox.next_answer() {
            self.answered(request);
        }
        let mut notices = std::mem::take(&mut self.notices);
        mailbox.take_notices(&mut notices);
        for Notice { connection, stream } in notices.drain(..) {
            let key = ConnectionKey::from(KeyData::from_ffi(connection));
            if let Some(connection) = self.connections.get_mut(key) {
                connection.noticed(stream, &mut self.cx);
            }
        }
        self.notices = notices;
        self.cx.submit_deferred();
        if self.hands_over || self.listening.is_some() {
            return;
        }
        for incoming in mailbox.take_incoming() {
            self.admit(incoming);
        }
    }

    fn answered(&mut self, mut request: Box<Request>) {
        if let Some(took) = request.took.take() {
            let (cx, target) = (&self.cx, request.reply.target);
            let route = &cx.shared.routes.target(target).name;
            cx.shared.dispatch[target].ran_pooled(cx.shard, took, cx.now, route);
        }
        let key = ConnectionKey::from(KeyData::from_ffi(request.reply.connection));
        match self.connections.get_mut(key) {
            Some(connection) => connection.answered(request, &mut self.cx),
            // The client has gone meanwhile.
            None => self.cx.recycle_request(request),
        }
    }

    fn expire(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(self.cx.now, &mut due);
        for key in due.drain(..) {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.visited(&mut self.cx)
            {
                self.wheel.insert(key, connection.deadline(), self.cx.now);
            }
        }
        self.due = due;
    }

    /// Until when there is nothing to do unless something completes.
    fn next_time(&self) -> Option<Time> {
        let room =
            (!self.waiting.is_empty() || self.is_accept_paused()).then(|| self.cx.now + ROOM_POLL);
        let drain = self.drain.as_ref().map(|drain| match self.cx.now < drain.quiet {
            true => drain.quiet.min(drain.deadline),
            false => drain.deadline,
        });
        let deferred = self.cx.has_deferred().then(|| self.cx.now + DEFERRED_POLL);
        [self.wheel.next_expiry(), room, drain, deferred].into_iter().flatten().min()
    }

    fn is_accept_paused(&self) -> bool {
        self.listening.as_ref().is_some_and(|listening| listening.accept.is_none())
    }

    fn update_date(&mut self) {
        let unix_time = self.cx.port.unix_time();
        if unix_time != self.unix_time {
            self.unix_time = unix_time;
            self.cx.openings.update(unix_time);
        }
    }

    // Draining.

    /// Starts to drain when told to, and goes on with it. Returns the outcome at its end.
    fn drain_on(&mut self) -> Option<Drained> {
        let grace = *self.cx.shared.drain.get()?;
        let now = self.cx.now;
        if self.drain.is_none() {
            self.start_drain(grace);
        }
        let drain = self.drain.as_mut()?;
        if now >= drain.deadline {
            let cx = &mut self.cx;
            for connection in self.connections.values_mut() {
                drain.drained.cut += usize::from(connection.cut(cx));
            }
        } else if now >= drain.quiet {
            self.connections.values_mut().for_each(|it| it.drain(Duration::ZERO, &mut self.cx));
        }
        let done = self.connections.is_empty() && self.listening.is_none();
        done.then(|| self.drain.take().map(|drain| drain.drained)).flatten()
    }

    fn start_drain(&mut self, grace: Duration) {
        let now = self.cx.now;
        self.cx.draining = true;
        self.drain = Some(Drain {
            quiet: now + DRAIN_QUIET,
            deadline: now + grace,
            drained: Drained::default(),
        });
        if let Some(listening) = &self.listening {
            self.cx.port.close(listening.socket, ACCEPT);
        }
        self.waiting.clear();
        self.connections.values_mut().for_each(|it| it.drain(DRAIN_QUIET, &mut self.cx));
    }
}
