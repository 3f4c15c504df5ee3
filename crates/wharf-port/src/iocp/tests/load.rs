//! A short load: many connections that keep alive, pipeline, vanish and reset, with nothing lost
//! and nothing left behind.

use std::net::{Shutdown, SocketAddr};
use std::thread;

use super::*;

const CLIENTS: usize = 8;
const CONNECTIONS_EACH: usize = 50;
const ROUNDS: usize = 6;

/// Answers every byte with the same byte, on each connection, until its peer is done.
struct Echo {
    rig: Rig,
    /// By token; none for those that are closed.
    connections: Vec<Option<Connection>>,
    echoed: usize,
    closed: usize,
}

struct Connection {
    socket: Socket,
    /// Received and not yet given to a send, in order.
    waiting: Vec<Lease>,
    sending: bool,
    receiving: bool,
    closing: bool,
}

impl Echo {
    fn handle(&mut self, completion: Completion) {
        let index = completion.token.0 as usize;
        match completion.event {
            Event::Accepted(incoming) => {
                let socket = self.rig.port.adopt(incoming).unwrap();
                let token = Token(self.connections.len() as u64);
                self.rig.port.receive(socket, token);
                self.connections.push(Some(Connection {
                    socket,
                    waiting: Vec::new(),
                    sending: false,
                    receiving: true,
                    closing: false,
                }));
            }
            Event::Received(lease) => {
                self.connection(index).waiting.push(lease);
                self.go_on(index);
            }
            Event::ReceiveEnded(_) => {
                self.connection(index).receiving = false;
                self.go_on(index);
            }
            Event::Sent { gather, result } => {
                let connection = self.connection(index);
                connection.sending = false;
                match result {
                    Ok(count) => {
                        assert_eq!(count, gather.remaining(), "small sends are taken whole");
                        self.echoed += count;
                    }
                    Err(_) => self.connection(index).waiting.clear(),
                }
                self.go_on(index);
            }
            Event::Closed => {
                assert!(self.connections[index].take().is_some(), "closed twice");
                self.closed += 1;
            }
            event => panic!("{event:?}"),
        }
    }

    fn connection(&mut self, index: usize) -> &mut Connection {
        self.connections[index].as_mut().expect("nothing follows the close")
    }

    fn go_on(&mut self, index: usize) {
        let token = Token(index as u64);
        let connection = self.connections[index].as_mut().expect("nothing follows the close");
        if connection.sending || connection.closing {
            return;
        }
        if !connection.waiting.is_empty() {
            connection.sending = true;
            let mut gather = Box::new(Gather::default());
            let waiting = mem::take(&mut connection.waiting);
            waiting.into_iter().for_each(|lease| gather.push(bytes::Bytes::from_owner(lease)));
            let socket = connection.socket;
            self.rig.port.send(socket, gather, token);
        } else if !connection.receiving {
            connection.closing = true;
            let socket = connection.socket;
            self.rig.port.close(socket, false, token);
        }
    }
}

/// One client's connections, all open at once. Returns how many bytes came back.
fn client(address: SocketAddr, number: usize) -> usize {
    let mut peers: Vec<TcpStream> = (0..CONNECTIONS_EACH)
        .map(|_| {
            let peer = TcpStream::connect(address).unwrap();
            peer.set_nodelay(true).unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            peer
        })
        .collect();
    let mut echoed = 0;
    for round in 0..ROUNDS {
        let message = [(number * ROUNDS + round) as u8; 48];
        // Every second round sends four messages before it reads the first answer.
        let burst = if round % 2 == 0 { 1 } else { 4 };
        for peer in &mut peers {
            (0..burst).for_each(|_| peer.write_all(&message).unwrap());
        }
        for peer in &mut peers {
            let mut answer = vec![0; burst * message.len()];
            peer.read_exact(&mut answer).unwrap();
            assert!(answer.iter().all(|byte| *byte == message[0]));
            echoed += answer.len();
        }
    }
    for (index, peer) in peers.into_iter().enumerate() {
        match index % 3 {
            0 => drop(peer),
            1 => {
                // Says that it is done, and waits for the other end to agree.
                peer.shutdown(Shutdown::Write).unwrap();
                let end = (&peer).read(&mut [0; 1]).unwrap();
                assert_eq!(end, 0);
            }
            _ => {
                let peer = socket2::Socket::from(peer);
                peer.set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    }
    echoed
}

#[test]
fn four_hundred_connections_leave_nothing_behind() {
    let config = Config { receive_blocks: 64, receive_blocks_max: 128, ..Config::default() };
    let rig = Rig::new(&config);
    let (address, total) = (rig.address, CLIENTS * CONNECTIONS_EACH);
    let mut echo = Echo { rig, connections: Vec::new(), echoed: 0, closed: 0 };
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| thread::spawn(move || client(address, number))).collect();
    while echo.closed < total {
        for completion in echo.rig.wait() {
            echo.handle(completion);
        }
    }
    let received: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(echo.echoed, received);
    assert_eq!(echo.connections.len(), total);
    let counters = echo.rig.port.counters();
    assert_eq!((counters.sockets, counters.operations), (1, 1), "the listener and its accept");
    assert_eq!((counters.leased_blocks, counters.parked_receives), (0, 0));
    assert_eq!(echo.rig.port.places.taken(), config.accepts);
}
