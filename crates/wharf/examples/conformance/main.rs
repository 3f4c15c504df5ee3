//! Plays the exchanges of `tests/conformance/cases` against any server and says what differs.
//!
//! ```text
//! cargo run --example conformance -- 127.0.0.1:8080       a server that is there
//! cargo run --example conformance -- --serve 127.0.0.1:0  serves what the cases ask for, by Wharf
//! ```
//!
//! Another server needs the routes of `tests/conformance/program.rs`. On one that answers `hello`
//! to `/` and 404 to the rest, the cases that ask for more are left out and counted.

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

use crate::case::{Case, Step};
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
    let cases = case::all(&cases);
    let of_another_route = cases.iter().find(|case| case.name == "rfc9112-3.2.1/path-and-query");
    let has_the_routes = match of_another_route {
        Some(case) => play(case, address)?.is_none(),
        None => true,
    };
    let mut left_out = 0;
    // Passed and played, by section.
    let mut table: BTreeMap<(String, String), (u32, u32)> = BTreeMap::new();
    for case in &cases {
        if !has_the_routes && !asks_for_the_root_alone(case) {
            left_out += 1;
            continue;
        }
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
    if left_out > 0 {
        println!("{left_out} cases were left out, since the server has only the route `/`");
    }
    Ok(if passed == played { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a case needs none of the program's routes but `/`.
fn asks_for_the_root_alone(case: &Case) -> bool {
    const OTHERS: [&str; 18] = [
        "/pooled",
        "/echo",
        "/understood",
        "/small",
        "/large",
        "/close",
        "/status",
        "/lies",
        "/splits",
        "/tagged",
        "/weak",
        "/file",
        "/flowing",
        "/ignores",
        "/upgrade",
        "tunnel:1",
        "/hooked",
        "/panics",
    ];
    let sent = case.steps.iter().filter_map(|step| match step {
        Step::Send(bytes) => Some(String::from_utf8_lossy(bytes)),
        _ => None,
    });
    !sent.into_iter().any(|text| OTHERS.iter().any(|route| text.contains(route)))
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
