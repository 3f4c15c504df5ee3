//! A client of a port: a socket of the system's, or a simulated peer. It never blocks.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use wharf_port::sim::Peer;

/// Bytes received at once.
const CHUNK: usize = 256 * 1024;

pub(crate) enum Client {
    System { stream: TcpStream, ended: bool, reset: bool },
    Simulated(Peer),
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Client::System { stream, ended: false, reset: false }
    }

    /// Sends as much as there is room for; 0 too when the connection is broken.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        // Windows fails a write of nothing too, once the stream is shut down.
        if bytes.is_empty() {
            return 0;
        }
        match self {
            Client::Simulated(peer) => peer.send(bytes),
            Client::System { stream, .. } => match stream.write(bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => {
                    assert!(is_broken(error.kind()), "{error}");
                    0
                }
            },
        }
    }

    /// Takes what has arrived, or some of it.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        self.receive_at_most(CHUNK)
    }

    pub(crate) fn receive_at_most(&mut self, count: usize) -> Vec<u8> {
        let (stream, ended, reset) = match self {
            Client::Simulated(peer) => return peer.receive_at_most(count),
            Client::System { stream, ended, reset } => (stream, ended, reset),
        };
        if *ended || *reset || count == 0 {
            return Vec::new();
        }
        let mut bytes = vec![0; count];
        match stream.read(&mut bytes) {
            Ok(0) => *ended = true,
            Ok(count) => {
                bytes.truncate(count);
                return bytes;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                assert!(is_broken(error.kind()), "{error}");
                *reset = true;
            }
        }
        Vec::new()
    }

    /// Whether all was received and the stream has ended.
    pub(crate) fn at_end(&self) -> bool {
        match self {
            Client::System { ended, .. } => *ended,
            Client::Simulated(peer) => peer.at_end(),
        }
    }

    /// Whether the connection was reset.
    pub(crate) fn is_reset(&self) -> bool {
        match self {
            Client::System { reset, .. } => *reset,
            Client::Simulated(peer) => peer.is_reset(),
        }
    }

    /// Sends no more. The connection may be broken already.
    pub(crate) fn shutdown(&mut self) {
        match self {
            Client::System { stream, .. } => drop(stream.shutdown(Shutdown::Write)),
            Client::Simulated(peer) => peer.shutdown(),
        }
    }

    /// Closes this end and resets the connection.
    pub(crate) fn reset(self) {
        match self {
            Client::System { stream, .. } => {
                let stream = socket2::Socket::from(stream);
                stream.set_linger(Some(Duration::ZERO)).unwrap();
            }
            Client::Simulated(peer) => peer.reset(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Client::System { stream, .. } => stream.local_addr().unwrap(),
            Client::Simulated(peer) => peer.local_address(),
        }
    }
}

fn is_broken(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected)
}
