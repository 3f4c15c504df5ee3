//! A turn of the simulated port: what something has happened to is looked at, what can go on does,
//! what completes is handed out.

use std::fs::File;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ptr;
use std::time::Duration;

use super::port::{Closing, Done, Kind, Place, Simulated, Submitted};
use super::world::{Accepted, ConnectionKey, ListenerKey, Side, World};
use crate::listener::IncomingOrigin;
use crate::{
    Completion, Event, Failure, FileRange, Gather, Incoming, Operation, Socket, Time, Token,
};

/// Blocks received on one socket in a turn.
const RECEIVES_PER_TURN: usize = 16;
/// Connections accepted from one listener in a turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Bytes of a file that are sent at once.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// How long parked accepts wait, unless one of the port's own sockets closes before.
const PAUSE: Duration = Duration::from_millis(100);
/// How long descriptors and blocks that are made to look used up do so.
const REFUSED: Duration = Duration::from_millis(50);
const EXHAUSTED: Duration = Duration::from_millis(5);

/// Whose turn it is: an operation and where it goes on.
#[derive(Clone, Copy)]
struct Turn {
    socket: Socket,
    place: Place,
    token: Token,
}

impl Simulated {
    /// Looks at the sockets that something has happened to.
    pub(super) fn look_around(&mut self) {
        let shared = self.world.clone();
        let mut world = shared.borrow_mut();
        let now = world.now();
        let mut list = mem::take(&mut world.ports[self.key].ready);
        list.append(&mut self.turn);
        while self.timers.first().is_some_and(|&(time, _)| time <= now) {
            list.extend(self.timers.pop_first().map(|(_, socket)| socket));
        }
        if now >= self.exhausted_until && !self.parked.is_empty() {
            // At least one, for the pool may grow.
            let blocks = self.pool.free().max(1).min(self.parked.len());
            for socket in self.parked.drain(..blocks) {
                self.sockets[socket].parked = false;
                list.insert(socket);
            }
        }
        let mut list: Vec<Socket> = list.into_iter().collect();
        if world.faults.shuffle {
            world.random.shuffle(&mut list);
        }
        for socket in list {
            // Closed meanwhile, and maybe its slot has another socket.
            let Some(entry) = self.sockets.get(socket) else { continue };
            for operation in [entry.sending, entry.receiving].into_iter().flatten() {
                self.look_at(operation, &mut world);
            }
            self.close_joined(socket, &mut world);
        }
    }

    /// Lets an operation go on, or end if it is cancelled.
    fn look_at(&mut self, operation: Operation, world: &mut World) {
        let Some(submitted) = self.operations.get_mut(operation) else { return };
        let kind = mem::replace(&mut submitted.kind, Kind::Over);
        if matches!(kind, Kind::Over) {
            return;
        }
        let &mut Submitted { token, socket, cancel_at, .. } = submitted;
        let entry = &self.sockets[socket];
        let turn = Turn { socket, place: entry.place, token };
        let cancelled = cancel_at.is_some_and(|at| at <= world.now());
        let parked = entry.parked && matches!(kind, Kind::Receive);
        // What is cancelled may complete all the same.
        let lucky = !cancelled || (world.faults.late_cancel && world.random.bool());
        let kind =
            if lucky && !parked { self.go_on(turn, operation, kind, world) } else { Some(kind) };
        match kind {
            Some(kind) if cancelled => {
                self.end(turn, operation, kind.end(Err(Failure::Cancelled)), world);
            }
            Some(kind) => self.operations[operation].kind = kind,
            None => {}
        }
    }

