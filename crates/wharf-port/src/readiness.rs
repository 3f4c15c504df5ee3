//! epoll and kqueue in the shape of a completion port.
//!
//! An operation that is submitted is tried in the next [`wait`](Implementation::wait), before the
//! kernel is asked whether it would succeed; only when the kernel says would-block does it stay
//! until an edge comes. What the edges said is kept with the socket, not with the operation, so
//! that one that comes while nothing is submitted is not lost. All I/O happens inside of `wait`:
//! a submission only takes note.
//!
//! ```text
//!                       submit, edge, blocks back, pause over
//!            ┌──────────────────────────────────────────────────┐
//!            ▼                                                  │
//!   in the turn's list ──try──► done: completion                │
//!            │ ▲  └──────────► would block: wait for the edge ──┤
//!            │ └─ budget spent: next turn                       │
//!            └───────────────► no block, no descriptor: parked ─┘
//! ```
//!
//! A socket is registered once, for both directions, when it is adopted. A busy keep-alive request
//! costs one `recv`, one `send` and its share of one `epoll_wait`. Which system calls these are and
//! what their errors mean is the business of [`system`].

mod names;
mod system;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::VecDeque;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::Interest;
use mio::unix::SourceFd;
use slotmap::SlotMap;
use socket2::SockRef;

use self::names::Names;
use crate::lease::Pool;
use crate::listener::{IncomingOrigin, ListenerOrigin};
use crate::port::Implementation;
use crate::unsent::{self, Flow, Unsent};
use crate::*;

/// How long what is parked waits for descriptors or memory that nobody announces.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest single sleep; a longer wait is made of several.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// Edges taken from the kernel at a time.
const EVENTS: usize = 1024;
const WAKE: mio::Token = mio::Token(usize::MAX);

/// The readiness backend.
pub(crate) struct Readiness {
    sockets: SlotMap<Socket, Entry>,
    operations: SlotMap<Operation, Submitted>,
    names: Names,
    /// Sockets with something to try in the next turn, each once (`Entry::queued`).
    turn: Vec<Socket>,
    /// The list of the turn that runs, empty outside of it; kept for its capacity.
    running: Vec<Socket>,
    closing: Vec<Closing>,
    /// Receives that found no block, in order; may hold ones that ended meanwhile.
    parked: VecDeque<Operation>,
    /// How many of `parked` still wait.
    parked_receives: usize,
    /// Listeners that found no descriptor; exact.
    parked_accepts: Vec<Socket>,
    /// When the parked accepts are tried again at the latest.
    accept_again: Time,
    /// Whether the last wait returned without asking the kernel.
    unasked: bool,
    poll: mio::Poll,
    events: mio::Events,
    waker: Waker,
    now: Time,
    waits: u64,
    /// Taken out only by the drop.
    pool: ManuallyDrop<Pool>,
    unsent: Unsent,
    /// The block that files are copied through where the kernel does not.
    copy: Vec<u8>,
}

/// A socket in the table.
struct Entry {
    socket: socket2::Socket,
    /// The operation of the receive kind (on a listener, the accept).
    receiving: Option<Operation>,
    /// The operation of the send kind.
    sending: Option<Operation>,
    /// Whether the next turn's list has this socket.
    queued: bool,
    closing: bool,
    /// Whether receiving is worth a try: an edge came and no would-block since.
    readable: bool,
    /// Whether sending is worth a try: no would-block since the last edge.
    writable: bool,
    /// Whether a short receive leaves something to find: the stream's end or an error, which have
    /// had their edge, or bytes behind urgent ones.
    more_behind: bool,
    /// Whether `receiving` waits for a block or a descriptor.
    parked: bool,
    cancel_receive: bool,
    cancel_send: bool,
    flow: Flow,
}

/// An operation in flight.
struct Submitted {
    token: Token,
    socket: Socket,
    kind: Kind,
}

enum Kind {
    Accept {
        /// Whether the log has been told that descriptors ran out.
        told: bool,
    },
    Receive,
    ReceiveInto(Vec<u8>),
    Send(Box<Gather>),
    /// Boxed, or every operation in flight would pay for the rare one.
    SendFile(Box<FileRange>),
    Shutdown,
}

struct Closing {
    socket: Socket,
    token: Token,
    reset: bool,
}

impl Kind {
    /// The final event of an operation. An outcome that counts nothing is 0.
    fn end(self, outcome: Result<u64, Failure>) -> Event {
        let bytes = |outcome: Result<u64, Failure>| outcome.map(|count| count as usize);
        match self {
            Kind::Accept { .. } => Event::AcceptEnded(outcome.err().unwrap_or(Failure::Cancelled)),
            Kind::Receive => Event::ReceiveEnded(outcome.map(drop)),
            Kind::ReceiveInto(block) => Event::ReceivedInto { block, result: bytes(outcome) },
            Kind::Send(gather) => Event::Sent { gather, result: bytes(outcome) },
            Kind::SendFile(range) => Event::FileSent { range: *range, result: outcome },
            Kind::Shutdown => Event::ShutDown(outcome.map(drop)),
        }
    }
}

