//! Answers made shorter on their way: gzip, brotli and Zstandard, as far as a client takes them.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::StatusCode;
use http::header::{self, HeaderValue};
use wharf_http::coding_weight;

use super::Hook;
use crate::response::Body;
use crate::stream::{BodyWriter, Encode, Produce, Source, Trailers};
use crate::{Request, Response};

/// Compresses answers for clients that take it (RFC 9110 section 12.5.3), by brotli or gzip, and
/// with the feature `zstd` by Zstandard.
///
/// What is compressed: bodies whole in memory from [1,024 bytes](Compress::min_bytes) on, and those
/// that flow, piece by piece, each flushed so that it can be read as soon as it comes: of
/// [`Response::body_iter`], [`Response::body_reader`], [`Response::body_writer`] and
/// [`Response::channel`], on the thread that gives the piece. [Events](Compress::events) are, if that
/// is asked for. What is not: types that are compressed already or not known to gain by it; answers
/// that have a `Content-Encoding`, or `Cache-Control: no-transform`; parts of files; partial content,
/// and requests for such.
///
/// Whatever could have been compressed says `Vary: accept-encoding`. An answer that was has a weak
/// ETag in place of a strong one, since its bytes are others (RFC 9110 section 8.8.1), and no
/// `Accept-Ranges`.
///
/// It runs where the handler runs and takes time: a page of 100 KB some milliseconds. An answer
/// that mixes a secret with what an attacker chooses must not be compressed over TLS, for its
/// length tells of the secret (the attack known as BREACH).
///
/// ```
/// use wharf::Router;
/// use wharf::hooks::Compress;
///
/// let router = Router::new().get("/", |_| "long ".repeat(1_000)).hook(Compress::new());
/// # let _ = router;
/// ```
#[derive(Clone, Debug)]
pub struct Compress {
    min_bytes: usize,
    events: bool,
}

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Brotli,
    #[cfg(feature = "zstd")]
    Zstd,
    Gzip,
}

impl Coding {
    /// What Wharf knows; of those that a client likes as much the first is taken.
    pub(super) const ALL: &[Coding] = &[
        Coding::Brotli,
        #[cfg(feature = "zstd")]
        Coding::Zstd,
        Coding::Gzip,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            #[cfg(feature = "zstd")]
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }
}

/// Below this a body fits into one packet anyway.
const MIN_BYTES: usize = 1_024;
/// Of 0 to 11: about as fast as gzip, and shorter.
const BROTLI_QUALITY: u32 = 4;
/// The binary logarithm of the window's bytes: 512 KB, which is what one stream keeps.
const BROTLI_WINDOW: u32 = 19;
const BROTLI_BUFFER_BYTES: usize = 4_096;
/// Of 1 to 22: faster than gzip, and shorter.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;
/// As brotli's. Clients need not take more than 23 (RFC 9659).
#[cfg(feature = "zstd")]
const ZSTD_WINDOW: u32 = 19;
/// Types beside `text/…` and those that end with `+json` or `+xml`.
const TYPES: [&str; 9] = [
    "application/json",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "application/x-ndjson",
    "application/manifest+json",
    "application/x-javascript",
    "image/svg+xml",
    "image/bmp",
];

impl Compress {
    /// Compresses what is worth it.
    pub fn new() -> Compress {
        Compress { min_bytes: MIN_BYTES, events: false }
    }

    /// Leaves bodies alone whose length is known and below this, in bytes. Default 1,024.
    pub fn min_bytes(mut self, bytes: usize) -> Compress {
        self.min_bytes = bytes;
        self
    }

    /// Compresses [server-sent events](Response::events) too. Each stream then keeps some hundred
    /// kilobytes for as long as it is open, which is why they are left alone otherwise.
    pub fn events(mut self) -> Compress {
        self.events = true;
        self
    }

