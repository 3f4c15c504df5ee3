//! The network itself: connections, what flies between their ends, and the clock.
//!
//! It knows ports only as a list of sockets to look at. Everything is kept in ordered tables, for
//! the order in which chance is asked is part of the replay.
//!
//! ```text
//!   peer (client's end)                             port (server's end)
//!        │  send: cut and delayed   ┌────────┐  arrived   ▲ receive
//!        └─────────────────────────►│ flying │───────────►│
//!        ▲   arrived   ┌────────┐   └────────┘            │
//!        │◄────────────│ flying │◄────────────────────────┘ send
//!        receive       └────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use slotmap::SlotMap;

use super::Faults;
use crate::{Socket, Time, Waker};

slotmap::new_key_type! {
    pub(crate) struct ConnectionKey;
    pub(super) struct ListenerKey;
    pub(super) struct PortKey;
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// An accepted connection that no port has adopted yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(super) connection: ConnectionKey,
    /// Where the drop says what is to be closed, from whatever thread. It also tells networks
    /// apart. None: adopted.
    pub(super) dropped: Option<Arc<Dropped>>,
}

/// Connections that were dropped before they were adopted.
#[derive(Debug, Default)]
pub(super) struct Dropped(Mutex<Vec<ConnectionKey>>);

impl Dropped {
    fn take(&self) -> Vec<ConnectionKey> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            dropped.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
        }
    }
}

/// What flies to an end.
enum Piece {
    Bytes(Vec<u8>),
    /// The end of the stream.
    Fin,
    Reset,
}

enum Happening {
    /// The first of what flies to this end arrives.
    Arrival(ConnectionKey, Side),
    /// A connection asks to be accepted.
    Knock(ConnectionKey),
}

pub(super) struct Connection {
    client: End,
    server: End,
    pub(super) from: SocketAddr,
    to: SocketAddr,
    /// The port and the socket that have the server's end.
    owner: Option<(PortKey, Socket)>,
    /// Whether the server's end has a descriptor.
    accepted: bool,
    pub(super) refused: bool,
}

/// One end of a connection, and what flies to it.
#[derive(Default)]
pub(super) struct End {
    flying: VecDeque<Piece>,
    /// When the last of it arrives. What is sent later arrives later.
    last_arrival: Time,
    pub(super) arrived: VecDeque<u8>,
    /// Bytes that fly to here or have arrived: at most the window.
    unread: usize,
    /// The stream to here has ended behind what arrived.
    pub(super) fin: bool,
    pub(super) reset: bool,
    /// This end has said that it sends no more.
    pub(super) shut: bool,
    /// Nobody has this end any more.
    pub(super) closed: bool,
}

struct Listening {
    address: SocketAddr,
    owner: (PortKey, Socket),
    backlog: VecDeque<ConnectionKey>,
}

/// What the network knows of a port.
pub(super) struct PortState {
    waker: Waker,
    /// Sockets of which something has changed.
    pub(super) ready: BTreeSet<Socket>,
    /// When it last said that it wants to be back.
    pub(super) until: Option<Time>,
    /// Whether it has something to do without time passing, or just had and may want to be back
    /// sooner than it said.
    pub(super) busy: bool,
}

impl PortState {
    pub(super) fn new(waker: Waker) -> PortState {
        PortState { waker, ready: BTreeSet::new(), until: None, busy: false }
    }
}

