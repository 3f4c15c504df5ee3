//! The chunked transfer coding (RFC 9112 section 7.1), both ways.
//!
//! The decoder holds no body data: it says which part of the caller's bytes is data, and the
//! caller takes it from there. It keeps a few numbers, and, only if the message has trailer
//! fields, their bytes.
//!
//! ```text
//!             ┌────────────────────────────────────────────────┐
//!             ▼                                                │
//!  Size ─► SizeDigits ─┬─► SizeLf ─┬─► Data ─► DataCr ─► DataLf┘  (a further chunk)
//!             │        │           │
//!             ▼        │           └─► Trailers ─► Done           (the last chunk, size 0)
//!         Extension ───┘
//! ```

mod extension;
mod trailers;

use crate::refusal::Refusal;
use crate::span::FieldSpan;
use extension::Extension;
use std::ops::Range;
use trailers::Trailers;

/// Bounds for what a chunked body holds besides data. The data itself is for the caller to bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkedLimits {
    /// Bytes of one chunk's size line with its extensions, its CRLF not counted. Default 256.
    pub line_bytes: usize,
    /// Bytes of chunk extensions in the whole message. Default 16,384.
    pub extension_bytes: usize,
    /// Bytes of the trailer section, its empty line not counted. Default 8,192. More than 65,535
    /// counts as 65,535.
    pub trailer_bytes: usize,
    /// Trailer fields. Default 32.
    pub trailer_fields: usize,
}

impl Default for ChunkedLimits {
    fn default() -> ChunkedLimits {
        ChunkedLimits {
            line_bytes: 256,
            extension_bytes: 16_384,
            trailer_bytes: 8_192,
            trailer_fields: 32,
        }
    }
}

/// What [`ChunkedDecoder::decode`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkStep {
    /// How many bytes of the input are done with, data included; never 0 for a non-empty input
    /// before the end.
    pub consumed: usize,
    /// Which bytes of the input are body data; may be empty. Ends at `consumed` if it is not.
    pub data: Range<usize>,
    /// Whether the body has ended. What stands behind `consumed` then belongs to the next message.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a size's first digit.
    Size,
    SizeDigits,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Decodes a chunked body as it comes, in pieces of any size.
///
/// ```
/// use wharf_http::{ChunkedDecoder, ChunkedLimits};
///
/// let mut decoder = ChunkedDecoder::new(ChunkedLimits::default());
/// let mut input: &[u8] = b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\nGET / ...";
/// let mut body = Vec::new();
/// while !decoder.is_done() && !input.is_empty() {
///     let step = decoder.decode(input)?;
///     body.extend_from_slice(&input[step.data.clone()]);
///     input = &input[step.consumed..];
/// }
/// assert!(decoder.is_done());
/// assert_eq!(body, b"hello, world");
/// assert_eq!(input, b"GET / ...");
/// # Ok::<(), wharf_http::Refusal>(())
/// ```
#[derive(Debug)]
pub struct ChunkedDecoder {
    limits: ChunkedLimits,
    state: State,
    /// In `SizeDigits`: the size so far. In `Data`: what is still to come, never 0.
    size: u64,
    /// Bytes of the present size line, its CRLF not counted; `line <= limits.line_bytes`.
    line: usize,
    /// Bytes of chunk extensions so far; `extensions <= limits.extension_bytes`.
    extensions: usize,
    /// Nothing until a trailer field comes.
    trailers: Trailers,
}

impl ChunkedDecoder {
    /// A decoder before a body's first byte. Allocates nothing.
    #[must_use]
    pub fn new(limits: ChunkedLimits) -> ChunkedDecoder {
        ChunkedDecoder {
            limits,
            state: State::Size,
            size: 0,
            line: 0,
            extensions: 0,
            trailers: Trailers::default(),
        }
    }

    /// Makes the decoder ready for another body; memory for trailers is kept.
    pub fn clear(&mut self) {
        self.begin_chunk();
        self.extensions = 0;
        self.trailers.clear();
    }