    /// Whether some client could get this answer compressed.
    fn is_worth_it(&self, response: &Response) -> bool {
        let has_body = response.is_compressible(self.events);
        let is_long = response.body_len().is_none_or(|bytes| bytes >= self.min_bytes as u64);
        let status = response.status();
        let is_whole = !status.is_informational()
            && status != StatusCode::NO_CONTENT
            && status != StatusCode::PARTIAL_CONTENT
            && status != StatusCode::NOT_MODIFIED;
        has_body
            && is_long
            && is_whole
            && response.header_value(header::CONTENT_ENCODING).is_none()
            && response.header_value(header::CONTENT_RANGE).is_none()
            && !forbids_change(response)
            && response.header_value(header::CONTENT_TYPE).is_some_and(gains)
    }
}

impl Default for Compress {
    fn default() -> Compress {
        Compress::new()
    }
}

impl Hook for Compress {
    fn after(&self, request: &Request, response: Response) -> Response {
        if response.status() == StatusCode::NOT_MODIFIED {
            return unchanged(request, response);
        }
        if !self.is_worth_it(&response) {
            return response;
        }
        let response = response.vary(&["accept-encoding"]);
        // A range counts in the bytes of what is sent without one. HEAD is compressed in vain, but
        // its fields are then GET's.
        let wants_part = request.header_bytes(header::RANGE).is_some();
        match accepted(request).filter(|_| !wants_part) {
            Some(coding) => compressed(response, coding),
            None => response,
        }
    }
}

/// What the client has may be compressed, and then its tag is weak; a strong one would not be found
/// there (RFC 9111 section 4.3.4).
fn unchanged(request: &Request, response: Response) -> Response {
    let tag = accepted(request).and_then(|_| weakened(response.header_value(header::ETAG)?));
    let response = response.vary(&["accept-encoding"]);
    match tag {
        Some(tag) => response.set_header(header::ETAG, tag),
        None => response,
    }
}

