//! The page that lists what is served of a folder.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use http::header;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use wharf_http::Date;

use super::Files;
use crate::{Escaped, Response};

/// Entries that are listed at most; a page beyond it serves nobody.
const MAX_ENTRIES: usize = 10_000;

/// What a part of a path cannot have as it is (RFC 3986 section 3.3), and what HTML would read.
const PATH_PART: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Nothing but this page's own style: whatever names might smuggle in, it does not run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:50rem;\
    padding:0 1rem;color:#222;background:#fff}h1{font-size:1.3rem;overflow-wrap:anywhere}\
    table{border-collapse:collapse;width:100%}td,th{padding:.3rem .5rem;text-align:left;\
    border-bottom:1px solid #ddd}td:nth-child(n+2),th:nth-child(n+2){text-align:right;\
    white-space:nowrap;color:#666;font-variant-numeric:tabular-nums}td:first-child{\
    overflow-wrap:anywhere}a{color:#06c;text-decoration:none}a:hover{text-decoration:underline}\
    @media(max-width:36rem){td:nth-child(3),th:nth-child(3){display:none}}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{\
    border-color:#333}td:nth-child(n+2){color:#999}a{color:#6af}}";

struct Entry {
    name: String,
    /// None: it is a folder.
    length: Option<u64>,
    modified: Option<u64>,
}

/// The page for the folder at `path` below the root, which was asked for by `shown`.
pub(super) fn page(files: &Files, shown: &str, path: &Path) -> io::Result<Response> {
    let (entries, are_all) = entries(files, path)?;
    let title = percent_decode_str(shown).decode_utf8_lossy();
    let title = Escaped(&title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n\
         <table><thead><tr><th>Name<th>Bytes<th>Changed</thead>\n<tbody>\n"
    );
    if !path.as_os_str().is_empty() {
        html.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    for entry in &entries {
        let slash = if entry.length.is_none() { "/" } else { "" };
        // The dot keeps a name such as `a:b` from being a scheme.
        let link = utf8_percent_encode(&entry.name, &PATH_PART);
        let name = Escaped(&entry.name);
        // Writing to a text does not fail.
        let _ = write!(html, "<tr><td><a href=\"./{link}{slash}\">{name}{slash}</a><td>");
        if let Some(length) = entry.length {
            let _ = write!(html, "{length}");
        }
        html.push_str("<td>");
        if let Some(modified) = entry.modified {
            html.push_str(&String::from_utf8_lossy(Date::at(modified).as_bytes()));
        }
        html.push('\n');
    }
    html.push_str("</tbody></table>\n");
    if !are_all {
        let _ = writeln!(html, "<p>These are the first {MAX_ENTRIES}; there are more.</p>");
    }
    Ok(Response::html(html)
        .header(header::CONTENT_SECURITY_POLICY, POLICY)
        .header(header::CACHE_CONTROL, "no-cache"))
}

/// What is served of the folder, folders first, by name; and whether that is all.
fn entries(files: &Files, path: &Path) -> io::Result<(Vec<Entry>, bool)> {
    let mut entries = Vec::new();
    let mut are_all = true;
    for entry in fs::read_dir(files.folder.path().join(path))? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if !files.is_served(&name) {
            continue;
        }
        // Opened as it would be when asked for: what is refused then is not shown now.
        let Ok((_, state)) = files.open(&path.join(&name)) else { continue };
        if !state.is_file && !state.is_folder {
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            are_all = false;
            break;
        }
        entries.push(Entry {
            name,
            length: state.is_file.then_some(state.length),
            modified: state.modified.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs()),
        });
    }
    entries.sort_by(|a, b| (a.length.is_some(), &a.name).cmp(&(b.length.is_some(), &b.name)));
    Ok((entries, are_all))
}
