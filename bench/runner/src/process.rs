//! A server's process: started on its core, observed through /proc, stopped.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::servers::{LARGE_FILE, Server};

/// How long a server may take to listen. Under valgrind that is seconds.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a server may take to end before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// The unit of times in /proc/PID/stat; Linux has told programs 100 for decades (proc(5)).
pub const TICKS_PER_SECOND: f64 = 100.0;

/// A server that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// How a server is started.
#[derive(Debug)]
pub struct Setting<'a> {
    /// What was built.
    pub binaries: &'a Path,
    /// A folder for configurations and logs.
    pub scratch: &'a Path,
    /// The core it is bound to.
    pub core: usize,
    /// More variables in its environment.
    pub variables: &'a [(&'static str, String)],
    /// A program and its arguments to run the server under.
    pub under: &'a [String],
}

/// CPU time of a process, in seconds since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// In user space.
    pub user: f64,
    /// In the kernel on the process's behalf.
    pub system: f64,
}

impl Process {
    /// Starts a server and waits until it listens.
    pub fn start(server: &Server, setting: &Setting) -> Result<Process, Failure> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let serve = server.command(address.port(), setting.binaries, setting.scratch)?;
        let log = setting.scratch.join("server.log");
        let mut command = Command::new("taskset");
        command
            .args(["-c", &setting.core.to_string()])
            .args(setting.under)
            .args(serve)
            .env("WORKERS", "1")
            .env("FILE", setting.scratch.join(LARGE_FILE))
            .envs(server.variables().iter().copied())
            .envs(setting.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let mut process = Process { child: command.spawn()?, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("ended at once ({status}): {}", last_lines(&log)).into());
            }
            if started.elapsed() > START_LIMIT {
                return Err(format!("does not listen: {}", last_lines(&log)).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(process)
    }

    /// The process's number and those of its children.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids = vec![self.child.id()];
        let mut next = 0;
        while let Some(&id) = ids.get(next) {
            let path = format!("/proc/{id}/task/{id}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            ids.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            next += 1;
        }
        ids
    }

    /// CPU time so far, of all its threads, those that have ended included.
    pub fn cpu_time(&self) -> CpuTime {
        let mut sum = CpuTime::default();
        for id in self.ids() {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // The name is in parentheses and may have spaces: fields are counted from behind it.
            let fields: Vec<&str> =
                stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
            let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok());
            // Fields 14 and 15 of proc(5); the first behind the name is field 3.
            sum.user += ticks(11).unwrap_or(0.0) / TICKS_PER_SECOND;
            sum.system += ticks(12).unwrap_or(0.0) / TICKS_PER_SECOND;
        }
        sum
    }

    /// Memory in bytes: each page divided by the number of processes that have it.
    pub fn memory(&self) -> u64 {
        let kib = |id: &u32| {
            let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()
        };
        self.ids().iter().filter_map(kib).sum::<u64>() * 1024
    }

    /// Threads now.
    pub fn threads(&self) -> usize {
        let count = |id: &u32| fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
        self.ids().iter().map(count).sum()
    }

    /// Whether the server has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the server: SIGTERM, and SIGKILL if that does not help.
    pub fn stop(self) {
        drop(self);
    }

    fn end(&mut self) {
        self.signal(Signal::TERM);
        let started = Instant::now();
        while !self.has_ended() {
            if started.elapsed() > STOP_LIMIT {
                self.signal(Signal::KILL);
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends the server's process a signal.
    pub fn signal(&mut self, signal: Signal) {
        // Once it has been waited for, its number may be another's.
        if self.has_ended() {
            return;
        }
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may end at this moment.
            let _ = kill_process(id, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// How busy a core is, as the kernel counts it.
#[derive(Clone, Copy, Debug)]
pub struct CoreTime {
    busy: f64,
    all: f64,
}

impl CoreTime {
    /// The times of a core so far.
    pub fn of(core: usize) -> CoreTime {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default();
        // user nice system idle iowait irq softirq steal: guest times are in user's already.
        let times: Vec<f64> =
            line.split_whitespace().take(8).filter_map(|text| text.parse().ok()).collect();
        let all = times.iter().sum();
        let idle = times.get(3).unwrap_or(&0.0) + times.get(4).unwrap_or(&0.0);
        CoreTime { busy: all - idle, all }
    }

    /// The share of the time since `before` in which the core did something, 0 to 1.
    pub fn busy_since(self, before: CoreTime) -> f64 {
        let all = self.all - before.all;
        if all > 0.0 { (self.busy - before.busy) / all } else { 0.0 }
    }
}

/// Binds this process to a core; what it starts inherits that.
pub fn stay_on(core: usize) -> Result<(), Failure> {
    let mut cores = rustix::thread::CpuSet::new();
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(format!("there is no core {core}").into());
    }
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores)
        .map_err(|error| format!("core {core}: {error}").into())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

/// Shows what is going on, on one line that the next replaces.
pub fn progress(text: &str) {
    eprint!("\r\x1b[K{text}");
    let _ = io::stderr().flush();
}
