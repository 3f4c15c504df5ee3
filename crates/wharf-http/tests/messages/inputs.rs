//! Random messages, most of them nearly right: that is where parsers err.

use proptest::prelude::*;
use wharf_http::{ChunkedLimits, HeadLimits};

/// One of the usual texts, mostly, and else one of the odd ones.
fn mostly(
    usual: &'static [&'static str],
    odd: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    let of = |texts: &'static [&'static str]| {
        prop::sample::select(texts).prop_map(|text| text.as_bytes().to_vec())
    };
    prop_oneof![12 => of(usual), 1 => of(odd)]
}

fn joined(parts: impl Strategy<Value = Vec<Vec<u8>>>) -> impl Strategy<Value = Vec<u8>> {
    parts.prop_map(|parts| parts.concat())
}

fn request_line() -> impl Strategy<Value = Vec<u8>> {
    (
        mostly(&[""], &["\r\n", "\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n", "\r", "\n", " "]),
        mostly(
            &["GET", "POST", "OPTIONS", "CONNECT", "M-SEARCH"],
            &[
                "",
                "G@T",
                "get",
                "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF",
                "A-METHOD-OF-THIRTY-THREE-BYTES-XYZ",
            ],
        ),
        mostly(&[" "], &["", "  ", "\t"]),
        mostly(
            &[
                "/",
                "/a/b?c=d",
                "/?",
                "//x",
                "*",
                "http://b/c?d",
                "https://[::1]:8443",
                "b:443",
                "/a-path/that-is-longer/than-a-vector-register/by-some-bytes?and=a&query=too",
            ],
            &[
                "",
                "/#",
                "/\u{e9}",
                "/<",
                "a",
                "HTTP://u@b/",
                "http://",
                "http://:80/",
                "*a",
                "b:",
                "b:65536",
                "[::1]:1",
                "[v1.x]:80",
                "/%zz",
                "/{}|\\^`[]",
                "http://b?c/d",
                "ftp://b",
            ],
        ),
        mostly(&[" "], &["", "  ", "\t"]),
        mostly(
            &["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"],
            &["", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.", "HTTP/1.10", "HTTP/0.9"],
        ),
        line_end(),
    )
        .prop_map(|(a, b, c, d, e, f, g)| [a, b, c, d, e, f, g].concat())
}

fn line_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        40 => Just(b"\r\n".to_vec()),
        1 => mostly(&["\n", "\r"], &["\r\r\n", "", " \r\n", "\r\n ", "\0\r\n"]),
    ]
}

fn known_field() -> impl Strategy<Value = Vec<u8>> {
    mostly(
        &[
            "Host: a",
            "Host: example.com:8080",
            "Connection: keep-alive",
            "Connection: close",
            "Connection: x, upgrade",
            "Content-Length: 5",
            "content-length: 0",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: websocket",
        ],
        &[
            "Host:",
            "Host: a b",
            "Host: u@a",
            "Host: [::1]:80",
            "Host: a%4",
            "Host: :80",
            "Host: a:99999",
            "Host: a:65535",
            "host : a",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length:",
            "Content-Length: 18446744073709551616",
            "Content-Length : 5",
            "TRANSFER-ENCODING:\tChunked",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, x",
            "Transfer-Encoding:",
            "Transfer-Encoding: chunked;a=b",
            "Transfer-Encoding: x y",
            "Transfer-Encoding: x ;q, chunked",
            "Expect: x",
            "Expect:,",
            "Connection: a b",
            "Connection: ,CLOSE,",
            "Connection: Keep-Alive",
            "connection:\u{e9}",
            "Upgrade:",
        ],
    )
}

fn other_field() -> impl Strategy<Value = Vec<u8>> {
    let name = mostly(
        &[
            "X",
            "Accept",
            "User-Agent",
            "Cookie",
            "Sec-Fetch-Dest",
            "a-name-longer-than-any-register-is",
        ],
        &["", " X", "X Y", "X\u{e9}", "X/", "X\t", "Content_Length"],
    );
    let space = mostly(&[" ", ""], &["\t", " \t ", "\r"]);
    let value = prop_oneof![
        8 => "[ -~]{0,80}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    let behind = mostly(&[""], &[" ", "\t\t"]);
    (name, space, value, behind).prop_map(|(a, b, c, d)| [a, b":".to_vec(), b, c, d].concat())
}

/// Changes to the bytes here and there, in one message out of three.
fn damage(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let one = (
        any::<prop::sample::Index>(),
        0..3u8,
        prop_oneof![prop::sample::select(b"\r\n\t :;,/?0aA\0\x7f\x80\"\\".to_vec()), any::<u8>(),],
    );
    let some = prop_oneof![
        2 => Just(Vec::new()),
        1 => proptest::collection::vec(one, 1..3),
    ];
    (bytes, some).prop_map(|(mut bytes, changes)| {
        for (index, kind, byte) in changes {
            let at = index.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ => drop(bytes.drain(at.saturating_sub(1)..at)),
            }
        }
        bytes
    })
}

