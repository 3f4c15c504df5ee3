//! Bodies that flow: what is produced while it is sent, and what is read while it is received.
//!
//! Each direction is a bounded queue between a thread of the program and a connection
//! ([`channel`], [`inflow`]), or a source that is asked for its next piece when the connection has
//! room ([`produce`]). Nothing here knows how a body is framed, nor of sockets.

mod channel;
#[cfg(feature = "compression")]
mod decoded;
mod events;
mod inflow;
mod produce;
mod signal;
mod upgraded;

#[cfg(feature = "compression")]
pub(crate) use self::channel::Encode;
pub use self::channel::{BodySender, BodyWriter, SendError};
pub(crate) use self::channel::{Outlet, Pull, channel};
#[cfg(feature = "compression")]
pub(crate) use self::decoded::{Decoded, OpenDecoder};
pub use self::events::{Event, EventSender};
pub(crate) use self::inflow::Inflow;
pub use self::inflow::{BodyError, BodyReader};
pub(crate) use self::produce::{FromIter, FromRead, Produce, WithTrailers};
pub(crate) use self::signal::Signal;
pub use self::upgraded::{Upgraded, UpgradedReader, UpgradedWriter};

use std::io;

use http::{HeaderName, HeaderValue};

/// The fields behind a chunked body (RFC 9112 section 7.1.2).
pub(crate) type Trailers = Vec<(HeaderName, HeaderValue)>;

pub(crate) type MakeTrailers = Box<dyn FnOnce() -> Trailers + Send>;

pub(crate) type WriteBody = Box<dyn FnOnce(&mut BodyWriter) -> io::Result<()> + Send>;

/// A body that is not there yet.
pub(crate) struct Stream {
    pub(crate) source: Source,
    /// Its length in bytes, if that was said.
    pub(crate) length: Option<u64>,
}

pub(crate) enum Source {
    /// Asked for a piece when there is room, on a worker.
    Pulled(Box<dyn Produce>),
    /// Runs on a worker and waits there when there is no room.
    Writer(WriteBody),
    Channel(Outlet),
    /// Server-sent events: the shard keeps the connection alive between them.
    Events(Outlet),
    /// Takes the connection over.
    Tunnel(Box<dyn FnOnce(Upgraded) + Send>),
}
