//! One measurement: a server is started, loaded as the case says, observed and stopped.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::cases::{Case, Endpoint, Load};
use crate::check::request;
use crate::counting;
use crate::figures::{Figures, key};
use crate::generator::{Generator, Group};
use crate::idle::{self, Holders};
use crate::options::Options;
use crate::process::{CoreTime, CpuTime, Process, Setting};
use crate::servers::{Kind, Server};
use crate::wrk;

/// Threads for blocking handlers where the case needs that many; each server's default elsewhere.
const POOL: usize = 128;
/// Requests after which a server uses all that it has whether or not connections are idle.
const IN_USE: u64 = 20_000;
/// How long they may take.
const IN_USE_LIMIT: Duration = Duration::from_secs(30);
/// Workers where there are more connections than one may have descriptors.
const MANY_WORKERS: usize = 8;
/// Requests a second beside those: few enough for any server.
const MANY_RATE: u32 = 10_000;
/// Fewer idle connections than these say nothing of what each costs.
const FEW: usize = 1000;
/// How long a server may settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Where things are.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// What was built.
    pub binaries: &'a Path,
    /// A folder for scripts, configurations and logs.
    pub scratch: &'a Path,
}

/// Measures a server once.
pub fn measure(
    server: &Server,
    case: &Case,
    options: &Options,
    places: Places,
) -> Result<Figures, Failure> {
    let run = Run { server, case, options, places };
    match case.load {
        Load::Wrk { .. } => run.wrk(),
        Load::Reconnect { connections } => run.reconnect(connections),
        Load::Mix { sleepers, plain } => run.mix(sleepers, plain),
        Load::OpenLoop { connections } => run.open_loop(connections),
        Load::Idle => run.idle(),
        Load::IdleMany { connections } => run.idle_many(connections),
        Load::SystemCalls => run.system_calls(),
        Load::Instructions => run.instructions(),
        Load::Parsers | Load::Build => Err("no server is measured by it".into()),
    }
}

struct Run<'a> {
    server: &'a Server,
    case: &'a Case,
    options: &'a Options,
    places: Places<'a>,
}

/// What is read before a measurement and compared afterwards.
struct Before {
    cpu: CpuTime,
    server_core: CoreTime,
    load_core: CoreTime,
    at: Instant,
}

