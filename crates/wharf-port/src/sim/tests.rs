//! What only the simulated port promises; the contract suite has the rest.

use super::*;
use crate::{Completion, Event, Failure, Gather, Incoming, Listener, Socket, Token};

const LISTENER: Token = Token(u64::MAX);

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 80))
}

/// A port that sends back what it receives, until the stream ends.
struct Echo {
    port: Port,
    completions: Vec<Completion>,
    sockets: Vec<Option<Socket>>,
    to_send: Vec<Vec<u8>>,
    sending: Vec<bool>,
    ended: Vec<bool>,
    failures: usize,
}

impl Echo {
    fn new(network: &Network) -> Echo {
        let mut port = network.port(&Config::default());
        let listening = port.listen(Listener::simulated(address())).unwrap();
        port.accept(listening, LISTENER);
        Echo {
            port,
            completions: Vec::new(),
            sockets: Vec::new(),
            to_send: Vec::new(),
            sending: Vec::new(),
            ended: Vec::new(),
            failures: 0,
        }
    }

    fn turn(&mut self, until: Option<Time>) {
        let mut completions = std::mem::take(&mut self.completions);
        self.port.wait(&mut completions, until).unwrap();
        for completion in completions.drain(..) {
            self.dispatch(completion);
        }
        self.completions = completions;
    }

    fn dispatch(&mut self, completion: Completion) {
        let index = completion.token.0 as usize;
        match completion.event {
            Event::Accepted(incoming) => return self.adopt(incoming),
            Event::Received(lease) => self.to_send[index].extend_from_slice(&lease),
            Event::ReceiveEnded(outcome) => {
                self.ended[index] = true;
                self.failures += usize::from(outcome.is_err());
            }
            Event::Sent { result, .. } => {
                self.sending[index] = false;
                match result {
                    Ok(count) => drop(self.to_send[index].drain(..count)),
                    Err(_) => self.to_send[index].clear(),
                }
            }
            Event::Closed => return,
            other => panic!("{other:?}"),
        }
        self.go_on(index);
    }

    fn adopt(&mut self, incoming: Incoming) {
        let socket = self.port.adopt(incoming).unwrap();
        self.port.receive(socket, Token(self.sockets.len() as u64));
        self.sockets.push(Some(socket));
        self.to_send.push(Vec::new());
        self.sending.push(false);
        self.ended.push(false);
    }

    fn go_on(&mut self, index: usize) {
        let Some(socket) = self.sockets[index] else { return };
        let token = Token(index as u64);
        if self.sending[index] {
        } else if !self.to_send[index].is_empty() {
            let mut gather = Box::new(Gather::default());
            gather.block_mut().extend_from_slice(&self.to_send[index]);
            self.port.send(socket, gather, token);
            self.sending[index] = true;
        } else if self.ended[index] {
            self.port.close(socket, token);
            self.sockets[index] = None;
        }
    }
}

/// What became of a run: its trace, its time, and what each peer received.
fn run(seed: u64, faults: Faults) -> (u64, Time, Vec<Vec<u8>>) {
    let network = Network::new(seed, faults);
    let mut echo = Echo::new(&network);
    let messages: Vec<Vec<u8>> =
        (0..8u8).map(|index| vec![index; 1 + 3000 * usize::from(index)]).collect();
    let mut peers: Vec<Peer> = messages.iter().map(|_| network.connect(address())).collect();
    let mut sent = [0; 8];
    let mut received = vec![Vec::new(); 8];
    for _ in 0..100_000 {
        echo.turn(Some(network.now() + Duration::from_secs(1)));
        let mut over = true;
        for (index, peer) in peers.iter_mut().enumerate() {
            let message = &messages[index];
            if sent[index] < message.len() {
                sent[index] += peer.send(&message[sent[index]..]);
                if sent[index] == message.len() {
                    peer.shutdown();
                }
            }
            received[index].extend(peer.receive());
            over &= peer.at_end() || peer.is_reset();
        }
        if over {
            break;
        }
    }
    for (index, peer) in peers.iter().enumerate() {
        assert!(peer.is_reset() || received[index] == messages[index], "seed {seed}: {index}");
        assert!(messages[index].starts_with(&received[index]), "seed {seed}: {index}");
    }
    drop(peers);
    while echo.port.counters().sockets > 1 {
        assert_eq!(network.deadlocks(), 0, "seed {seed}");
        echo.turn(None);
    }
    let counters = echo.port.counters();
    assert_eq!((counters.operations, counters.leased_blocks), (1, 0), "seed {seed}");
    assert_eq!(network.descriptors(), 0, "seed {seed}");
    (network.trace_hash(), network.now(), received)
}

