//! The format of the case files.
//!
//! ```text
//! # RFC 9112 section 6.1, MUST: what is required, in our words.
//! read head                       or: read chunked
//! limit head_bytes 100            any limit by its name; the others keep their defaults
//! > GET / HTTP/1.1\r\n            bytes in; lines are joined
//! > Host: a\r\n
//! > \r\n
//! = whole                         or: = more, or: = refused BareLf 400
//! = path /                        anything else that is to hold of what came out
//! ```
//!
//! Escapes: `\r \n \t \0 \\ \s` (a space, for the end of a line), `\xHH`, and `\{5*ab}` for five
//! times `ab`.

use std::path::{Path, PathBuf};
use wharf_http::{ChunkedLimits, HeadLimits};

/// One case, as its file has it.
pub(crate) struct Case {
    /// `rfc9112-2.2/bare-lf`
    pub(crate) name: String,
    pub(crate) reads: Reads,
    pub(crate) head_limits: HeadLimits,
    pub(crate) chunked_limits: ChunkedLimits,
    pub(crate) input: Vec<u8>,
    /// Key and the rest of the line, escapes resolved.
    pub(crate) expected: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Head,
    Chunked,
}

/// All cases, in the order of their names.
pub(crate) fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files = Vec::new();
    for section in entries(&folder) {
        files.extend(entries(&section));
    }
    files.iter().map(|file| read(&folder, file)).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder of cases");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn read(folder: &Path, file: &Path) -> Case {
    let text = std::fs::read_to_string(file).expect("a case is UTF-8");
    let name = file.strip_prefix(folder).expect("below the folder").with_extension("");
    let mut case = Case {
        name: name.to_str().expect("a plain name").replace('\\', "/"),
        reads: Reads::Head,
        head_limits: HeadLimits::default(),
        chunked_limits: ChunkedLimits::default(),
        input: Vec::new(),
        expected: Vec::new(),
    };
    assert!(text.starts_with("# RFC "), "{}: the first line names the requirement", case.name);
    assert_eq!(file.extension().and_then(|extension| extension.to_str()), Some("case"));
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "#" | "" => {}
            "read" => case.reads = if rest == "chunked" { Reads::Chunked } else { Reads::Head },
            "limit" => set_limit(&mut case, rest),
            ">" => case.input.extend(unescape(rest)),
            "=" => {
                let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
                case.expected.push((key.to_owned(), unescape(value)));
            }
            _ => panic!("{}: what is {line:?}?", case.name),
        }
    }
    case
}

fn set_limit(case: &mut Case, text: &str) {
    let (name, number) = text.split_once(' ').expect("a limit has a name and a number");
    let number = number.parse().expect("a limit is a number");
    let place = match name {
        "request_line_bytes" => &mut case.head_limits.request_line_bytes,
        "head_bytes" => &mut case.head_limits.head_bytes,
        "fields" => &mut case.head_limits.fields,
        "line_bytes" => &mut case.chunked_limits.line_bytes,
        "extension_bytes" => &mut case.chunked_limits.extension_bytes,
        "trailer_bytes" => &mut case.chunked_limits.trailer_bytes,
        "trailer_fields" => &mut case.chunked_limits.trailer_fields,
        _ => panic!("{}: no limit is called {name:?}", case.name),
    };
    *place = number;
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let kind = escaped.chars().next().expect("an escape has a letter");
        rest = &escaped[1..];
        match kind {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            's' => bytes.push(b' '),
            '0' => bytes.push(0),
            '\\' => bytes.push(b'\\'),
            'x' => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
                rest = &rest[2..];
            }
            '{' => {
                let (times, after) = rest.split_once('*').expect("times");
                let (what, after) = after.split_once('}').expect("a closing brace");
                let times = times.parse().expect("a number of times");
                bytes.extend(unescape(what).repeat(times));
                rest = after;
            }
            _ => panic!("no escape is called {kind:?}"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
