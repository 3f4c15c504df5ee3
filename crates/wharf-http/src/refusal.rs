//! Why a message is refused: one closed enum, and for each case its status and its sentence.

use std::fmt;

/// Why a message from a peer is refused.
///
/// Every case is the peer's doing; misuse of this crate panics or has its own error. Whoever gets
/// one answers with [`status`](Refusal::status) and closes the connection, always: after a message
/// that could not be read, nobody knows where the next one begins, and to guess is how requests
/// are smuggled (RFC 9112 section 11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    // The request line.
    /// The method is empty or has a byte that no token has (RFC 9112 section 3.1).
    BadMethod,
    /// The method is longer than any known one (RFC 9112 section 3).
    MethodTooLong,
    /// The request line ends before its three parts are there (RFC 9112 section 3).
    BadRequestLine,
    /// The target is empty, or has a byte that may not stand raw in a target, or its authority is
    /// malformed (RFC 9112 section 3.2).
    BadTarget,
    /// The target's form does not go with the method (RFC 9112 sections 3.2.3 and 3.2.4).
    WrongTargetForm,
    /// What stands after the target is not `HTTP/` digit `.` digit (RFC 9112 section 2.3).
    BadVersion,
    /// A major version other than 1 (RFC 9110 section 15.6.6).
    UnsupportedVersion,
    /// The request line is over its limit (RFC 9112 section 3).
    RequestLineTooLong,

    // Any line.
    /// A CR that no LF follows (RFC 9112 section 2.2).
    BareCr,
    /// An LF that no CR precedes (RFC 9112 section 2.2).
    BareLf,

    // Field lines.
    /// The head is over its limit (RFC 6585 section 5).
    HeadTooLarge,
    /// More fields than the limit allows (RFC 6585 section 5).
    TooManyFields,
    /// A line that starts with white space: a folded field, or white space between the request
    /// line and the first field (RFC 9112 sections 5.2 and 2.2).
    FoldedLine,
    /// A field line that starts with its colon (RFC 9112 section 5).
    EmptyFieldName,
    /// White space between a field's name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A field name with a byte that no token has, or a field line without a colon
    /// (RFC 9110 section 5.1).
    BadFieldName,
    /// A control byte in a field value (RFC 9110 section 5.5).
    BadFieldValue,

    // What the fields say.
    /// An HTTP/1.1 request without Host (RFC 9112 section 3.2).
    MissingHost,
    /// More than one Host (RFC 9112 section 3.2).
    RepeatedHost,
    /// A Host that is no host with an optional port (RFC 9112 section 3.2).
    BadHost,
    /// A Content-Length that is not a plain decimal number below 2^64 (RFC 9110 section 8.6).
    BadLength,
    /// More than one Content-Length, be they equal or not (RFC 9112 section 6.3).
    RepeatedLength,
    /// Both Content-Length and Transfer-Encoding (RFC 9112 section 6.1).
    LengthWithCoding,
    /// Content-Length or Transfer-Encoding with CONNECT (RFC 9110 section 9.3.6).
    FramedConnect,
    /// Transfer-Encoding in an HTTP/1.0 request (RFC 9112 section 6.1).
    CodingInHttp10,
    /// A Transfer-Encoding that is no list of coding names, or gives `chunked` a parameter
    /// (RFC 9112 section 7).
    BadCoding,
    /// A transfer coding other than `chunked` before it (RFC 9112 section 6.1).
    UnknownCoding,
    /// Transfer-Encoding whose last coding is not `chunked`, or that has `chunked` twice
    /// (RFC 9112 section 6.3).
    ChunkedNotFinal,
    /// A Connection that is no list of tokens (RFC 9110 section 7.6.1).
    BadConnection,
    /// An expectation other than `100-continue` (RFC 9110 section 10.1.1).
    UnknownExpectation,

    // The chunked body.
    /// A chunk that does not start with a hexadecimal number and a line end or an extension
    /// (RFC 9112 section 7.1).
    BadChunkSize,
    /// A chunk size of 2^64 or more (RFC 9112 section 7.1).
    ChunkSizeOverflow,
    /// A malformed chunk extension (RFC 9112 section 7.1.1).
    BadChunkExtension,
    /// A chunk's size line is over its limit (RFC 9112 section 7.1.1).
    ChunkLineTooLong,
    /// The chunk extensions of the message together are over their limit
    /// (RFC 9112 section 7.1.1).
    ChunkExtensionsTooLong,
    /// A chunk's data is not followed by CRLF (RFC 9112 section 7.1).
    BadChunkEnd,
    /// The trailer section is over its limit (RFC 6585 section 5).
    TrailersTooLarge,
    /// More trailer fields than the limit allows (RFC 6585 section 5).
    TooManyTrailers,
    /// A trailer field that would frame or route the message (RFC 9110 section 6.5.1).
    ForbiddenTrailer,
}

