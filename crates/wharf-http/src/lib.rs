//! HTTP/1.1 messages as stateless functions and sans-I/O state machines.
//!
//! This crate reads request heads and chunked bodies and writes response heads. It holds no
//! socket, no clock and no thread, and allocates nothing per message: bytes go in, offsets and
//! bytes come out. It can be used alone.
//!
//! # Reading a request
//!
//! A [`RequestHead`] is filled from whatever has been received so far. It says when the head is
//! whole, and then where its parts lie; the bytes stay where they are.
//!
//! ```
//! use wharf_http::{Framing, HeadLimits, RequestHead};
//!
//! let limits = HeadLimits::default();
//! let mut head = RequestHead::new();
//!
//! // Half of it: more is needed.
//! let received = b"POST /orders?id=7 HTTP/1.1\r\nHost: exam";
//! assert_eq!(head.parse(received, &limits)?, None);
//!
//! // All of it, from the first byte, and the body behind it.
//! let received = b"POST /orders?id=7 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello";
//! let length = head.parse(received, &limits)?.expect("the head is whole");
//! assert_eq!(&received[length..], b"hello");
//!
//! assert_eq!(head.method().of(received), b"POST");
//! assert_eq!(head.path().of(received), b"/orders");
//! assert_eq!(head.query().map(|query| query.of(received)), Some(b"id=7".as_slice()));
//! assert_eq!(head.authority().map(|host| host.of(received)), Some(b"example.com".as_slice()));
//! assert_eq!(head.framing(), Framing::Length(5));
//! assert!(head.keep_alive());
//! for field in head.fields() {
//!     println!("{:?}: {:?}", field.name.of(received), field.value.of(received));
//! }
//!
//! // The next message uses the same memory.
//! head.clear();
//! # Ok::<(), wharf_http::Refusal>(())
//! ```
//!
//! # What is refused
//!
//! Where leniency is how requests are smuggled past a proxy, this crate has none: bare CR or LF,
//! white space before a colon, folded lines, a length said twice or beside a transfer coding, and
//! so on. A [`Refusal`] names the reason, the status to answer with and a sentence for the client;
//! the connection is to be closed.
//!
//! ```
//! use wharf_http::{HeadLimits, Refusal, RequestHead};
//!
//! let smuggled = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
//! let refusal = RequestHead::new().parse(smuggled, &HeadLimits::default()).unwrap_err();
//! assert_eq!(refusal, Refusal::LengthWithCoding);
//! assert_eq!(refusal.status(), 400);
//! ```
//!
//! The places where this crate is deliberately stricter or milder than the letter:
//!
//! | what | how it is taken | why |
//! |---|---|---|
//! | a lone LF as line end (RFC 9112 section 2.2 allows it) | refused | readers that differ here can be played off against each other |
//! | equal Content-Lengths, also `5, 5` (RFC 9110 section 8.6 allows it) | refused | no honest sender does it |
//! | `[ ] \ ^ { }`, the bar and the backtick raw in a target (RFC 3986 forbids most) | accepted | browsers send them |
//! | `"`, `<`, `>`, `#` raw in a target | refused | no browser sends them |
//! | a `%` without two digits in a path or query | accepted | whoever decodes the target must judge it |
//! | bytes from 0x80 on in a field value | accepted | `obs-text`, opaque |
//! | a Host of no bytes | accepted | a client's word for a target without an authority |
//! | Host beside a target in absolute form | the target wins, they need not agree | RFC 9112 section 3.2.2 |
//! | a scheme other than `http` and `https` in absolute form | refused | not ours to serve |
//!
//! # A body in chunks
//!
//! If [`RequestHead::framing`] says [`Framing::Chunked`], a [`ChunkedDecoder`] finds the data in
//! what follows; its page has an example.
//!
//! # Conditions and ranges
//!
//! [`evaluate_conditions`] tells whether a conditional request is to be carried out, and
//! [`select_ranges`] which bytes are asked for.
//!
//! # What fields and bodies mean
//!
//! [`cookies`] reads Cookie, [`Media`] a media type, [`negotiate`] what Accept prefers; with the
//! feature `multipart`, `MultipartSplitter` takes forms with files apart.
//!
//! # Writing a response
//!
//! Functions append to a vector of yours. A name or value that would break the head is an error:
//!
//! ```
//! use wharf_http::{Date, HEAD_END, Version, content_length, field, status_line};
//!
//! let mut out = Vec::with_capacity(1024);
//! let date = Date::at(784_111_777);
//! status_line(&mut out, Version::Http11, 200);
//! date.write_field(&mut out);
//! content_length(&mut out, 2);
//! field(&mut out, b"content-type", b"text/plain")?;
//! assert!(field(&mut out, b"x-name", b"evil\r\nset-cookie: a=b").is_err());
//! out.extend_from_slice(HEAD_END);
//! out.extend_from_slice(b"hi");
//! assert_eq!(
//!     out,
//!     b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
//!       content-length: 2\r\ncontent-type: text/plain\r\n\r\nhi"
//! );
//! # Ok::<(), wharf_http::InvalidField>(())
//! ```
#![deny(unsafe_code)]

mod authority;
mod chunked;
mod coding;
mod conditional;
mod cookie;
mod entity_tag;
mod fields;
mod media;
#[cfg(feature = "multipart")]
mod multipart;
mod range;
mod refusal;
mod request;
mod response;
mod scan;
mod span;

pub use chunked::{
    CHUNK_END, ChunkStep, ChunkedDecoder, ChunkedLimits, LAST_CHUNK, LAST_CHUNK_BEFORE_TRAILERS,
    encode_chunk, encode_chunk_head,
};
pub use coding::coding_weight;
pub use conditional::{Condition, Validators, evaluate_conditions, http_date_seconds};
pub use cookie::cookies;
pub use entity_tag::EntityTag;
pub use media::{Media, negotiate};
#[cfg(feature = "multipart")]
pub use multipart::{MultipartRefusal, MultipartSplitter, MultipartStep, PartHead};
pub use range::{MAX_RANGES, Selection, content_range, select_ranges};
pub use refusal::Refusal;
pub use request::{Framing, HeadLimits, RequestHead, TargetForm, Version};
pub use response::{
    CONTINUE, Date, HEAD_END, InvalidField, content_length, content_length_and_end, field,
    is_field_value, is_token, status_allows_body, status_line, status_reason,
};
pub use span::{FieldSpan, Span};
