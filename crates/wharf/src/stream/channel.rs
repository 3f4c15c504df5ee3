//! A bounded queue of bytes from the program to a connection.
//!
//! The program's end may be cloned, sent to any thread and kept as long as it likes; it holds no
//! thread. The connection's end is asked when the peer has taken what went before, so a peer that
//! does not read fills the queue, and then the program waits or is told.
//!
//! A queue may have an encoder, which changes the form of what goes through. It runs where pieces
//! are sent, so that the connection's thread does not do its work.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::Trailers;
use crate::mailbox::Address;

/// Bytes that may wait in a queue. One piece more may lie beyond it.
const QUEUE_BYTES: usize = 64 * 1024;
/// What a piece counts beside its bytes, so that many small ones are bounded too.
const PIECE_BYTES: usize = 64;
/// A writer gathers this much before it sends.
const WRITER_BYTES: usize = 8 * 1024;

/// Both ends of a new queue.
pub(crate) fn channel() -> (BodySender, Outlet) {
    let channel = Arc::new(Channel {
        state: Mutex::new(State {
            queue: VecDeque::new(),
            bytes: 0,
            senders: 1,
            is_encoded: false,
            end: None,
            receiver: Receiver::NotYet,
            is_draining: false,
            on_close: Vec::new(),
        }),
        room: Condvar::new(),
        encoder: OnceLock::new(),
    });
    (BodySender { channel: channel.clone() }, Outlet { channel })
}

/// Changes the form of a body, piece by piece.
pub(crate) trait Encode: Send {
    /// The other form of a piece. It can be read as soon as it comes.
    fn encode(&mut self, piece: &[u8]) -> io::Result<Vec<u8>>;

    /// What ends the other form. Asked once, behind all pieces.
    fn end(&mut self) -> io::Result<Vec<u8>>;
}

struct Channel {
    state: Mutex<State>,
    /// There is room, or nobody to make room for.
    room: Condvar,
    /// Held from before a piece is encoded until it is queued, so that pieces keep their order.
    /// Always taken before `state`.
    encoder: OnceLock<Mutex<Box<dyn Encode>>>,
}

struct State {
    queue: VecDeque<Bytes>,
    /// What the queue's pieces count.
    bytes: usize,
    senders: usize,
    /// What is in the queue went through the encoder, and all that follows has to.
    is_encoded: bool,
    end: Option<End>,
    receiver: Receiver,
    is_draining: bool,
    on_close: Vec<Box<dyn FnOnce() + Send>>,
}

enum End {
    Finished(Trailers),
    Failed,
}

enum Receiver {
    /// The answer has not been handed in yet.
    NotYet,
    /// Told once that there is something, until it has found nothing again.
    There {
        address: Address,
        told: bool,
    },
    Gone,
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the connection that there is something to look at.
    fn tell(mut state: MutexGuard<'_, State>) {
        if let Receiver::There { address, told } = &mut state.receiver
            && !*told
        {
            *told = true;
            let address = address.clone();
            drop(state);
            address.notify();
        }
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        if state.is_encoded
            && matches!(end, End::Finished(_))
            && let Some(encoder) = self.encoder.get()
        {
            drop(state);
            let encoder = encoder.lock();
            state = self.lock();
            if state.end.is_some() {
                return;
            }
            let last = encoder.ok().map(|mut encoder| encoder.end());
            state.end_encoded(last.unwrap_or_else(|| Err(broken())), end);
        } else {
            state.end = Some(end);
        }
        Channel::tell(state);
    }

