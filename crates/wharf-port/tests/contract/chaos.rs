//! Anything in any order: acts of a server and of its clients that follow from a seed.
//!
//! Whatever happens, the bytes of each direction are the ones that were sent, in order: of those
//! that a completion says were sent the peer sees a beginning, and of those that were cancelled it
//! sees none. At the end, what is still whole is brought to an end in good order: all that was sent
//! arrives. A seed that fails is run alone with `WHARF_CONTRACT_SEED=<number>`.

use std::env;
use std::ops::Range;

use fastrand::Rng;
use wharf_port::sim::{Faults, Network};
use wharf_port::{Config, Event, Failure, Lease, Socket};

use crate::client::Client;
use crate::files::Temporary;
use crate::rig::{Rig, Submitted, pattern};
use crate::setup::{Setup, TellSeed, on_every_backend};

on_every_backend![nothing_is_lost_whatever_happens, faults_harm_nobody_else];

/// Acts of a run.
const ACTS: usize = 300;
/// Connections at once.
const CONNECTIONS: usize = 6;
const FILE_BYTES: usize = 30_000;

fn nothing_is_lost_whatever_happens(setup: &Setup) {
    for seed in seeds(setup) {
        let _told = TellSeed(seed);
        Run::new(&setup.reseeded(seed, Faults::default())).run();
    }
}

fn faults_harm_nobody_else(setup: &Setup) {
    // Real networks have the faults that they have.
    if setup.is_simulated() {
        for seed in seeds(setup) {
            let _told = TellSeed(seed);
            let setup = setup.reseeded(seed, Faults::all());
            Run::new(&setup).run();
            let hash = setup.network.as_ref().map(Network::trace_hash);
            let again = setup.reseeded(seed, Faults::all());
            Run::new(&again).run();
            assert_eq!(again.network.as_ref().map(Network::trace_hash), hash, "a replay differs");
        }
    }
}

fn seeds(setup: &Setup) -> Range<u64> {
    let count = setup.amount(20, 15) as u64;
    let first = setup.seed * count;
    match env::var("WHARF_CONTRACT_SEED").ok().and_then(|seed| seed.parse().ok()) {
        // Once, though this is called for each of the simulated port's usual seeds.
        Some(seed) if !setup.is_simulated() || setup.seed == 0 => seed..seed + 1,
        Some(_) => 0..0,
        None => first..first + count,
    }
}

/// What the server does on a connection, and what has come of it.
struct Connection {
    socket: Socket,
    /// Where the client's stream begins in the pattern, so that no two are alike.
    first: usize,
    /// Closed, or about to be.
    closing: bool,
    receiving: Option<Submitted>,
    /// What is being sent, and the bytes of it.
    sending: Option<(Submitted, Vec<u8>)>,
    received: usize,
    /// The stream from the client has ended, or failed.
    ended: bool,
    /// What the client must see a beginning of.
    sent: Vec<u8>,
    shut: bool,
    failed: bool,
    /// None: it has gone.
    client: Option<Client>,
    client_sent: usize,
    client_shut: bool,
    client_reset: bool,
    /// How much the client has seen.
    seen: usize,
}

struct Run {
    rig: Rig,
    /// Connections that there were.
    connected: usize,
    chance: Rng,
    connections: Vec<Connection>,
    held: Vec<Lease>,
    file: Temporary,
}

impl Run {
    fn new(setup: &Setup) -> Run {
        let config = Config {
            receive_block_bytes: 1024,
            receive_blocks: 8,
            receive_blocks_max: 8,
            ..Config::default()
        };
        Run {
            rig: setup.rig_with(&config),
            connected: 0,
            chance: Rng::with_seed(setup.seed),
            connections: Vec::new(),
            held: Vec::new(),
            file: Temporary::new(&pattern(5, FILE_BYTES)),
        }
    }

    fn run(mut self) {
        for _ in 0..ACTS {
            self.act();
            if self.chance.u8(..3) == 0 {
                let micros = self.chance.u64(..500);
                let until = self.rig.port.now() + std::time::Duration::from_micros(micros);
                self.rig.wait(Some(until));
                self.take_events();
            }
            if self.chance.bool() {
                let count = self.held.len();
                self.chance.shuffle(&mut self.held);
                self.held.truncate(count / 2);
            }
            let counters = self.rig.counters();
            assert!(counters.leased_blocks >= self.held.len() && counters.receive_blocks <= 8);
        }
        self.settle();
        // What is left in flight ends with the rig.
    }

