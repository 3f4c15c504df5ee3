//! The test rig: a port whose completions are monitored, and the clients of it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wharf_port::sim::Network;
use wharf_port::{
    Completion, Counters, Event, Failure, FileRange, Gather, Incoming, Lease, ListenOptions,
    Listener, Operation, Port, Socket, Time, Token,
};

use crate::client::Client;
use crate::monitor::{Kind, Monitor};
use crate::setup::PATIENCE;

/// How long a turn waits for completions.
const TURN: Duration = Duration::from_millis(5);

pub(crate) struct Rig {
    pub(crate) port: Port,
    network: Option<Network>,
    monitor: Monitor,
    completions: Vec<Completion>,
    /// What has completed and the test has not asked for, by token.
    events: BTreeMap<u64, VecDeque<Event>>,
    /// Sockets that are not closed, with the tokens of their closing.
    open: BTreeMap<Socket, Option<Token>>,
    /// Where connections for [`pair`](Rig::pair) come in.
    listening: Option<(SocketAddr, Submitted)>,
    abandoned: bool,
}

/// An operation that was submitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Submitted {
    pub(crate) token: Token,
    pub(crate) operation: Operation,
}

impl Rig {
    pub(crate) fn new(port: Port, network: Option<Network>) -> Rig {
        Rig {
            port,
            network,
            monitor: Monitor::default(),
            completions: Vec::new(),
            events: BTreeMap::new(),
            open: BTreeMap::new(),
            listening: None,
            abandoned: false,
        }
    }

    // Sockets.

