//! A connection that a handler has taken over.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{BodyReader, BodySender};

/// A connection that speaks another protocol from here on: a stream of bytes both ways, that
/// blocks. Made by [`Response::upgrade`](crate::Response::upgrade) and
/// [`Response::tunnel`](crate::Response::tunnel).
///
/// What the client sent behind its request is read first. When the writing
/// [half](Upgraded::split) is dropped and everything written has been sent, the peer sees the end
/// of the stream; the connection is closed when the reading half is at its end or dropped too.
pub struct Upgraded {
    reader: UpgradedReader,
    writer: UpgradedWriter,
}

/// What the peer sends.
pub struct UpgradedReader {
    body: BodyReader,
}

/// What is sent to the peer. A write waits while the peer has not taken 64 KiB of earlier ones.
pub struct UpgradedWriter {
    sender: BodySender,
}

impl Upgraded {
    pub(crate) fn new(body: BodyReader, sender: BodySender) -> Upgraded {
        Upgraded { reader: UpgradedReader { body }, writer: UpgradedWriter { sender } }
    }

    /// Both directions apart, for a thread each.
    pub fn split(self) -> (UpgradedReader, UpgradedWriter) {
        (self.reader, self.writer)
    }

    /// The address at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.reader.peer()
    }

    /// How long a read waits; see [`UpgradedReader::set_timeout`].
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.reader.set_timeout(timeout);
    }
}

impl UpgradedReader {
    /// The address at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.body.peer()
    }

    /// How long a read waits before it fails with [`io::ErrorKind::TimedOut`]. Default: without
    /// end.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.body.set_timeout(timeout);
    }
}

impl UpgradedWriter {
    /// Sends bytes as they are, without a copy.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] if the peer has gone.
    pub fn send(&self, bytes: impl Into<Bytes>) -> io::Result<()> {
        Ok(self.sender.send(bytes)?)
    }

    /// Whether the server drains: the conversation should come to its end.
    pub fn is_draining(&self) -> bool {
        self.sender.is_draining()
    }
}

impl Read for UpgradedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

impl BufRead for UpgradedReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.body.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.body.consume(count);
    }
}

impl Write for UpgradedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sender.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Upgraded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl BufRead for Upgraded {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }
}

impl Write for Upgraded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl fmt::Debug for UpgradedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradedReader").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl fmt::Debug for UpgradedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradedWriter").field("sender", &self.sender).finish()
    }
}