/// RFC 9111 section 5.2.2.6.
fn forbids_change(response: &Response) -> bool {
    let values = response.headers().filter(|(name, _)| *name == header::CACHE_CONTROL);
    values
        .filter_map(|(_, value)| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

/// Whether a type is one that gets shorter.
fn gains(media_type: &HeaderValue) -> bool {
    let text = media_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let has_suffix = essence.ends_with("+json") || essence.ends_with("+xml");
    essence.starts_with("text/") || has_suffix || TYPES.contains(&essence.as_str())
}

/// The coding that the client likes best. None if it would rather have none.
fn accepted(request: &Request) -> Option<Coding> {
    let accept = || request.header_all(header::ACCEPT_ENCODING);
    let plain = coding_weight(accept(), "identity").unwrap_or(0);
    let weigh = |coding: &Coding| {
        let weight = coding_weight(accept(), coding.name());
        weight.filter(|&it| it > 0 && it >= plain).map(|weight| (*coding, weight))
    };
    // Of equals the last one is the greatest.
    let best = Coding::ALL.iter().rev().filter_map(weigh).max_by_key(|&(_, weight)| weight);
    best.map(|(coding, _)| coding)
}

fn compressed(mut response: Response, coding: Coding) -> Response {
    let body = match response.take_body() {
        Body::Whole(bytes) => {
            let short = Encoder::new(coding).and_then(|mut encoder| {
                let mut short = encoder.piece(&bytes, false)?;
                short.extend_from_slice(&encoder.end()?);
                Ok(short)
            });
            match short {
                Ok(short) if short.len() < bytes.len() => Body::Whole(short.into()),
                _ => return response.with_body_as(Body::Whole(bytes)),
            }
        }
        Body::Stream(mut stream) => {
            let encoder = match Encoder::new(coding) {
                Ok(encoder) => Box::new(encoder),
                Err(error) => {
                    tracing::warn!("an answer is not compressed: {error}");
                    return response.with_body_as(Body::Stream(stream));
                }
            };
            stream.length = None;
            stream.source = encoded(stream.source, encoder);
            Body::Stream(stream)
        }
        parts @ Body::Parts(_) => return response.with_body_as(parts),
    };
    let weak = response.header_value(header::ETAG).and_then(weakened);
    let response = response
        .with_body_as(body)
        .set_header(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()))
        .without_header(header::ACCEPT_RANGES);
    match weak {
        Some(tag) => response.set_header(header::ETAG, tag),
        None => response,
    }
}

/// What gives the other form of what `source` gives.
fn encoded(source: Source, encoder: Box<Encoder>) -> Source {
    match source {
        Source::Pulled(source) => {
            Source::Pulled(Box::new(Compressed { source, encoder, done: false }))
        }
        Source::Writer(write) => Source::Writer(Box::new(move |body: &mut BodyWriter| {
            body.encode_by(encoder);
            write(body)
        })),
        Source::Channel(outlet) => {
            outlet.encode_by(encoder);
            Source::Channel(outlet)
        }
        Source::Events(outlet) => {
            outlet.encode_by(encoder);
            Source::Events(outlet)
        }
        tunnel @ Source::Tunnel(_) => tunnel,
    }
}

/// The weak form of a strong ETag.
fn weakened(tag: &HeaderValue) -> Option<HeaderValue> {
    let is_strong = !tag.as_bytes().starts_with(b"W/");
    is_strong.then(|| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()).flatten()
}

/// A compressor, and what it has put out.
enum Encoder {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
    Ended,
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Encoder> {
        Ok(match coding {
            Coding::Brotli => Encoder::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER_BYTES,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
            #[cfg(feature = "zstd")]
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW)?;
                Encoder::Zstd(encoder)
            }
            Coding::Gzip => {
                Encoder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default()))
            }
        })
    }

    /// Takes a piece in, and puts out what there is: all of it, if it is to be flushed.
    fn piece(&mut self, piece: &[u8], flushes: bool) -> io::Result<Vec<u8>> {
        let writer: &mut dyn Write = match self {
            Encoder::Brotli(encoder) => encoder,
            #[cfg(feature = "zstd")]
            Encoder::Zstd(encoder) => encoder,
            Encoder::Gzip(encoder) => encoder,
            Encoder::Ended => return Err(io::Error::other("the body has ended")),
        };
        writer.write_all(piece)?;
        if flushes {
            writer.flush()?;
        }
        Ok(match self {
            Encoder::Brotli(encoder) => std::mem::take(encoder.get_mut()),
            #[cfg(feature = "zstd")]
            Encoder::Zstd(encoder) => std::mem::take(encoder.get_mut()),
            Encoder::Gzip(encoder) => std::mem::take(encoder.get_mut()),
            Encoder::Ended => Vec::new(),
        })
    }
}

impl Encode for Encoder {
    fn encode(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        self.piece(piece, true)
    }

    fn end(&mut self) -> io::Result<Vec<u8>> {
        match std::mem::replace(self, Encoder::Ended) {
            Encoder::Brotli(encoder) => Ok(encoder.into_inner()),
            #[cfg(feature = "zstd")]
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Ended => Ok(Vec::new()),
        }
    }
}

/// A source whose pieces are compressed.
struct Compressed {
    source: Box<dyn Produce>,
    encoder: Box<Encoder>,
    done: bool,
}

impl Produce for Compressed {
    fn produce(&mut self) -> io::Result<Option<Bytes>> {
        while !self.done {
            let short = match self.source.produce()? {
                Some(piece) => self.encoder.encode(&piece)?,
                None => {
                    self.done = true;
                    self.encoder.end()?
                }
            };
            if !short.is_empty() {
                return Ok(Some(short.into()));
            }
        }
        Ok(None)
    }

    fn trailers(&mut self) -> Trailers {
        self.source.trailers()
    }

    #[cfg(test)]
    fn is_ready(&self) -> bool {
        self.source.is_ready()
    }
}
