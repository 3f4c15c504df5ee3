//! One page that convinces: what this machine shows in under two minutes, every figure measured
//! now. `cargo run --release -- prove`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Failure;
use crate::answer::Answer;
use crate::building;
use crate::cases::Endpoint;
use crate::check::request;
use crate::generator::{Generator, Group, Seen, socket_from};
use crate::idle;
use crate::options::Options;
use crate::process::{self, Process, Setting, progress};
use crate::report::Report;
use crate::servers::{SERVERS, Server};
use crate::wrk;

/// The word on the command line that asks for this.
pub const COMMAND: &str = "prove";

/// How long a load lasts before it counts, and while it does.
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(3);
/// Requests a second of the fixed-rate runs: few enough for each server.
const RATE: u32 = 10_000;
/// The same beside peers that misbehave, or handlers that sleep.
const LOW_RATE: u32 = 2_000;
const PEERS: [&str; 3] = ["wharf", "hyper", "axum"];
/// Peers that send a byte of a head each second.
const SLOW_PEERS: usize = 5_000;
/// How long these try. Wharf gives a head ten seconds.
const SLOW_FOR: Duration = Duration::from_secs(13);
const IDLE: usize = 10_000;
/// Clients while the server is told to end, each a thread.
const CLIENTS: usize = 16;

/// Where the programs are, and on which cores they run.
struct Stage<'a> {
    binaries: &'a std::path::Path,
    scratch: &'a std::path::Path,
    options: &'a Options,
}

/// Prints the page.
pub fn run() -> Result<(), Failure> {
    let options = Options::usual();
    let binaries = building::binaries()?;
    let servers: Vec<&Server> = PEERS.iter().map(|name| server(name)).collect::<Result<_, _>>()?;
    let failed = building::build(&servers, &mut Report::new(&options));
    if !failed.is_empty() {
        return Err(format!("{} do not build", failed.join(", ")).into());
    }
    let scratch = tempfile::tempdir()?;
    process::stay_on(options.load_core)?;
    let stage = Stage { binaries: &binaries, scratch: scratch.path(), options: &options };
    let began = Instant::now();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "Wharf on this machine: one core serves, the other makes the load. Load before: {}.\n",
        load.split_whitespace().next().unwrap_or("unknown"),
    );
    backend(&stage)?;
    beside_peers(&stage)?;
    sleepers(&stage)?;
    slow_peers(&stage)?;
    idle_connections(&stage)?;
    termination(&stage)?;
    say(&format!("\nAll of it measured just now, in {:.0} s.", began.elapsed().as_secs_f64()));
    Ok(())
}

fn server(name: &str) -> Result<&'static Server, Failure> {
    SERVERS.iter().find(|server| server.name == name).ok_or_else(|| name.into())
}

/// Prints a line in place of what is going on.
fn say(line: &str) {
    progress("");
    println!("{line}");
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes()
}

fn group(request: Vec<u8>, connections: usize) -> Group {
    Group { request, connections, reconnect: false }
}

