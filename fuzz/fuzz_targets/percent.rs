//! Escaped paths of files: one of them is served only under its own name, and nothing that lies
//! outside of the folder or is hidden ever is.
#![no_main]

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use wharf::test::App;
use wharf::{Files, Router};

/// Names and contents at once.
const FILES: [&str; 5] = ["a.txt", "s/b c.txt", "s/ä.txt", "s/100%", "s/%2e"];
const SECRET: &str = "nobody is to read this";

thread_local! {
    static APP: (App, TempDir) = {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("served");
        fs::create_dir_all(folder.join("s")).expect("a folder");
        for name in FILES {
            fs::write(folder.join(name), name).expect("a file");
        }
        for name in ["secret.txt", "served/.secret", "served/s/.secret"] {
            fs::write(place.path().join(name), SECRET).expect("a file");
        }
        symlink("../secret.txt", folder.join("link")).expect("a link");
        symlink("..", folder.join("up")).expect("a link");
        let files = Files::new(&folder).expect("it is there").index("").listing(true);
        (App::new(Router::new().files("/", files)), place)
    };
}

/// Escapes resolved, once.
fn decoded(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|two| two.bytes().all(|it| it.is_ascii_hexdigit()));
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                out.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                out.push(b'%');
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
    out
}

libfuzzer_sys::fuzz_target!(|path: &str| {
    if path.bytes().any(|byte| !(b'!'..=b'~').contains(&byte)) || path.len() > 4_000 {
        return;
    }
    let request = format!("GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let bytes = APP.with(|(app, _)| app.send_bytes(request));
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains(SECRET), "{path} leads to a secret");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let is_page = head.contains("\r\ncontent-type: text/html");
    if head.starts_with("HTTP/1.1 200 ") && !is_page {
        let asked = decoded(path.split('?').next().unwrap_or_default());
        assert!(FILES.contains(&body), "{path}: {body}");
        assert_eq!(String::from_utf8_lossy(&asked), body, "{path}");
    }
});
