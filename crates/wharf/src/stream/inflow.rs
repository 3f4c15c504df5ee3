//! A bounded queue of received bytes from a connection to the program.
//!
//! The connection puts views of what it received in; the program's end is a reader that blocks.
//! When the queue is full the connection stops receiving, until the reader has made room again.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};

#[cfg(feature = "compression")]
use super::Decoded;
use super::Trailers;
use crate::mailbox::Address;
use crate::request::View;

/// What a piece counts beside its bytes, so that many small ones are bounded too.
const PIECE_BYTES: usize = 64;
/// A view that is shorter is copied, rather than to hold a whole receive block.
const SHORT_BYTES: usize = 1024;
/// How much is decoded at one time.
#[cfg(feature = "compression")]
const DECODED_BYTES: usize = 16 * 1024;

/// Why a body could not be read to its end. Found inside of the [`io::Error`] that a
/// [`BodyReader`] returns; passed on with `?`, it answers the request with the status given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than the route accepts: `413 Content Too Large`.
    TooLarge,
    /// It came too slowly: `408 Request Timeout`.
    Timeout,
    /// Its chunks are malformed, or its content coding is: `400 Bad Request`.
    Malformed,
    /// The client ended the connection in the middle of it: `400 Bad Request`, if the client still
    /// reads.
    Truncated,
    /// The connection failed or was closed: nobody is there to be answered.
    Cancelled,
}

impl BodyError {
    /// The status that answers it.
    pub fn status(self) -> StatusCode {
        match self {
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Timeout => StatusCode::REQUEST_TIMEOUT,
            BodyError::Malformed | BodyError::Truncated | BodyError::Cancelled => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::TooLarge => "the body is longer than this resource accepts",
            BodyError::Timeout => "the body came too slowly",
            BodyError::Malformed => "the body is malformed",
            BodyError::Truncated => "the client ended the connection in the middle of the body",
            BodyError::Cancelled => "the connection was closed in the middle of the body",
        })
    }
}

impl std::error::Error for BodyError {}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::TooLarge => io::ErrorKind::FileTooLarge,
            BodyError::Timeout => io::ErrorKind::TimedOut,
            BodyError::Malformed => io::ErrorKind::InvalidData,
            BodyError::Truncated => io::ErrorKind::UnexpectedEof,
            BodyError::Cancelled => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, error)
    }
}

/// What the connection and the readers of one body share.
pub(crate) struct Inflow {
    state: Mutex<State>,
    arrived: Condvar,
    address: Address,
    peer: SocketAddr,
    /// Beyond this the connection stops receiving.
    window: usize,
}

struct State {
    pieces: VecDeque<View>,
    /// What the pieces count.
    bytes: usize,
    end: Option<Result<(), BodyError>>,
    trailers: Trailers,
    readers: usize,
    /// Somebody has waited for bytes.
    is_wanted: bool,
    /// The connection has found the queue full and waits to be told of room.
    is_paused: bool,
}

impl Inflow {
    pub(crate) fn new(address: Address, peer: SocketAddr, window: usize) -> Inflow {
        Inflow {
            state: Mutex::new(State {
                pieces: VecDeque::new(),
                bytes: 0,
                end: None,
                trailers: Trailers::new(),
                readers: 0,
                is_wanted: false,
                is_paused: false,
            }),
            arrived: Condvar::new(),
            address,
            peer,
            window,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, view: View) {
        let view = if view.len() < SHORT_BYTES { view.copied_out() } else { view };
        let mut state = self.lock();
        state.bytes += view.len() + PIECE_BYTES;
        state.pieces.push_back(view);
        drop(state);
        self.arrived.notify_all();
    }

    /// Whether there is room; if not, the connection is told once there is.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.lock();
        state.is_paused = state.bytes >= self.window;
        !state.is_paused
    }

    /// Whether somebody waits for bytes or has done so.
    pub(crate) fn is_wanted(&self) -> bool {
        self.lock().is_wanted
    }

    pub(crate) fn has_readers(&self) -> bool {
        self.lock().readers > 0
    }

    /// Nothing more comes. Only the first end counts.
    pub(crate) fn end(&self, result: Result<(), BodyError>, trailers: Trailers) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(result);
            state.trailers = trailers;
        }
        drop(state);
        self.arrived.notify_all();
    }

    /// Frees receive blocks for others, at the price of copies.
    pub(crate) fn copy_out(&self) {
        let mut state = self.lock();
        for piece in &mut state.pieces {
            *piece = std::mem::take(piece).copied_out();
        }
    }

    /// The next piece; none at the end.
    fn next(&self, timeout: Option<Duration>) -> io::Result<Option<View>> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.lock();
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                state.bytes -= piece.len() + PIECE_BYTES;
                let tell = state.is_paused && state.bytes <= self.window / 2;
                if tell {
                    state.is_paused = false;
                }
                drop(state);
                if tell {
                    self.address.notify();
                }
                return Ok(Some(piece));
            }
            if let Some(end) = state.end {
                return end.map(|()| None).map_err(io::Error::from);
            }
            if !state.is_wanted {
                state.is_wanted = true;
                drop(state);
                self.address.notify();
                state = self.lock();
                continue;
            }
            state = match until {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            "nothing came in time",
                        ));
                    }
                    let waited = self.arrived.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Reads a request's body, as it arrives if the route is
