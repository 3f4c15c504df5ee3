//! Plays the exchanges of `tests/conformance/cases` against any server and says what differs.
//!
//! ```text
//! cargo run --example conformance -- 127.0.0.1:8080       a server that is there
//! cargo run --example conformance -- --serve 127.0.0.1:0  serves what the cases ask for, by Wharf
//! ```
//!
//! Another server needs the routes of `tests/conformance/program.rs`; most cases ask for `/` alone,
//! which is to answer `hello`.

#[path = "../../tests/conformance/answer.rs"]
mod answer;
#[path = "../../tests/conformance/case.rs"]
mod case;
#[path = "../../tests/conformance/exchange.rs"]
mod exchange;
#[path = "../../tests/conformance/program.rs"]
mod program;
#[path = "../../tests/conformance/socket.rs"]
mod socket;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;

use wharf::Server;

use crate::case::Case;
use crate::exchange::WAYS;
use crate::socket::Socket;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [serve, address] if serve == "--serve" => {
            let server = Server::bind(address.as_str())?.start(program::router())?;
            println!("serving on {}; end me to stop", server.local_address());
            loop {
                std::thread::park();
            }
        }
        [address] => {
            let address = address.to_socket_addrs()?.next().ok_or("the name has no address")?;
            compare(address)
        }
        _ => Err("usage: conformance HOST:PORT, or conformance --serve HOST:PORT".into()),
    }
}

/// Plays every case in every way and prints what failed, and a table by section.
fn compare(address: SocketAddr) -> Result<ExitCode, Box<dyn Error>> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    // Passed and played, by section.
    let mut table: BTreeMap<(String, String), (u32, u32)> = BTreeMap::new();
    for case in &case::all(&cases) {
        let level = case.requirement.level.clone();
        let row = table.entry((case.requirement.section.clone(), level)).or_default();
        row.1 += 1;
        match play(case, address)? {
            None => row.0 += 1,
            Some(what) => {
                println!("{}: {}\n    {what}", case.name, case.requirement);
            }
        }
    }
    println!("\n{:<28} {:<10} passed", "section", "level");
    for ((section, level), (passed, played)) in &table {
        println!("{section:<28} {level:<10} {passed} of {played}");
    }
    let (passed, played) = table.values().fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    println!("{:<28} {:<10} {passed} of {played}", "all", "");
    Ok(if passed == played { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was wrong the first time that something was.
fn play(case: &Case, address: SocketAddr) -> std::io::Result<Option<String>> {
    for cuts in WAYS {
        let socket = Socket::connect(address)?;
        if let Err(what) = exchange::play(case, socket, cuts) {
            return Ok(Some(format!("{cuts:?}: {what}")));
        }
    }
    Ok(None)
}