#[test]
fn a_seed_replays_and_another_one_differs() {
    let mut hashes: Vec<u64> = (0..50)
        .map(|seed| {
            let first = run(seed, Faults::all());
            assert_eq!(first, run(seed, Faults::all()), "seed {seed}");
            first.0
        })
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 50);
}

#[test]
fn nothing_fails_in_a_network_without_faults_that_fail() {
    for seed in 0..50 {
        for faults in [Faults::none(), Faults::default()] {
            let (_, _, received) = run(seed, faults);
            for (index, bytes) in received.iter().enumerate() {
                assert_eq!(bytes.len(), 1 + 3000 * index, "seed {seed}");
            }
        }
    }
}

#[test]
fn time_jumps_to_the_end_of_the_wait_and_to_the_agenda() {
    let network = Network::new(1, Faults::none());
    let mut port = network.port(&Config::default());
    let mut completions = Vec::new();
    let (soon, late) = (Time::from_nanos(5_000), Time::from_nanos(9_000_000_000));
    network.wake_at(soon);
    port.wait(&mut completions, Some(late)).unwrap();
    assert_eq!((port.now(), network.now()), (soon, soon));
    let calendar = port.unix_time();
    port.wait(&mut completions, Some(late)).unwrap();
    assert_eq!(port.now(), late);
    assert_eq!(port.unix_time(), calendar + 9);
    network.set_unix_time(3);
    assert_eq!(port.unix_time(), 3);
    assert!(completions.is_empty());
}

#[test]
fn a_wait_for_nothing_at_all_returns_and_is_counted() {
    let network = Network::new(1, Faults::none());
    let mut port = network.port(&Config::default());
    port.wait(&mut Vec::new(), None).unwrap();
    assert_eq!((network.deadlocks(), port.now()), (1, Time::ZERO));
    // A wake is something.
    port.waker().wake();
    port.wait(&mut Vec::new(), None).unwrap();
    assert_eq!(network.deadlocks(), 1);
}

#[test]
fn time_stands_still_while_another_port_has_something_to_do() {
    let network = Network::new(1, Faults::none());
    let (mut first, mut second) =
        (network.port(&Config::default()), network.port(&Config::default()));
    let mut completions = Vec::new();
    let far = Time::from_nanos(1_000_000);
    second.waker().wake();
    first.wait(&mut completions, Some(far)).unwrap();
    assert_eq!(network.now(), Time::ZERO, "the other one is woken");
    second.wait(&mut completions, Some(Time::from_nanos(500))).unwrap();
    first.wait(&mut completions, Some(far)).unwrap();
    assert_eq!(network.now(), Time::from_nanos(500), "the other one wants to be back");
}

#[test]
fn who_connects_to_nobody_is_refused() {
    let network = Network::new(1, Faults::none());
    let mut peer = network.connect(address());
    assert!(peer.is_refused());
    assert_eq!((peer.send(b"hello"), peer.receive()), (0, Vec::new()));
}

#[test]
fn an_accepted_connection_that_nobody_adopts_is_closed() {
    let network = Network::new(1, Faults::none());
    let mut port = network.port(&Config::default());
    let listening = port.listen(Listener::simulated(address())).unwrap();
    port.accept(listening, LISTENER);
    let peer = network.connect(address());
    let mut completions = Vec::new();
    port.wait(&mut completions, None).unwrap();
    assert_eq!(network.descriptors(), 1);
    std::thread::spawn(move || drop(completions)).join().unwrap();
    assert_eq!(network.descriptors(), 0);
    assert!(peer.at_end());
}

#[test]
fn a_connection_stays_in_its_network() {
    let network = Network::new(1, Faults::none());
    let mut port = network.port(&Config::default());
    let listening = port.listen(Listener::simulated(address())).unwrap();
    let accept = port.accept(listening, LISTENER);
    let _peer = network.connect(address());
    let mut completions = Vec::new();
    port.wait(&mut completions, None).unwrap();
    let Some(Completion { event: Event::Accepted(incoming), .. }) = completions.pop() else {
        panic!("{completions:?}")
    };
    let mut foreign = Network::new(1, Faults::none()).port(&Config::default());
    assert_eq!(foreign.adopt(incoming).unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    let real = Listener::bind("127.0.0.1:0".parse().unwrap(), &Default::default()).unwrap();
    assert_eq!(port.listen(real).unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    port.cancel(accept);
    port.wait(&mut completions, None).unwrap();
    assert!(matches!(
        completions[..],
        [Completion { event: Event::AcceptEnded(Failure::Cancelled), .. }]
    ));
}
