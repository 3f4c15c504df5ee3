//! A request's body in another form than it was sent in: decoded while it is read, within a bound.
//!
//! Knows of no coding: what opens the decoder is handed in.

use std::io::{self, Read};

use super::{BodyError, BodyReader};

/// Makes a decoder of what was sent. It may read, and so wait.
pub(crate) type OpenDecoder =
    Box<dyn FnOnce(BodyReader) -> io::Result<Box<dyn Read + Send>> + Send>;

pub(crate) struct Decoded {
    state: State,
    /// How many bytes may still come out.
    left: usize,
}

enum State {
    /// Nothing was read, so that nothing has waited.
    Fresh(BodyReader, OpenDecoder),
    Open(Box<dyn Read + Send>),
    Ended(Result<(), BodyError>),
}

impl Decoded {
    pub(crate) fn new(sent: BodyReader, open: OpenDecoder, max_bytes: usize) -> Decoded {
        Decoded { state: State::Fresh(sent, open), left: max_bytes }
    }

    fn decode(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended(Err(BodyError::Malformed))) {
                State::Fresh(sent, open) => self.state = State::Open(open(sent)?),
                State::Open(mut decoder) => {
                    let mut count = decoder.read(buffer)?;
                    if count == 0 {
                        // A decoder may notice only now that something lies behind the end.
                        count = decoder.read(buffer)?;
                    }
                    if count > self.left {
                        return Err(BodyError::TooLarge.into());
                    }
                    self.left -= count;
                    self.state = match count {
                        0 => State::Ended(Ok(())),
                        _ => State::Open(decoder),
                    };
                    return Ok(count);
                }
                State::Ended(end) => {
                    self.state = State::Ended(end);
                    return end.map(|()| 0).map_err(io::Error::from);
                }
            }
        }
    }
}

/// Errors are a [`BodyError`] inside of the [`io::Error`], and stay.
impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.decode(buffer).map_err(|error| {
            let known = error.get_ref().and_then(|inside| inside.downcast_ref::<BodyError>());
            let end = known.copied().unwrap_or(BodyError::Malformed);
            self.state = State::Ended(Err(end));
            io::Error::from(end)
        })
    }
}
