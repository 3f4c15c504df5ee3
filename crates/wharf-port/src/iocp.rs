//! Windows' I/O completion ports and overlapped sockets, used as they are: no readiness is asked
//! for anywhere.
//!
//! ```text
//!   submit ──► the kernel ──► packet ──┐
//!      │                              ├──► step ──► completions, or the operation's next call
//!      └─ complete at once ──► ready ──┘
//! ```
//!
//! Sockets skip the packet of a call that completes at once; its result waits in `ready` for the
//! next turn of [`wait`](Implementation::wait), which takes each result that was there when the
//! turn began and looks for packets too. So one connection advances by one block a turn, however
//! fast its peer sends, and no other one starves.
//!
//! An idle connection waits in a receive of zero bytes, which locks no memory. Only when it
//! completes is a block taken, and the bytes that are there are received into it.
//!
//! Every operation that the kernel knows has a place for its OVERLAPPED that never moves
//! (`places`), and keeps its memory in `operations` until its packet was taken.
//! DisconnectEx and reuse of sockets are avoided: after them receives may hang, or lose packets.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slotmap::SlotMap;
use windows_sys::Win32::Foundation::ERROR_OPERATION_ABORTED;
use windows_sys::Win32::System::IO::OVERLAPPED_ENTRY;

use crate::lease::Pool;
use crate::listener::{IncomingOrigin, ListenerOrigin};
use crate::port::Implementation;
use crate::{
    Completion, Config, Counters, Event, Failure, FileRange, Gather, Incoming, Lease, Listener,
    Operation, Socket, Time, Token, Waker,
};

mod accepting;
mod places;
mod receiving;
mod sending;
mod system;
#[cfg(test)]
mod tests;

use accepting::Accept;
use places::{Place, Places};
use receiving::Receive;
use system::{CompletionPort, Extensions, Started};

pub(crate) use system::{address_in_use, set_exclusive_address_use};

/// Packets taken in one call.
const PACKETS: usize = 256;
/// How long dropping a port waits for the kernel to be done with its memory before it leaks it.
const JOIN_LIMIT: Duration = Duration::from_secs(5);
/// The longest finite timeout; the next value means forever.
const TIMEOUT_MAX_MS: u32 = u32::MAX - 1;

/// One completion port and what it has in flight.
pub(crate) struct Iocp {
    port: Arc<CompletionPort>,
    waker: Waker,
    sockets: SlotMap<Socket, Endpoint>,
    operations: SlotMap<Operation, Flight>,
    places: Places,
    /// Always there until drop.
    pool: Option<Pool>,
    /// Receives that wait for a block, first come, first served.
    parked: VecDeque<Operation>,
    /// Accepts that wait for descriptors until `accept_again`.
    parked_accepts: Vec<Operation>,
    accept_again: Time,
    /// What ended without a packet since the last turn.
    ready: VecDeque<Ready>,
    packets: Vec<OVERLAPPED_ENTRY>,
    /// Known from the first socket on: every TCP provider here is the same one.
    extensions: Option<Extensions>,
    accepts: usize,
    /// Whether sockets shall skip packets where they can. Always, but for a test.
    skip: bool,
    /// Blocks that the kernel has.
    filling: usize,
    now: Time,
    waits: u64,
}

/// A socket of this port.
struct Endpoint {
    socket: socket2::Socket,
    /// A listener's accept counts as a receive.
    receiving: Option<Operation>,
    sending: Option<Operation>,
    /// The close's token, if it is `closing`.
    token: Token,
    /// Set once: from here on nothing can be submitted.
    closing: bool,
    reset: bool,
    /// Whether calls that complete at once queue no packet.
    skips: bool,
}

/// An operation in flight.
struct Flight {
    socket: Socket,
    token: Token,
    /// The place of its call in flight; an accept has several, and keeps them itself.
    place: Option<Place>,
    kind: Kind,
    /// Set once: the operation ends with its next step, and starts no further call.
    cancelled: bool,
}

