//! Sources that are asked for their next piece, on a worker, when the connection has room for it.
//!
//! So a client that reads slowly holds no thread, and the memory of an answer is one piece that is
//! being sent and one that is ready.

use std::io::{self, Read};

use bytes::Bytes;

use super::{MakeTrailers, Trailers};

/// How much is read from a reader at one time.
const PIECE_BYTES: usize = 64 * 1024;

pub(crate) trait Produce: Send {
    /// The next piece, not empty; none at the end. May block.
    fn produce(&mut self) -> io::Result<Option<Bytes>>;

    /// What follows the body. Asked once, at its end.
    fn trailers(&mut self) -> Trailers {
        Trailers::new()
    }

    /// Whether [`produce`](Produce::produce) would not wait, for a simulation on one thread.
    #[cfg(test)]
    fn is_ready(&self) -> bool {
        true
    }
}

/// A source with trailer fields that are made at its end.
pub(crate) struct WithTrailers {
    pub(crate) source: Box<dyn Produce>,
    pub(crate) make: Option<MakeTrailers>,
}

impl Produce for WithTrailers {
    fn produce(&mut self) -> io::Result<Option<Bytes>> {
        self.source.produce()
    }

    fn trailers(&mut self) -> Trailers {
        self.make.take().map_or_else(Trailers::new, |make| make())
    }
}

pub(crate) struct FromRead<R>(pub(crate) R);

impl<R: Read + Send> Produce for FromRead<R> {
    fn produce(&mut self) -> io::Result<Option<Bytes>> {
        let mut block = vec![0; PIECE_BYTES];
        let count = loop {
            match self.0.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        block.truncate(count);
        // A short piece would hold its whole block until it is sent.
        if count < PIECE_BYTES / 4 {
            block.shrink_to_fit();
        }
        Ok((count > 0).then(|| Bytes::from(block)))
    }
}

pub(crate) struct FromIter<I>(pub(crate) I);

impl<I, B> Produce for FromIter<I>
where
    I: Iterator<Item = io::Result<B>> + Send,
    B: Into<Bytes>,
{
    fn produce(&mut self) -> io::Result<Option<Bytes>> {
        for piece in self.0.by_ref() {
            let bytes = piece?.into();
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}
