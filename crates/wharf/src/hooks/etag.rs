//! Names for the states of answers, so that a client need not load what it has.

use std::fmt::Write;

use http::header;
use http::{Method, StatusCode};
use sha2::{Digest, Sha256};

use super::Hook;
use crate::{Request, Response};

/// Gives answers an ETag made of their bytes (RFC 9110 section 8.8.3), and then answers a client that
/// has them already `304 Not Modified`, as if the handler had called
/// [`Response::etag`]. This saves sending the answer, not making it.
///
/// Answered are GET and HEAD; named is a `200 OK` with a body whole in memory that is not empty and
/// up to [`max_bytes`](Etag::max_bytes) long, unless it has an ETag or says
/// `Cache-Control: no-store`. The tag is of SHA-256, so that nobody who has a say in what an answer
/// shows can make two of them that share it. It is strong, if not said
/// [otherwise](Etag::weak); then ranges of the body can be had too.
///
/// Together with `Compress`, put this one further in, which is added behind it on the same router: the
/// tag is then of the answer as it was, whatever the client's coding, `Compress` makes it weak where
/// it has changed the bytes, and what the client has is found before the answer is compressed. The
/// other way round it is right too, but every answer is compressed just to find that out.
///
/// ```
/// use wharf::Router;
/// use wharf::hooks::Etag;
///
/// let router = Router::new().get("/menu", |_| "soup, bread, cheese").hook(Etag::new());
/// # let _ = router;
/// ```
#[derive(Clone, Debug)]
pub struct Etag {
    is_weak: bool,
    max_bytes: usize,
}

const MAX_BYTES: usize = 1024 * 1024;
/// Of the hash's 32: enough that no two answers share them.
const TAG_BYTES: usize = 16;

impl Etag {
    /// Names answers of up to 1 MiB, strongly.
    pub fn new() -> Etag {
        Etag { is_weak: false, max_bytes: MAX_BYTES }
    }

    /// Makes weak tags, which say that answers mean the same and not that they are the same, byte by
    /// byte. No ranges can be joined by them.
    pub fn weak(mut self) -> Etag {
        self.is_weak = true;
        self
    }

    /// Leaves longer bodies alone, in bytes. Default 1 MiB, for which hashing takes about a
    /// millisecond.
    pub fn max_bytes(mut self, bytes: usize) -> Etag {
        self.max_bytes = bytes;
        self
    }

    fn tag_of(&self, request: &Request, response: &Response) -> Option<String> {
        let is_asked_for = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_plain = response.status() == StatusCode::OK && !response.has_field(&header::ETAG);
        if !is_asked_for || !is_plain || is_stored_by_nobody(response) {
            return None;
        }
        let body = response.body_bytes().filter(|body| !body.is_empty())?;
        if body.len() > self.max_bytes {
            return None;
        }
        let mut tag = String::new();
        for byte in &Sha256::digest(body)[..TAG_BYTES] {
            // Writing to a string does not fail.
            let _ = write!(tag, "{byte:02x}");
        }
        Some(tag)
    }
}

impl Default for Etag {
    fn default() -> Etag {
        Etag::new()
    }
}

impl Hook for Etag {
    fn after(&self, request: &Request, response: Response) -> Response {
        match self.tag_of(request, &response) {
            Some(tag) if self.is_weak => {
                response.header(header::ETAG, format!("W/\"{tag}\"")).conditional()
            }
            Some(tag) => response.etag(&tag),
            None => response,
        }
    }
}

/// Nobody has it, so nobody asks whether it is still the same.
fn is_stored_by_nobody(response: &Response) -> bool {
    let values = response.headers().filter(|(name, _)| *name == header::CACHE_CONTROL);
    values
        .filter_map(|(_, value)| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-store"))
}