    fn act(&mut self) {
        if self.connections.len() < CONNECTIONS && self.chance.u8(..4) == 0 {
            return self.connect();
        }
        if self.connections.is_empty() {
            return;
        }
        let index = self.chance.usize(..self.connections.len());
        let act = self.chance.u8(..40);
        match act {
            0..12 => self.act_as_client(index, act),
            12..18 => self.start_receive(index),
            18..28 => self.start_send(index, act < 21),
            28..32 => self.cancel(index),
            32 => self.shut_down(index),
            33 | 34 => self.close(index, act == 33),
            _ => {}
        }
    }

    fn connect(&mut self) {
        let (incoming, client) = self.rig.incoming();
        let socket = self.rig.adopt(incoming);
        self.connected += 1;
        self.connections.push(Connection {
            socket,
            first: self.connected * 1_000_003,
            closing: false,
            receiving: None,
            sending: None,
            received: 0,
            ended: false,
            sent: Vec::new(),
            shut: false,
            failed: false,
            client: Some(client),
            client_sent: 0,
            client_shut: false,
            client_reset: false,
            seen: 0,
        });
    }

    fn act_as_client(&mut self, index: usize, act: u8) {
        let connection = &mut self.connections[index];
        let Some(client) = &mut connection.client else { return };
        match act {
            0..6 if !connection.client_shut => {
                let bytes =
                    pattern(connection.first + connection.client_sent, self.chance.usize(1..5_000));
                connection.client_sent += client.send(&bytes);
            }
            6..10 => {
                let most = self.chance.usize(1..50_000);
                connection.look(most);
            }
            10 if self.chance.u8(..3) == 0 => {
                client.shutdown();
                connection.client_shut = true;
            }
            11 if self.chance.u8(..6) == 0 => {
                let Some(client) = connection.client.take() else { return };
                if self.chance.bool() {
                    connection.client_reset = true;
                    client.reset();
                }
            }
            _ => {}
        }
    }

    fn start_receive(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.closing || connection.ended || connection.receiving.is_some() {
            return;
        }
        connection.receiving = Some(if self.chance.bool() {
            self.rig.receive(connection.socket)
        } else {
            let block = Vec::with_capacity(self.chance.usize(1..3_000));
            self.rig.receive_into(connection.socket, block)
        });
    }

    fn start_send(&mut self, index: usize, file: bool) {
        let connection = &mut self.connections[index];
        if connection.closing
            || connection.shut
            || connection.failed
            || connection.sending.is_some()
        {
            return;
        }
        connection.sending = Some(if file {
            let offset = self.chance.usize(..FILE_BYTES);
            let length = self.chance.usize(1..=FILE_BYTES);
            let bytes = pattern(5 + offset, length.min(FILE_BYTES - offset));
            let range = (offset as u64, length as u64);
            let file = &self.file.file;
            (self.rig.send_file(connection.socket, file, range.0, range.1), bytes)
        } else {
            let mut gather = Box::new(wharf_port::Gather::default());
            let mut bytes = vec![self.chance.u8(..); self.chance.usize(1..2_000)];
            gather.block_mut().extend_from_slice(&bytes);
            for _ in 0..self.chance.usize(..4) {
                let part = vec![self.chance.u8(..); self.chance.usize(..20_000)];
                bytes.extend_from_slice(&part);
                gather.push(part.into());
            }
            (self.rig.send(connection.socket, gather), bytes)
        });
    }

    fn cancel(&mut self, index: usize) {
        let connection = &self.connections[index];
        let operation = if self.chance.bool() {
            connection.receiving
        } else {
            connection.sending.as_ref().map(|(submitted, _)| *submitted)
        };
        if let Some(submitted) = operation {
            self.rig.port.cancel(submitted.operation);
        }
    }

    fn shut_down(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let busy = connection.sending.is_some() || connection.closing || connection.shut;
        if !busy && !connection.failed && self.chance.bool() {
            connection.shut = true;
            connection.sending = Some((self.rig.shutdown(connection.socket), Vec::new()));
        }
    }

    fn close(&mut self, index: usize, reset: bool) {
        let connection = &mut self.connections[index];
        if connection.closing {
            return;
        }
        connection.closing = true;
        if reset {
            self.rig.reset(connection.socket);
        } else {
            self.rig.close(connection.socket);
        }
    }

