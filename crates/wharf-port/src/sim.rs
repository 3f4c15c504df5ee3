//! A simulated network and its clock, driven by a seed.
//!
//! What stands on a port can be tested on a [`Network`]: [`Network::port`] opens a port whose
//! connections end at [`Peer`]s that the test plays. Nothing here asks the system for anything: the
//! same seed and the same acts give the same bytes in the same pieces, the same completions in the
//! same order and the same times, so a run that failed is replayed by its number. The receive
//! blocks are real ones, so leases and their exhaustion are too.
//!
//! Time stands still while there is something to do, and jumps when a port waits: to the next thing
//! that happens in the network, to a time on the [agenda](Network::wake_at), or to the end of the
//! wait. When nothing can ever happen, a wait without end returns and is
//! [counted](Network::deadlocks).
//!
//! ```
//! use std::time::Duration;
//! use wharf_port::sim::{Faults, Network};
//! use wharf_port::{Config, Event, Listener, Token};
//!
//! # fn main() -> std::io::Result<()> {
//! let network = Network::new(7, Faults::default());
//! let mut port = network.port(&Config::default());
//! let listener = Listener::simulated("10.0.0.1:80".parse().expect("an address"));
//! let address = listener.address();
//! let listening = port.listen(listener)?;
//! port.accept(listening, Token(0));
//!
//! let mut peer = network.connect(address);
//! peer.send(b"hello");
//! let (mut received, mut completions) = (Vec::new(), Vec::new());
//! while received != b"hello" {
//!     let until = port.now() + Duration::from_secs(1);
//!     port.wait(&mut completions, Some(until))?;
//!     for completion in completions.drain(..) {
//!         match completion.event {
//!             Event::Accepted(incoming) => {
//!                 let socket = port.adopt(incoming)?;
//!                 port.receive(socket, Token(1));
//!             }
//!             Event::Received(lease) => received.extend_from_slice(&lease),
//!             other => panic!("{other:?}"),
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod peer;
mod port;
#[cfg(test)]
mod tests;
mod turn;
mod world;

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub use self::peer::Peer;
pub(crate) use self::port::Simulated;
pub(crate) use self::world::Accepted;
use self::world::World;
use crate::{Config, Port, Time};

/// What goes wrong in a simulated network, and how often.
///
/// Everything here is something that a real network or kernel does too. The default is a network
/// with cuts, delays and a kernel in no hurry, in which nothing fails.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Whether bytes arrive in pieces that are cut anywhere, and are received cut anywhere.
    pub split: bool,
    /// The longest delay of a piece on its way, and of a completion.
    pub delay_max: Duration,
    /// Bytes on their way in one direction, those that arrived and were not read included.
    pub window_bytes: usize,
    /// Whether completions of different sockets come in any order, and not all at once.
    pub shuffle: bool,
    /// Whether what is cancelled may go on for a while, and may complete before it is cancelled.
    pub late_cancel: bool,
    /// How many of 1,000 sends take less than there is room for.
    pub short_send_per_mille: u32,
    /// How many of 1,000 pieces reset their connection instead of arriving.
    pub reset_per_mille: u32,
    /// How many of 1,000 accepts find no descriptor, as all of the next 50 ms do.
    pub refused_accept_per_mille: u32,
    /// How many of 1,000 receives find no block, as all of the next 5 ms do.
    pub exhausted_per_mille: u32,
    /// How many of 1,000 waits return for no reason.
    pub spurious_wake_per_mille: u32,
}

impl Faults {
    /// A network without any: what is sent arrives at once and whole.
    pub fn none() -> Faults {
        Faults {
            split: false,
            delay_max: Duration::ZERO,
            window_bytes: 64 * 1024,
            shuffle: false,
            late_cancel: false,
            short_send_per_mille: 0,
            reset_per_mille: 0,
            refused_accept_per_mille: 0,
            exhausted_per_mille: 0,
            spurious_wake_per_mille: 0,
        }
    }

    /// All of them, in a measure in which most connections still live.
    pub fn all() -> Faults {
        Faults {
            delay_max: Duration::from_millis(20),
            window_bytes: 16 * 1024,
            short_send_per_mille: 400,
            reset_per_mille: 3,
            refused_accept_per_mille: 100,
            exhausted_per_mille: 50,
            spurious_wake_per_mille: 50,
            ..Faults::default()
        }
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            split: true,
            delay_max: Duration::from_millis(2),
            shuffle: true,
            late_cancel: true,
            short_send_per_mille: 100,
            spurious_wake_per_mille: 10,
            ..Faults::none()
        }
    }
}

/// A simulated network and its clock; clones are the same one.
#[derive(Clone)]
pub struct Network(pub(crate) Rc<RefCell<World>>);

impl Network {
    /// A network in which everything that is left to chance follows from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Network {
        Network(Rc::new(RefCell::new(World::new(seed, faults))))
    }

    /// Opens a port in this network. Several ports have the one clock, which stands still while any
    /// of them has something to do; so each has to be waited with in turn.
    pub fn port(&self, config: &Config) -> Port {
        Port::simulated(Simulated::open(self.0.clone(), config))
    }

    /// The network's time.
    pub fn now(&self) -> Time {
        self.0.borrow().now()
    }

    /// Lets time pass while a port's thread does something else than wait: what happens meanwhile
    /// is found by the next wait.
    pub fn pass(&self, duration: Duration) {
        let mut world = self.0.borrow_mut();
        let later = world.now() + duration;
        world.pass(later);
    }

    /// Connects to a listening socket, from an address of the network's choosing. If nobody
    /// listens, the connection [is refused](Peer::is_refused).
    pub fn connect(&self, to: SocketAddr) -> Peer {
        let from = self.0.borrow_mut().unused_address(to);
        self.connect_from(from, to)
    }

    /// [Connects](Network::connect) from a given address.
    pub fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> Peer {
        let connection = self.0.borrow_mut().connect(from, to);
        Peer::new(self.0.clone(), connection, from, to)
    }

    /// Puts a time on the agenda: a port's wait returns when it is reached, so that the test can
    /// act.
    pub fn wake_at(&self, time: Time) {
        self.0.borrow_mut().wake_at(time);
    }

    /// Sets the calendar, which otherwise begins at 784,111,777, the date of RFC 9110's examples.
    /// It goes on from here with the network's time, which does not change.
    pub fn set_unix_time(&self, seconds: u64) {
        self.0.borrow_mut().set_unix_time(seconds);
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// Limits how many connections may be accepted and open at once; accepting beyond it finds no
    /// descriptor.
    pub fn limit_descriptors(&self, limit: usize) {
        self.0.borrow_mut().descriptor_limit = limit;
    }

    /// Connections that were accepted and not closed yet, by whoever has them.
    pub fn descriptors(&self) -> usize {
        let mut world = self.0.borrow_mut();
        world.close_dropped();
        world.descriptors()
    }

    /// A hash of all that happened: runs with the same seed and the same acts have the same.
    pub fn trace_hash(&self) -> u64 {
        self.0.borrow().trace()
    }

    /// How many waits without end returned because nothing could ever happen.
    pub fn deadlocks(&self) -> u64 {
        self.0.borrow().deadlocks
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("now", &self.now()).finish_non_exhaustive()
    }
}