enum Kind {
    Accept(Box<Accept>),
    Receive(Receive),
    ReceiveInto(Vec<u8>),
    Send(Box<Gather>),
    /// Boxed for being rare and large: all operations have the size of the largest kind.
    SendFile(Box<FileRange>),
    ShutDown,
}

/// What ended without a packet.
enum Ready {
    /// A call of an operation, or, without a place, an operation that had none in flight.
    Done(Operation, Option<Place>, io::Result<u32>),
    /// A socket that was closed.
    Closed(Token),
}

impl Iocp {
    pub(crate) fn open(config: &Config) -> io::Result<Iocp> {
        let port = Arc::new(CompletionPort::new()?);
        let woken = port.clone();
        let waker = Waker::new(move || {
            if let Err(error) = woken.post() {
                tracing::error!(%error, "a port's thread could not be woken");
            }
        });
        let blocks_max = config.receive_blocks_max.next_power_of_two();
        let blocks = config.receive_blocks.min(blocks_max);
        Ok(Iocp {
            port,
            waker,
            sockets: SlotMap::with_capacity_and_key(config.room),
            operations: SlotMap::with_capacity_and_key(config.room),
            places: Places::new(),
            pool: Some(Pool::new(config.receive_block_bytes, blocks, blocks_max)),
            parked: VecDeque::new(),
            parked_accepts: Vec::new(),
            accept_again: Time::ZERO,
            ready: VecDeque::new(),
            packets: vec![OVERLAPPED_ENTRY::default(); PACKETS],
            extensions: None,
            accepts: config.accepts.max(1),
            skip: true,
            filling: 0,
            now: Time::monotonic(),
            waits: 0,
        })
    }

    fn pool(&mut self) -> &mut Pool {
        self.pool.as_mut().expect("only drop takes the pool")
    }

    fn add(&mut self, socket: socket2::Socket) -> io::Result<Socket> {
        self.port.associate(&socket)?;
        if self.extensions.is_none() {
            self.extensions = Some(Extensions::of(&socket)?);
        }
        let skips = self.skip && system::skip_on_success(&socket);
        Ok(self.sockets.insert(Endpoint {
            socket,
            receiving: None,
            sending: None,
            token: Token::default(),
            closing: false,
            reset: false,
            skips,
        }))
    }

    fn extensions(&self) -> Extensions {
        self.extensions.expect("known since the first socket")
    }

    /// The socket of a submission.
    fn endpoint(&mut self, socket: Socket) -> &mut Endpoint {
        let endpoint = self.sockets.get_mut(socket).expect("the socket is not this port's");
        assert!(!endpoint.closing, "submitted on a socket that is closing");
        endpoint
    }

    fn begin_receiving(&mut self, socket: Socket, token: Token, kind: Kind) -> Operation {
        let busy = self.endpoint(socket).receiving.is_some();
        assert!(!busy, "two operations of the receive kind on one socket");
        let flight = Flight { socket, token, place: None, kind, cancelled: false };
        let operation = self.operations.insert(flight);
        self.sockets[socket].receiving = Some(operation);
        operation
    }

    fn begin_sending(&mut self, socket: Socket, token: Token, kind: Kind) -> Operation {
        let busy = self.endpoint(socket).sending.is_some();
        assert!(!busy, "two operations of the send kind on one socket");
        let flight = Flight { socket, token, place: None, kind, cancelled: false };
        let operation = self.operations.insert(flight);
        self.sockets[socket].sending = Some(operation);
        operation
    }

    /// Notes that a call has begun; queues its end, if it has ended and no packet will tell.
    fn note(
        &mut self,
        operation: Operation,
        place: Place,
        skips: bool,
        started: io::Result<Started>,
    ) {
        self.operations[operation].place = Some(place);
        match started {
            Ok(Started::Complete(bytes)) if skips => {
                self.ready.push_back(Ready::Done(operation, Some(place), Ok(bytes)));
            }
            Ok(_) => {}
            // A call that fails at once queues no packet, whatever the socket's mode.
            Err(error) => {
                self.ready.push_back(Ready::Done(operation, Some(place), Err(error)));
            }
        }
    }

