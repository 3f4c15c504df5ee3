//! The rules of ARCHITECTURE.md that are about what the sources do not contain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The sources of a crate, but for modules that are tests.
fn sources(krate: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate).join("src");
    let front = fs::read_to_string(root.join("lib.rs")).expect("every crate has one");
    let mut folders = vec![root];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are there") {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                if front.contains(&format!("#[cfg(test)]\nmod {name};")) {
                    continue;
                }
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 3, "{krate} has sources");
    found
}

/// The code of a file: no comments, and nothing from its test module on.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

fn assert_absent(krate: &str, words: &[&str]) {
    for (path, text) in sources(krate) {
        let code = code(&text);
        for word in words {
            assert!(!code.contains(word), "{} mentions {word}", path.display());
        }
    }
}

#[test]
fn platforms_and_sockets_are_the_ports_own() {
    assert_absent(
        "wharf",
        &["target_os", "cfg(unix)", "cfg(windows)", "TcpStream", "TcpListener", "socket2", "libc"],
    );
}

#[test]
fn messages_know_no_io_and_no_clock() {
    let words = [
        "target_os",
        "io::Read",
        "io::std",
        "TcpStream",
        "UdpSocket",
        "ToSocketAddrs",
        "std::fs",
        "SystemTime::now",
        "std::thread",
        "std::process",
        "Instant",
        "wharf_port",
        "wharf::",
    ];
    assert_absent("wharf-http", &words);
    assert_absent("wharf-port", &["wharf_http", "wharf::"]);
}

#[test]
fn status_changes_only_in_its_own_file() {
    let mut entered = 0;
    for (path, text) in sources("wharf") {
        let code = code(&text);
        assert!(!code.contains(".status = Status"), "{}", path.display());
        if path.components().any(|part| part.as_os_str() == "shard") {
            let is_its_own = path.ends_with("shard/connection.rs");
            let count = code.matches("self.status = ").count();
            assert!(is_its_own || count == 0, "{}", path.display());
            entered += count;
        }
    }
    assert_eq!(entered, 1, "every transition goes through one function");
}

/// The names that a file imports from the other two crates.
fn internals(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::from(["wharf_http".to_owned(), "wharf_port".to_owned()]);
    for krate in ["use wharf_http::", "use wharf_port::"] {
        for import in code.split(krate).skip(1) {
            let list = import.split(';').next().unwrap_or("");
            let words = list.split(|c: char| !c.is_alphanumeric() && c != '_');
            names.extend(words.filter(|word| !word.is_empty() && *word != "as").map(str::to_owned));
        }
    }
    names
}

/// Signatures of public items, public fields, and headers of trait implementations.
fn public_signatures(code: &str) -> Vec<String> {
    let starts =
        ["pub fn", "pub struct", "pub enum", "pub trait", "pub type", "pub const", "pub use"];
    let mut signatures = Vec::new();
    let lines: Vec<&str> = code.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_item = starts.iter().any(|start| trimmed.starts_with(start));
        let is_impl = trimmed.starts_with("impl") && trimmed.contains(" for ");
        let is_field = trimmed.starts_with("pub ") && trimmed.contains(": ");
        if is_item || is_impl || is_field {
            let text = lines[at..].join("\n");
            let end = text.find(['{', ';', '=']).unwrap_or(text.len());
            let end = if is_field && !is_item { text.find(",\n").unwrap_or(end) } else { end };
            signatures.push(text[..end].to_owned());
        }
    }
    signatures
}

#[test]
fn the_public_api_names_no_internals() {
    let mut checked = 0;
    for (path, text) in sources("wharf") {
        let code = code(&text);
        let internals = internals(&code);
        for signature in public_signatures(&code) {
            checked += 1;
            let mut words = signature.split(|c: char| !c.is_alphanumeric() && c != '_');
            let shown = words.find(|word| internals.contains(*word));
            assert_eq!(shown, None, "{} shows it by\n{signature}", path.display());
        }
    }
    assert!(checked > 50, "only {checked} signatures were found");
}
