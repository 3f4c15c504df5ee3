//! Measures Wharf beside its peers: builds them, runs each on a core of its own with the load on
//! another, in turns, several times over, and reports medians.
#![forbid(unsafe_code)]

mod answer;
mod bars;
mod building;
mod cases;
mod chart;
mod check;
mod cold;
mod counting;
mod figures;
mod generator;
mod idle;
mod measure;
mod options;
mod parsers;
mod process;
mod prove;
mod report;
mod servers;
mod wrk;

use std::process::{Command, ExitCode};

use cases::{CASES, Case, Endpoint, Load};
use measure::{Places, measure};
use options::Options;
use process::{Process, Setting, progress};
use report::{Report, Row};
use servers::{SERVERS, Server};

/// What went wrong, for whoever runs the harness.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((idle::COMMAND, rest)) = arguments.split_first().map(|(a, b)| (a.as_str(), b)) {
        return idle::run(rest);
    }
    if arguments == [prove::COMMAND] {
        return prove::run();
    }
    let Some(options) = Options::read()? else { return Ok(()) };
    if options.list {
        SERVERS.iter().for_each(|server| println!("{:<16} {:?}", server.name, server.kind));
        CASES.iter().for_each(|case| println!("{:<16} {}", case.name, case.about));
        return Ok(());
    }
    let mut wanted_servers = chosen(SERVERS, &options.only, |server| server.name, |_| true)?;
    let wanted_cases = chosen(CASES, &options.cases, |case| case.name, |case| !case.slow)?;
    if wanted_cases.iter().all(|case| matches!(case.load, Load::Parsers | Load::Build)) {
        wanted_servers.clear();
    } else {
        require_programs()?;
    }
    let binaries = building::binaries()?;
    let mut report = Report::new(&options);
    if !options.no_build {
        let failed = building::build(&wanted_servers, &mut report);
        let built = |server: &&Server| server.package().is_none_or(|name| !failed.contains(&name));
        wanted_servers.retain(built);
    }
    let scratch = tempfile::tempdir()?;
    servers::write_files(scratch.path())?;
    let places = Places { binaries: &binaries, scratch: scratch.path() };
    // From here on: what the harness starts inherits it, but for the servers, which are moved.
    process::stay_on(options.load_core)?;
    let ready = check_all(&wanted_servers, &options, places, &mut report);
    for case in wanted_cases {
        if matches!(case.load, Load::Parsers) && !options.no_build {
            building::build_package(parsers::PACKAGE)?;
        }
        report.add(case.name, measure_case(case, &ready, &options, places));
    }
    progress("");
    report.write(&options.out)
}

/// Programs that are not built here, and the packages of Debian that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("wrk", "wrk"),
    ("nginx", "nginx-light"),
    ("h2o", "h2o"),
    ("valgrind", "valgrind"),
    ("strace", "strace"),
];

/// Says which programs are missing. Without wrk nothing can be measured.
fn require_programs() -> Result<(), Failure> {
    let is_missing =
        |(program, _): &&(&str, &str)| !servers::answers(Command::new(program).arg("-V"));
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(is_missing).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let advice = format!("apt-get install {}", missing.join(" "));
    if missing.contains(&"wrk") {
        return Err(format!("wrk makes the load and is missing: {advice}").into());
    }
    eprintln!("What needs them is left out; to have it: {advice}");
    Ok(())
}

/// A server and the endpoints at which it answers as all do.
struct Ready {
    server: &'static Server,
    endpoints: Vec<Endpoint>,
}

/// Starts each server once and looks at its answers.
fn check_all(
    servers: &[&'static Server],
    options: &Options,
    places: Places,
    report: &mut Report,
) -> Vec<Ready> {
    let mut ready = Vec::new();
    for &server in servers {
        progress(&format!("checking {}", server.name));
        if !server.is_installed(places.binaries) {
            report.leave_out(server.name, "is not built or not installed");
            continue;
        }
        let setting = Setting {
            binaries: places.binaries,
            scratch: places.scratch,
            core: options.server_core,
            variables: &[],
            under: &[],
        };
        let process = match Process::start(server, &setting) {
            Ok(process) => process,
            Err(error) => {
                report.leave_out(server.name, &error.to_string());
                continue;
            }
        };
        let mut endpoints = Vec::new();
        for &endpoint in server.endpoints {
            match check::check(process.address, endpoint, server.plaintext) {
                Ok(checked) => {
                    if endpoint == Endpoint::Plaintext {
                        report.server(server, checked.head_bytes);
                    }
                    if checked.attempts > 1 {
                        let lost = checked.attempts - 1;
                        let text = format!("{endpoint:?}: left {lost} connections unanswered");
                        report.leave_out(server.name, &text);
                    }
                    endpoints.push(endpoint);
                }
                Err(error) => report.leave_out(server.name, &error.to_string()),
            }
        }
        process.stop();
        ready.push(Ready { server, endpoints });
    }
    ready
}

/// Measures a case: all servers in turn, then all again, as often as there are rounds.
fn measure_case(case: &Case, ready: &[Ready], options: &Options, places: Places) -> Vec<Row> {
    let takes_part = |ready: &&Ready| {
        let plaintext = ready.endpoints.contains(&Endpoint::Plaintext);
        let cases = ready.server.cases;
        (cases.is_empty() || cases.contains(&case.name))
            && ready.endpoints.contains(&case.endpoint)
            && (plaintext || !matches!(case.load, Load::Mix { .. }))
    };
    let servers: Vec<&Server> = ready.iter().filter(takes_part).map(|ready| ready.server).collect();
    let names: Vec<&'static str> = match case.load {
        Load::Parsers => parsers::PARSERS.to_vec(),
        Load::Build => cold::SUBJECTS.map(|(name, _)| name).to_vec(),
        _ => servers.iter().map(|server| server.name).collect(),
    };
    let cores = [options.server_core, options.load_core];
    let mut rows: Vec<Row> = names.into_iter().map(Row::new).collect();
    // Counts hardly vary and take their time.
    let rounds = if matches!(case.load, Load::Instructions) { 1 } else { options.rounds };
    for round in 1..=rounds {
        for (number, row) in rows.iter_mut().enumerate().filter(|(_, row)| row.failure.is_none()) {
            progress(&format!("{} round {round} of {rounds}: {}", case.name, row.server));
            let measured = match case.load {
                Load::Parsers => parsers::measure(row.server, places.binaries, places.scratch),
                Load::Build => cold::measure(row.server, cores, places.scratch),
                _ => measure(servers[number], case, options, places),
            };
            match measured {
                Ok(figures) => row.rounds.push(figures),
                Err(error) => row.failure = Some(error.to_string()),
            }
        }
    }
    rows
}

/// What is named, or what is usual if nothing is.
fn chosen<T>(
    all: &'static [T],
    names: &[String],
    name: impl Fn(&T) -> &'static str,
    usual: impl Fn(&T) -> bool,
) -> Result<Vec<&'static T>, Failure> {
    if names.is_empty() {
        return Ok(all.iter().filter(|one| usual(one)).collect());
    }
    names
        .iter()
        .map(|wanted| {
            all.iter()
                .find(|one| name(one) == wanted)
                .ok_or_else(|| format!("there is no {wanted}; see --list").into())
        })
        .collect()
}
