//! System calls and instructions for each request. Both ways of counting slow the server down, so
//! that nothing else is measured meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::generator::Generator;
use crate::process::Process;
use crate::servers::answers;
use crate::wrk;

/// How long strace needs to attach to every thread.
const ATTACH: Duration = Duration::from_millis(500);
/// Requests before instructions are counted, and while they are.
const WARM_UP_REQUESTS: u64 = 5_000;
const REQUESTS: u64 = 20_000;
/// How long either may take under callgrind.
const LIMIT: Duration = Duration::from_secs(120);

/// System calls during a load.
#[derive(Clone, Copy, Debug)]
pub struct SystemCalls {
    /// How many.
    pub calls: f64,
    /// For so many answers.
    pub requests: f64,
    /// Answers a second meanwhile.
    pub requests_per_second: f64,
}

/// Counts the server's system calls while wrk runs: with perf where it may, else with strace, under
/// which the server is many times slower and takes more requests in a batch than it would.
pub fn system_calls(
    process: &Process,
    request: wrk::Request,
    duration: Duration,
    scratch: &Path,
) -> Result<SystemCalls, Failure> {
    match with_perf(process, request, duration, scratch) {
        Ok(counted) => Ok(counted),
        Err(_) => with_strace(process, request, duration, scratch),
    }
}

fn with_perf(
    process: &Process,
    request: wrk::Request,
    duration: Duration,
    scratch: &Path,
) -> Result<SystemCalls, Failure> {
    let out = scratch.join("perf.csv");
    let ids: Vec<String> = process.ids().iter().map(u32::to_string).collect();
    let before = [
        "perf",
        "stat",
        "-x",
        ",",
        "-o",
        &out.display().to_string(),
        "-e",
        "raw_syscalls:sys_enter",
        "-p",
        &ids.join(","),
        "--",
    ]
    .map(str::to_owned);
    let counts = wrk::run(process.address, request, duration, scratch, &before)?;
    let text = fs::read_to_string(out)?;
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter"));
    let calls = line.and_then(|line| line.split(',').next()?.parse().ok());
    Ok(SystemCalls {
        calls: calls.ok_or("perf may not count system calls")?,
        requests: counts.requests,
        requests_per_second: counts.requests / counts.seconds,
    })
}

fn with_strace(
    process: &Process,
    request: wrk::Request,
    duration: Duration,
    scratch: &Path,
) -> Result<SystemCalls, Failure> {
    let out = scratch.join("strace.txt");
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-qq", "-o"]).arg(&out);
    for id in process.ids() {
        command.args(["-p", &id.to_string()]);
    }
    let mut strace = command
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("neither perf nor strace can be run: {error}"))?;
    thread::sleep(ATTACH);
    let counts = wrk::run(process.address, request, duration, scratch, &[]);
    if let Some(id) = i32::try_from(strace.id()).ok().and_then(Pid::from_raw) {
        kill_process(id, Signal::INT)?;
    }
    strace.wait()?;
    let counts = counts?;
    let text = fs::read_to_string(out)?;
    // The last line: % time, seconds, usecs/call, calls, errors, "total".
    let line = text.lines().find(|line| line.trim_end().ends_with("total"));
    let calls = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    Ok(SystemCalls {
        calls: calls.ok_or("strace counted nothing")?,
        requests: counts.requests,
        requests_per_second: counts.requests / counts.seconds,
    })
}

/// What to run a server under so that its instructions can be counted.
pub fn callgrind(scratch: &Path) -> Result<Vec<String>, Failure> {
    if !answers(Command::new("valgrind").arg("--version")) {
        return Err("valgrind is not installed".into());
    }
    for old in dumps(scratch)? {
        fs::remove_file(old)?;
    }
    let out = scratch.join("callgrind.out").display().to_string();
    Ok(vec![
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={out}"),
    ])
}

/// Instructions for each request, once the server is warm.
pub fn instructions(
    process: &Process,
    generator: &mut Generator,
    scratch: &Path,
) -> Result<f64, Failure> {
    let id = process.ids()[0].to_string();
    generator.run_requests(WARM_UP_REQUESTS, LIMIT)?;
    control(&["-z", &id])?;
    let before = generator.answered();
    generator.run_requests(REQUESTS, LIMIT)?;
    let requests = generator.answered() - before;
    control(&["-d", &id])?;
    let dump = dumps(scratch)?.pop().ok_or("callgrind wrote no dump")?;
    let text = fs::read_to_string(dump)?;
    Ok(total(&text).ok_or("callgrind's dump has no total")? / requests as f64)
}

/// The instructions of a dump.
pub fn total(dump: &str) -> Option<f64> {
    let line = dump
        .lines()
        .find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")))?;
    line.split_whitespace().next()?.parse().ok()
}

fn control(arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("callgrind_control").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("callgrind_control: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// callgrind's dumps that are not empty.
pub fn dumps(scratch: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut dumps = Vec::new();
    for entry in fs::read_dir(scratch)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("callgrind.out") && entry.metadata()?.len() > 0 {
            dumps.push(entry.path());
        }
    }
    dumps.sort();
    Ok(dumps)
}