/// A head, perhaps unfinished, perhaps with something behind it.
pub(crate) fn head() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![1 => known_field(), 1 => other_field()];
    let line = (field, line_end()).prop_map(|(field, end)| [field, end].concat());
    let host = mostly(&["Host: a\r\n"], &[""]);
    let fields = joined(proptest::collection::vec(line, 0..6));
    let end = mostly(&["\r\n"], &["", "\r", "\n", "\r\nbody", "\r\rX"]);
    let whole = (request_line(), host, fields, end);
    damage(whole.prop_map(|(a, b, c, d)| [a, b, c, d].concat()))
}

/// The default limits, mostly, and else limits that bite.
pub(crate) fn head_limits() -> impl Strategy<Value = HeadLimits> {
    let tight = (0..80usize, 0..200usize, 0..6usize).prop_map(|(line, head, fields)| HeadLimits {
        request_line_bytes: line,
        head_bytes: head,
        fields,
    });
    prop_oneof![3 => Just(HeadLimits::default()), 1 => tight]
}

/// A chunked body, perhaps unfinished, perhaps with something behind it.
pub(crate) fn body() -> impl Strategy<Value = Vec<u8>> {
    let size_and_data = prop_oneof![
        12 => proptest::collection::vec(any::<u8>(), 1..40)
            .prop_map(|data| (format!("{:x}", data.len()), data)),
        1 => mostly(&["5", "00", ""], &["-1", "+5", " 5", "5 ", "g", "ffffffffffffffff", "10000000000000000"])
            .prop_map(|size| (String::from_utf8(size).expect("ASCII"), b"hello".to_vec())),
    ];
    let chunk = (size_and_data, extension(), line_end(), line_end())
        .prop_map(|((size, data), a, b, c)| [size.into_bytes(), a, b, data, c].concat());
    let trailer = prop_oneof![1 => known_field(), 3 => other_field()];
    let trailer = (trailer, line_end()).prop_map(|(field, end)| [field, end].concat());
    let trailers = prop_oneof![
        2 => Just(Vec::new()),
        1 => joined(proptest::collection::vec(trailer, 0..3)),
    ];
    let end = mostly(&["\r\n"], &["", "\r", "\n", "\r\nbehind", "\rX"]);
    let chunks = joined(proptest::collection::vec(chunk, 0..5));
    let last = (mostly(&["0"], &["", "000"]), extension(), line_end());
    let last = last.prop_map(|(a, b, c)| [a, b, c].concat());
    damage((chunks, last, trailers, end).prop_map(|(a, b, c, d)| [a, b, c, d].concat()))
}

fn extension() -> impl Strategy<Value = Vec<u8>> {
    mostly(
        &["", "", "", ";a", ";a=b;c=\"d\"", ";a ;b"],
        &[
            ";",
            " ",
            ";a=",
            ";a b",
            ";a=\"b",
            ";a=\"\\\"\"",
            " ;\ta\t= b",
            ";a;",
            ";a=b c",
            ";a ",
            ";=b",
            ";a=\"b\"c",
            ";a=\"\u{e9}\"",
            ";\u{e9}",
            ";;",
            ";a=\"\\\u{1}\"",
        ],
    )
}

/// The default limits, mostly, and else limits that bite.
pub(crate) fn chunked_limits() -> impl Strategy<Value = ChunkedLimits> {
    let tight = (0..20usize, 0..20usize, 0..60usize, 0..3usize);
    let tight = tight.prop_map(|(line, extensions, bytes, fields)| ChunkedLimits {
        line_bytes: line,
        extension_bytes: extensions,
        trailer_bytes: bytes,
        trailer_fields: fields,
    });
    prop_oneof![3 => Just(ChunkedLimits::default()), 1 => tight]
}