    /// Does what an operation can do now. Returns it if there is more.
    fn go_on(
        &mut self,
        turn: Turn,
        operation: Operation,
        kind: Kind,
        world: &mut World,
    ) -> Option<Kind> {
        let connection = match turn.place {
            Place::Listener(listener) => return self.accept_some(turn, listener, kind, world),
            Place::Connection(connection) => connection,
        };
        let (kind, outcome) = match kind {
            Kind::Receive => (Kind::Receive, self.receive_some(turn, connection, world)),
            Kind::ReceiveInto(mut block) => {
                let outcome = receive_into(&mut block, connection, world);
                (Kind::ReceiveInto(block), outcome)
            }
            Kind::Send(gather) => {
                let outcome = send(&gather, connection, world);
                (Kind::Send(gather), outcome)
            }
            Kind::SendFile(range) => {
                let outcome = send_file(&range, connection, world);
                (Kind::SendFile(range), outcome)
            }
            Kind::Shutdown => (Kind::Shutdown, Some(shutdown(connection, world))),
            Kind::Accept { .. } | Kind::Over => unreachable!("submit and look_at see to it"),
        };
        let Some(outcome) = outcome else { return Some(kind) };
        self.end(turn, operation, kind.end(outcome.map_err(Failure::Io)), world);
        None
    }

    fn accept_some(
        &mut self,
        turn: Turn,
        listener: ListenerKey,
        kind: Kind,
        world: &mut World,
    ) -> Option<Kind> {
        let Kind::Accept { mut told } = kind else { unreachable!("submit sees to it") };
        self.parked_accepts.retain(|&parked| parked != turn.socket);
        for _ in 0..ACCEPTS_PER_TURN {
            if !world.has_backlog(listener) {
                return Some(Kind::Accept { told: false });
            }
            let now = world.now();
            if now >= self.refused_until && world.chance(world.faults.refused_accept_per_mille) {
                self.refused_until = now + REFUSED;
            }
            if now < self.refused_until || !world.may_accept() {
                self.parked_accepts.push(turn.socket);
                let again = if now < self.refused_until { self.refused_until } else { now + PAUSE };
                self.timers.insert((again, turn.socket));
                if !mem::replace(&mut told, true) {
                    tracing::warn!("accepting connections pauses until there is room again");
                }
                return Some(Kind::Accept { told });
            }
            let Some((accepted, peer)) = world.accept(listener) else { break };
            let event = Event::Accepted(incoming(accepted, peer));
            self.done(turn, event, None, world);
        }
        self.turn.insert(turn.socket);
        Some(Kind::Accept { told })
    }

    fn receive_some(
        &mut self,
        turn: Turn,
        connection: ConnectionKey,
        world: &mut World,
    ) -> Option<io::Result<u64>> {
        for _ in 0..RECEIVES_PER_TURN {
            let available = match arrived(connection, world) {
                Arrived::Bytes(count) => count,
                Arrived::Nothing => return None,
                Arrived::End(outcome) => return Some(outcome),
            };
            let Some(block) = self.take_block(turn.socket, world) else {
                self.sockets[turn.socket].parked = true;
                self.parked.push_back(turn.socket);
                return None;
            };
            let count = world.cut(available.min(self.pool.block_len()));
            let data = self.pool.data(block).as_ptr();
            let bytes = read(count, connection, world);
            // SAFETY: the block was taken and is not leased, so that its bytes are this thread's,
            // and `count`, the length of `bytes`, is at most its length.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), data, count) };
            // SAFETY: the block was just taken, and its first `count` bytes written.
            let lease = unsafe { self.pool.lease(block, count) };
            self.done(turn, Event::Received(lease), None, world);
        }
        // The rest when the others had their turn.
        self.turn.insert(turn.socket);
        None
    }

    fn take_block(&mut self, socket: Socket, world: &mut World) -> Option<u32> {
        let now = world.now();
        if now >= self.exhausted_until && world.chance(world.faults.exhausted_per_mille) {
            self.exhausted_until = now + EXHAUSTED;
        }
        if now < self.exhausted_until {
            self.timers.insert((self.exhausted_until, socket));
            return None;
        }
        self.pool.take()
    }

    /// Ends an operation.
    fn end(&mut self, turn: Turn, operation: Operation, event: Event, world: &mut World) {
        if mem::replace(&mut self.sockets[turn.socket].parked, false) {
            self.parked.retain(|&parked| parked != turn.socket);
        }
        self.parked_accepts.retain(|&parked| parked != turn.socket);
        self.done(turn, event, Some(operation), world);
    }

