//! The examples as processes of their own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::support::{Answer, Client, PATIENCE};

/// An example's program, which `cargo test` builds before it runs tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program =
        profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "build it: cargo build -p wharf --example {name}");
    program
}

/// Waits for a program's first line, which says where it listens. What else it prints is read and
/// forgotten, so that it never waits for a reader.
pub(crate) fn listening(process: &mut Child) -> SocketAddr {
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let line = lines.recv_timeout(PATIENCE).unwrap_or_default();
    let address = line.strip_prefix("listening on http://").and_then(|rest| rest.parse().ok());
    match address {
        Some(address) if SocketAddr::port(&address) != 0 => address,
        _ => {
            let _ = process.kill();
            panic!("its first line is {line:?}");
        }
    }
}

/// An example that runs. Dropping it kills it, with SIGKILL where there is one.
pub(crate) struct Program {
    pub(crate) process: Child,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts an example with these arguments, of which one is an address on loopback with port 0.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Program {
        let mut process = Command::new(example(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let address = listening(&mut process);
        Program { process, address }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect_to(self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.client().get(path)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
