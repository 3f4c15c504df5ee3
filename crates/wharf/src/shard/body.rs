//! Putting a body together.
//!
//! A body that arrives in one piece stays where it is. Otherwise a block of exactly its length is
//! taken, what has arrived moves into it once, and the rest is received straight into it. A
//! chunked body of one chunk that arrives in one piece stays where it is too; others are joined.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use wharf_http::{ChunkedDecoder, ChunkedLimits, Refusal};

use super::encode;
use crate::Response;
use crate::request::{Body, View};
use crate::shared::{Reservation, Shared};

pub(super) struct Assembly {
    framing: Framing,
    /// What has arrived, once it did not arrive in one piece.
    block: Vec<u8>,
    /// Body bytes that have arrived.
    received: usize,
}

enum Framing {
    /// By Content-Length.
    Known { total: usize },
    /// By chunks; `limit` is the length that the body may have.
    Chunked { decoder: Box<ChunkedDecoder>, limit: usize },
}

/// What a further piece led to.
pub(super) enum Progress {
    Partial,
    Whole {
        body: Body,
        /// Bytes of the piece that belong to the body.
        used: usize,
    },
}

/// Why a body is not received any further.
#[derive(Debug, PartialEq)]
pub(super) enum Stop {
    TooLarge,
    OutOfMemory,
    Malformed(Refusal),
}

impl Stop {
    pub(super) fn into_response(self) -> Response {
        match self {
            Stop::TooLarge => encode::too_large(),
            Stop::OutOfMemory => encode::overloaded(),
            Stop::Malformed(refusal) => encode::refusal(refusal),
        }
    }
}

impl Assembly {
    /// A body of `total` bytes, at least one.
    pub(super) fn known(total: usize) -> Assembly {
        Assembly { framing: Framing::Known { total }, block: Vec::new(), received: 0 }
    }

    /// A body that says itself where it ends, at most `limit` bytes long.
    pub(super) fn chunked(limit: usize) -> Assembly {
        let decoder = Box::new(ChunkedDecoder::new(ChunkedLimits::default()));
        let framing = Framing::Chunked { decoder, limit };
        Assembly { framing, block: Vec::new(), received: 0 }
    }

    pub(super) fn received(&self) -> usize {
        self.received
    }

    /// Whether a block that was [received into](Assembly::put_block) is now full.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.framing, Framing::Known { total } if self.block.len() == total)
    }

    pub(super) fn take_body(&mut self) -> Body {
        Body::Apart(View::Joined(Bytes::from(std::mem::take(&mut self.block))))
    }

    /// Takes the next piece of the message's bytes.
    pub(super) fn push(
        &mut self,
        piece: &View,
        reservation: &mut Reservation,
        shared: &Arc<Shared>,
    ) -> Result<Progress, Stop> {
        let bytes = piece.as_slice();
        match &mut self.framing {
            Framing::Known { total } => {
                let total = *total;
                if self.block.is_empty() && bytes.len() >= total {
                    self.received = total;
                    let body = Body::Apart(piece.first(total));
                    return Ok(Progress::Whole { body, used: total });
                }
                reserve(&mut self.block, total, reservation, shared)?;
                let used = bytes.len().min(total - self.block.len());
                self.block.extend_from_slice(&bytes[..used]);
                self.received = self.block.len();
                if self.block.len() == total {
                    return Ok(Progress::Whole { body: self.take_body(), used });
                }
                Ok(Progress::Partial)
            }
            Framing::Chunked { .. } => self.push_chunked(piece, reservation, shared),
        }
    }

    fn push_chunked(
        &mut self,
        piece: &View,
        reservation: &mut Reservation,
        shared: &Arc<Shared>,
    ) -> Result<Progress, Stop> {
        let bytes = piece.as_slice();
        let mut used = 0;
        // The one run of data so far, if it is all there is and lies in this piece.
        let mut only: Option<Range<usize>> = None;
        let mut done = false;
        while used < bytes.len() && !done {
            let Framing::Chunked { decoder, limit } = &mut self.framing else { break };
            let step = decoder.decode(&bytes[used..]).map_err(Stop::Malformed)?;
            let data = used + step.data.start..used + step.data.end;
            self.received += data.len();
            // What a chunk's size announces need not be waited for.
            if (self.received as u64).saturating_add(decoder.remaining()) > *limit as u64 {
                return Err(Stop::TooLarge);
            }
            (used, done) = (used + step.consumed, step.done);
            if data.is_empty() {
                continue;
            }
            if only.is_none() && self.block.is_empty() {
                only = Some(data);
                continue;
            }
            let first = only.take();
            for run in first.into_iter().chain([data]) {
                append(&mut self.block, &bytes[run], reservation, shared)?;
            }
        }
        match only {
            Some(run) if done => {
                let body = Body::Apart(piece.behind(run.start).first(run.len()));
                return Ok(Progress::Whole { body, used });
            }
            Some(run) => append(&mut self.block, &bytes[run], reservation, shared)?,
            None => {}
        }
        if done {
            return Ok(Progress::Whole { body: self.take_body(), used });
        }
        Ok(Progress::Partial)
    }

    /// Whether the rest is to be received straight into a block: where it would take more than one
    /// receive block of `block_bytes`.
    pub(super) fn wants_block(&self, block_bytes: usize) -> bool {
        match self.framing {
            Framing::Known { total } => total - self.received > block_bytes,
            Framing::Chunked { .. } => false,
        }
    }

    /// The block to receive the rest into.
    pub(super) fn take_block(
        &mut self,
        reservation: &mut Reservation,
        shared: &Arc<Shared>,
    ) -> Result<Vec<u8>, Stop> {
        if let Framing::Known { total } = self.framing {
            reserve(&mut self.block, total, reservation, shared)?;
        }
        Ok(std::mem::take(&mut self.block))
    }

    /// Takes the block back, with what was received into it. Returns what lies behind the body:
    /// the allocator may have given the block more room than was asked for.
    pub(super) fn put_block(&mut self, mut block: Vec<u8>) -> Option<Vec<u8>> {
        let surplus = match self.framing {
            Framing::Known { total } if block.len() > total => Some(block.split_off(total)),
            _ => None,
        };
        self.received = block.len();
        self.block = block;
        surplus
    }
}

/// Gives the block room for exactly `total` bytes.
fn reserve(
    block: &mut Vec<u8>,
    total: usize,
    reservation: &mut Reservation,
    shared: &Arc<Shared>,
) -> Result<(), Stop> {
    if block.capacity() >= total {
        return Ok(());
    }
    if !reservation.grow_to(total, shared) {
        return Err(Stop::OutOfMemory);
    }
    block.try_reserve_exact(total - block.len()).map_err(|_| Stop::OutOfMemory)
}

/// Appends to a block whose final length is not known.
fn append(
    block: &mut Vec<u8>,
    bytes: &[u8],
    reservation: &mut Reservation,
    shared: &Arc<Shared>,
) -> Result<(), Stop> {
    let needed = block.len() + bytes.len();
    if needed > block.capacity() {
        reserve(block, needed.max(2 * block.capacity()), reservation, shared)?;
    }
    block.extend_from_slice(bytes);
    Ok(())
}