    pub(crate) fn listen(&mut self) -> (Socket, SocketAddr) {
        let listener = match &self.network {
            Some(_) => {
                // Whatever else listens in this network has another one.
                static PORT: AtomicU16 = AtomicU16::new(1);
                let port = PORT.fetch_add(1, Ordering::Relaxed);
                Listener::simulated(SocketAddr::from(([10, 0, 0, 1], port)))
            }
            None => {
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                Listener::bind(any, &ListenOptions::default()).unwrap()
            }
        };
        let address = listener.address();
        let socket = self.port.listen(listener).unwrap();
        self.open.insert(socket, None);
        (socket, address)
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> Client {
        match &self.network {
            Some(network) => Client::Simulated(network.connect(to)),
            None => Client::connect(to),
        }
    }

    pub(crate) fn adopt(&mut self, incoming: Incoming) -> Socket {
        self.try_adopt(incoming).unwrap()
    }

    pub(crate) fn try_adopt(&mut self, incoming: Incoming) -> io::Result<Socket> {
        let socket = self.port.adopt(incoming)?;
        self.open.insert(socket, None);
        Ok(socket)
    }

    /// A connection that was not adopted yet, and its client.
    pub(crate) fn incoming(&mut self) -> (Incoming, Client) {
        let (address, accept) = match self.listening {
            Some(listening) => listening,
            None => {
                let (socket, address) = self.listen();
                (address, self.accept(socket))
            }
        };
        self.listening = Some((address, accept));
        let client = self.connect(address);
        match self.next(accept.token) {
            Event::Accepted(incoming) => (incoming, client),
            other => panic!("{other:?}"),
        }
    }

    /// A connection and its client.
    pub(crate) fn pair(&mut self) -> (Socket, Client) {
        let (incoming, client) = self.incoming();
        (self.adopt(incoming), client)
    }

    // Submissions.

    pub(crate) fn accept(&mut self, listener: Socket) -> Submitted {
        let token = self.monitor.submit(listener, Kind::Accept);
        Submitted { token, operation: self.port.accept(listener, token) }
    }

    pub(crate) fn receive(&mut self, socket: Socket) -> Submitted {
        let token = self.monitor.submit(socket, Kind::Receive);
        Submitted { token, operation: self.port.receive(socket, token) }
    }

    pub(crate) fn receive_into(&mut self, socket: Socket, block: Vec<u8>) -> Submitted {
        let (at, len, capacity) = (block.as_ptr().addr(), block.len(), block.capacity());
        let token = self.monitor.submit(socket, Kind::ReceiveInto { at, len, capacity });
        Submitted { token, operation: self.port.receive_into(socket, block, token) }
    }

    pub(crate) fn send(&mut self, socket: Socket, gather: Box<Gather>) -> Submitted {
        let (at, remaining) = (std::ptr::from_ref(&*gather).addr(), gather.remaining());
        let token = self.monitor.submit(socket, Kind::Send { at, remaining });
        Submitted { token, operation: self.port.send(socket, gather, token) }
    }

    pub(crate) fn send_bytes(&mut self, socket: Socket, bytes: impl Into<Bytes>) -> Submitted {
        let mut gather = Box::new(Gather::default());
        gather.push(bytes.into());
        self.send(socket, gather)
    }

    pub(crate) fn send_file(
        &mut self,
        socket: Socket,
        file: &Arc<File>,
        offset: u64,
        length: u64,
    ) -> Submitted {
        let token = self.monitor.submit(socket, Kind::SendFile { offset, length });
        let range = FileRange { file: file.clone(), offset, length };
        Submitted { token, operation: self.port.send_file(socket, range, token) }
    }

    pub(crate) fn shutdown(&mut self, socket: Socket) -> Submitted {
        let token = self.monitor.submit(socket, Kind::Shutdown);
        Submitted { token, operation: self.port.shutdown(socket, token) }
    }

    pub(crate) fn close(&mut self, socket: Socket) -> Token {
        let token = self.monitor.submit(socket, Kind::Close);
        self.open.insert(socket, Some(token));
        self.port.close(socket, token);
        token
    }

    pub(crate) fn reset(&mut self, socket: Socket) -> Token {
        let token = self.monitor.submit(socket, Kind::Close);
        self.open.insert(socket, Some(token));
        self.port.reset(socket, token);
        token
    }

    // Completions.

    /// One wait, and a short one.
    pub(crate) fn turn(&mut self) {
        let until = self.port.now() + TURN;
        self.wait(Some(until));
    }

    /// One wait. Returns how many completions there were.
    pub(crate) fn wait(&mut self, until: Option<Time>) -> usize {
        let mut completions = std::mem::take(&mut self.completions);
        self.port.wait(&mut completions, until).unwrap();
        let count = completions.len();
        for completion in completions.drain(..) {
            self.monitor.check(&completion);
            if let Event::Closed = completion.event {
                self.open.retain(|_, token| *token != Some(completion.token));
            }
            self.events.entry(completion.token.0).or_default().push_back(completion.event);
        }
        self.completions = completions;
        count
    }

    /// What has completed with this token and was not taken yet.
    pub(crate) fn take(&mut self, token: Token) -> Option<Event> {
        let events = self.events.get_mut(&token.0)?;
        let event = events.pop_front();
        if events.is_empty() {
            self.events.remove(&token.0);
        }
        event
    }

    /// Takes turns until `done` gives something.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Rig) -> Option<T>,
    ) -> T {
        let started = Instant::now();
        loop {
            if let Some(result) = done(self) {
                return result;
            }
            let left = &self.monitor;
            assert!(started.elapsed() < PATIENCE, "waited in vain for {what}; {left:?}");
            let before = self.port.now();
            self.turn();
            if self.network.is_some() && before == self.port.now() {
                // Simulated time waits for something that is not simulated, another thread say.
                thread::yield_now();
            }
        }
    }

    /// The next event of an operation.
    pub(crate) fn next(&mut self, token: Token) -> Event {
        self.until("a completion", |rig| rig.take(token))
    }

    /// What a send comes back with.
    pub(crate) fn sent(&mut self, send: Submitted) -> (Box<Gather>, Result<usize, Failure>) {
        match self.next(send.token) {
            Event::Sent { gather, result } => (gather, result),
            other => panic!("{other:?}"),
        }
    }

    /// What a receive into a block comes back with.
    pub(crate) fn received_into(
        &mut self,
        receive: Submitted,
    ) -> (Vec<u8>, Result<usize, Failure>) {
        match self.next(receive.token) {
            Event::ReceivedInto { block, result } => (block, result),
            other => panic!("{other:?}"),
        }
    }

