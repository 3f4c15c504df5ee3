//! HTTP/1.1 as whole exchanges: the files below `cases`, against every backend.
//!
//! `cargo run --example conformance -- HOST:PORT` plays the same files against any server.

// Tests that are made by a macro are not seen as tests by the lint's own exception.
#![allow(clippy::unwrap_used)]

mod answer;
mod case;
mod document;
mod exchange;
mod program;
#[cfg(target_os = "linux")]
mod proxies;
mod socket;

use std::fmt::Write as _;
use std::path::Path;

use wharf::{Backend, Server};

use crate::exchange::{WAYS, play};
use crate::socket::Socket;

#[cfg(target_os = "linux")]
#[test]
fn every_case_on_uring() {
    every_case(Backend::Uring);
}

#[cfg(unix)]
#[test]
fn every_case_on_readiness() {
    every_case(Backend::Readiness);
}

#[cfg(windows)]
#[test]
fn every_case_on_iocp() {
    every_case(Backend::Iocp);
}

fn every_case(backend: Backend) {
    let server = Server::bind("127.0.0.1:0").expect("loopback is there").backend(backend);
    let server = match server.shards(1).start(program::router()) {
        Ok(server) => server,
        Err(error) if std::env::var_os("WHARF_REQUIRE_URING").is_none() => {
            return println!("not run: {error}");
        }
        Err(error) => panic!("{backend:?} has to be there: {error}"),
    };
    let cases = case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases"));
    assert!(cases.len() >= 100, "only {} cases were found", cases.len());
    let mut wrong = String::new();
    for case in &cases {
        let mut transcripts = Vec::new();
        for cuts in WAYS {
            let socket = Socket::connect(server.local_address()).expect("the server listens");
            match play(case, socket, cuts) {
                Ok(transcript) => transcripts.push(transcript),
                Err(what) => {
                    let (name, requirement) = (&case.name, &case.requirement);
                    writeln!(wrong, "{name} ({cuts:?}), {requirement}\n    {what}").unwrap();
                }
            }
        }
        if transcripts.windows(2).any(|two| two[0] != two[1]) {
            writeln!(wrong, "{}: differs by how it is cut: {transcripts:?}", case.name).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