impl Stage<'_> {
    fn start(&self, name: &str, variables: &[(&'static str, String)]) -> Result<Process, Failure> {
        let setting = Setting {
            binaries: self.binaries,
            scratch: self.scratch,
            core: self.options.server_core,
            variables,
            under: &[],
        };
        Process::start(server(name)?, &setting)
    }

    /// What the groups see once the server is warm.
    fn load(&self, to: &Process, groups: &[Group], rate: u32) -> Result<(Vec<Seen>, u64), Failure> {
        let mut generator = Generator::connect(to.address, groups, Some(rate))?;
        generator.run(WARM_UP)?;
        generator.reset();
        let began = Instant::now();
        generator.run(MEASURED)?;
        Ok((generator.seen(began.elapsed()), generator.errors()))
    }
}

/// Which of the system's interfaces the server opened, and what the system says to it.
fn backend(stage: &Stage) -> Result<(), Failure> {
    let process = stage.start("wharf", &[])?;
    // It listens before its shards run; one that answers has its backend.
    exchange(&mut connect(process.address, 0)?, &get("/plaintext"))?;
    let links = fs::read_dir(format!("/proc/{}/fd", process.ids()[0]))?;
    let is_uring = links
        .filter_map(|link| fs::read_link(link.ok()?.path()).ok())
        .any(|target| target.to_string_lossy().contains("io_uring"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.as_deref().unwrap_or("not there").trim();
    let (backend, why) = match is_uring {
        true => ("io_uring", "the kernel allows it"),
        false => ("epoll", "io_uring is refused or switched off"),
    };
    let kernel = kernel.trim();
    say(&format!(
        "Backend: {backend}; {why} (Linux {kernel}, kernel.io_uring_disabled {disabled})."
    ));
    process.stop();
    Ok(())
}

fn beside_peers(stage: &Stage) -> Result<(), Failure> {
    say("\nA short text over 64 connections; then the same at 10,000 requests a second:\n");
    say("| server | requests/s | CPU µs/request | p50 µs at 10,000/s | p99.9 µs |");
    say("|---|---:|---:|---:|---:|");
    for name in PEERS {
        progress(&format!("measuring {name}"));
        let process = stage.start(name, &[])?;
        let (path, endpoint) = ("/plaintext", Endpoint::Plaintext);
        let asked = wrk::Request { path, endpoint, connections: 64, pipelined: 1, browser: false };
        wrk::run(process.address, asked, WARM_UP, stage.scratch, &[])?;
        let before = process.cpu_time();
        let counts = wrk::run(process.address, asked, MEASURED, stage.scratch, &[])?;
        let after = process.cpu_time();
        let cpu = (after.user + after.system - before.user - before.system) * 1e6;
        let (seen, _) = stage.load(&process, &[group(get(path), 64)], RATE)?;
        let [p50, _, p999] = seen[0].latencies_us;
        say(&format!(
            "| {name} | {:.0} | {:.2} | {p50:.0} | {p999:.0} |",
            counts.requests / counts.seconds,
            cpu / counts.requests,
        ));
        process.stop();
    }
    Ok(())
}

/// A handler that sleeps, which nobody told Wharf of, beside one that does not.
fn sleepers(stage: &Stage) -> Result<(), Failure> {
    progress("a handler that sleeps");
    let process = stage.start("wharf", &[])?;
    let plain = group(get("/adaptive"), 16);
    let (alone, _) = stage.load(&process, &[plain], LOW_RATE)?;
    let napping = AtomicU64::new(0);
    let end = Instant::now() + WARM_UP + MEASURED + Duration::from_millis(200);
    let beside = thread::scope(|scope| {
        for number in 0..64 {
            let (napping, address) = (&napping, process.address);
            scope.spawn(move || {
                let Ok(mut stream) = connect(address, number) else { return };
                while Instant::now() < end && exchange(&mut stream, &get("/nap")).is_ok() {
                    napping.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        stage.load(&process, &[group(get("/adaptive"), 16)], LOW_RATE)
    });
    let (beside, _) = beside?;
    say(&format!(
        "\nA fast route at {LOW_RATE} requests a second: p99 {:.0} µs. Beside 64 clients of a plain \
         handler\nthat sleeps 50 ms, {} times meanwhile: p99 {:.0} µs.",
        alone[0].latencies_us[1],
        napping.into_inner(),
        beside[0].latencies_us[1],
    ));
    process.stop();
    Ok(())
}

fn slow_peers(stage: &Stage) -> Result<(), Failure> {
    progress("peers that send their heads byte by byte");
    let process = stage.start("wharf", &[])?;
    let address = process.address;
    let slow = thread::spawn(move || be_slow(address));
    let mut generator =
        Generator::connect(address, &[group(get("/plaintext"), 64)], Some(LOW_RATE))?;
    let began = Instant::now();
    generator.run(SLOW_FOR + Duration::from_secs(2))?;
    let seen = generator.seen(began.elapsed());
    let (opened, shed) = slow.join().map_err(|_| "the slow peers' thread panicked")?;
    say(&format!(
        "\n{opened} peers sent a byte of a head each second: {shed} were shed within {} s. \
         Meanwhile\n{} requests of others were answered, p99 {:.0} µs, {} broken.",
        SLOW_FOR.as_secs(),
        seen[0].requests,
        seen[0].latencies_us[1],
        generator.errors(),
    ));
    drop(generator);
    process.stop();
    Ok(())
}

/// Opens connections and sends heads so slowly that they never end. How many were opened, and how
/// many of them the server has ended.
fn be_slow(address: SocketAddr) -> (usize, usize) {
    let began = Instant::now();
    let mut streams: Vec<TcpStream> =
        (0..SLOW_PEERS as u32).filter_map(|number| connect(address, number).ok()).collect();
    let opened = streams.len();
    for stream in &mut streams {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nx: ");
        let _ = stream.set_nonblocking(true);
    }
    while began.elapsed() < SLOW_FOR {
        thread::sleep(Duration::from_secs(1));
        streams.retain_mut(|stream| stream.write_all(b"y").is_ok() && is_open(stream));
    }
    (opened, opened - streams.len())
}

fn is_open(stream: &mut TcpStream) -> bool {
    let mut piece = [0; 512];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

fn idle_connections(stage: &Stage) -> Result<(), Failure> {
    progress("idle connections");
    let process = stage.start("wharf", &[("MIMALLOC_ALLOW_THP", "0".to_owned())])?;
    let request = request(Endpoint::Plaintext, "/plaintext", false);
    let mut generator = Generator::connect(process.address, &[group(request.clone(), 64)], None)?;
    generator.run_requests(20_000, Duration::from_secs(30))?;
    drop(generator);
    thread::sleep(Duration::from_secs(1));
    let before = process.memory();
    let held = idle::hold(process.address, &request, IDLE, 0);
    thread::sleep(Duration::from_secs(1));
    let count = held.connections.len();
    let each = (process.memory() as f64 - before as f64) / count.max(1) as f64;
    say(&format!("\n{count} idle connections: {each:.0} bytes of memory each."));
    process.stop();
    Ok(())
}

fn connect(address: SocketAddr, number: u32) -> Result<TcpStream, Failure> {
    let socket = socket_from(number)?;
    socket.connect(&address.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Sends a request and reads its answer. Whether the connection stays.
fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<bool, Failure> {
    stream.write_all(request)?;
    let mut answer = Answer::default();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece)? {
            0 => return Err("the answer is not whole".into()),
            count if answer.feed(&piece[..count])? => return Ok(!answer.closes()),
            _ => {}
        }
    }
}

/// SIGTERM while clients ask as fast as they can. A client whose answer says that the connection
/// closes stops, as does one that is refused; a request that was sent and not answered has failed.
fn termination(stage: &Stage) -> Result<(), Failure> {
    progress("SIGTERM under load");
    let mut process = stage.start("wharf", &[])?;
    let (address, request) = (process.address, get("/plaintext"));
    let (answered, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut took = Duration::ZERO;
    thread::scope(|scope| {
        for number in 0..CLIENTS as u32 {
            let (answered, failed, request) = (&answered, &failed, &request);
            scope.spawn(move || {
                let Ok(mut stream) = connect(address, number) else { return };
                loop {
                    match exchange(&mut stream, request) {
                        Ok(stays) => {
                            answered.fetch_add(1, Ordering::Relaxed);
                            if !stays {
                                return;
                            }
                        }
                        Err(_) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                    }
                }
            });
        }
        thread::sleep(Duration::from_secs(2));
        let began = Instant::now();
        process.signal(Signal::TERM);
        while !process.has_ended() && began.elapsed() < Duration::from_secs(40) {
            thread::sleep(Duration::from_millis(1));
        }
        took = began.elapsed();
    });
    say(&format!(
        "\nSIGTERM under load: {} requests answered, {} failed; the process ended after {} ms.",
        answered.into_inner(),
        failed.into_inner(),
        took.as_millis(),
    ));
    process.stop();
    Ok(())
}