impl Readiness {
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let kick = Arc::new(mio::Waker::new(poll.registry(), WAKE)?);
        let waker = Waker::new(move || {
            if let Err(error) = kick.wake() {
                tracing::error!(%error, "waking a port failed");
            }
        });
        let blocks_max = config.receive_blocks_max.next_power_of_two();
        let blocks = config.receive_blocks.min(blocks_max);
        Ok(Readiness {
            sockets: SlotMap::with_capacity_and_key(config.room),
            operations: SlotMap::with_capacity_and_key(config.room),
            names: Names::new(),
            turn: Vec::new(),
            running: Vec::new(),
            closing: Vec::new(),
            parked: VecDeque::new(),
            parked_receives: 0,
            parked_accepts: Vec::new(),
            accept_again: Time::FAR,
            unasked: false,
            poll,
            events: mio::Events::with_capacity(EVENTS),
            waker,
            now: Time::monotonic(),
            waits: 0,
            pool: ManuallyDrop::new(Pool::new(config.receive_block_bytes, blocks, blocks_max)),
            unsent: Unsent::new(config.unsent_bytes),
            copy: Vec::new(),
        })
    }

    fn add(&mut self, socket: socket2::Socket, interest: Interest) -> io::Result<Socket> {
        let descriptor = socket.as_raw_fd();
        let key = self.sockets.insert(Entry {
            socket,
            receiving: None,
            sending: None,
            queued: false,
            closing: false,
            // The edge for what came before the registration comes with it.
            readable: false,
            writable: true,
            more_behind: false,
            parked: false,
            cancel_receive: false,
            cancel_send: false,
            flow: Flow::new(),
        });
        let name = self.names.name(key);
        let registered = self.poll.registry().register(&mut SourceFd(&descriptor), name, interest);
        match registered {
            Ok(()) => Ok(key),
            Err(error) => {
                self.sockets.remove(key);
                Err(error)
            }
        }
    }

    /// Notes an operation of the receive kind.
    fn submit_receive(&mut self, socket: Socket, token: Token, kind: Kind) -> Operation {
        let entry = self.sockets.get_mut(socket).expect("a socket of this port");
        assert!(!entry.closing, "the socket is being closed");
        assert!(entry.receiving.is_none(), "one receive at a time");
        let operation = self.operations.insert(Submitted { token, socket, kind });
        entry.receiving = Some(operation);
        if entry.readable {
            entry.queue(socket, &mut self.turn);
        }
        operation
    }

    /// Notes an operation of the send kind.
    fn submit_send(&mut self, socket: Socket, token: Token, kind: Kind) -> Operation {
        let entry = self.sockets.get_mut(socket).expect("a socket of this port");
        assert!(!entry.closing, "the socket is being closed");
        assert!(entry.sending.is_none(), "one send at a time");
        let bytes = match &kind {
            Kind::Send(gather) => gather.remaining() as u64,
            Kind::SendFile(range) => range.length,
            _ => 0,
        };
        let held = || unsent::held(entry.socket.as_fd());
        if let Some(share) = self.unsent.begin(&mut entry.flow, bytes, held) {
            share.set(SockRef::from(&entry.socket));
        }
        let operation = self.operations.insert(Submitted { token, socket, kind });
        entry.sending = Some(operation);
        entry.queue(socket, &mut self.turn);
        operation
    }

    /// Notes what the kernel said. True: another thread wakes this one.
    fn note_edges(&mut self) -> bool {
        let mut woken = false;
        for event in &self.events {
            if event.token() == WAKE {
                woken = true;
                continue;
            }
            let Some(key) = self.names.key(event.token()) else { continue };
            let Some(entry) = self.sockets.get_mut(key) else { continue };
            if event.is_error() || event.is_read_closed() {
                entry.readable = true;
                entry.writable = true;
                entry.more_behind = true;
            }
            if system::is_urgent(event) {
                entry.more_behind = true;
            }
            entry.readable |= event.is_readable();
            entry.writable |= event.is_writable();
            let receives = entry.readable && entry.receiving.is_some() && !entry.parked;
            if receives || (entry.writable && entry.sending.is_some()) {
                entry.queue(key, &mut self.turn);
            }
        }
        woken
    }

    /// Asks the kernel for edges, and sleeps there if `sleep`. False: interrupted by a signal.
    fn ask(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.waits += 1;
        let asked = self.poll.poll(&mut self.events, timeout);
        self.waker.awake();
        self.now = Time::monotonic();
        match asked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the thread may sleep: nothing is to be tried, no block came back, nobody woke it.
    fn may_sleep(&mut self) -> bool {
        self.turn.is_empty()
            && (self.parked_receives == 0
                || (self.pool.free() == 0 && self.pool.starve(&self.waker)))
            && self.waker.about_to_sleep()
    }

    /// How long to sleep. None: until an edge comes.
    fn sleep(&self, until: Option<Time>) -> Option<Duration> {
        let mut until = until.unwrap_or(Time::FAR);
        if !self.parked_accepts.is_empty() {
            until = until.min(self.accept_again);
        }
        if self.parked_receives > 0 {
            until = until.min(self.now + PAUSE);
        }
        (until < Time::FAR).then(|| until.since(Time::monotonic()).min(SLEEP_MAX))
    }
}