    /// Queues a piece.
    fn push(&self, mut state: MutexGuard<'_, State>, bytes: Bytes) -> Result<(), SendError> {
        if state.is_closed() {
            return Err(SendError::Closed);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(encoder) = self.encoder.get()
            && state.is_encoded
        {
            drop(state);
            let encoder = encoder.lock();
            return self.push_encoded(encoder.ok(), &bytes);
        }
        state.push(bytes);
        Channel::tell(state);
        Ok(())
    }

    /// Encodes a piece and queues it. Without an encoder, which an earlier piece broke, the body
    /// has failed.
    fn push_encoded(&self, encoder: Option<Encoder<'_>>, bytes: &[u8]) -> Result<(), SendError> {
        let encoded = match encoder {
            Some(mut encoder) => encoder.encode(bytes).map(|encoded| (encoder, encoded)),
            None => Err(broken()),
        };
        match encoded {
            Ok((_in_order, encoded)) => {
                let mut state = self.lock();
                if state.is_closed() {
                    return Err(SendError::Closed);
                }
                if !encoded.is_empty() {
                    state.push(encoded.into());
                    Channel::tell(state);
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!("an answer is cut off: its body could not be encoded: {error}");
                self.end(End::Failed);
                Err(SendError::Closed)
            }
        }
    }

    /// Has all that is queued and all that follows go through the encoder. Only before the
    /// connection's end is attached, and once.
    #[cfg(feature = "compression")]
    fn encode_by(&self, mut encoder: Box<dyn Encode>) {
        let mut state = self.lock();
        let queue = std::mem::take(&mut state.queue);
        state.bytes = 0;
        for piece in queue {
            match encoder.encode(&piece) {
                Ok(encoded) if encoded.is_empty() => {}
                Ok(encoded) => state.push(encoded.into()),
                Err(_) => state.end = Some(End::Failed),
            }
        }
        if let Some(end @ End::Finished(_)) = state.end.take_if(|end| end.is_finished()) {
            state.end_encoded(encoder.end(), end);
        }
        state.is_encoded = self.encoder.set(Mutex::new(encoder)).is_ok();
    }
}

type Encoder<'a> = MutexGuard<'a, Box<dyn Encode>>;

/// A panic has left an encoder in the middle of something.
fn broken() -> io::Error {
    io::Error::other("its encoder panicked")
}

#[cfg(feature = "compression")]
impl End {
    fn is_finished(&self) -> bool {
        matches!(self, End::Finished(_))
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes >= QUEUE_BYTES
    }

    fn is_closed(&self) -> bool {
        self.end.is_some() || matches!(self.receiver, Receiver::Gone)
    }

    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len() + PIECE_BYTES;
        self.queue.push_back(bytes);
    }

    /// The body ends behind `last`, if the encoder could make that.
    fn end_encoded(&mut self, last: io::Result<Vec<u8>>, end: End) {
        match last {
            Ok(last) => {
                if !last.is_empty() {
                    self.push(last.into());
                }
                self.end = Some(end);
            }
            Err(error) => {
                tracing::warn!("an answer is cut off: its body could not be encoded: {error}");
                self.end = Some(End::Failed);
            }
        }
    }
}

/// The program's end of a body that is pushed. Made by
/// [`Response::channel`](crate::Response::channel).
///
/// It may be cloned and sent to any thread; an idle one costs some memory and no thread. The body
/// ends when every clone is dropped or one [finishes](BodySender::finish) it. A clone that is
/// dropped by a panic cuts the answer off instead, so that the client does not take the part for
/// the whole.
pub struct BodySender {
    channel: Arc<Channel>,
}

/// Why a piece of a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// 64 KiB wait to be sent: the client reads more slowly, or the handler has not returned the
    /// answer yet, without which there is nobody to wait for.
    Full,
    /// The client has gone, or the body was ended.
    Closed,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full => "as much of the body as may wait has not been sent yet",
            SendError::Closed => "the client has gone, or the body was ended",
        })
    }
}

impl std::error::Error for SendError {}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        let kind = match error {
            SendError::Full => io::ErrorKind::WouldBlock,
            SendError::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}