    /// Takes an operation on from where one of its calls ended.
    fn step(
        &mut self,
        operation: Operation,
        place: Option<Place>,
        outcome: io::Result<u32>,
        completions: &mut Vec<Completion>,
    ) {
        if let Some(place) = place {
            self.places.give_back(place);
        }
        let flight = self.operations.get_mut(operation).expect("kept until its packets are taken");
        flight.place = None;
        match &flight.kind {
            Kind::Accept(_) => self.accept_step(operation, place, outcome, completions),
            Kind::Receive(_) => self.receive_step(operation, outcome, completions),
            _ => self.finish(operation, outcome, completions),
        }
    }

    /// Ends an operation, and with the last one of a closing socket the socket too.
    fn finish(
        &mut self,
        operation: Operation,
        outcome: io::Result<u32>,
        completions: &mut Vec<Completion>,
    ) {
        let flight = self.operations.remove(operation).expect("an operation ends once");
        let result = outcome.map_err(|error| {
            // The words for a cancelled call differ between systems; that it was asked for is
            // what counts.
            if flight.cancelled { Failure::Cancelled } else { Failure::Io(error) }
        });
        let event = match flight.kind {
            Kind::Accept(_) => Event::AcceptEnded(result.err().unwrap_or(Failure::Cancelled)),
            Kind::Receive(_) => Event::ReceiveEnded(result.map(|_| ())),
            Kind::ReceiveInto(block) => receiving::received_into(block, result),
            Kind::Send(gather) => {
                Event::Sent { gather, result: result.map(|count| count as usize) }
            }
            Kind::SendFile(range) => {
                Event::FileSent { range: *range, result: result.map(u64::from) }
            }
            Kind::ShutDown => Event::ShutDown(result.map(|_| ())),
        };
        completions.push(Completion { token: flight.token, event });

        let endpoint = self.sockets.get_mut(flight.socket).expect("closed after its operations");
        if endpoint.receiving == Some(operation) {
            endpoint.receiving = None;
        } else {
            endpoint.sending = None;
        }
        if let Some(token) = self.close_if_joined(flight.socket) {
            completions.push(Completion { token, event: Event::Closed });
        }
    }

    /// Closes a socket that is closing and has nothing in flight. Returns the close's token.
    fn close_if_joined(&mut self, socket: Socket) -> Option<Token> {
        let endpoint = &self.sockets[socket];
        if !endpoint.closing || endpoint.receiving.is_some() || endpoint.sending.is_some() {
            return None;
        }
        let endpoint = self.sockets.remove(socket)?;
        // Its descriptor may be what an accept waits for.
        self.accept_again = Time::ZERO;
        if endpoint.reset
            && let Err(error) = endpoint.socket.set_linger(Some(Duration::ZERO))
        {
            // The peer may have reset it before; then there is nothing left to throw away.
            tracing::debug!(%error, "a connection could not be reset and is closed instead");
        }
        Some(endpoint.token)
    }

    /// Takes the packets that are there, or waits for the first. Returns whether one was a wake.
    fn take_packets(
        &mut self,
        timeout_ms: u32,
        completions: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        let mut packets = mem::take(&mut self.packets);
        self.waits += 1;
        let taken = self.port.take(&mut packets, timeout_ms);
        let mut woken = false;
        if let Ok(count) = taken {
            for packet in &packets[..count] {
                woken |= !self.take_packet(packet, completions);
            }
        }
        self.packets = packets;
        taken.map(|_| woken)
    }

