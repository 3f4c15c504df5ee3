//! Builds `docs/CONFORMANCE.md` from the requirements and the case files, so that what it says is
//! what is checked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::case::{self, Requirement};

/// Set it to have the document written.
const WRITE: &str = "WHARF_WRITE_CONFORMANCE";

#[test]
fn the_document_says_what_the_files_say() {
    let path = root().join("docs/CONFORMANCE.md");
    let text = build();
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(&path, text).expect("the document can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(
        written == text,
        "docs/CONFORMANCE.md is stale: `{WRITE}=1 cargo test -p wharf --test conformance document` \
         writes it anew"
    );
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A case file of either level.
struct File {
    /// `exchange:` or `message:` and the case's name.
    id: String,
    /// The file, as a link from `docs/`.
    link: String,
    requirement: Requirement,
}

fn files() -> Vec<File> {
    let levels = [
        ("message", "crates/wharf-http/tests/cases"),
        ("exchange", "crates/wharf/tests/conformance/cases"),
    ];
    let mut files = Vec::new();
    for (level, folder) in levels {
        let path = root().join(folder);
        for file in case::entries(&path).iter().flat_map(|section| case::entries(section)) {
            let name = case::name(&path, &file);
            let text = std::fs::read_to_string(&file).expect("a case is UTF-8");
            let requirement = case::requirement(&name, &text);
            let link = format!("../{folder}/{name}.case");
            files.push(File { id: format!("{level}:{name}"), link, requirement });
        }
    }
    files
}

/// A line of `requirements.txt`.
struct Line<'a> {
    section: &'a str,
    /// Its number within the section.
    number: usize,
    level: &'a str,
    words: &'a str,
    held_by: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines: Vec<Line> = Vec::new();
    let mut section = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            continue;
        }
        let parts: Vec<&str> = line.splitn(3, " | ").collect();
        let [level, words, held_by] = parts[..] else { panic!("what is {line:?}?") };
        let number = lines.iter().filter(|line| line.section == section).count() + 1;
        lines.push(Line { section, number, level, words, held_by });
    }
    lines
}

fn build() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let text = std::fs::read_to_string(folder.join("requirements.txt")).expect("the requirements");
    let (lines, files) = (lines(&text), files());
    let count = |level: &str| files.iter().filter(|file| file.id.starts_with(level)).count();
    let of_kind = |kind: &str| lines.iter().filter(|line| line.held_by.starts_with(kind)).count();
    let (exceptions, program) = (of_kind("exception: "), of_kind("program: "));
    let mut out = format!(
        "# Conformance\n\n\
         Written by `{WRITE}=1 cargo test -p wharf --test conformance document` from\n\
         `crates/wharf/tests/conformance/requirements.txt` and the case files; `cargo test` fails\n\
         where it is stale.\n\n\
         What RFC 9110 and RFC 9112 require of an origin server by MUST, MUST NOT, SHOULD and\n\
         SHOULD NOT, in our words: {} in all. {} are held by cases and tests, {program} are the\n\
         program's to keep, {exceptions} are deliberate exceptions.\n\n\
         There are {} cases of single messages, which `wharf-http` is held to, and {} of whole\n\
         exchanges, which every backend and the simulated port are held to, each sent whole, byte\n\
         by byte and cut at random. `cargo run --example conformance -- HOST:PORT` plays the\n\
         exchanges against any server.\n",
        lines.len(),
        lines.len() - exceptions - program,
        count("message:"),
        count("exchange:"),
    );
    for rfc in ["RFC 9110", "RFC 9112"] {
        write!(
            out,
            "\n## {rfc}\n\n| section | level | requirement | held by |\n|---|---|---|---|\n"
        )
        .unwrap();
        for line in lines.iter().filter(|line| line.section.starts_with(rfc)) {
            let section = line.section.rsplit(' ').next().unwrap_or_default();
            let (number, level, words) = (line.number, line.level, line.words);
            let held_by = held_by(line, &files);
            writeln!(out, "| {section} ({number}) | {level} | {words} | {held_by} |").unwrap();
        }
    }
    out.push_str("\n## Cases\n");
    let mut sections: Vec<&str> = files.iter().map(|it| it.requirement.section.as_str()).collect();
    sections.sort_by_key(|section| numbers(section));
    sections.dedup();
    for section in sections {
        write!(out, "\n### {section}\n\n").unwrap();
        for file in files.iter().filter(|file| file.requirement.section == section) {
            let Requirement { level, words, .. } = &file.requirement;
            writeln!(out, "- [{}]({}), {level}: {words}", file.id, file.link).unwrap();
        }
    }
    out
}

/// The numbers of a section, so that 3.10 comes behind 3.9.
fn numbers(section: &str) -> Vec<u32> {
    section.split([' ', '.']).filter_map(|part| part.parse().ok()).collect()
}

/// What holds a requirement, for the table; panics where a case or test is not there.
fn held_by(line: &Line, files: &[File]) -> String {
    for (kind, says) in [("exception: ", "**exception:** "), ("program: ", "the program: ")] {
        if let Some(reason) = line.held_by.strip_prefix(kind) {
            return format!("{says}{reason}");
        }
    }
    let mut holders = Vec::new();
    for word in line.held_by.split(' ') {
        if let Some((file, test)) = word.strip_prefix("test:").and_then(|it| it.split_once('#')) {
            let path = root().join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {file}"));
            assert!(text.contains(&format!("fn {test}(")), "no test {test} in {file}");
            holders.push(format!("[{test}](../{file})"));
            continue;
        }
        let found: Vec<&File> = files.iter().filter(|file| matches(word, &file.id)).collect();
        assert!(!found.is_empty(), "{} ({}): no case is {word}", line.section, line.words);
        holders.extend(found.iter().map(|file| format!("[{}]({})", file.id, file.link)));
    }
    const SHOWN: usize = 6;
    let more = holders.len().saturating_sub(SHOWN);
    holders.truncate(SHOWN);
    let mut text = holders.join(", ");
    if more > 0 {
        write!(text, " and {more} more").unwrap();
    }
    text
}

/// A pattern is a name, or the beginning of names and a `*`.
fn matches(pattern: &str, id: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => id.starts_with(start),
        None => id == pattern,
    }
}
