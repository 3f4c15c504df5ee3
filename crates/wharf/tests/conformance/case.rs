//! The format of the case files: whole exchanges as data. Knows no sockets.
//!
//! ```text
//! # RFC 9112 section 9.6, MUST: what is required, in our words.
//! > GET / HTTP/1.1\r\n            bytes to send; lines that follow one another are joined
//! > Host: a\r\n\r\n
//! < 200                           the next answer, by its status; `400|501` and `4xx` too
//! = content-length: 5             a field with that value
//! = has date                      a field, whatever its value
//! = no transfer-encoding          no such field
//! = lists allow: GET, HEAD        members that a list has
//! = lacks connection: close       members that a list has not
//! = body hello                    the whole body
//! = body-has llo                  a part of the body
//! = trailer x-sum: 7              a field behind a chunked body
//! < closed                        nothing more comes: the server closes
//! ```
//!
//! `< 200 to HEAD` is an answer that has no body whatever its fields say. `< 100?` is an interim
//! answer that may come or not. `finish` closes the sending half. `< open` in place of `< closed`:
//! the connection serves one more request. Sending and reading take turns in the order of the file,
//! so what stands behind an answer is sent when that answer has come.
//!
//! Escapes: `\r \n \t \0 \\ \s` (a space, for the end of a line), `\xHH`, and `\{5*ab}` for five
//! times `ab`.

use std::path::{Path, PathBuf};

/// One case, as its file has it.
pub(crate) struct Case {
    /// `rfc9112-9.6/close-is-obeyed`
    pub(crate) name: String,
    pub(crate) requirement: Requirement,
    pub(crate) steps: Vec<Step>,
}

/// What the first line of a case says.
pub(crate) struct Requirement {
    /// `RFC 9112 section 9.6`
    pub(crate) section: String,
    /// `MUST`
    pub(crate) level: String,
    pub(crate) words: String,
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}: {}", self.section, self.level, self.words)
    }
}

pub(crate) enum Step {
    Send(Vec<u8>),
    FinishSending,
    Answer(Expected),
    /// Nothing more comes and the server closes.
    Closed,
    /// The connection goes on.
    Open,
}

/// What an answer has to be like.
#[derive(Default)]
pub(crate) struct Expected {
    /// `200`, `400|501`, `4xx`
    pub(crate) status: String,
    pub(crate) is_optional: bool,
    pub(crate) is_to_head: bool,
    /// Keyword and the rest of the line, escapes resolved.
    pub(crate) checks: Vec<(String, Vec<u8>)>,
}

/// All cases of a folder, in the order of their names.
pub(crate) fn all(folder: &Path) -> Vec<Case> {
    let files = entries(folder).iter().flat_map(|section| entries(section)).collect::<Vec<_>>();
    files.iter().map(|file| read(folder, file)).collect()
}

/// What a folder holds, sorted.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// A file's name below the folder of all cases, without its end.
pub(crate) fn name(folder: &Path, file: &Path) -> String {
    let name = file.strip_prefix(folder).expect("below the folder").with_extension("");
    name.to_str().expect("a plain name").replace('\\', "/")
}

/// Reads a case's first line.
pub(crate) fn requirement(name: &str, text: &str) -> Requirement {
    let line = text.lines().next().and_then(|line| line.strip_prefix("# "));
    let parts = line.and_then(|line| {
        let (head, words) = line.split_once(": ")?;
        let (section, level) = head.split_once(", ")?;
        Some((section, level, words))
    });
    let Some((section, level, words)) = parts.filter(|(section, ..)| section.starts_with("RFC "))
    else {
        panic!("{name}: the first line has to be `# RFC n section n, LEVEL: words`")
    };
    Requirement { section: section.into(), level: level.into(), words: words.into() }
}

fn read(folder: &Path, file: &Path) -> Case {
    let text = std::fs::read_to_string(file).expect("a case is UTF-8");
    let name = name(folder, file);
    assert_eq!(file.extension().and_then(|end| end.to_str()), Some("case"), "{name}");
    let requirement = requirement(&name, &text);
    let mut steps = Vec::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest) {
            ("#" | "", _) => {}
            (">", _) => match steps.last_mut() {
                Some(Step::Send(bytes)) => bytes.extend(unescape(rest)),
                _ => steps.push(Step::Send(unescape(rest))),
            },
            ("finish", "") => steps.push(Step::FinishSending),
            ("<", "closed") => steps.push(Step::Closed),
            ("<", "open") => steps.push(Step::Open),
            ("<", status) => steps.push(Step::Answer(answer(status))),
            ("=", check) => {
                let Some(Step::Answer(expected)) = steps.last_mut() else {
                    panic!("{name}: {line:?} follows no answer")
                };
                let (keyword, value) = check.split_once(' ').unwrap_or((check, ""));
                expected.checks.push((keyword.to_owned(), unescape(value)));
            }
            _ => panic!("{name}: what is {line:?}?"),
        }
    }
    assert!(
        matches!(steps.last(), Some(Step::Closed | Step::Open)),
        "{name}: the last line says whether the connection is `< closed` or `< open`"
    );
    Case { name, requirement, steps }
}

fn answer(text: &str) -> Expected {
    let (status, is_to_head) = match text.strip_suffix(" to HEAD") {
        Some(status) => (status, true),
        None => (text, false),
    };
    let (status, is_optional) = match status.strip_suffix('?') {
        Some(status) => (status, true),
        None => (status, false),
    };
    Expected { status: status.to_owned(), is_optional, is_to_head, checks: Vec::new() }
}

impl Expected {
    /// Whether the status is one of those that are expected.
    pub(crate) fn admits(&self, status: u16) -> bool {
        let status = status.to_string();
        self.status
            .split('|')
            .any(|wanted| wanted == status || wanted.strip_suffix("xx") == status.get(..1))
    }
}

/// The bytes that a line stands for.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
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