impl BodySender {
    /// Sends the next piece. Waits while 64 KiB of earlier ones have not been taken by the client.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the client has gone or the body was ended; [`SendError::Full`] if
    /// there is no room and the handler has not returned the answer yet.
    pub fn send(&self, bytes: impl Into<Bytes>) -> Result<(), SendError> {
        let mut state = self.channel.lock();
        while state.is_full() && !state.is_closed() {
            if matches!(state.receiver, Receiver::NotYet) {
                return Err(SendError::Full);
            }
            state = self.channel.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.channel.push(state, bytes.into())
    }

    /// Sends the next piece, or says that there is no room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`] or [`SendError::Closed`].
    pub fn try_send(&self, bytes: impl Into<Bytes>) -> Result<(), SendError> {
        let state = self.channel.lock();
        if state.is_full() && !state.is_closed() {
            return Err(SendError::Full);
        }
        self.channel.push(state, bytes.into())
    }

    /// Whether nothing can be sent any more: the client has gone, or the body was ended. A client
    /// that closes its side is taken to have gone once all that was sent has left.
    pub fn is_closed(&self) -> bool {
        self.channel.lock().is_closed()
    }

    /// Whether the server drains: a body that has no end of its own should be ended.
    pub fn is_draining(&self) -> bool {
        self.channel.lock().is_draining
    }

    /// Calls `tell` once the client has gone or the answer is sent to its end, or now if that has
    /// happened. It runs on the I/O thread, so it has to be quick: take a sender out of a list,
    /// say.
    pub fn on_close(&self, tell: impl FnOnce() + Send + 'static) {
        let mut state = self.channel.lock();
        if matches!(state.receiver, Receiver::Gone) {
            drop(state);
            tell();
        } else {
            state.on_close.push(Box::new(tell));
        }
    }

    /// Ends the body.
    pub fn finish(self) {
        self.channel.end(End::Finished(Trailers::new()));
    }

    /// Ends the body with trailer fields (RFC 9110 section 6.5). They are sent if the body is
    /// chunked, as it is to HTTP/1.1 unless its length was announced.
    pub fn finish_with(self, trailers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) {
        self.channel.end(End::Finished(trailers.into_iter().collect()));
    }

    /// Cuts the answer off, so that the client sees that it is not whole.
    pub fn abort(self) {
        self.channel.end(End::Failed);
    }
}

impl Clone for BodySender {
    fn clone(&self) -> Self {
        self.channel.lock().senders += 1;
        BodySender { channel: self.channel.clone() }
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        let mut state = self.channel.lock();
        state.senders -= 1;
        let end = match std::thread::panicking() {
            true => End::Failed,
            false if state.senders == 0 => End::Finished(Trailers::new()),
            false => return,
        };
        drop(state);
        self.channel.end(end);
    }
}

impl fmt::Debug for BodySender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodySender").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// Each write is sent as one piece, without gathering.
impl io::Write for BodySender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Bytes::copy_from_slice(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a closure given to [`Response::body_writer`](crate::Response::body_writer) writes to.
///
/// Writes are gathered to pieces of 8 KiB; [`flush`](io::Write::flush) sends what there is. A write
/// waits while the client reads more slowly, and fails when the client has gone.
pub struct BodyWriter {
    sender: BodySender,
    gathered: Vec<u8>,
    trailers: Trailers,
}

impl BodyWriter {
    pub(crate) fn new(sender: BodySender) -> BodyWriter {
        BodyWriter { sender, gathered: Vec::new(), trailers: Trailers::new() }
    }

    /// Adds a trailer field (RFC 9110 section 6.5), to be sent behind the body if it is chunked.
    pub fn trailer(&mut self, name: HeaderName, value: HeaderValue) {
        self.trailers.push((name, value));
    }

    /// Whether the client has gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Has all that is written go through the encoder. Before anything is.
    #[cfg(feature = "compression")]
    pub(crate) fn encode_by(&self, encoder: Box<dyn Encode>) {
        self.sender.channel.encode_by(encoder);
    }

    /// Runs `write` and ends the body as it ends.
    pub(crate) fn run(self, write: impl FnOnce(&mut BodyWriter) -> io::Result<()>) {
        // Dropped by a panic of `write`, the sender cuts the answer off.
        let mut writer = self;
        let written = write(&mut writer).and_then(|()| writer.send_gathered());
        let BodyWriter { sender, trailers, .. } = writer;
        match written {
            Ok(()) => sender.finish_with(trailers),
            Err(error) => {
                tracing::debug!("an answer is cut off: its writer failed: {error}");
                sender.abort();
            }
        }
    }

    fn send_gathered(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.sender.send(std::mem::take(&mut self.gathered))?;
        }
        Ok(())
    }
}

impl io::Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathered.len() + bytes.len() > WRITER_BYTES {
            self.send_gathered()?;
        }
        if bytes.len() >= WRITER_BYTES {
            self.sender.send(Bytes::copy_from_slice(bytes))?;
        } else {
            if self.gathered.is_empty() {
                self.gathered.reserve_exact(WRITER_BYTES);
            }
            self.gathered.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_gathered()
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// The connection's end. When it is dropped, the program is told that the client has gone.
pub(crate) struct Outlet {
    channel: Arc<Channel>,
}

/// What the connection's end of a queue has.
pub(crate) enum Pull {
    Bytes(Bytes),
    /// Nothing; the connection is told when that changes.
    Nothing,
    End(Trailers),
    Failed,
}

impl Outlet {
    /// Says whom to tell. Once, before anything is pulled.
    pub(crate) fn attach(&self, address: Address) {
        self.channel.lock().receiver = Receiver::There { address, told: false };
    }

    pub(crate) fn pull(&self) -> Pull {
        let mut state = self.channel.lock();
        if let Some(bytes) = state.queue.pop_front() {
            let was_full = state.is_full();
            state.bytes -= bytes.len() + PIECE_BYTES;
            if was_full && !state.is_full() {
                self.channel.room.notify_all();
            }
            return Pull::Bytes(bytes);
        }
        match &mut state.end {
            Some(End::Finished(trailers)) => Pull::End(std::mem::take(trailers)),
            Some(End::Failed) => Pull::Failed,
            None => {
                if let Receiver::There { told, .. } = &mut state.receiver {
                    *told = false;
                }
                Pull::Nothing
            }
        }
    }

    /// Has all that was and will be sent go through the encoder.
    #[cfg(feature = "compression")]
    pub(crate) fn encode_by(&self, encoder: Box<dyn Encode>) {
        self.channel.encode_by(encoder);
    }

    /// Queues a piece of the connection's own, unless the program is sending one at this moment.
    /// False: the body has no encoder that the piece would have to go through.
    pub(crate) fn interject(&self, piece: &[u8]) -> bool {
        let is_encoded = self.channel.lock().is_encoded;
        if let Some(encoder) = self.channel.encoder.get()
            && is_encoded
        {
            if let Ok(encoder) = encoder.try_lock() {
                // What has ended needs no piece more.
                let _ = self.channel.push_encoded(Some(encoder), piece);
            }
            return true;
        }
        false
    }

    /// Whether nothing is queued, the end neither.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.channel.lock();
        state.queue.is_empty() && state.end.is_none()
    }

    /// The server drains. `at_once`: the body ends with what is queued.
    pub(crate) fn drain(&self, at_once: bool) {
        self.channel.lock().is_draining = true;
        if at_once {
            self.channel.end(End::Finished(Trailers::new()));
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = self.channel.lock();
        state.receiver = Receiver::Gone;
        state.queue = VecDeque::new();
        state.bytes = 0;
        let on_close = std::mem::take(&mut state.on_close);
        drop(state);
        self.channel.room.notify_all();
        on_close.into_iter().for_each(|tell| tell());
    }
}

#[cfg(all(test, feature = "compression"))]
mod tests {
    use super::*;

    /// Puts each piece in brackets.
    struct Brackets;

    impl Encode for Brackets {
        fn encode(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
            match piece {
                b"bad" => Err(io::Error::other("as asked")),
                _ => Ok([b"<", piece, b">"].concat()),
            }
        }

        fn end(&mut self) -> io::Result<Vec<u8>> {
            Ok(b"|".to_vec())
        }
    }

    /// All that is queued, and how it ends.
    fn pulled(outlet: &Outlet) -> (String, &'static str) {
        let mut all = Vec::new();
        let end = loop {
            match outlet.pull() {
                Pull::Bytes(bytes) => all.extend_from_slice(&bytes),
                Pull::Nothing => break "open",
                Pull::End(trailers) if trailers.is_empty() => break "end",
                Pull::End(_) => break "end with trailers",
                Pull::Failed => break "failed",
            }
        };
        (String::from_utf8(all).expect("ASCII"), end)
    }

    #[test]
    fn all_that_was_and_will_be_sent_is_encoded_in_order() {
        let (sender, outlet) = channel();
        assert!(!outlet.interject(b"beat"), "no encoder has to see it");
        sender.send("a").expect("there is room");
        outlet.encode_by(Box::new(Brackets));
        sender.send("b").expect("there is room");
        assert!(outlet.interject(b"beat"));
        assert_eq!(pulled(&outlet), ("<a><b><beat>".to_owned(), "open"));
        sender.send("c").expect("there is room");
        sender.finish_with([(http::header::ETAG, HeaderValue::from_static("x"))]);
        assert!(outlet.interject(b"late"));
        assert_eq!(pulled(&outlet), ("<c>|".to_owned(), "end with trailers"));
    }

    #[test]
    fn a_body_that_has_ended_before_it_is_encoded_keeps_its_end() {
        let (sender, outlet) = channel();
        sender.send("a").expect("there is room");
        drop(sender);
        outlet.encode_by(Box::new(Brackets));
        assert_eq!(pulled(&outlet), ("<a>|".to_owned(), "end"));
        let (sender, outlet) = channel();
        sender.abort();
        outlet.encode_by(Box::new(Brackets));
        assert_eq!(pulled(&outlet).1, "failed");
    }

    #[test]
    fn what_cannot_be_encoded_cuts_the_body_off() {
        let (sender, outlet) = channel();
        outlet.encode_by(Box::new(Brackets));
        sender.send("a").expect("there is room");
        assert_eq!(sender.send("bad"), Err(SendError::Closed));
        assert_eq!(sender.send("b"), Err(SendError::Closed));
        drop(sender);
        assert_eq!(pulled(&outlet), ("<a>".to_owned(), "failed"));
        let (sender, outlet) = channel();
        sender.send("bad").expect("there is room");
        outlet.encode_by(Box::new(Brackets));
        assert_eq!(pulled(&outlet), (String::new(), "failed"));
    }

    #[test]
    fn draining_at_once_ends_what_is_encoded() {
        let (sender, outlet) = channel();
        outlet.encode_by(Box::new(Brackets));
        sender.send("a").expect("there is room");
        outlet.drain(true);
        assert_eq!(sender.send("b"), Err(SendError::Closed));
        assert_eq!(pulled(&outlet), ("<a>|".to_owned(), "end"));
    }
}