impl Refusal {
    /// The status code to answer with, always in 400 to 599.
    #[must_use]
    pub fn status(self) -> u16 {
        self.answer().0
    }

    /// One sentence for the client that says what was wrong with what it sent. It holds nothing
    /// of what was sent, so it can go into an answer as it is.
    #[must_use]
    pub fn reason(self) -> &'static str {
        self.answer().1
    }

    fn answer(self) -> (u16, &'static str) {
        match self {
            Refusal::BadMethod => (400, "The request method is not a token."),
            // RFC 9112 section 3: "a method longer than any that it implements SHOULD [get] 501".
            Refusal::MethodTooLong => (501, "The request method is longer than any known one."),
            Refusal::BadRequestLine => (400, "The request line is not complete."),
            Refusal::BadTarget => (400, "The request target is not a valid URI reference."),
            Refusal::WrongTargetForm => {
                (400, "The form of the request target does not go with the method.")
            }
            Refusal::BadVersion => (400, "The request line does not end with an HTTP version."),
            Refusal::UnsupportedVersion => (505, "Only HTTP/1.0 and HTTP/1.1 are spoken here."),
            Refusal::RequestLineTooLong => (414, "The request line is too long."),
            Refusal::BareCr => (400, "A carriage return stands without a line feed."),
            Refusal::BareLf => (400, "A line ends in a line feed without a carriage return."),
            Refusal::HeadTooLarge => (431, "The request head is too large."),
            Refusal::TooManyFields => (431, "The request has too many header fields."),
            Refusal::FoldedLine => (400, "A header line starts with white space."),
            Refusal::EmptyFieldName => (400, "A header field has no name."),
            Refusal::SpaceBeforeColon => (400, "White space stands before a header's colon."),
            Refusal::BadFieldName => (400, "A header line has no valid name and colon."),
            Refusal::BadFieldValue => (400, "A header value has a control character."),
            Refusal::MissingHost => (400, "The Host header is missing."),
            Refusal::RepeatedHost => (400, "The Host header stands more than once."),
            Refusal::BadHost => (400, "The Host header is not a host and an optional port."),
            Refusal::BadLength => (400, "The Content-Length header is not a decimal number."),
            Refusal::RepeatedLength => (400, "The Content-Length header stands more than once."),
            Refusal::LengthWithCoding => {
                (400, "Content-Length and Transfer-Encoding stand in the same request.")
            }
            Refusal::FramedConnect => (400, "A CONNECT request has no body."),
            Refusal::CodingInHttp10 => (400, "Transfer-Encoding stands in an HTTP/1.0 request."),
            Refusal::BadCoding => (400, "The Transfer-Encoding header is malformed."),
            Refusal::UnknownCoding => (501, "The only transfer coding known here is chunked."),
            Refusal::ChunkedNotFinal => {
                (400, "The last transfer coding is not chunked, or chunked stands twice.")
            }
            Refusal::BadConnection => (400, "The Connection header is malformed."),
            Refusal::UnknownExpectation => (417, "The only known expectation is 100-continue."),
            Refusal::BadChunkSize => (400, "A chunk does not start with its size."),
            Refusal::ChunkSizeOverflow => (400, "A chunk size is too large a number."),
            Refusal::BadChunkExtension => (400, "A chunk extension is malformed."),
            Refusal::ChunkLineTooLong => (400, "A chunk's size line is too long."),
            Refusal::ChunkExtensionsTooLong => (400, "The chunk extensions are too long."),
            Refusal::BadChunkEnd => (400, "A chunk's data does not end where its size says."),
            Refusal::TrailersTooLarge => (431, "The trailer section is too large."),
            Refusal::TooManyTrailers => (431, "The message has too many trailer fields."),
            Refusal::ForbiddenTrailer => (400, "A trailer field is not allowed in trailers."),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}