    /// Returns false for a packet that belongs to no operation: a wake.
    fn take_packet(
        &mut self,
        packet: &OVERLAPPED_ENTRY,
        completions: &mut Vec<Completion>,
    ) -> bool {
        let Some(overlapped) = NonNull::new(packet.lpOverlapped) else { return false };
        // SAFETY: only this port's operations refer to its completion port, each from a place
        // that is taken until its one packet arrives, which is this.
        let place = unsafe { Place::of(overlapped) };
        let operation = place.operation();
        let flight = &self.operations[operation];
        let bytes = packet.dwNumberOfBytesTransferred;
        let was_sending = matches!(flight.kind, Kind::Send(_) | Kind::SendFile(_));
        // Zero is STATUS_SUCCESS; other words are translated by Winsock. A send that was cancelled
        // half-way has sent what it says: the peer has these bytes.
        let outcome = if packet.Internal == 0 || flight.cancelled && was_sending && bytes > 0 {
            Ok(bytes)
        } else {
            // SAFETY: the packet says that the operation, one of this socket's, is complete.
            unsafe { system::outcome(&self.sockets[flight.socket].socket, overlapped.as_ptr()) }
        };
        self.step(operation, Some(place), outcome, completions);
        true
    }

    /// How long the port may sleep, rounded up so that a deadline is never awaited in vain.
    fn timeout_ms(&self, until: Option<Time>) -> u32 {
        let now = Time::monotonic();
        let mut until = until.unwrap_or(Time::FAR);
        if !self.parked_accepts.is_empty() {
            until = until.min(self.accept_again);
        }
        if until == Time::FAR {
            return u32::MAX;
        }
        let millis = until.since(now).as_nanos().div_ceil(1_000_000);
        u32::try_from(millis).unwrap_or(u32::MAX).min(TIMEOUT_MAX_MS)
    }

    /// One turn: what waited, what ended at once since the last turn, and what has packets.
    /// Returns whether a wake came.
    fn turn(&mut self, completions: &mut Vec<Completion>, until: Option<Time>) -> io::Result<bool> {
        let before = completions.len();
        self.unpark(completions);
        self.retry_accepts();
        // Results that these steps make belong to the next turn.
        for _ in 0..self.ready.len() {
            match self.ready.pop_front() {
                Some(Ready::Done(operation, place, outcome)) => {
                    self.step(operation, place, outcome, completions);
                }
                Some(Ready::Closed(token)) => {
                    completions.push(Completion { token, event: Event::Closed });
                }
                None => break,
            }
        }
        if completions.len() > before || !self.ready.is_empty() {
            return self.take_packets(0, completions);
        }
        if !self.parked.is_empty() && !self.starve() {
            return self.take_packets(0, completions);
        }
        if !self.waker.about_to_sleep() {
            return self.take_packets(0, completions).map(|_| true);
        }
        let timeout_ms = self.timeout_ms(until);
        let woken = self.take_packets(timeout_ms, completions);
        // A wake that comes between the two is in the port's queue, for the next time.
        self.waker.awake();
        // It may have been a lease that came back.
        self.unpark(completions);
        woken
    }

    /// Asks to be woken when a lease comes back. False: one did already.
    fn starve(&mut self) -> bool {
        let waker = self.waker.clone();
        self.pool().starve(&waker)
    }
}