    /// Puts what has completed behind what completed before on its socket.
    fn done(&mut self, turn: Turn, event: Event, ends: Option<Operation>, world: &mut World) {
        let entry = &mut self.sockets[turn.socket];
        let late = world.faults.shuffle && world.random.u8(..4) == 0;
        let due = if late { world.now() + world.delay() } else { world.now() };
        let due = due.max(entry.done.back().map_or(Time::ZERO, |before| before.due));
        let completion = Completion { token: turn.token, event };
        entry.done.push_back(Done { due, completion, ends });
        self.finished.insert(turn.socket);
        self.timers.insert((due, turn.socket));
    }

    /// Closes a socket whose operations have ended.
    fn close_joined(&mut self, socket: Socket, world: &mut World) {
        let entry = &self.sockets[socket];
        let Some(Closing { token, reset }) = entry.closing else { return };
        let over = |operation| matches!(self.operations[operation].kind, Kind::Over);
        if entry.closed || ![entry.receiving, entry.sending].into_iter().flatten().all(over) {
            return;
        }
        let place = entry.place;
        self.sockets[socket].closed = true;
        match place {
            Place::Listener(listener) => world.unlisten(listener),
            Place::Connection(connection) => world.close(connection, Side::Server, reset),
        }
        self.done(Turn { socket, place, token }, Event::Closed, None, world);
        // A descriptor is free now.
        self.turn.extend(&self.parked_accepts);
    }

    /// Hands out what is due, in any order of the sockets, and maybe not all of it.
    pub(super) fn hand_out(&mut self, completions: &mut Vec<Completion>) {
        let shared = self.world.clone();
        let mut world = shared.borrow_mut();
        let now = world.now();
        let mut ready: Vec<Socket> = self.finished.iter().copied().collect();
        ready.retain(|&socket| self.sockets[socket].has_due(now));
        ready.reverse();
        let shuffle = world.faults.shuffle;
        let some = shuffle && world.random.bool();
        let mut most = if some { world.random.usize(1..=8) } else { usize::MAX };
        while !ready.is_empty() && most > 0 {
            most -= 1;
            let at = if shuffle { world.random.usize(..ready.len()) } else { ready.len() - 1 };
            let socket = ready[at];
            self.hand_out_first(socket, completions, &mut world);
            if !self.sockets.get(socket).is_some_and(|entry| entry.has_due(now)) {
                ready.swap_remove(at);
            }
        }
    }

    fn hand_out_first(
        &mut self,
        socket: Socket,
        completions: &mut Vec<Completion>,
        world: &mut World,
    ) {
        let entry = &mut self.sockets[socket];
        let Some(Done { completion, ends, .. }) = entry.done.pop_front() else { return };
        if let Some(operation) = ends {
            self.operations.remove(operation);
            let slots = [&mut entry.receiving, &mut entry.sending];
            slots.into_iter().filter(|slot| **slot == ends).for_each(|slot| *slot = None);
        }
        if entry.done.is_empty() {
            self.finished.remove(&socket);
        }
        if matches!(completion.event, Event::Closed) {
            self.sockets.remove(socket);
        }
        let (what, detail) = trace_of(&completion.event);
        world.note(what, completion.token.0);
        world.note(what, detail);
        completions.push(completion);
    }
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
            Kind::SendFile(range) => Event::FileSent { range, result: outcome },
            Kind::Shutdown => Event::ShutDown(outcome.map(drop)),
            Kind::Over => unreachable!("it has ended"),
        }
    }
}

fn incoming(accepted: Accepted, peer: SocketAddr) -> Incoming {
    Incoming { origin: IncomingOrigin::Sim(accepted), peer }
}

/// What a receive finds.
enum Arrived {
    Bytes(usize),
    Nothing,
    End(io::Result<u64>),
}

fn arrived(connection: ConnectionKey, world: &mut World) -> Arrived {
    let end = world.end(connection, Side::Server);
    if !end.arrived.is_empty() {
        Arrived::Bytes(end.arrived.len())
    } else if end.reset {
        Arrived::End(Err(io::ErrorKind::ConnectionReset.into()))
    } else if end.fin {
        Arrived::End(Ok(0))
    } else {
        Arrived::Nothing
    }
}

