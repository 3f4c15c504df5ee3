//! An answer's body on its way out, where it does not leave together with its head.
//!
//! Knows where the next piece comes from and how it is framed, and nothing of sockets: the
//! connection asks for a piece when its output has room, so that the peer sets the pace.

use std::collections::VecDeque;

use bytes::Bytes;
use wharf_http::{CHUNK_END, LAST_CHUNK, LAST_CHUNK_BEFORE_TRAILERS, encode_chunk_head};
use wharf_port::{FileRange, Gather};

use super::encode::{COPIED_BODY_BYTES, frames_the_message, write_field};
use crate::request::Piece;
use crate::response::Part;
use crate::stream::{Outlet, Produce, Pull, Trailers};

pub(super) struct Outflow {
    source: Source,
    coding: Coding,
    /// A range of a file is with the port; what follows it waits until that is sent.
    file_is_sending: bool,
    /// The peer has been told that nothing more comes, though it may still be sending.
    pub(super) is_shut: bool,
    /// Whether the connection is kept behind this answer.
    pub(super) keep_alive: bool,
    /// The route, on whose account workers produce the body.
    pub(super) target: Option<usize>,
}

pub(super) enum Source {
    Parts(VecDeque<Part>),
    Pulled {
        /// None: it is with a worker, or at its end.
        source: Option<Box<dyn Produce>>,
        ready: Option<Piece>,
    },
    /// Written by a worker, which finds out by itself when the client has gone.
    Channel(Outlet),
    /// Pushed by the program whenever it likes.
    Pushed(Outlet),
    /// Server-sent events.
    Events(Outlet),
}

impl Source {
    pub(super) fn pulled(source: Box<dyn Produce>) -> Source {
        Source::Pulled { source: Some(source), ready: None }
    }
}

/// How the body's end is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// By its length; `left` is still to come.
    Known {
        left: u64,
    },
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// What is to be sent next.
pub(super) enum Next {
    Bytes(Bytes),
    File(FileRange),
    /// A worker is to be asked for the next piece.
    Produce(Box<dyn Produce>),
    /// Something has to be sent or to come first.
    Wait,
    End(Trailers),
    Failed(&'static str),
}

impl Outflow {
    pub(super) fn new(
        source: Source,
        coding: Coding,
        keep_alive: bool,
        target: Option<usize>,
    ) -> Outflow {
        Outflow { source, coding, file_is_sending: false, is_shut: false, keep_alive, target }
    }

    pub(super) fn has_heartbeat(&self) -> bool {
        matches!(self.source, Source::Events(_))
    }

    /// Appends what is nothing to a client and all to a proxy: a comment between events. One that
    /// has to be encoded goes through the queue, to be asked for.
    pub(super) fn beat(&self, output: &mut Gather) {
        const COMMENT: &[u8] = b":\n\n";
        if let Source::Events(outlet) = &self.source
            && !outlet.interject(COMMENT)
        {
            self.write(output, Bytes::from_static(COMMENT));
        }
    }

    /// Whether nothing is there to be sent now, and nobody can say when something will be.
    pub(super) fn is_silent(&self) -> bool {
        matches!(&self.source, Source::Pushed(outlet) if outlet.is_empty())
    }

    /// A peer must not take the end of the connection for the end of the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.coding == Coding::UntilClose
    }

