//! The port itself: one surface over the backends.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Gather, Incoming, Lease, Listener, Time, Waker};

slotmap::new_key_type! {
    /// A socket that a port has: its slot and generation in the port's table.
    pub struct Socket;
    /// An operation in flight: its slot and generation in the port's table.
    pub struct Operation;
}

/// The caller's own mark on an operation, returned with each of its completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// What happened to a submitted operation.
#[derive(Debug)]
pub struct Completion {
    /// The token that the operation was submitted with.
    pub token: Token,
    /// What happened.
    pub event: Event,
}

/// The outcome of an operation, or one of the outcomes of a repeating one.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted; the accept goes on.
    Accepted(Incoming),
    /// The accept ended. Final.
    AcceptEnded(Failure),
    /// At least one byte was received; the receive goes on.
    Received(Lease),
    /// The receive ended: `Ok` when the peer has sent all it will. Final.
    ReceiveEnded(Result<(), Failure>),
    /// Bytes were received behind those that the block held; `Ok(0)` when the peer has sent all it
    /// will. Final.
    ReceivedInto {
        /// The block that was submitted, longer by the count of bytes received.
        block: Vec<u8>,
        /// How many bytes were received.
        result: Result<usize, Failure>,
    },
    /// Some or all bytes of the gather were sent; the caller [advances](Gather::advance) it and
    /// sends the rest. Final.
    Sent {
        /// The gather that was submitted, not advanced.
        gather: Box<Gather>,
        /// How many bytes were sent, at least one.
        result: Result<usize, Failure>,
    },
    /// Some or all of the file's range was sent. Final.
    FileSent {
        /// The range that was submitted.
        range: FileRange,
        /// How many bytes were sent; 0 when the file ends before the range does.
        result: Result<u64, Failure>,
    },
    /// The sending side was shut down. Final.
    ShutDown(Result<(), Failure>),
    /// The socket is closed and gone; nothing of it follows. Final.
    Closed,
}

/// Why an operation did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// It was cancelled, or its socket was closed.
    Cancelled,
    /// The system said so.
    Io(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Cancelled => f.write_str("the operation was cancelled"),
            Failure::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// A range of a file, to be sent through the kernel.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The file, open for reading.
    pub file: Arc<File>,
    /// The first byte's offset.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// Which of the system's interfaces a port uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Linux's io_uring.
    Uring,
    /// epoll or kqueue.
    Readiness,
    /// Windows' I/O completion ports.
    Iocp,
    /// A simulated network and clock.
    Sim,
}

impl Backend {
    /// The name that the choice is made and logged by: `uring`, `readiness`, `iocp` or `sim`.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Uring => "uring",
            Backend::Readiness => "readiness",
            Backend::Iocp => "iocp",
            Backend::Sim => "sim",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the backend is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best one that the system allows.
    #[default]
    Auto,
    /// This one, or an error.
    Only(Backend),
}

impl FromStr for Choice {
    type Err = io::Error;
    fn from_str(name: &str) -> io::Result<Choice> {
        match name {
            "auto" => Ok(Choice::Auto),
            "uring" => Ok(Choice::Only(Backend::Uring)),
            "readiness" => Ok(Choice::Only(Backend::Readiness)),
            "iocp" => Ok(Choice::Only(Backend::Iocp)),
            other => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no backend is called {other:?}: use auto, uring, readiness or iocp"),
            )),
        }
    }
}

/// A port's sizes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Length of a receive block, in bytes. Default 8 KiB.
    pub receive_block_bytes: usize,
    /// Receive blocks at the start. Default 256.
    pub receive_blocks: usize,
    /// Receive blocks at most. Default 4,096 (32 MiB), rounded up to a power of two.
    pub receive_blocks_max: usize,
    /// Operations that are submitted in one turn without a further system call. Default 1,024.
    pub submissions: u32,
    /// Accepts in flight at once for each listener, where the system takes a connection's socket
    /// beforehand, as Windows does. Default 32.
    pub accepts: usize,
    /// Sockets that take a descriptor of the process each. Further connections go into a table of
    /// the port's own, where the system has one (io_uring's direct descriptors), as far as
    /// [`direct_sockets`](Config::direct_sockets) go. Default: no bound.
    pub plain_sockets: usize,
    /// Length of that table; at most the process's limit of descriptors. Default 0.
    pub direct_sockets: u32,
    /// Bytes that the kernel may hold unsent for all sockets that send much at a time, so that peers
    /// that read nothing do not use up what all sockets of the machine share. Default: a quarter of
    /// the first number of Linux's `net.ipv4.tcp_mem`; for several ports in a process, to be divided
    /// among them. Only Linux has a bound for it.
    pub unsent_bytes: u64,
    /// Sockets that the port has room for from the start, so that its tables are not moved as they
    /// fill: that takes time, and leaves memory behind that was written to. Room that is never
    /// written to costs addresses alone on most systems. Default 64.
    pub room: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_block_bytes: 8 * 1024,
            receive_blocks: 256,
            receive_blocks_max: 4096,
            submissions: 1024,
            accepts: 32,
            plain_sockets: usize::MAX,
            direct_sockets: 0,
            unsent_bytes: unsent_bytes(),
            room: 64,
        }
    }
}

