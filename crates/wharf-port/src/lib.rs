//! The completion port under Wharf.
//!
//! A [`Port`] performs I/O for one thread. The thread *submits* an operation on a socket with a
//! [`Token`] of its own; the port later hands it a [`Completion`] that carries the token. io_uring
//! and Windows' I/O completion ports work that way by nature; where they are missing or forbidden,
//! the readiness backend gives epoll and kqueue the same shape. The caller cannot tell them apart
//! but by [`Port::backend`].
//!
//! # The contract
//!
//! Every backend keeps it, and one suite (`tests/contract`) holds all of them to it.
//!
//! - **One thread.** A port and its sockets stay on the thread that opened it. Only [`Waker`],
//!   [`Incoming`], [`Listener`] and [`Lease`] are `Send`.
//! - **Exactly one end.** Every submitted operation has exactly one final completion, also when it
//!   is cancelled and when its socket is closed. Repeating operations ([`accept`](Port::accept),
//!   [`receive`](Port::receive)) complete many times ([`Event::Accepted`], [`Event::Received`])
//!   before their one final event ([`Event::AcceptEnded`], [`Event::ReceiveEnded`]).
//! - **What goes in is owned by the port until it comes out.** A block or a [`Gather`] that is
//!   submitted returns with the completion, whether the operation succeeded or not.
//! - **At most one operation a direction.** A socket has at most one operation of the receive kind
//!   (`receive`, `receive_into`) and one of the send kind (`send`, `send_file`, `shutdown`) in
//!   flight. The port asserts it: it is the caller's own state to know.
//! - **Completions come in order.** The bytes of one socket arrive in stream order, and a final
//!   event comes after all others of its operation.
//! - **Close joins.** [`close`](Port::close) cancels what is in flight, waits for its completions,
//!   closes the descriptor and only then yields [`Event::Closed`], the last event of that socket.
//!   A [`Socket`] names a slot and a generation, so a late completion for a closed socket reaches
//!   nobody.
//! - **Exhaustion parks.** When the pool of receive blocks is empty, receives wait inside the port
//!   and go on when leases come back; when descriptors run out, accepting waits and goes on.
//!   Neither is ever reported as a peer's failure.
//! - **Wakes are not lost.** A [`Waker::wake`] that happens before or during [`Port::wait`] makes
//!   that wait, or the next one, return at once.
//! - **Nothing outlives the port.** Dropping it cancels and joins every operation and frees the
//!   blocks; a [`Lease`] that is still held keeps just the memory it needs alive.
//! - **Time is the port's.** [`Port::now`] and [`Port::unix_time`] are the only clocks, so that a
//!   simulated port can own both.

mod folder;
mod gather;
mod lease;
mod listener;
mod port;
mod processor;
mod sync;
#[cfg(feature = "signals")]
mod termination;
mod time;
#[cfg(unix)]
mod unsent;
mod wake;

#[cfg(feature = "sim")]
pub mod client;
#[cfg(windows)]
mod iocp;
#[cfg(unix)]
mod readiness;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(target_os = "linux")]
mod uring;

pub use folder::{FileState, Folder, is_file_name, open_file};
pub use gather::Gather;
pub use lease::Lease;
pub use listener::{Incoming, ListenOptions, Listener, descriptor_limit};
pub use port::{
    Backend, Choice, Completion, Config, Counters, Event, Failure, FileRange, Operation, Port,
    Socket, Token, direct_sockets_max,
};
pub use processor::ProcessorWait;
#[cfg(feature = "signals")]
pub use termination::on_termination;
pub use time::Time;
pub use wake::Waker;
