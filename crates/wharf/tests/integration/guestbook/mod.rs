//! The example `guestbook`, as a process of its own: what it serves, what it keeps, how it ends.

mod api;
mod lifetime;
mod page;

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use serde_json::Value;

use crate::programs;
use crate::support::{Answer, Client, eventually};

/// A directory that is gone with the test.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().expect("the temporary directory can be written"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A guestbook that runs. Dropping it kills it, with SIGKILL where there is one.
struct Guestbook {
    process: Child,
    address: SocketAddr,
    /// What it writes to stderr, printed if the test fails.
    log: PathBuf,
}

impl Guestbook {
    fn open(data: &Path) -> Guestbook {
        Guestbook::start(Command::new(programs::example("guestbook")), data)
    }

    /// No file that it writes gets longer than so many bytes, as if the disk were full then.
    #[cfg(unix)]
    fn open_on_a_small_disk(data: &Path, bytes: usize) -> Guestbook {
        let mut shell = Command::new("sh");
        let blocks = bytes / 512;
        shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks} && exec \"$0\" \"$@\""));
        shell.arg(programs::example("guestbook"));
        Guestbook::start(shell, data)
    }

    fn start(mut program: Command, data: &Path) -> Guestbook {
        let log = data.with_extension("log");
        let stderr = fs::File::options().create(true).append(true).open(&log);
        let mut process = program
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(stderr.expect("the test's directory can be written"))
            .spawn()
            .expect("the example starts");
        let address = programs::listening(&mut process);
        Guestbook { process, address, log }
    }

    fn client(&self) -> Client {
        Client::connect_to(self.address)
    }

    fn get(&self, path: &str) -> Answer {
        self.client().get(path)
    }

    /// Fields are lines with their ends, as they stand in the head.
    fn send(&self, method: &str, path: &str, fields: &str, body: impl AsRef<[u8]>) -> Answer {
        self.client().send(request(method, path, fields, body.as_ref())).answer()
    }

    fn post_form(&self, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send("POST", "/", FORM, body)
    }

    fn post_json(&self, body: impl AsRef<[u8]>) -> Answer {
        self.send("POST", "/api/entries", JSON, body)
    }

    /// The messages of all entries, the latest first.
    fn messages(&self) -> Vec<String> {
        let (mut client, mut messages) = (self.client(), Vec::new());
        let mut next = Some("/api/entries?limit=100".to_owned());
        while let Some(path) = next {
            let list = json(&client.get(&path));
            for entry in list["entries"].as_array().expect("a list") {
                messages.push(entry["message"].as_str().expect("a text").to_owned());
            }
            next = list["next"].as_str().map(str::to_owned);
        }
        messages
    }

    fn kill(mut self) {
        self.process.kill().expect("it still runs");
        self.process.wait().expect("it is a child");
    }
}

impl Drop for Guestbook {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "content-type: application/json\r\n";

fn request(method: &str, path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{fields}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("not JSON: {}", answer.text()))
}

/// Runs the program to its end.
fn run(arguments: &[&str]) -> Output {
    let mut process = Command::new(programs::example("guestbook"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    let mut status = None;
    let ends = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("it ends", || {
            status = process.try_wait().expect("it is a child");
            status.is_some()
        });
    }));
    if let Err(panic) = ends {
        let _ = process.kill();
        std::panic::resume_unwind(panic);
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    process.stdout.take().expect("it is piped").read_to_end(&mut stdout).expect("a pipe");
    process.stderr.take().expect("it is piped").read_to_end(&mut stderr).expect("a pipe");
    Output { status: status.expect("it has ended"), stdout, stderr }
}
