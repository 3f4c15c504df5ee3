//! What is the readiness backend's alone; what all backends share is in the contract suite.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A port with a listener, and what completed on it so far.
struct Rig {
    port: Port,
    address: SocketAddr,
    listener: Socket,
    completions: Vec<Completion>,
}

impl Rig {
    fn new(config: Config) -> Rig {
        let mut port = Port::open(Choice::Only(Backend::Readiness), &config).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, &ListenOptions::default()).unwrap();
        let address = listener.address();
        let listener = port.listen(listener).unwrap();
        port.accept(listener, Token(0));
        Rig { port, address, listener, completions: Vec::new() }
    }

    /// The next completion, in order.
    fn next(&mut self) -> Completion {
        let until = Time::monotonic() + PATIENCE;
        while self.completions.is_empty() {
            assert!(Time::monotonic() < until, "nothing completes");
            self.port.wait(&mut self.completions, Some(until)).unwrap();
        }
        self.completions.remove(0)
    }

    /// What completes in a few waits that do not block for long.
    fn settle(&mut self) -> Vec<Completion> {
        for _ in 0..4 {
            let until = Time::monotonic() + Duration::from_millis(5);
            self.port.wait(&mut self.completions, Some(until)).unwrap();
        }
        mem::take(&mut self.completions)
    }

    fn connect(&mut self) -> (TcpStream, Socket) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let Event::Accepted(incoming) = self.next().event else { panic!("not accepted") };
        assert_eq!(incoming.peer(), client.local_addr().unwrap());
        (client, self.port.adopt(incoming).unwrap())
    }

    /// Receives until `count` bytes or the end are there.
    fn receive(&mut self, count: usize) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match self.next().event {
                Event::Received(lease) => bytes.extend_from_slice(&lease),
                Event::ReceiveEnded(Ok(())) => return (bytes, true),
                other => panic!("{other:?}"),
            }
        }
        (bytes, false)
    }

    fn send(&mut self, socket: Socket, bytes: &'static [u8]) {
        let mut gather = Box::new(Gather::default());
        gather.push(bytes.into());
        self.port.send(socket, gather, Token(2));
        let Event::Sent { result, .. } = self.next().event else { panic!("not sent") };
        assert_eq!(result.unwrap(), bytes.len());
    }
}

fn small_blocks(blocks: usize) -> Config {
    Config {
        receive_block_bytes: 16,
        receive_blocks: blocks,
        receive_blocks_max: blocks,
        ..Config::default()
    }
}

#[test]
fn an_echo_needs_one_wait_a_turn() {
    let mut rig = Rig::new(Config::default());
    let (mut client, socket) = rig.connect();
    rig.port.receive(socket, Token(1));
    for _ in 0..10 {
        let before = rig.port.counters().waits;
        client.write_all(b"ping").unwrap();
        assert_eq!(rig.receive(4).0, b"ping");
        rig.send(socket, b"pong");
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong");
        // The first wait may find the edge that came with the registration.
        assert!(rig.port.counters().waits - before <= 2);
    }
    rig.port.close(socket, Token(3));
    assert!(matches!(rig.next().event, Event::ReceiveEnded(Err(Failure::Cancelled))));
    assert!(matches!(rig.next().event, Event::Closed));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let counters = rig.port.counters();
    assert_eq!((counters.sockets, counters.operations, counters.leased_blocks), (1, 1, 0));
}
