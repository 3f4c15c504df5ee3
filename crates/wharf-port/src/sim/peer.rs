//! A client's end of a connection, which the test plays.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use super::world::{ConnectionKey, Side, World};

/// A client's end of a simulated connection. Dropping it closes it.
///
/// Its acts take effect at the network's present time, which they do not move: what it sends
/// reaches the port in one of the port's next waits.
pub struct Peer {
    world: Rc<RefCell<World>>,
    connection: ConnectionKey,
    local: SocketAddr,
    remote: SocketAddr,
    paused: bool,
}

impl Peer {
    pub(super) fn new(
        world: Rc<RefCell<World>>,
        connection: ConnectionKey,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Peer {
        Peer { world, connection, local, remote, paused: false }
    }

    /// Sends as much as the window has room for, and returns how much that is: 0 too when the
    /// connection is reset or this end was [shut down](Peer::shutdown).
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        let mut world = self.world.borrow_mut();
        world.happen();
        let end = world.end(self.connection, Side::Client);
        if end.reset || end.shut || world.connection(self.connection).refused {
            return 0;
        }
        let count = bytes.len().min(world.room(self.connection, Side::Client));
        world.send(self.connection, Side::Client, &bytes[..count]);
        count
    }

    /// Takes what has arrived.
    pub fn receive(&mut self) -> Vec<u8> {
        self.receive_at_most(usize::MAX)
    }

    /// Takes what has arrived, but leaves what exceeds `count` bytes, which then take room in the
    /// window.
    pub fn receive_at_most(&mut self, count: usize) -> Vec<u8> {
        let mut world = self.world.borrow_mut();
        world.happen();
        if self.paused {
            return Vec::new();
        }
        let arrived = &mut world.end(self.connection, Side::Client).arrived;
        let count = count.min(arrived.len());
        let bytes: Vec<u8> = arrived.drain(..count).collect();
        if count > 0 {
            world.note_bytes(&bytes);
            world.read(self.connection, Side::Client, count);
        }
        bytes
    }

    /// Whether all was [received](Peer::receive) and the stream has ended.
    pub fn at_end(&self) -> bool {
        let mut world = self.world.borrow_mut();
        world.happen();
        let end = world.end(self.connection, Side::Client);
        end.fin && end.arrived.is_empty()
    }

    /// Whether the connection was reset by the other end or by the network.
    pub fn is_reset(&self) -> bool {
        let mut world = self.world.borrow_mut();
        world.happen();
        world.end(self.connection, Side::Client).reset
    }

    /// Whether nobody listened.
    pub fn is_refused(&self) -> bool {
        self.world.borrow().connection(self.connection).refused
    }

    /// Sends the end of the stream behind what was sent. The other direction goes on.
    pub fn shutdown(&mut self) {
        let mut world = self.world.borrow_mut();
        if !world.connection(self.connection).refused {
            world.shut(self.connection, Side::Client);
        }
    }

    /// Closes this end and resets the connection.
    pub fn reset(self) {
        self.world.borrow_mut().close(self.connection, Side::Client, true);
    }

    /// Receives nothing until [resumed](Peer::resume): what arrives takes room in the window, until
    /// the other end can send no more.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Receives again.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// The address of this end.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The address that this end connected to.
    pub fn peer_address(&self) -> SocketAddr {
        self.remote
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A test that fails may be in the middle of something.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.happen();
            world.close(self.connection, Side::Client, false);
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
