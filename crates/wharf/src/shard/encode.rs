//! An answer's bytes: head and small body into the output block, a large body as it is.

use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use wharf_http::{Refusal, content_length_and_end, status_allows_body};
use wharf_port::Gather;

use super::opening::Openings;
use super::outflow::{Coding, append};
use crate::Response;
use crate::response::Body;

/// A body up to this length is copied behind its head, in place of a send of two parts.
pub(super) const COPIED_BODY_BYTES: usize = 2 * 1024;
/// What a client is told to wait after a 503, in whole seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// What the answer depends on beside the response.
pub(super) struct Framing {
    /// The answer to HEAD has the fields of GET, and no body (RFC 9110 section 9.3.2).
    pub(super) is_head: bool,
    pub(super) keep_alive: bool,
    pub(super) coding: Coding,
    /// The connection speaks another protocol from here on.
    pub(super) is_takeover: bool,
    /// The peer speaks HTTP/1.0, which takes a connection to close unless told otherwise.
    pub(super) is_http_10: bool,
}

/// Whether the response asks for its connection to be closed.
pub(super) fn asks_to_close(response: &Response) -> bool {
    response.fields().others().iter().any(|(name, value)| {
        *name == header::CONNECTION && value.as_bytes().eq_ignore_ascii_case(b"close")
    })
}

/// Appends the response's head to the output, and its body if that is whole in memory. Returns the
/// body that is still to be sent.
#[inline]
pub(super) fn encode(
    output: &mut Gather,
    response: &mut Response,
    framing: &Framing,
    openings: &mut Openings,
) -> Option<Body> {
    let status = response.status();
    let is_usual = framing.keep_alive && !framing.is_http_10 && !framing.is_head;
    if let Coding::Known { left } = framing.coding
        && status == StatusCode::OK
        && is_usual
        && response.fields().others().is_empty()
    {
        openings.write_head(output.block_mut(), response.fields().known(), left);
    } else if !encode_head(output.block_mut(), response, framing, openings) {
        return None;
    }
    match response.take_body() {
        Body::Whole(bytes) => {
            append(output, bytes);
            None
        }
        rest => Some(rest),
    }
}

/// Appends any head. Whether a body follows.
fn encode_head(
    block: &mut Vec<u8>,
    response: &Response,
    framing: &Framing,
    openings: &Openings,
) -> bool {
    let status = response.status().as_u16();
    let (content_type, others) = (response.fields().known(), response.fields().others());
    let has_date = others.iter().any(|(name, _)| *name == header::DATE);
    openings.write(block, status, content_type, !has_date);
    let written = others.iter().filter(|(name, _)| !frames_the_message(name));
    written.for_each(|(name, value)| write_field(block, name, value));
    let offers_upgrade = others.iter().any(|(name, _)| *name == header::UPGRADE);
    if framing.is_takeover || !framing.keep_alive || framing.is_http_10 || offers_upgrade {
        write_connection(block, offers_upgrade, framing);
    }
    let has_body = framing.is_takeover || status_allows_body(status);
    match framing.coding {
        Coding::Known { left } if has_body && !framing.is_takeover => {
            content_length_and_end(block, left);
        }
        Coding::Chunked if has_body && !framing.is_takeover => {
            block.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        }
        _ => block.extend_from_slice(b"\r\n"),
    }
    has_body && !framing.is_head
}

/// What becomes of the connection, where it is not what the version says. An Upgrade field has to
/// be listed beside it (RFC 9110 section 7.8), in a 426 as in a 101.
fn write_connection(block: &mut Vec<u8>, offers_upgrade: bool, framing: &Framing) {
    let option: &[u8] = if framing.is_takeover {
        b""
    } else if !framing.keep_alive {
        b"close"
    } else if framing.is_http_10 {
        b"keep-alive"
    } else {
        b""
    };
    let line: [&[u8]; 4] = match (option, offers_upgrade) {
        (b"", false) => return,
        (b"", true) => [b"connection: ", b"upgrade", b"", b"\r\n"],
        (option, false) => [b"connection: ", option, b"", b"\r\n"],
        (option, true) => [b"connection: ", option, b", upgrade", b"\r\n"],
    };
    line.iter().for_each(|piece| block.extend_from_slice(piece));
}

/// `HeaderName` admits only tokens and `HeaderValue` no control character but the tab, so nothing
/// here can end the line or the head.
pub(super) fn write_field(block: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
    block.reserve(name.len() + value.len() + 4);
    block.extend_from_slice(name);
    block.extend_from_slice(b": ");
    block.extend_from_slice(value);
    block.extend_from_slice(b"\r\n");
}

/// Fields that are Wharf's to write.
pub(super) fn frames_the_message(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH
        || *name == header::TRANSFER_ENCODING
        || *name == header::CONNECTION
        || name.as_str() == "keep-alive"
}

/// No worker, no place in the queue, or no memory for a body.
pub(super) fn overloaded() -> Response {
    Response::message(StatusCode::SERVICE_UNAVAILABLE, "The server is busy; try again soon.\n")
        .header(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
}

pub(super) fn too_large() -> Response {
    let message = "The request's body is longer than this resource accepts.\n";
    Response::message(StatusCode::PAYLOAD_TOO_LARGE, message)
}

pub(super) fn refusal(refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    Response::message(status, format!("{}\n", refusal.reason()))
}