    /// Takes notice of all that has completed.
    fn take_events(&mut self) {
        for connection in &mut self.connections {
            while let Some(submitted) = connection.receiving {
                let Some(event) = self.rig.take(submitted.token) else { break };
                connection.received(event, &mut self.held);
            }
            while let Some((submitted, _)) = &connection.sending {
                let Some(event) = self.rig.take(submitted.token) else { break };
                connection.was_sent(event);
            }
        }
        // The rig follows the closing ones to their end.
        let over =
            |one: &Connection| one.closing && one.receiving.is_none() && one.sending.is_none();
        for connection in &mut self.connections {
            if over(connection) {
                connection.look(usize::MAX);
            }
        }
        self.connections.retain(|connection| !over(connection));
    }

    /// Brings what is whole to an end: each side sees all that the other one has sent.
    fn settle(&mut self) {
        self.held.clear();
        let started = std::time::Instant::now();
        loop {
            let mut whole = true;
            for index in 0..self.connections.len() {
                let connection = &mut self.connections[index];
                connection.look(1 << 20);
                if connection.closing || connection.failed || connection.is_lost() {
                    continue;
                }
                let received = connection.ended || connection.received == connection.client_sent;
                let seen = connection.sending.is_none() && connection.seen == connection.sent.len();
                if !received && connection.receiving.is_none() {
                    self.start_receive(index);
                }
                whole &= received && seen;
            }
            if whole {
                return;
            }
            assert!(started.elapsed() < crate::setup::PATIENCE, "something does not arrive");
            self.rig.turn();
            self.take_events();
            self.held.clear();
        }
    }
}

impl Connection {
    fn received(&mut self, event: Event, held: &mut Vec<Lease>) {
        let mut comes = |bytes: &[u8]| {
            let wanted = pattern(self.first + self.received, bytes.len());
            assert!(bytes == wanted, "not the bytes that were sent");
            self.received += bytes.len();
            assert!(self.received <= self.client_sent, "more than was sent");
        };
        match event {
            Event::Received(lease) => {
                comes(&lease);
                held.push(lease);
                return;
            }
            Event::ReceiveEnded(result) => self.receive_over(result),
            Event::ReceivedInto { block, result } => {
                comes(&block);
                match result {
                    Ok(0) => self.receive_over(Ok(())),
                    Ok(_) => {}
                    Err(failure) => self.receive_over(Err(failure)),
                }
            }
            other => panic!("{other:?}"),
        }
        self.receiving = None;
    }

    fn receive_over(&mut self, result: Result<(), Failure>) {
        match result {
            Ok(()) => {
                assert!(self.client_shut || self.client.is_none(), "nobody ended the stream");
                // Windows may take a reset for the end.
                let all = self.received == self.client_sent || self.client_reset;
                assert!(all, "the end comes behind all bytes");
                self.ended = true;
            }
            Err(Failure::Cancelled) => {}
            Err(Failure::Io(_)) => {
                self.ended = true;
                self.failed = true;
            }
        }
    }

    fn was_sent(&mut self, event: Event) {
        let Some((_, bytes)) = self.sending.take() else { return };
        let result = match event {
            Event::Sent { result, .. } => result,
            Event::FileSent { result, .. } => result.map(|count| count as usize),
            Event::ShutDown(result) => result.map(|()| 0),
            other => panic!("{other:?}"),
        };
        match result {
            Ok(count) => self.sent.extend_from_slice(&bytes[..count]),
            Err(Failure::Cancelled) => {}
            Err(Failure::Io(_)) => self.failed = true,
        }
        assert!(self.seen <= self.sent.len(), "the client has seen what was not sent after all");
    }

    /// The client receives. What is in flight may be seen before its completion is.
    fn look(&mut self, most: usize) {
        let Some(client) = &mut self.client else { return };
        let bytes = client.receive_at_most(most.min(1 << 20));
        let in_flight = self.sending.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        let ahead = self.sent.iter().chain(in_flight).skip(self.seen);
        assert!(ahead.take(bytes.len()).eq(&bytes), "the client sees what was not sent");
        self.seen += bytes.len();
    }

    /// Whether the network or the client has ended it otherwise.
    fn is_lost(&self) -> bool {
        self.client.as_ref().is_none_or(Client::is_reset)
    }
}
