//! Bodies of requests that were sent compressed, as handlers want them.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::Hook;
use super::compress::Coding;
use crate::stream::BodyReader;
use crate::{Error, IntoResponse, Request, Response};

/// Decompresses requests' bodies that were sent with a Content-Encoding of `br` or `gzip`, and with
/// the feature `zstd` of `zstd` (RFC 9110 section 8.4).
///
/// A body that is there whole is replaced before the handler runs. On a
/// [streaming](crate::Route::streaming) route it is decoded while it is read, and then what is wrong
/// with it is an error of the reader; [`BodyError`](crate::BodyError) says which. What a handler
/// sees of Content-Encoding and Content-Length is as it was sent.
///
/// What it answers itself: `413 Content Too Large` for what is longer than
/// [`max_bytes`](Decompress::max_bytes) once it is decoded, of which no more than that is ever held;
/// `400 Bad Request` for what is not in the coding that it claims; `415 Unsupported Media Type` with
/// Accept-Encoding for other codings, and for several on top of each other (section 15.5.16).
///
/// The [body limit](crate::Route::body_limit) is for the bytes as they are sent. Decoding takes time
/// where the handler runs, so a route with this hook had better not be
/// [inline](crate::Route::inline). The decoded bytes do not count against
/// [`Limits::bodies_bytes`](crate::Limits::bodies_bytes).
///
/// ```
/// use wharf::hooks::Decompress;
/// use wharf::{Router, post};
///
/// let router = Router::new()
///     .route("/logs", post(|request| request.body().len().to_string()).pooled())
///     .hook(Decompress::new().max_bytes(16 << 20));
/// # let _ = router;
/// ```
#[derive(Clone, Debug)]
pub struct Decompress {
    max_bytes: usize,
}

const MAX_BYTES: usize = 2 * 1024 * 1024;
/// The binary logarithm of the most that a decoder keeps of what it has decoded: 8 MB, which is what
/// others need not go beyond either (RFC 9659).
#[cfg(feature = "zstd")]
const ZSTD_WINDOW: u32 = 23;
const BROTLI_BUFFER_BYTES: usize = 4_096;

/// Marks a request whose body is decoded already.
#[derive(Clone)]
struct IsDecoded;

impl Decompress {
    /// Decompresses what is no longer than 2 MiB.
    pub fn new() -> Decompress {
        Decompress { max_bytes: MAX_BYTES }
    }

    /// How long a body may be once it is decoded, in bytes. Default 2 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Decompress {
        self.max_bytes = bytes;
        self
    }
}

impl Default for Decompress {
    fn default() -> Decompress {
        Decompress::new()
    }
}

impl Hook for Decompress {
    fn before(&self, request: &mut Request) -> Option<Response> {
        let coding = match coding_of(request) {
            Sent::Plain => return None,
            Sent::Coded(coding) => coding,
            Sent::Unknown => return Some(unsupported()),
        };
        let is_empty = request.inflow.is_none() && request.body().is_empty();
        if is_empty || request.extensions().get::<IsDecoded>().is_some() {
            return None;
        }
        request.extensions_mut().insert(IsDecoded);
        let open = Box::new(move |sent| open(coding, sent));
        request.decode(open, self.max_bytes).err().map(|error| Error::from(error).into_response())
    }
}

/// What a request's Content-Encoding says.
enum Sent {
    Plain,
    Coded(Coding),
    Unknown,
}

fn coding_of(request: &Request) -> Sent {
    let values = request.header_all(header::CONTENT_ENCODING);
    let names = values.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let is_coding = |name: &&[u8]| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity");
    let mut names = names.filter(is_coding);
    match (names.next(), names.next()) {
        (None, _) => Sent::Plain,
        (Some(_), Some(_)) => Sent::Unknown,
        (Some(name), None) => {
            // RFC 9110 section 8.4.1.3: the old name is the same.
            let name: &[u8] = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
            let is_it = |coding: &&Coding| name.eq_ignore_ascii_case(coding.name().as_bytes());
            Coding::ALL.iter().find(is_it).map_or(Sent::Unknown, |&coding| Sent::Coded(coding))
        }
    }
}

fn unsupported() -> Response {
    let known: Vec<_> = Coding::ALL.iter().map(|coding| coding.name()).collect();
    let message = "The request's body is in a content coding that is not read here.";
    let response = Error::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
    match HeaderValue::try_from(known.join(", ")) {
        Ok(known) => response.header(header::ACCEPT_ENCODING, known),
        Err(_) => response,
    }
}

fn open(coding: Coding, mut sent: BodyReader) -> io::Result<Box<dyn Read + Send>> {
    Ok(match coding {
        Coding::Brotli => {
            // In RFC 7932 section 9.1 this is no window. The decoder takes it for one of up to 1 GB.
            if sent.fill_buf()?.first().is_some_and(|first| first & 0x7f == 0x11) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a window of brotli"));
            }
            Box::new(brotli::Decompressor::new(sent, BROTLI_BUFFER_BYTES))
        }
        #[cfg(feature = "zstd")]
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(sent)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Coding::Gzip => Box::new(MultiGzDecoder::new(sent)),
    })
}