/// Gauges and counts of a port, to be watched and to be tested against leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Sockets in the table, listening ones included.
    pub sockets: usize,
    /// Operations in flight.
    pub operations: usize,
    /// Receive blocks that exist.
    pub receive_blocks: usize,
    /// Receive blocks under lease.
    pub leased_blocks: usize,
    /// Receives that wait for a block now.
    pub parked_receives: usize,
    /// Accepts that wait for descriptors now.
    pub parked_accepts: usize,
    /// System calls that waited for completions or submitted operations, ever.
    pub waits: u64,
}

/// The backends' common surface; [`Port`] documents it.
pub(crate) trait Implementation {
    fn now(&self) -> Time;
    fn clock(&self) -> Time {
        Time::monotonic()
    }
    fn tick(&self) -> u64 {
        crate::time::tick()
    }
    fn unix_time(&self) -> u64;
    fn waker(&self) -> Waker;
    fn listen(&mut self, listener: Listener) -> io::Result<Socket>;
    fn adopt(&mut self, incoming: Incoming) -> io::Result<Socket>;
    fn accept(&mut self, listener: Socket, token: Token) -> Operation;
    fn receive(&mut self, socket: Socket, token: Token) -> Operation;
    fn receive_into(&mut self, socket: Socket, block: Vec<u8>, token: Token) -> Operation;
    fn send(&mut self, socket: Socket, gather: Box<Gather>, token: Token) -> Operation;
    fn send_file(&mut self, socket: Socket, range: FileRange, token: Token) -> Operation;
    fn shutdown(&mut self, socket: Socket, token: Token) -> Operation;
    fn close(&mut self, socket: Socket, reset: bool, token: Token);
    fn cancel(&mut self, operation: Operation);
    fn give_back(&mut self, lease: Lease);
    fn wait(&mut self, completions: &mut Vec<Completion>, until: Option<Time>) -> io::Result<()>;
    fn counters(&mut self) -> Counters;
}

enum Kind {
    #[cfg(target_os = "linux")]
    Uring(Box<crate::uring::Uring>),
    #[cfg(unix)]
    Readiness(Box<crate::readiness::Readiness>),
    #[cfg(windows)]
    Iocp(Box<crate::iocp::Iocp>),
    #[cfg(feature = "sim")]
    Sim(Box<crate::sim::Simulated>),
}

/// Performs I/O for one thread. See the [crate's front page](crate) for the contract.
pub struct Port {
    kind: Kind,
    fallback: Option<io::Error>,
}

macro_rules! each {
    ($self:ident, $port:ident => $call:expr) => {
        match &$self.kind {
            #[cfg(target_os = "linux")]
            Kind::Uring($port) => $call,
            #[cfg(unix)]
            Kind::Readiness($port) => $call,
            #[cfg(windows)]
            Kind::Iocp($port) => $call,
            #[cfg(feature = "sim")]
            Kind::Sim($port) => $call,
        }
    };
    (mut $self:ident, $port:ident => $call:expr) => {
        match &mut $self.kind {
            #[cfg(target_os = "linux")]
            Kind::Uring($port) => $call,
            #[cfg(unix)]
            Kind::Readiness($port) => $call,
            #[cfg(windows)]
            Kind::Iocp($port) => $call,
            #[cfg(feature = "sim")]
            Kind::Sim($port) => $call,
        }
    };
}