impl Implementation for Iocp {
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
            ListenerOrigin::Os(socket) => self.add(socket),
            #[cfg(feature = "sim")]
            ListenerOrigin::Sim => Err(other_kind()),
        }
    }

    fn adopt(&mut self, incoming: Incoming) -> io::Result<Socket> {
        match incoming.origin {
            IncomingOrigin::Os(socket) => self.add(socket),
            #[cfg(feature = "sim")]
            IncomingOrigin::Sim(_) => Err(other_kind()),
        }
    }

    fn accept(&mut self, listener: Socket, token: Token) -> Operation {
        self.begin_accept(listener, token)
    }

    fn receive(&mut self, socket: Socket, token: Token) -> Operation {
        self.begin_receive(socket, token)
    }

    fn receive_into(&mut self, socket: Socket, block: Vec<u8>, token: Token) -> Operation {
        self.begin_receive_into(socket, block, token)
    }

    fn send(&mut self, socket: Socket, gather: Box<Gather>, token: Token) -> Operation {
        self.begin_send(socket, gather, token)
    }

    fn send_file(&mut self, socket: Socket, range: FileRange, token: Token) -> Operation {
        self.begin_send_file(socket, range, token)
    }

    fn shutdown(&mut self, socket: Socket, token: Token) -> Operation {
        self.begin_shutdown(socket, token)
    }

    fn close(&mut self, socket: Socket, reset: bool, token: Token) {
        let endpoint = self.endpoint(socket);
        (endpoint.token, endpoint.closing, endpoint.reset) = (token, true, reset);
        let both = [endpoint.receiving, endpoint.sending];
        both.into_iter().flatten().for_each(|operation| self.cancel(operation));
        if let Some(token) = self.close_if_joined(socket) {
            self.ready.push_back(Ready::Closed(token));
        }
    }

    fn give_back(&mut self, lease: Lease) {
        self.pool().reclaim(lease);
    }

    fn cancel(&mut self, operation: Operation) {
        let Some(flight) = self.operations.get_mut(operation) else { return };
        if mem::replace(&mut flight.cancelled, true) {
            return;
        }
        let socket = &self.sockets[flight.socket].socket;
        let asleep = match &flight.kind {
            Kind::Accept(accept) => {
                for posted in &accept.posted {
                    system::cancel(socket, posted.place.overlapped());
                }
                self.parked_accepts.retain(|&parked| parked != operation);
                // One that proved unusable from the start has its end in `ready`.
                accept.posted.is_empty() && accept.broken.is_none()
            }
            Kind::Receive(Receive::Parked) => true,
            // Without a place its end waits in `ready` already.
            _ => {
                if let Some(place) = flight.place {
                    system::cancel(socket, place.overlapped());
                }
                false
            }
        };
        if asleep {
            self.parked.retain(|&parked| parked != operation);
            self.ready.push_back(Ready::Done(operation, None, Err(aborted())));
        }
    }

    fn wait(&mut self, completions: &mut Vec<Completion>, until: Option<Time>) -> io::Result<()> {
        let before = completions.len();
        loop {
            let woken = self.turn(completions, until)?;
            self.now = Time::monotonic();
            // The system may count a wait in coarser ticks than the clock, and end it early.
            if woken || completions.len() > before || until.is_some_and(|until| self.now >= until) {
                // What a wake wanted, this return does.
                self.waker.awake();
                return Ok(());
            }
        }
    }

    fn counters(&mut self) -> Counters {
        let filling = self.filling;
        let pool = self.pool();
        let (blocks, free) = (pool.len(), pool.free());
        Counters {
            sockets: self.sockets.len(),
            operations: self.operations.len(),
            receive_blocks: blocks,
            leased_blocks: blocks - free - filling,
            parked_receives: self.parked.len(),
            parked_accepts: self.parked_accepts.len(),
            waits: self.waits,
        }
    }
}

impl Iocp {
    /// Cancels every operation and takes its packets, for a limited time.
    fn join(&mut self) {
        let all: Vec<Operation> = self.operations.keys().collect();
        all.into_iter().for_each(|operation| self.cancel(operation));
        let limit = Time::monotonic() + JOIN_LIMIT;
        while !self.operations.is_empty() && Time::monotonic() < limit {
            let mut unheard = Vec::new();
            for ready in mem::take(&mut self.ready) {
                if let Ready::Done(operation, place, outcome) = ready {
                    self.step(operation, place, outcome, &mut unheard);
                }
            }
            let timeout_ms = if self.ready.is_empty() { 100 } else { 0 };
            if !self.operations.is_empty() && self.take_packets(timeout_ms, &mut unheard).is_err() {
                return;
            }
        }
    }
}

impl Drop for Iocp {
    /// Frees the memory that the kernel writes to, once it does not any more.
    fn drop(&mut self) {
        self.join();
        if let Some(pool) = self.pool.take() {
            if self.places.taken() == 0 {
                pool.close(0);
            } else {
                tracing::error!("operations did not end; their memory is leaked");
                mem::forget(pool);
                mem::forget(mem::take(&mut self.operations));
            }
        }
    }
}

fn aborted() -> io::Error {
    io::Error::from_raw_os_error(ERROR_OPERATION_ABORTED as i32)
}

#[cfg(feature = "sim")]
fn other_kind() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a simulated socket on a port of the system")
}
