//! From the path of a request to that of a file, or to nothing.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Relative to the folder; of plain names only. Empty: the folder itself.
    pub(super) path: PathBuf,
    /// It ended in a slash.
    pub(super) is_folder: bool,
}

/// Reads a path as it was sent. None: it names nothing that is served.
///
/// It is cut at its slashes first and decoded then, once: so no escape makes a name two, and what
/// has two layers of escapes is a name with a percent sign.
pub(super) fn asked(raw: &str, is_served: impl Fn(&str) -> bool) -> Option<Asked> {
    let (names, is_folder) = match raw.strip_suffix('/') {
        Some(names) => (names, true),
        None => (raw, raw.is_empty()),
    };
    let mut path = PathBuf::new();
    if names.is_empty() {
        // A slash alone is one too many.
        return raw.is_empty().then_some(Asked { path, is_folder });
    }
    for name in names.split('/') {
        let name = percent_decode_str(name).decode_utf8().ok()?;
        if !is_served(&name) {
            return None;
        }
        path.push(&*name);
    }
    Some(Asked { path, is_folder })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn path(raw: &str) -> Option<(PathBuf, bool)> {
        let plain = |name: &str| {
            wharf_port::is_file_name(name) && !name.starts_with('.') && !name.contains('\\')
        };
        asked(raw, plain).map(|asked| (asked.path, asked.is_folder))
    }

    #[test]
    fn names_are_decoded_once() {
        for (raw, expected, is_folder) in [
            ("", "", true),
            ("a.txt", "a.txt", false),
            ("a/b/c", "a/b/c", false),
            ("a/", "a", true),
            ("a%20b/%C3%A4.txt", "a b/ä.txt", false),
            ("100%25", "100%", false),
            ("%252e%252e", "%2e%2e", false),
            ("a%2", "a%2", false),
        ] {
            assert_eq!(path(raw), Some((Path::new(expected).into(), is_folder)), "{raw}");
        }
    }

    #[test]
    fn no_encoding_leads_elsewhere() {
        for raw in [
            "..",
            "../a",
            "a/..",
            "a/../b",
            "./a",
            ".",
            "%2e%2e",
            "%2E%2e/a",
            ".%2e/a",
            "a/%2e%2e",
            "/",
            "//",
            "//a",
            "a//b",
            "a//",
            "/etc/passwd",
            "%2fetc%2fpasswd",
            "a%2fb",
            "a%2F..%2Fb",
            "a%5cb",
            "..%5c..%5ca",
            "a\\b",
            "%00",
            "a%00.txt",
            "%ff",
            ".git/config",
            "a/.env",
            "%2egit/config",
            "..%2f",
            "%2e%2e%2f%2e%2e%2fa",
        ] {
            assert_eq!(path(raw), None, "{raw}");
        }
    }
}
