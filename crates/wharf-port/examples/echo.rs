//! Echoes whatever it receives, as it came, over the backend that `WHARF_BACKEND` names.
//!
//! `echo ADDRESS COUNT` serves until it has sent COUNT times, prints what that took, and ends. With
//! `COUNT` alone it is its own client too, on a thread, over connections of the loopback: made for
//! counting instructions and system calls of a round trip.
#![allow(clippy::unwrap_used, reason = "an example ends where it fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::thread;

use bytes::Bytes;
use wharf_port::{
    Choice, Completion, Config, Event, Gather, Lease, ListenOptions, Listener, Port, Socket, Token,
};

/// Connections of the built-in client, all busy at the same time.
const CONNECTIONS: usize = 64;
const ACCEPT: Token = Token(u64::MAX);
const CLOSE: Token = Token(u64::MAX - 1);

/// A connection: what it received and has not sent back yet.
struct Connection {
    socket: Socket,
    /// None while it is being sent.
    gather: Option<Box<Gather>>,
    received: Vec<Lease>,
    ended: bool,
}

struct Echo {
    port: Port,
    /// A token is an index here; places are not used twice.
    connections: Vec<Connection>,
    sends: u64,
}

fn main() -> std::io::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.pop().and_then(|count| count.parse().ok()).unwrap_or(10_000);
    let address = arguments.pop();
    let choice = std::env::var("WHARF_BACKEND").unwrap_or_else(|_| "auto".into());
    let mut port = Port::open(Choice::from_str(&choice)?, &Config::default())?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bound = address.as_ref().map_or(any, |address| address.parse().unwrap());
    let listener = Listener::bind(bound, &ListenOptions::default())?;
    println!("{} on {}", port.backend(), listener.address());
    let client = address.is_none().then(|| {
        let address = listener.address();
        thread::spawn(move || ask(address, count))
    });
    let listener = port.listen(listener)?;
    port.accept(listener, ACCEPT);
    let mut echo = Echo { port, connections: Vec::new(), sends: 0 };
    let mut completions = Vec::new();
    while echo.sends < count {
        echo.port.wait(&mut completions, None)?;
        for completion in completions.drain(..) {
            echo.happened(completion)?;
        }
    }
    let waits = echo.port.counters().waits;
    println!("{} sends in {waits} waits", echo.sends);
    drop(echo);
    client.map(thread::JoinHandle::join);
    Ok(())
}

impl Echo {
    fn happened(&mut self, Completion { token, event }: Completion) -> std::io::Result<()> {
        let index = token.0 as usize;
        match event {
            Event::Received(lease) => {
                self.connections[index].received.push(lease);
                self.answer(index);
            }
            Event::Sent { mut gather, result: Ok(count) } => {
                self.sends += 1;
                gather.advance(count);
                if gather.remaining() > 0 {
                    self.port.send(self.connections[index].socket, gather, token);
                } else {
                    gather.clear();
                    self.connections[index].gather = Some(gather);
                    self.answer(index);
                }
            }
            Event::Accepted(incoming) => {
                let socket = self.port.adopt(incoming)?;
                self.port.receive(socket, Token(self.connections.len() as u64));
                let gather = Some(Box::default());
                self.connections.push(Connection {
                    socket,
                    gather,
                    received: Vec::new(),
                    ended: false,
                });
            }
            Event::ReceiveEnded(_) => {
                self.connections[index].ended = true;
                self.answer(index);
            }
            Event::Sent { .. } => self.port.close(self.connections[index].socket, CLOSE),
            Event::AcceptEnded(failure) => return Err(std::io::Error::other(failure)),
            _ => {}
        }
        Ok(())
    }

    /// Sends what is there, unless something is being sent; closes at the end.
    fn answer(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(mut gather) = connection.gather.take() else { return };
        if connection.received.is_empty() {
            connection.gather = Some(gather);
            if connection.ended {
                self.port.close(connection.socket, CLOSE);
            }
            return;
        }
        for lease in connection.received.drain(..) {
            if lease.len() <= 512 {
                gather.block_mut().extend_from_slice(&lease);
            } else {
                gather.push(Bytes::from_owner(lease));
            }
        }
        self.port.send(connection.socket, gather, Token(index as u64));
    }
}

/// The client: all connections ask, then all read, until `count` answers have come.
fn ask(address: SocketAddr, count: u64) {
    let question = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
    let connect = |_| TcpStream::connect(address).unwrap();
    let mut clients: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
    let mut answer = [0; 64];
    let mut answers = 0;
    while answers < count {
        for client in &mut clients {
            client.write_all(question).unwrap();
        }
        for client in &mut clients {
            // The server ends when it has sent enough.
            if client.read_exact(&mut answer[..question.len()]).is_err() {
                return;
            }
            assert_eq!(&answer[..question.len()], question);
            answers += 1;
        }
    }
}