pub(crate) struct World {
    pub(super) faults: Faults,
    pub(super) random: Rng,
    now: Time,
    /// The calendar's seconds, and when it was set to them.
    calendar: (u64, Time),
    connections: SlotMap<ConnectionKey, Connection>,
    listeners: SlotMap<ListenerKey, Listening>,
    pub(super) ports: SlotMap<PortKey, PortState>,
    /// What will happen: by time, and at one time in the order of its causes.
    happenings: BTreeMap<(Time, u64), Happening>,
    causes: u64,
    agenda: BTreeSet<Time>,
    next_client: u16,
    accepted: usize,
    pub(super) descriptor_limit: usize,
    dropped: Arc<Dropped>,
    pub(super) deadlocks: u64,
    trace: u64,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> World {
        World {
            faults,
            random: Rng::with_seed(seed),
            now: Time::ZERO,
            calendar: (784_111_777, Time::ZERO),
            connections: SlotMap::with_key(),
            listeners: SlotMap::with_key(),
            ports: SlotMap::with_key(),
            happenings: BTreeMap::new(),
            causes: 0,
            agenda: BTreeSet::new(),
            next_client: 0,
            accepted: 0,
            descriptor_limit: usize::MAX,
            dropped: Arc::default(),
            deadlocks: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    // Time.

    pub(super) fn now(&self) -> Time {
        self.now
    }

    pub(super) fn unix_time(&self) -> u64 {
        let (seconds, at) = self.calendar;
        seconds + self.now.since(at).as_secs()
    }

    pub(super) fn set_unix_time(&mut self, seconds: u64) {
        self.calendar = (seconds, self.now);
    }

    pub(super) fn wake_at(&mut self, time: Time) {
        self.agenda.insert(time);
    }

    /// When something happens next, or the test wants to act.
    pub(super) fn next_time(&self) -> Option<Time> {
        let happening = self.happenings.first_key_value().map(|(&(time, _), _)| time);
        happening.into_iter().chain(self.agenda.first().copied()).min()
    }

    /// Until when time may pass while `port` waits, as far as the other ports go: not at all while
    /// one of them has something to do.
    pub(super) fn others_allow(&self, port: PortKey) -> Time {
        let others = self.ports.iter().filter(|&(key, _)| key != port);
        let allowed = others.map(|(_, other)| {
            if other.busy || !other.ready.is_empty() || other.waker.is_notified() {
                return Time::ZERO;
            }
            other.until.unwrap_or(Time::FAR)
        });
        allowed.min().unwrap_or(Time::FAR)
    }

    /// Lets time pass until `time`; never backwards.
    pub(super) fn pass(&mut self, time: Time) {
        self.now = self.now.max(time);
        self.note(1, self.now.as_nanos());
    }

    /// Takes what is reached off the agenda. False: nothing was.
    pub(super) fn take_agenda(&mut self) -> bool {
        let mut reached = false;
        while self.agenda.first().is_some_and(|&time| time <= self.now) {
            self.agenda.pop_first();
            reached = true;
        }
        reached
    }

    // Chance.

    /// Whether something that happens `per_mille` times in 1,000 happens now.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.random.u32(..1000) < per_mille
    }

    /// A delay, short ones being likelier than long ones.
    pub(super) fn delay(&mut self) -> Duration {
        let max = u64::try_from(self.faults.delay_max.as_nanos()).unwrap_or(u64::MAX);
        let long = self.random.u64(..=max);
        Duration::from_nanos(self.random.u64(..=long))
    }

    /// The length of a piece that is cut from `len` bytes.
    pub(super) fn cut(&mut self, len: usize) -> usize {
        if !self.faults.split || len <= 1 {
            return len;
        }
        let longest = match self.random.u8(..8) {
            0 => 1,
            1 | 2 => 16,
            3 | 4 => 1460,
            _ => len,
        };
        self.random.usize(1..=longest.min(len))
    }

    // The trace.

    /// Puts one thing that happened into the trace (FNV-1a over its words).
    pub(super) fn note(&mut self, what: u64, detail: u64) {
        for word in [what, detail] {
            self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
        }
    }

    pub(super) fn note_bytes(&mut self, bytes: &[u8]) {
        self.note(2, bytes.len() as u64);
        for &byte in bytes {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    // Listeners and the way to a connection.

    pub(super) fn listen(&mut self, address: SocketAddr, owner: (PortKey, Socket)) -> ListenerKey {
        self.listeners.insert(Listening { address, owner, backlog: VecDeque::new() })
    }

    /// Closes a listener and resets those who were not accepted.
    pub(super) fn unlisten(&mut self, listener: ListenerKey) {
        let Some(listening) = self.listeners.remove(listener) else { return };
        for connection in listening.backlog {
            self.close(connection, Side::Server, true);
        }
    }

    /// An address that no other connection comes from.
    pub(super) fn unused_address(&mut self, to: SocketAddr) -> SocketAddr {
        self.next_client = self.next_client.wrapping_add(1);
        let [high, low] = self.next_client.to_be_bytes();
        let ip = match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 1, high, low)),
            SocketAddr::V6(_) => {
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, self.next_client))
            }
        };
        SocketAddr::new(ip, self.random.u16(32768..=60999))
    }

    pub(super) fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> ConnectionKey {
        let refused = !self.listeners.values().any(|listening| listening.address == to);
        let key = self.connections.insert(Connection {
            client: End::default(),
            server: End::default(),
            from,
            to,
            owner: None,
            accepted: false,
            refused,
        });
        self.note(3, u64::from(refused));
        if refused {
            self.connections[key].server.closed = true;
            return key;
        }
        let due = self.now + self.delay();
        // What the client sends at once comes behind its knock.
        self.connections[key].server.last_arrival = due;
        self.happens(due, Happening::Knock(key));
        key
    }

    fn knock(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get(key) else { return };
        let heard = self.listeners.iter().filter(|(_, one)| one.address == connection.to);
        let heard: Vec<ListenerKey> = heard.map(|(listener, _)| listener).collect();
        if heard.is_empty() {
            return self.close(key, Side::Server, true);
        }
        let listener = heard[self.random.usize(..heard.len())];
        let listening = &mut self.listeners[listener];
        listening.backlog.push_back(key);
        let owner = listening.owner;
        self.look_at(owner);
    }

    /// Whether somebody waits to be accepted.
    pub(super) fn has_backlog(&self, listener: ListenerKey) -> bool {
        !self.listeners[listener].backlog.is_empty()
    }

    /// Accepts who has waited longest. None: nobody waits.
    pub(super) fn accept(&mut self, listener: ListenerKey) -> Option<(Accepted, SocketAddr)> {
        let key = self.listeners[listener].backlog.pop_front()?;
        let connection = &mut self.connections[key];
        connection.accepted = true;
        self.accepted += 1;
        let peer = connection.from;
        Some((Accepted { connection: key, dropped: Some(self.dropped.clone()) }, peer))
    }

    /// Takes an accepted connection out of the hands that it went through. None: it is of another
    /// network.
    pub(super) fn adopt(&mut self, mut accepted: Accepted) -> Option<ConnectionKey> {
        let of_this = accepted.dropped.as_ref().is_some_and(|one| Arc::ptr_eq(one, &self.dropped));
        if !of_this {
            return None;
        }
        accepted.dropped = None;
        Some(accepted.connection)
    }

    /// Says who has the server's end of a connection.
    pub(super) fn own(&mut self, key: ConnectionKey, owner: (PortKey, Socket)) {
        self.connections[key].owner = Some(owner);
    }

    /// Closes what was accepted and dropped.
    pub(super) fn close_dropped(&mut self) {
        let dropped = self.dropped.take();
        for connection in dropped {
            self.close(connection, Side::Server, false);
        }
    }

    pub(super) fn descriptors(&self) -> usize {
        self.accepted
    }

    pub(super) fn may_accept(&self) -> bool {
        self.accepted < self.descriptor_limit
    }

    // What flies.

    pub(super) fn connection(&self, key: ConnectionKey) -> &Connection {
        &self.connections[key]
    }

    pub(super) fn end(&mut self, key: ConnectionKey, side: Side) -> &mut End {
        self.connections[key].end(side)
    }

    /// How many bytes an end may send now.
    pub(super) fn room(&mut self, key: ConnectionKey, from: Side) -> usize {
        let window = self.faults.window_bytes;
        window.saturating_sub(self.end(key, from.other()).unread)
    }

    /// Sends bytes, for which there must be [room](World::room).
    pub(super) fn send(&mut self, key: ConnectionKey, from: Side, mut bytes: &[u8]) {
        self.note_bytes(bytes);
        let to = from.other();
        self.end(key, to).unread += bytes.len();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.cut(bytes.len()));
            bytes = rest;
            if self.chance(self.faults.reset_per_mille) {
                // What carries the bytes goes down, for both ends.
                self.fly(key, from, Piece::Reset);
                self.fly(key, to, Piece::Reset);
                return;
            }
            self.fly(key, to, Piece::Bytes(piece.to_vec()));
        }
    }

    /// Ends the stream from this end.
    pub(super) fn shut(&mut self, key: ConnectionKey, from: Side) {
        if !mem::replace(&mut self.end(key, from).shut, true) {
            self.fly(key, from.other(), Piece::Fin);
        }
    }

    fn fly(&mut self, key: ConnectionKey, to: Side, piece: Piece) {
        let due = self.now + self.delay();
        let end = self.end(key, to);
        let due = due.max(end.last_arrival);
        end.last_arrival = due;
        end.flying.push_back(piece);
        self.happens(due, Happening::Arrival(key, to));
    }

    fn happens(&mut self, time: Time, happening: Happening) {
        self.causes += 1;
        self.happenings.insert((time, self.causes), happening);
    }

    /// Lets happen what is due. False: nothing was.
    pub(super) fn happen(&mut self) -> bool {
        let mut any = false;
        while let Some(entry) = self.happenings.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            any = true;
            match entry.remove() {
                Happening::Knock(key) => self.knock(key),
                Happening::Arrival(key, side) => self.arrive(key, side),
            }
        }
        any
    }

    fn arrive(&mut self, key: ConnectionKey, side: Side) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let owner = connection.owner.filter(|_| side == Side::Server);
        let end = connection.end(side);
        // Thrown away by a reset that overtook it.
        let Some(piece) = end.flying.pop_front() else { return };
        if end.reset {
            return;
        }
        match piece {
            Piece::Bytes(bytes) if end.closed => {
                end.unread -= bytes.len();
                // RFC 9293 section 3.5.2: data for a connection that is gone is answered so.
                self.send_reset(key, side);
            }
            Piece::Bytes(bytes) => {
                end.arrived.extend(&bytes);
                self.note(4, bytes.len() as u64);
            }
            Piece::Fin => end.fin = true,
            Piece::Reset => {
                // Some systems still hand out what had arrived; others do not.
                let forget = self.random.bool();
                let end = self.end(key, side);
                end.reset = true;
                end.flying.clear();
                if forget {
                    end.arrived.clear();
                }
                end.unread = end.arrived.len();
                self.note(5, u64::from(forget));
            }
        }
        if let Some(owner) = owner {
            self.look_at(owner);
        }
    }

    /// Resets the connection from one end: what flies to the other may be lost.
    fn send_reset(&mut self, key: ConnectionKey, from: Side) {
        let lost = self.random.bool();
        let end = self.end(key, from.other());
        if lost {
            end.flying.clear();
            end.unread = end.arrived.len();
        }
        self.fly(key, from.other(), Piece::Reset);
    }

    /// Notes that an end has read what was `arrived`, so that there is room for more.
    pub(super) fn read(&mut self, key: ConnectionKey, side: Side, count: usize) {
        let connection = &mut self.connections[key];
        connection.end(side).unread -= count;
        if side == Side::Client
            && let Some(owner) = connection.owner
        {
            self.look_at(owner);
        }
    }

    /// Closes an end. A reset follows from its being asked for, and from bytes that were not read.
    pub(super) fn close(&mut self, key: ConnectionKey, side: Side, reset: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if side == Side::Server {
            connection.owner = None;
            if mem::replace(&mut connection.accepted, false) {
                self.accepted -= 1;
            }
        }
        let end = connection.end(side);
        if mem::replace(&mut end.closed, true) {
            return;
        }
        let (lost, shut, over) = (!end.arrived.is_empty(), end.shut, end.reset);
        end.unread -= end.arrived.len();
        end.arrived = VecDeque::new();
        self.note(6, u64::from(reset));
        if over || self.end(key, side.other()).closed {
            // Nobody is left to tell, once both are gone.
        } else if reset || lost {
            self.send_reset(key, side);
        } else if !shut {
            self.shut(key, side);
        }
        if self.end(key, side.other()).closed {
            self.connections.remove(key);
        }
    }

    fn look_at(&mut self, (port, socket): (PortKey, Socket)) {
        if let Some(port) = self.ports.get_mut(port) {
            port.ready.insert(socket);
        }
    }
}

impl Connection {
    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}