    /// The next bytes of a receive that has not ended.
    pub(crate) fn received(&mut self, receive: Submitted) -> Lease {
        match self.next(receive.token) {
            Event::Received(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    /// Receives `count` bytes of a stream that goes on.
    pub(crate) fn receive_exactly(&mut self, receive: Submitted, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            bytes.extend_from_slice(&self.received(receive));
        }
        assert_eq!(bytes.len(), count, "nobody sent more");
        bytes
    }

    /// Takes what comes until the operation ends, and returns the end.
    pub(crate) fn end_of(&mut self, operation: Submitted) -> Event {
        loop {
            match self.next(operation.token) {
                Event::Received(_) | Event::Accepted(_) => {}
                end => return end,
            }
        }
    }

    /// Sends all of a gather, in as many sends as it takes.
    pub(crate) fn send_all(
        &mut self,
        socket: Socket,
        mut gather: Box<Gather>,
        client: &mut Client,
    ) -> Vec<u8> {
        let mut received = Vec::new();
        while gather.remaining() > 0 {
            let send = self.send(socket, gather);
            gather = self.until("a send's end", |rig| {
                received.extend(client.receive());
                match rig.take(send.token)? {
                    Event::Sent { mut gather, result } => {
                        gather.advance(result.unwrap());
                        Some(gather)
                    }
                    other => panic!("{other:?}"),
                }
            });
        }
        received
    }

    /// What the client receives until the stream ends or the connection is reset.
    pub(crate) fn drain(&mut self, client: &mut Client) -> Vec<u8> {
        let mut received = Vec::new();
        self.until("the client's end", |_| {
            received.extend(client.receive());
            (client.at_end() || client.is_reset()).then_some(())
        });
        // What arrived before a reset.
        received.extend(client.receive());
        received
    }

    /// Sends until nothing more is taken: a send that cannot go on is in flight then.
    pub(crate) fn fill(&mut self, socket: Socket) -> Submitted {
        let bytes = Bytes::from(vec![b'x'; 1 << 20]);
        loop {
            let send = self.send_bytes(socket, bytes.clone());
            let mut quiet = 0;
            let sent = self.until("a send or a full window", |rig| match rig.take(send.token) {
                Some(Event::Sent { result, .. }) => {
                    result.unwrap();
                    Some(true)
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    quiet += 1;
                    (quiet > 20).then_some(false)
                }
            });
            if !sent {
                return send;
            }
        }
    }

    /// Takes turns in which nothing has to happen, so that what should not has its chance.
    pub(crate) fn idle(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn();
        }
    }

    pub(crate) fn counters(&mut self) -> Counters {
        self.port.counters()
    }

    /// Closes all that is open, and checks that nothing is left.
    fn finish(&mut self) {
        self.close_all();
        self.events.clear();
        let Counters {
            sockets, operations, leased_blocks, parked_receives, parked_accepts, ..
        } = self.port.counters();
        let left = [sockets, operations, leased_blocks, parked_receives, parked_accepts];
        assert_eq!(left, [0; 5], "sockets, operations, leases, parked receives, parked accepts");
    }

    /// Closes all that is open.
    pub(crate) fn close_all(&mut self) {
        let open: Vec<Socket> =
            self.open.iter().filter(|(_, token)| token.is_none()).map(|(&key, _)| key).collect();
        for socket in open {
            self.close(socket);
        }
        self.listening = None;
        self.until("everything to close", |rig| rig.open.is_empty().then_some(()));
        assert_eq!(self.monitor.in_flight(), 0, "an operation without an end: {:?}", self.monitor);
        let before = self.events.len();
        self.idle(2);
        assert_eq!(self.events.len(), before, "something came behind everything's end");
    }
}

impl Rig {
    /// Drops the port as it is.
    pub(crate) fn abandon(mut self) {
        self.abandoned = true;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !thread::panicking() && !self.abandoned {
            self.finish();
        }
    }
}

/// A stream's bytes by their places, so that no two parts of it are alike.
pub(crate) fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at ^ (at >> 7) ^ (at >> 13).wrapping_mul(0x9d)) as u8).collect()
}

/// Like `assert_eq`, but tells where streams differ rather than all of them.
#[track_caller]
pub(crate) fn assert_same(found: &[u8], wanted: &[u8]) {
    if found != wanted {
        let at = found.iter().zip(wanted).take_while(|(found, wanted)| found == wanted).count();
        panic!("differs at {at}: {} bytes of {}", found.len(), wanted.len());
    }
}
