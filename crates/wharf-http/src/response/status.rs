//! Status lines (RFC 9112 section 4), written out beforehand for every registered code.

use crate::request::Version;

/// Whether a response with this status has a body at all (RFC 9112 section 6.3): none with 1xx,
/// 204 or 304. An answer to HEAD, or a 2xx to CONNECT, has none either, which the status does not
/// tell.
#[inline]
#[must_use]
pub fn status_allows_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// Writes a status line with its CRLF. A status that is not registered has an empty reason phrase.
///
/// # Panics
///
/// If `status` is not in 100 to 999: that is no status code.
#[inline]
pub fn status_line(out: &mut Vec<u8>, version: Version, status: u16) {
    if status == 200 && version == Version::Http11 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        other_status_line(out, version, status);
    }
}

fn other_status_line(out: &mut Vec<u8>, version: Version, status: u16) {
    assert!((100..=999).contains(&status), "{status} is no status code");
    let line = match LINES.binary_search_by_key(&status, |&(status, _)| status) {
        Ok(found) => LINES[found].1.as_bytes(),
        Err(_) => {
            let digit = |place| b'0' + (status / place % 10) as u8;
            let digits = [digit(100), digit(10), digit(1)];
            let start = out.len();
            out.extend_from_slice(b"HTTP/1.1 xxx \r\n");
            out[start + 9..start + 12].copy_from_slice(&digits);
            return lower_version(&mut out[start..], version);
        }
    };
    let start = out.len();
    out.extend_from_slice(line);
    lower_version(&mut out[start..], version);
}

fn lower_version(line: &mut [u8], version: Version) {
    if version == Version::Http10 {
        line[b"HTTP/1.".len()] = b'0';
    }
}

/// The reason phrase of a registered status.
///
/// ```
/// assert_eq!(wharf_http::status_reason(413), Some("Content Too Large"));
/// assert_eq!(wharf_http::status_reason(599), None);
/// ```
#[must_use]
pub fn status_reason(status: u16) -> Option<&'static str> {
    let found = LINES.binary_search_by_key(&status, |&(status, _)| status).ok()?;
    LINES[found].1.get("HTTP/1.1 xxx ".len()..)?.strip_suffix("\r\n")
}

macro_rules! lines {
    ($($status:literal $reason:literal,)*) => {
        &[$(($status, concat!("HTTP/1.1 ", $status, " ", $reason, "\r\n")),)*]
    };
}

/// The registered status codes in order, with the reason phrases of RFC 9110 section 15 and of
/// the documents that define the others.
const LINES: &[(u16, &str)] = lines![
    100 "Continue",
    101 "Switching Protocols",
    102 "Processing",
    103 "Early Hints",
    200 "OK",
    201 "Created",
    202 "Accepted",
    203 "Non-Authoritative Information",
    204 "No Content",
    205 "Reset Content",
    206 "Partial Content",
    207 "Multi-Status",
    208 "Already Reported",
    226 "IM Used",
    300 "Multiple Choices",
    301 "Moved Permanently",
    302 "Found",
    303 "See Other",
    304 "Not Modified",
    305 "Use Proxy",
    307 "Temporary Redirect",
    308 "Permanent Redirect",
    400 "Bad Request",
    401 "Unauthorized",
    402 "Payment Required",
    403 "Forbidden",
    404 "Not Found",
    405 "Method Not Allowed",
    406 "Not Acceptable",
    407 "Proxy Authentication Required",
    408 "Request Timeout",
    409 "Conflict",
    410 "Gone",
    411 "Length Required",
    412 "Precondition Failed",
    413 "Content Too Large",
    414 "URI Too Long",
    415 "Unsupported Media Type",
    416 "Range Not Satisfiable",
    417 "Expectation Failed",
    418 "I'm a teapot",
    421 "Misdirected Request",
    422 "Unprocessable Content",
    423 "Locked",
    424 "Failed Dependency",
    425 "Too Early",
    426 "Upgrade Required",
    428 "Precondition Required",
    429 "Too Many Requests",
    431 "Request Header Fields Too Large",
    451 "Unavailable For Legal Reasons",
    500 "Internal Server Error",
    501 "Not Implemented",
    502 "Bad Gateway",
    503 "Service Unavailable",
    504 "Gateway Timeout",
    505 "HTTP Version Not Supported",
    506 "Variant Also Negotiates",
    507 "Insufficient Storage",
    508 "Loop Detected",
    511 "Network Authentication Required",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(LINES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn every_status_has_its_line() {
        for status in 100..=999 {
            for (version, start) in [(Version::Http11, "HTTP/1.1"), (Version::Http10, "HTTP/1.0")] {
                let mut out = b"before".to_vec();
                status_line(&mut out, version, status);
                let line = String::from_utf8(out).unwrap();
                assert!(line.starts_with(&format!("before{start} {status} ")), "{line:?}");
                assert!(line.ends_with("\r\n"));
            }
        }
        let mut out = Vec::new();
        status_line(&mut out, Version::Http11, 404);
        status_line(&mut out, Version::Http10, 599);
        assert_eq!(out, b"HTTP/1.1 404 Not Found\r\nHTTP/1.0 599 \r\n");
        assert_eq!((status_reason(404), status_reason(599)), (Some("Not Found"), None));
    }

    #[test]
    #[should_panic(expected = "is no status code")]
    fn a_number_that_is_no_status_is_our_own_bug() {
        status_line(&mut Vec::new(), Version::Http11, 99);
    }

    #[test]
    fn which_statuses_have_a_body() {
        for status in 100..=999 {
            let none = status < 200 || status == 204 || status == 304;
            assert_eq!(status_allows_body(status), !none, "{status}");
        }
    }
}