/// Takes bytes that have arrived.
fn read(count: usize, connection: ConnectionKey, world: &mut World) -> Vec<u8> {
    world.read(connection, Side::Server, count);
    world.end(connection, Side::Server).arrived.drain(..count).collect()
}

fn receive_into(
    block: &mut Vec<u8>,
    connection: ConnectionKey,
    world: &mut World,
) -> Option<io::Result<u64>> {
    match arrived(connection, world) {
        Arrived::Bytes(available) => {
            let count = world.cut(available.min(block.capacity() - block.len()));
            block.extend_from_slice(&read(count, connection, world));
            Some(Ok(count as u64))
        }
        Arrived::Nothing => None,
        Arrived::End(outcome) => Some(outcome),
    }
}

/// How many of `wanted` bytes a send takes now. None: it waits for room.
fn takes(wanted: u64, connection: ConnectionKey, world: &mut World) -> Option<io::Result<u64>> {
    let end = world.end(connection, Side::Server);
    assert!(!end.shut, "nothing is sent behind a shutdown");
    if end.reset {
        let broken = world.random.bool();
        let kind = if broken { io::ErrorKind::BrokenPipe } else { io::ErrorKind::ConnectionReset };
        return Some(Err(kind.into()));
    }
    let most = wanted.min(world.room(connection, Side::Server) as u64);
    if most == 0 {
        return None;
    }
    let short = world.chance(world.faults.short_send_per_mille);
    Some(Ok(if short { world.random.u64(1..=most) } else { most }))
}

fn send(gather: &Gather, connection: ConnectionKey, world: &mut World) -> Option<io::Result<u64>> {
    let count = match takes(gather.remaining() as u64, connection, world)? {
        Ok(count) => count as usize,
        Err(error) => return Some(Err(error)),
    };
    let mut bytes = Vec::with_capacity(count);
    for slice in gather.slices() {
        let rest = count - bytes.len();
        bytes.extend_from_slice(&slice[..rest.min(slice.len())]);
        if bytes.len() == count {
            break;
        }
    }
    world.send(connection, Side::Server, &bytes);
    Some(Ok(count as u64))
}

fn send_file(
    range: &FileRange,
    connection: ConnectionKey,
    world: &mut World,
) -> Option<io::Result<u64>> {
    let count = match takes(range.length.min(FILE_BYTES_MAX), connection, world)? {
        Ok(count) => count as usize,
        Err(error) => return Some(Err(error)),
    };
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        match read_at(&range.file, &mut bytes[filled..], range.offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Some(Err(error)),
        }
    }
    world.send(connection, Side::Server, &bytes[..filled]);
    Some(Ok(filled as u64))
}

fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, bytes, offset);
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, bytes, offset);
}

fn shutdown(connection: ConnectionKey, world: &mut World) -> io::Result<u64> {
    if world.end(connection, Side::Server).reset {
        return Err(io::ErrorKind::NotConnected.into());
    }
    world.shut(connection, Side::Server);
    Ok(0)
}

/// What the trace says of an event.
fn trace_of(event: &Event) -> (u64, u64) {
    let outcome = |result: &Result<u64, Failure>| match result {
        Ok(count) => *count,
        Err(Failure::Cancelled) => u64::MAX,
        Err(Failure::Io(_)) => u64::MAX - 1,
    };
    match event {
        Event::Accepted(_) => (16, 0),
        Event::AcceptEnded(_) => (17, 0),
        Event::Received(lease) => (18, lease.len() as u64),
        Event::ReceiveEnded(Ok(())) => (19, 0),
        Event::ReceiveEnded(Err(_)) => (20, 0),
        Event::ReceivedInto { block, .. } => (21, block.len() as u64),
        Event::Sent { gather, result: Ok(count) } => (22, (gather.remaining() + count) as u64),
        Event::Sent { gather, result: Err(_) } => (23, gather.remaining() as u64),
        Event::FileSent { result, .. } => (24, outcome(result)),
        Event::ShutDown(result) => (25, u64::from(result.is_ok())),
        Event::Closed => (26, 0),
    }
}