    /// Takes one step: reads on until some data has been found, or the input or the body ends.
    /// Call it again with the rest of the input, from `consumed` on, until that is empty or the
    /// body is done. Once done it consumes nothing.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] at the first byte that makes the body unacceptable. Close the connection.
    pub fn decode(&mut self, input: &[u8]) -> Result<ChunkStep, Refusal> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            match self.state {
                State::Data => {
                    let there = (input.len() - at) as u64;
                    let taken = self.size.min(there);
                    let data = at..at + taken as usize;
                    self.size -= taken;
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(ChunkStep { consumed: data.end, data, done: false });
                }
                State::Trailers => {
                    let (read, ended) = self.trailers.read(&input[at..], &self.limits)?;
                    at += read;
                    if ended {
                        self.state = State::Done;
                    }
                }
                _ => {
                    self.state = self.frame(input[at])?;
                    at += 1;
                }
            }
        }
        let done = self.state == State::Done;
        Ok(ChunkStep { consumed: at, data: at..at, done })
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many data bytes of the present chunk are still to come; 0 between chunks.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        if self.state == State::Data { self.size } else { 0 }
    }

    /// The trailer fields, once the body has ended. Their spans are relative to
    /// [`trailer_bytes`](ChunkedDecoder::trailer_bytes).
    #[must_use]
    pub fn trailers(&self) -> &[FieldSpan] {
        self.trailers.fields()
    }

    /// The trailer section's bytes, to which the spans of the fields are relative.
    #[must_use]
    pub fn trailer_bytes(&self) -> &[u8] {
        self.trailers.bytes()
    }

    fn begin_chunk(&mut self) -> State {
        self.state = State::Size;
        self.size = 0;
        self.line = 0;
        State::Size
    }

    /// The state after a byte that is neither data nor of the trailer section.
    fn frame(&mut self, byte: u8) -> Result<State, Refusal> {
        match self.state {
            State::Size | State::SizeDigits => match byte {
                b'0'..=b'9' | b'A'..=b'F' | b'a'..=b'f' => self.digit(byte),
                _ if self.state == State::Size => Err(refused(byte, Refusal::BadChunkSize)),
                b'\r' => Ok(State::SizeLf),
                b';' | b' ' | b'\t' => self.extension(Extension::Begin, byte),
                _ => Err(refused(byte, Refusal::BadChunkSize)),
            },
            State::Extension(extension) => match byte {
                b'\r' if extension.may_end() => Ok(State::SizeLf),
                _ => self.extension(extension, byte),
            },
            State::SizeLf => match (byte, self.size) {
                (b'\n', 0) => Ok(State::Trailers),
                (b'\n', _) => Ok(State::Data),
                _ => Err(Refusal::BareCr),
            },
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataCr => Err(refused(byte, Refusal::BadChunkEnd)),
            State::DataLf if byte == b'\n' => Ok(self.begin_chunk()),
            State::DataLf => Err(Refusal::BareCr),
            State::Data | State::Trailers | State::Done => unreachable!("not framing"),
        }
    }

    /// Takes a size's digit into account.
    fn digit(&mut self, byte: u8) -> Result<State, Refusal> {
        self.lengthen_line()?;
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        // RFC 9112 section 7.1: "A recipient MUST anticipate potentially large hexadecimal
        // numerals and prevent parsing errors due to integer conversion overflows".
        if self.size > u64::MAX >> 4 {
            return Err(Refusal::ChunkSizeOverflow);
        }
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::SizeDigits)
    }

    /// Takes a byte of an extension into account.
    fn extension(&mut self, extension: Extension, byte: u8) -> Result<State, Refusal> {
        self.lengthen_line()?;
        if self.extensions >= self.limits.extension_bytes {
            return Err(Refusal::ChunkExtensionsTooLong);
        }
        self.extensions += 1;
        match extension.next(byte) {
            Some(next) => Ok(State::Extension(next)),
            None => Err(refused(byte, Refusal::BadChunkExtension)),
        }
    }

    fn lengthen_line(&mut self) -> Result<(), Refusal> {
        if self.line >= self.limits.line_bytes {
            return Err(Refusal::ChunkLineTooLong);
        }
        self.line += 1;
        Ok(())
    }
}

/// A line feed where none may stand is named for what it is; everything else by where it stands.
fn refused(byte: u8, otherwise: Refusal) -> Refusal {
    if byte == b'\n' { Refusal::BareLf } else { otherwise }
}

/// What ends a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";
/// What ends a chunked body that has no trailer fields.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// What ends the data of a chunked body that has trailer fields: they follow, each written by
/// [`field`](crate::field), and then [`CHUNK_END`].
pub const LAST_CHUNK_BEFORE_TRAILERS: &[u8] = b"0\r\n";

/// Writes what stands before a chunk's data: its size in hexadecimal and CRLF. Behind the data
/// goes [`CHUNK_END`], behind the last chunk [`LAST_CHUNK`].
///
/// # Panics
///
/// If `len` is 0: a chunk without data ends the body, and what follows it would be read as the
/// next message.
pub fn encode_chunk_head(out: &mut Vec<u8>, len: usize) {
    assert!(len > 0, "an empty chunk would end the body");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4) as usize;
    let mut line = [0; 18];
    for (place, byte) in line[..digits].iter_mut().rev().enumerate() {
        *byte = b"0123456789abcdef"[len >> (4 * place) & 0xf];
    }
    line[digits..digits + 2].copy_from_slice(b"\r\n");
    out.extend_from_slice(&line[..digits + 2]);
}

/// Writes a whole chunk; nothing if `data` is empty.
pub fn encode_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        encode_chunk_head(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(CHUNK_END);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_head_is_the_shortest_hexadecimal() {
        for len in [1, 9, 10, 15, 16, 255, 256, 4_096, 65_535, usize::MAX] {
            let mut out = Vec::new();
            encode_chunk_head(&mut out, len);
            assert_eq!(out, format!("{len:x}\r\n").into_bytes());
        }
    }

    #[test]
    #[should_panic(expected = "would end the body")]
    fn an_empty_chunk_is_our_own_bug() {
        encode_chunk_head(&mut Vec::new(), 0);
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut bytes = Vec::new();
        encode_chunk(&mut bytes, b"hello");
        encode_chunk(&mut bytes, b"");
        encode_chunk(&mut bytes, &[b'x'; 300]);
        bytes.extend_from_slice(LAST_CHUNK);
        let mut decoder = ChunkedDecoder::new(ChunkedLimits::default());
        let (mut body, mut at) = (Vec::new(), 0);
        while !decoder.is_done() {
            let step = decoder.decode(&bytes[at..]).unwrap();
            body.extend_from_slice(&bytes[at..][step.data]);
            at += step.consumed;
        }
        assert_eq!(at, bytes.len());
        assert_eq!(body, [b"hello".as_slice(), &[b'x'; 300]].concat());
    }
}