/// [`streaming`](crate::Route::streaming). Made by [`Request::reader`](crate::Request::reader).
///
/// A read waits for the client; what the reader has not taken is not received beyond a window of
/// [`Limits::stream_bytes`](crate::Limits::stream_bytes), so an upload takes no more memory than
/// that. As [`BufRead`] it gives out the received bytes without copying them.
///
/// It may outlive the handler's call: an answer made [from it](crate::Response::body_reader) sends
/// the body back while it comes. Errors are a [`BodyError`] inside of the [`io::Error`].
pub struct BodyReader {
    source: Source,
    /// Taken from the source and not read to its end.
    current: View,
    at: usize,
    timeout: Option<Duration>,
}

enum Source {
    /// All of it is in `current`.
    Whole(SocketAddr),
    Flow(Arc<Inflow>),
    /// On behalf of readers that are counted themselves.
    #[cfg(feature = "compression")]
    Uncounted(Arc<Inflow>),
    /// Not as it was sent.
    #[cfg(feature = "compression")]
    Decoded(Arc<Inflow>, Arc<Mutex<Decoded>>),
}

impl Source {
    fn inflow(&self) -> Option<&Arc<Inflow>> {
        match self {
            Source::Whole(_) => None,
            Source::Flow(inflow) => Some(inflow),
            #[cfg(feature = "compression")]
            Source::Uncounted(inflow) | Source::Decoded(inflow, _) => Some(inflow),
        }
    }

    fn is_counted(&self) -> bool {
        match self {
            #[cfg(feature = "compression")]
            Source::Uncounted(_) => false,
            _ => true,
        }
    }

    /// The next piece, which is empty at the end.
    fn next(&self, timeout: Option<Duration>) -> io::Result<View> {
        match self {
            Source::Whole(_) => Ok(View::Empty),
            Source::Flow(inflow) => Ok(inflow.next(timeout)?.unwrap_or_default()),
            #[cfg(feature = "compression")]
            Source::Uncounted(inflow) => Ok(inflow.next(timeout)?.unwrap_or_default()),
            #[cfg(feature = "compression")]
            Source::Decoded(_, decoded) => {
                let mut block = vec![0; DECODED_BYTES];
                let mut decoded = decoded.lock().unwrap_or_else(PoisonError::into_inner);
                let count = decoded.read(&mut block)?;
                block.truncate(count);
                Ok(View::Joined(block.into()))
            }
        }
    }
}

impl BodyReader {
    pub(crate) fn whole(view: View, peer: SocketAddr) -> BodyReader {
        BodyReader { source: Source::Whole(peer), current: view, at: 0, timeout: None }
    }

    pub(crate) fn of(inflow: &Arc<Inflow>) -> BodyReader {
        inflow.lock().readers += 1;
        let source = Source::Flow(inflow.clone());
        BodyReader { source, current: View::Empty, at: 0, timeout: None }
    }

    /// Of what is no longer counted as read once nobody reads what becomes of it.
    #[cfg(feature = "compression")]
    pub(crate) fn uncounted(inflow: &Arc<Inflow>) -> BodyReader {
        let source = Source::Uncounted(inflow.clone());
        BodyReader { source, current: View::Empty, at: 0, timeout: None }
    }

    /// Of what `decoded` makes of the body.
    #[cfg(feature = "compression")]
    pub(crate) fn decoded(inflow: &Arc<Inflow>, decoded: Arc<Mutex<Decoded>>) -> BodyReader {
        inflow.lock().readers += 1;
        let source = Source::Decoded(inflow.clone(), decoded);
        BodyReader { source, current: View::Empty, at: 0, timeout: None }
    }

    /// The trailer fields behind a chunked body (RFC 9110 section 6.5), once it is read to its
    /// end; before that, and for other bodies, none.
    pub fn trailers(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.source.inflow().map_or_else(Trailers::new, |inflow| inflow.lock().trailers.clone())
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        match &self.source {
            Source::Whole(peer) => *peer,
            Source::Flow(inflow) => inflow.peer,
            #[cfg(feature = "compression")]
            Source::Uncounted(inflow) | Source::Decoded(inflow, _) => inflow.peer,
        }
    }

    /// Whether a read would not wait, for a simulation on one thread.
    #[cfg(test)]
    pub(crate) fn is_ready(&self) -> bool {
        match &self.source {
            Source::Flow(inflow) if self.at == self.current.len() => {
                let state = inflow.lock();
                state.end.is_some() || !state.pieces.is_empty()
            }
            _ => true,
        }
    }

    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }
}

impl BufRead for BodyReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            // First, for it may be what the receive waits for.
            self.current = View::Empty;
            self.at = 0;
            self.current = self.source.next(self.timeout)?;
        }
        Ok(&self.current.as_slice()[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.current.len());
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        if let Some(inflow) = self.source.inflow().filter(|_| self.source.is_counted()) {
            let mut state = inflow.lock();
            state.readers -= 1;
            let is_last = state.readers == 0;
            drop(state);
            if is_last {
                inflow.address.notify();
            }
        }
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").finish_non_exhaustive()
    }
}