    /// What is to be sent next. A range of a file only if the `output_is_empty`; it is then to be
    /// submitted at once.
    pub(super) fn next(&mut self, output_is_empty: bool) -> Next {
        if self.file_is_sending {
            return Next::Wait;
        }
        let next = match &mut self.source {
            Source::Parts(parts) => match parts.pop_front() {
                Some(Part::Bytes(bytes)) => Next::Bytes(bytes),
                Some(Part::File(range)) if output_is_empty => {
                    self.file_is_sending = true;
                    // It is counted as it is sent.
                    return Next::File(range);
                }
                Some(range) => {
                    parts.push_front(range);
                    Next::Wait
                }
                None => Next::End(Trailers::new()),
            },
            Source::Pulled { source, ready } => match (ready.take(), source.take()) {
                (Some(Piece::Bytes(bytes)), idle) => {
                    *source = idle;
                    Next::Bytes(bytes)
                }
                (Some(Piece::End(trailers)), _) => Next::End(trailers),
                (Some(Piece::Failed), _) => Next::Failed("what its body came from failed"),
                (None, Some(source)) => Next::Produce(source),
                (None, None) => Next::Wait,
            },
            Source::Channel(outlet) | Source::Pushed(outlet) | Source::Events(outlet) => {
                match outlet.pull() {
                    Pull::Bytes(bytes) => Next::Bytes(bytes),
                    Pull::Nothing => Next::Wait,
                    Pull::End(trailers) => Next::End(trailers),
                    Pull::Failed => Next::Failed("what wrote its body failed"),
                }
            }
        };
        self.count(next)
    }

    /// Holds the body to the length that its head has announced.
    fn count(&mut self, next: Next) -> Next {
        let Coding::Known { left } = &mut self.coding else { return next };
        match &next {
            Next::Bytes(bytes) if bytes.len() as u64 > *left => {
                return Next::Failed("its body is longer than its Content-Length");
            }
            Next::Bytes(bytes) => *left -= bytes.len() as u64,
            Next::End(_) if *left > 0 => {
                return Next::Failed("its body is shorter than its Content-Length");
            }
            _ => {}
        }
        next
    }

    /// A worker has asked the source.
    pub(super) fn produced(&mut self, idle: Box<dyn Produce>, piece: Piece) {
        if let Source::Pulled { source, ready } = &mut self.source {
            *source = Some(idle);
            *ready = Some(piece);
        }
    }

    /// So many bytes of a range were sent, and `range` is left.
    pub(super) fn file_sent(&mut self, count: u64, range: FileRange) {
        self.file_is_sending = false;
        if let Coding::Known { left } = &mut self.coding {
            *left = left.saturating_sub(count);
        }
        if let Source::Parts(parts) = &mut self.source
            && range.length > 0
        {
            parts.push_front(Part::File(range));
        }
    }

    /// Appends a piece of the body as it is framed.
    pub(super) fn write(&self, output: &mut Gather, bytes: Bytes) {
        if self.coding != Coding::Chunked {
            return append(output, bytes);
        }
        if output.has_parts() {
            let mut head = Vec::new();
            encode_chunk_head(&mut head, bytes.len());
            output.push(Bytes::from(head));
        } else {
            encode_chunk_head(output.block_mut(), bytes.len());
        }
        append(output, bytes);
        append(output, Bytes::from_static(CHUNK_END));
    }

    pub(super) fn write_end(&self, output: &mut Gather, trailers: &Trailers) {
        if self.coding != Coding::Chunked {
            return;
        }
        let mut end = Vec::new();
        if trailers.is_empty() {
            end.extend_from_slice(LAST_CHUNK);
        } else {
            end.extend_from_slice(LAST_CHUNK_BEFORE_TRAILERS);
            // RFC 9110 section 6.5.1: behind the body nothing can say any more where it ends.
            let sent = trailers.iter().filter(|(name, _)| !frames_the_message(name));
            sent.for_each(|(name, value)| write_field(&mut end, name, value));
            end.extend_from_slice(CHUNK_END);
        }
        append(output, Bytes::from(end));
    }

    /// The server drains.
    pub(super) fn drain(&self) {
        match &self.source {
            Source::Channel(outlet) | Source::Pushed(outlet) => outlet.drain(false),
            Source::Events(outlet) => outlet.drain(true),
            Source::Parts(_) | Source::Pulled { .. } => {}
        }
    }
}

/// Appends bytes of a body as they are: small ones by a copy, in place of a send of one part more.
#[inline(always)]
pub(super) fn append(output: &mut Gather, bytes: Bytes) {
    if bytes.len() > COPIED_BODY_BYTES || output.has_parts() {
        return push(output, bytes);
    }
    output.block_mut().extend_from_slice(&bytes);
}

#[cold]
fn push(output: &mut Gather, bytes: Bytes) {
    output.push(bytes);
}