impl Entry {
    fn queue(&mut self, key: Socket, turn: &mut Vec<Socket>) {
        if !mem::replace(&mut self.queued, true) {
            turn.push(key);
        }
    }

    /// Whether there may be more to receive behind a short receive, without a further edge.
    ///
    /// On a stream there is not (epoll(7), question 9), but for what had its edge together with the
    /// bytes: see `more_behind`.
    fn may_have_more(&self) -> bool {
        !system::SHORT_MEANS_DRAINED || self.more_behind
    }
}

impl Implementation for Readiness {
    fn now(&self) -> Time {
        self.now
    }

    fn unix_time(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn listen(&mut self, listener: Listener) -> io::Result<Socket> {
        match listener.origin {
            ListenerOrigin::Os(socket) => {
                socket.set_nonblocking(true)?;
                self.add(socket, Interest::READABLE)
            }
            #[cfg(feature = "sim")]
            ListenerOrigin::Sim => Err(simulated()),
        }
    }

    fn adopt(&mut self, incoming: Incoming) -> io::Result<Socket> {
        match incoming.origin {
            IncomingOrigin::Os(socket) => {
                // Accepted by a port of another kind, it may block, and this thread with it.
                if !socket.nonblocking()? {
                    socket.set_nonblocking(true)?;
                }
                self.add(socket, system::INTEREST)
            }
            #[cfg(feature = "sim")]
            IncomingOrigin::Sim(_) => Err(simulated()),
        }
    }

    fn accept(&mut self, listener: Socket, token: Token) -> Operation {
        self.submit_receive(listener, token, Kind::Accept { told: false })
    }

    fn receive(&mut self, socket: Socket, token: Token) -> Operation {
        self.submit_receive(socket, token, Kind::Receive)
    }

    fn receive_into(&mut self, socket: Socket, block: Vec<u8>, token: Token) -> Operation {
        self.submit_receive(socket, token, Kind::ReceiveInto(block))
    }

    fn send(&mut self, socket: Socket, gather: Box<Gather>, token: Token) -> Operation {
        self.submit_send(socket, token, Kind::Send(gather))
    }

    fn send_file(&mut self, socket: Socket, range: FileRange, token: Token) -> Operation {
        self.submit_send(socket, token, Kind::SendFile(Box::new(range)))
    }

    fn shutdown(&mut self, socket: Socket, token: Token) -> Operation {
        self.submit_send(socket, token, Kind::Shutdown)
    }

    fn close(&mut self, socket: Socket, reset: bool, token: Token) {
        let entry = self.sockets.get_mut(socket).expect("a socket of this port");
        assert!(!mem::replace(&mut entry.closing, true), "the socket is being closed");
        self.closing.push(Closing { socket, token, reset });
    }

    fn give_back(&mut self, lease: Lease) {
        self.pool.reclaim(lease);
    }

    fn cancel(&mut self, operation: Operation) {
        let Some(submitted) = self.operations.get(operation) else { return };
        let Some(entry) = self.sockets.get_mut(submitted.socket) else { return };
        if entry.receiving == Some(operation) {
            entry.cancel_receive = true;
        } else {
            entry.cancel_send = true;
        }
        entry.queue(submitted.socket, &mut self.turn);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>, until: Option<Time>) -> io::Result<()> {
        let before = completions.len();
        self.close_all(completions);
        self.unpark();
        self.run(completions);
        // What is there is handed out without asking the kernel for more: mostly, these are the
        // sends that answer the last edges. But not twice in a row, or the sockets in the list
        // could keep the others out for ever.
        if completions.len() > before && !mem::replace(&mut self.unasked, true) {
            self.waker.awake();
            self.now = Time::monotonic();
            return Ok(());
        }
        self.unasked = false;
        loop {
            let sleeps = completions.len() == before && self.may_sleep();
            let timeout = if sleeps { self.sleep(until) } else { Some(Duration::ZERO) };
            if !self.ask(timeout)? {
                return Ok(());
            }
            let woken = self.note_edges();
            self.unpark();
            self.run(completions);
            let reached = until.is_some_and(|until| self.now >= until);
            if completions.len() > before || woken || reached || !sleeps {
                return Ok(());
            }
        }
    }

    fn counters(&mut self) -> Counters {
        let (blocks, free) = (self.pool.len(), self.pool.free());
        Counters {
            sockets: self.sockets.len(),
            operations: self.operations.len(),
            receive_blocks: blocks,
            leased_blocks: blocks - free,
            parked_receives: self.parked_receives,
            parked_accepts: self.parked_accepts.len(),
            waits: self.waits,
        }
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        // SAFETY: nobody uses the pool after this; the drop runs once.
        let pool = unsafe { ManuallyDrop::take(&mut self.pool) };
        // Blocks are at the backend only while a receive is tried.
        pool.close(0);
    }
}

#[cfg(feature = "sim")]
fn simulated() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a simulated socket needs a simulated port")
}