impl Port {
    /// Opens a port on this thread.
    ///
    /// # Errors
    /// What the system reports, or `Unsupported` for a backend that this platform has not.
    pub fn open(choice: Choice, config: &Config) -> io::Result<Port> {
        let open = |kind: Kind| Port { kind, fallback: None };
        match choice {
            #[cfg(target_os = "linux")]
            Choice::Auto => match crate::uring::Uring::open(config) {
                Ok(uring) => Ok(open(Kind::Uring(Box::new(uring)))),
                Err(refused) => Ok(Port {
                    kind: Kind::Readiness(Box::new(crate::readiness::Readiness::open(config)?)),
                    fallback: Some(refused),
                }),
            },
            #[cfg(target_os = "linux")]
            Choice::Only(Backend::Uring) => {
                Ok(open(Kind::Uring(Box::new(crate::uring::Uring::open(config)?))))
            }
            #[cfg(all(unix, not(target_os = "linux")))]
            Choice::Auto => {
                Ok(open(Kind::Readiness(Box::new(crate::readiness::Readiness::open(config)?))))
            }
            #[cfg(unix)]
            Choice::Only(Backend::Readiness) => {
                Ok(open(Kind::Readiness(Box::new(crate::readiness::Readiness::open(config)?))))
            }
            #[cfg(windows)]
            Choice::Auto | Choice::Only(Backend::Iocp) => {
                Ok(open(Kind::Iocp(Box::new(crate::iocp::Iocp::open(config)?))))
            }
            Choice::Only(other) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the backend {other} does not exist on this platform"),
            )),
        }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn simulated(simulated: crate::sim::Simulated) -> Port {
        Port { kind: Kind::Sim(Box::new(simulated)), fallback: None }
    }

    /// Which backend runs.
    pub fn backend(&self) -> Backend {
        match self.kind {
            #[cfg(target_os = "linux")]
            Kind::Uring(_) => Backend::Uring,
            #[cfg(unix)]
            Kind::Readiness(_) => Backend::Readiness,
            #[cfg(windows)]
            Kind::Iocp(_) => Backend::Iocp,
            #[cfg(feature = "sim")]
            Kind::Sim(_) => Backend::Sim,
        }
    }

    /// Why the platform's first choice is not what runs, if it is not.
    pub fn fallback_reason(&self) -> Option<&io::Error> {
        self.fallback.as_ref()
    }

    /// The monotonic time when the last [`wait`](Port::wait) returned.
    pub fn now(&self) -> Time {
        each!(self, port => port.now())
    }

    /// The monotonic time at this moment, also between two waits. Reads the clock anew each time.
    pub fn clock(&self) -> Time {
        each!(self, port => port.clock())
    }

    /// A number that tells whether time has passed, for a fraction of what the
    /// [clock](Port::clock) costs: it changes every few milliseconds on Linux, where that is how
    /// often the kernel writes the time down, and with the clock elsewhere. It says nothing else.
    pub fn tick(&self) -> u64 {
        each!(self, port => port.tick())
    }

    /// The calendar's time now, in whole seconds since 1970-01-01 UTC.
    pub fn unix_time(&self) -> u64 {
        each!(self, port => port.unix_time())
    }

    /// What other threads wake this port with.
    pub fn waker(&self) -> Waker {
        each!(self, port => port.waker())
    }

    /// Takes a listening socket.
    ///
    /// # Errors
    /// What the system reports.
    pub fn listen(&mut self, listener: Listener) -> io::Result<Socket> {
        each!(mut self, port => port.listen(listener))
    }

    /// Takes an accepted connection, from this port or another one of the same kind.
    ///
    /// # Errors
    /// What the system reports; the connection is then closed.
    pub fn adopt(&mut self, incoming: Incoming) -> io::Result<Socket> {
        each!(mut self, port => port.adopt(incoming))
    }

    /// Accepts connections until cancelled: [`Event::Accepted`] for each, and one
    /// [`Event::AcceptEnded`].
    ///
    /// # Panics
    /// Like all submissions, if the socket is not one of this port's.
    pub fn accept(&mut self, listener: Socket, token: Token) -> Operation {
        each!(mut self, port => port.accept(listener, token))
    }

    /// Receives until cancelled or the stream ends: [`Event::Received`] for each run of bytes, in
    /// blocks of the port's choosing, and one [`Event::ReceiveEnded`].
    pub fn receive(&mut self, socket: Socket, token: Token) -> Operation {
        each!(mut self, port => port.receive(socket, token))
    }

    /// Receives once, into the unused capacity of `block`: [`Event::ReceivedInto`].
    ///
    /// # Panics
    /// If the block has no unused capacity.
    pub fn receive_into(&mut self, socket: Socket, block: Vec<u8>, token: Token) -> Operation {
        assert!(block.capacity() > block.len(), "no room to receive into");
        each!(mut self, port => port.receive_into(socket, block, token))
    }

    /// Sends what remains of the gather, or as much as the system takes: [`Event::Sent`].
    ///
    /// # Panics
    /// If nothing remains.
    #[inline(always)]
    pub fn send(&mut self, socket: Socket, gather: Box<Gather>, token: Token) -> Operation {
        assert!(gather.remaining() > 0, "nothing to send");
        each!(mut self, port => port.send(socket, gather, token))
    }

    /// Sends a range of a file through the kernel, or as much as the system takes:
    /// [`Event::FileSent`].
    ///
    /// # Panics
    /// If the range is empty.
    pub fn send_file(&mut self, socket: Socket, range: FileRange, token: Token) -> Operation {
        assert!(range.length > 0, "nothing to send");
        each!(mut self, port => port.send_file(socket, range, token))
    }

    /// Shuts down the sending side: [`Event::ShutDown`]. The peer then sees the end of the stream
    /// behind what was sent.
    pub fn shutdown(&mut self, socket: Socket, token: Token) -> Operation {
        each!(mut self, port => port.shutdown(socket, token))
    }

    /// Closes a socket: its operations are cancelled and complete, then comes [`Event::Closed`].
    /// Nothing can be submitted on it from here on.
    pub fn close(&mut self, socket: Socket, token: Token) {
        each!(mut self, port => port.close(socket, false, token))
    }

    /// Closes a socket like [`close`](Port::close), and resets the connection: what was not sent
    /// yet is thrown away, so that a peer that reads nothing holds no kernel memory.
    pub fn reset(&mut self, socket: Socket, token: Token) {
        each!(mut self, port => port.close(socket, true, token))
    }

    /// Asks for an operation to end. It completes as usual: cancelled, or as it would have anyway.
    /// An operation that has completed already is left alone, unless its socket has had a hundred
    /// others since.
    ///
    /// Cancel a send only to close its socket: Windows does not promise to say how much of it went.
    pub fn cancel(&mut self, operation: Operation) {
        each!(mut self, port => port.cancel(operation))
    }

    /// Takes a lease that is needed no more: as if it were dropped, and for less where it is the only
    /// one of its block, and the block this port's.
    #[inline]
    pub fn give_back(&mut self, lease: Lease) {
        each!(mut self, port => port.give_back(lease))
    }

    /// Submits what is pending and appends what completed. Waits for the first completion, until
    /// `until` at the most (None: without end), or for a [wake](Waker::wake).
    ///
    /// # Errors
    /// Only when the port itself can go on no more.
    pub fn wait(
        &mut self,
        completions: &mut Vec<Completion>,
        until: Option<Time>,
    ) -> io::Result<()> {
        each!(mut self, port => port.wait(completions, until))
    }

    /// What the port holds now.
    pub fn counters(&mut self) -> Counters {
        each!(mut self, port => port.counters())
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("backend", &self.backend()).finish_non_exhaustive()
    }
}

fn unsent_bytes() -> u64 {
    #[cfg(unix)]
    return crate::unsent::budget();
    #[cfg(not(unix))]
    u64::MAX
}

/// How many sockets a port can hold that take no descriptor of the process: what
/// [`Config::direct_sockets`] may be. 0 where the system has no such thing, or forbids it.
pub fn direct_sockets_max(choice: Choice) -> u32 {
    #[cfg(target_os = "linux")]
    if matches!(choice, Choice::Auto | Choice::Only(Backend::Uring)) && crate::uring::has_table() {
        // The kernel bounds each ring's table by the limit of descriptors.
        let limit = crate::descriptor_limit().unwrap_or(TABLE_MAX);
        return limit.min(TABLE_MAX) as u32;
    }
    let _ = choice;
    0
}

/// What the kernel bounds a ring's table by at the most (IORING_MAX_FIXED_FILES).
#[cfg(target_os = "linux")]
const TABLE_MAX: u64 = 1 << 20;

/// The address of a socket that has one; sockets of other families are not accepted here.
pub(crate) fn peer_of(address: socket2::SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::Error::other("the peer has no IP address"))
}