impl Run<'_> {
    fn start(
        &self,
        variables: &[(&'static str, String)],
        under: &[String],
    ) -> Result<Process, Failure> {
        let setting = Setting {
            binaries: self.places.binaries,
            scratch: self.places.scratch,
            core: self.options.server_core,
            variables,
            under,
        };
        Process::start(self.server, &setting)
    }

    fn before(&self, process: &Process) -> Before {
        Before {
            cpu: process.cpu_time(),
            server_core: CoreTime::of(self.options.server_core),
            load_core: CoreTime::of(self.options.load_core),
            at: Instant::now(),
        }
    }

    /// What the server and the cores did since `before`, for `requests` answers.
    fn after(&self, process: &Process, before: &Before, requests: f64) -> Figures {
        let cpu = process.cpu_time();
        let (user, system) = (cpu.user - before.cpu.user, cpu.system - before.cpu.system);
        let server_busy = CoreTime::of(self.options.server_core).busy_since(before.server_core);
        let load_busy = CoreTime::of(self.options.load_core).busy_since(before.load_core);
        let own = (user + system) / before.at.elapsed().as_secs_f64();
        Figures::from([
            (key::USER_US, user * 1e6 / requests),
            (key::SYSTEM_US, system * 1e6 / requests),
            (key::CPU_US, (user + system) * 1e6 / requests),
            (key::SERVER_CORE_BUSY, server_busy),
            (key::LOAD_CORE_BUSY, load_busy),
            (key::SERVER_CORE_FOREIGN, (server_busy - own).max(0.0)),
            (key::THREADS, process.threads() as f64),
            (key::MEMORY_BYTES, process.memory() as f64),
        ])
    }

    fn wrk_request(&self) -> wrk::Request {
        let (connections, pipelined, browser) = match self.case.load {
            Load::Wrk { connections, pipelined, browser } => (connections, pipelined, browser),
            _ => (64, 1, false),
        };
        let endpoint = self.case.endpoint;
        let path = endpoint.path(self.server.plaintext);
        wrk::Request { path, endpoint, connections, pipelined, browser }
    }

    fn request(&self, endpoint: Endpoint, close: bool) -> Vec<u8> {
        request(endpoint, self.server.plaintext, close)
    }

    fn wrk(&self) -> Result<Figures, Failure> {
        let process = self.start(&[], &[])?;
        let request = self.wrk_request();
        let scratch = self.places.scratch;
        wrk::run(process.address, request, self.options.warm_up, scratch, &[])?;
        let before = self.before(&process);
        let counts = wrk::run(process.address, request, self.options.seconds, scratch, &[])?;
        let mut figures = self.after(&process, &before, counts.requests);
        let [p50, p99, p999] = counts.latencies_us;
        let cpu_ns = figures[key::CPU_US] * 1e3 * counts.requests;
        figures.extend([
            (key::CPU_NS_PER_KIB, cpu_ns * 1024.0 / counts.bytes),
            (key::REQUESTS_PER_SECOND, counts.requests / counts.seconds),
            (key::BYTES_PER_SECOND, counts.bytes / counts.seconds),
            (key::P50_US, p50),
            (key::P99_US, p99),
            (key::P999_US, p999),
            (key::ERRORS, counts.errors),
        ]);
        process.stop();
        Ok(figures)
    }

    fn reconnect(&self, connections: usize) -> Result<Figures, Failure> {
        let request = self.request(self.case.endpoint, true);
        let group = Group { request, connections, reconnect: true };
        self.generate(&[group], None, &[])
    }

    fn mix(&self, sleepers: usize, plain: usize) -> Result<Figures, Failure> {
        let group = |endpoint, connections| Group {
            request: self.request(endpoint, false),
            connections,
            reconnect: false,
        };
        let groups = [group(Endpoint::Plaintext, plain), group(self.case.endpoint, sleepers)];
        // Where a sleeping handler holds a thread, there must be one for each.
        let blocks = self.server.kind == Kind::Blocking;
        let pool = [("POOL", POOL.to_string())];
        self.generate(&groups, None, if blocks { &pool } else { &[] })
    }

    fn open_loop(&self, connections: usize) -> Result<Figures, Failure> {
        let request = self.request(self.case.endpoint, false);
        let group = Group { request, connections, reconnect: false };
        self.generate(&[group], Some(self.options.rate), &[])
    }

    /// Loads with the harness's own generator. The figures are the first group's.
    fn generate(
        &self,
        groups: &[Group],
        rate: Option<u32>,
        variables: &[(&'static str, String)],
    ) -> Result<Figures, Failure> {
        let process = self.start(variables, &[])?;
        let mut generator = Generator::connect(process.address, groups, rate)?;
        generator.run(self.options.warm_up)?;
        generator.reset();
        let before = self.before(&process);
        generator.run(self.options.seconds)?;
        let seen = generator.seen(before.at.elapsed());
        let requests: u64 = seen.iter().map(|seen| seen.requests).sum();
        if requests == 0 {
            return Err("no answer came".into());
        }
        let mut figures = self.after(&process, &before, requests as f64);
        let [p50, p99, p999] = seen[0].latencies_us;
        figures.extend([
            (key::REQUESTS_PER_SECOND, seen[0].rate),
            (key::P50_US, p50),
            (key::P99_US, p99),
            (key::P999_US, p999),
            (key::ERRORS, generator.errors() as f64),
        ]);
        if let Some(sleepers) = seen.get(1) {
            figures.insert(key::SLEEPERS_PER_SECOND, sleepers.rate);
        }
        drop(generator);
        process.stop();
        Ok(figures)
    }

    fn idle(&self) -> Result<Figures, Failure> {
        // The targets' allocator takes pages of 2 MiB by default: the last of them, hardly used,
        // would be a good part of what 10,000 connections seem to cost.
        let small_pages = [("MIMALLOC_ALLOW_THP", "0".to_owned())];
        let mut process = self.start(&small_pages, &[])?;
        let request = self.request(self.case.endpoint, false);
        // What is there once, however many connections come, has to be in use before: caches, and
        // each of the receive buffers.
        let group = Group { request: request.clone(), connections: 64, reconnect: false };
        let mut generator = Generator::connect(process.address, &[group], None)?;
        generator.run_requests(IN_USE, IN_USE_LIMIT)?;
        drop(generator);
        thread::sleep(SETTLE);
        let before = process.memory();
        let held = idle::hold(process.address, &request, self.options.idle_connections, 0);
        thread::sleep(SETTLE);
        let after = process.memory();
        let count = held.connections.len();
        if process.has_ended() {
            return Err(format!("it ended at {count} connections").into());
        }
        if count < self.options.idle_connections.min(FEW) {
            let failure = held.failure.unwrap_or_default();
            return Err(format!("{count} held; {failure}").into());
        }
        let figures = Figures::from([
            (key::BYTES_PER_CONNECTION, (after as f64 - before as f64) / count as f64),
            (key::CONNECTIONS, count as f64),
            (key::MEMORY_BYTES, after as f64),
            (key::THREADS, process.threads() as f64),
        ]);
        // The server first: otherwise the client's ports would have to wait.
        process.stop();
        Ok(figures)
    }

    fn idle_many(&self, connections: usize) -> Result<Figures, Failure> {
        let variables =
            [("MIMALLOC_ALLOW_THP", "0".to_owned()), ("WORKERS", MANY_WORKERS.to_string())];
        let process = self.start(&variables, &[])?;
        let request = self.request(self.case.endpoint, false);
        let group = Group { request, connections: 64, reconnect: false };
        let rate = self.options.rate.min(MANY_RATE);
        let mut generator = Generator::connect(process.address, &[group], Some(rate))?;
        generator.run(self.options.warm_up)?;
        let p99 = |generator: &mut Generator| -> Result<f64, Failure> {
            generator.reset();
            generator.run(self.options.seconds)?;
            Ok(generator.seen(self.options.seconds)[0].latencies_us[1])
        };
        let none_idle = p99(&mut generator)?;
        let before = process.memory();
        let path = self.case.endpoint.path(self.server.plaintext);
        let holders = Holders::start(process.address, path, connections)?;
        thread::sleep(SETTLE);
        let held = holders.connections as f64;
        let mut figures = Figures::from([
            (key::CONNECTIONS, held),
            (key::P99_NONE_IDLE_US, none_idle),
            (key::P99_US, p99(&mut generator)?),
            (key::MEMORY_BYTES, process.memory() as f64),
            (key::BYTES_PER_CONNECTION, (process.memory() as f64 - before as f64) / held),
            (key::THREADS, process.threads() as f64),
        ]);
        drop(holders);
        // What so many sockets cost whoever shares the machine with them, and not their server.
        let other = self.start(&variables, &[])?;
        let holders = Holders::start(other.address, path, connections)?;
        thread::sleep(SETTLE);
        figures.insert(key::P99_IDLE_ELSEWHERE_US, p99(&mut generator)?);
        other.stop();
        drop(holders);
        drop(generator);
        process.stop();
        Ok(figures)
    }

    fn system_calls(&self) -> Result<Figures, Failure> {
        let process = self.start(&[], &[])?;
        let request = self.wrk_request();
        let scratch = self.places.scratch;
        wrk::run(process.address, request, self.options.warm_up, scratch, &[])?;
        let counted = counting::system_calls(&process, request, self.options.seconds, scratch)?;
        process.stop();
        Ok(Figures::from([
            (key::SYSTEM_CALLS, counted.calls / counted.requests),
            (key::REQUESTS_PER_SECOND, counted.requests_per_second),
        ]))
    }

    fn instructions(&self) -> Result<Figures, Failure> {
        let under = counting::callgrind(self.places.scratch)?;
        let process = self.start(&[], &under)?;
        let request = self.request(self.case.endpoint, false);
        let group = Group { request, connections: 64, reconnect: false };
        let mut generator = Generator::connect(process.address, &[group], None)?;
        let counted = counting::instructions(&process, &mut generator, self.places.scratch)?;
        drop(generator);
        process.stop();
        Ok(Figures::from([(key::INSTRUCTIONS, counted)]))
    }
}
