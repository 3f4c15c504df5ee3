//! The harness's own load: closed loops of several kinds at once, and open loops.
//!
//! In an open loop requests are due at fixed moments, whatever the server does. One that finds no
//! free connection waits, and its latency counts from the moment at which it was due: a server
//! that stalls for a while is charged for every request that fell into that while.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Failure;
use crate::answer::Answer;

/// Bytes that are received at once.
const PIECE: usize = 64 * 1024;
/// Broken connections after which a load is given up.
const ERRORS_LIMIT: u64 = 10_000;
/// A connection on which nothing has been answered for so long is broken too.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);
/// How often it is looked for such.
const SILENCE_CHECK: Duration = Duration::from_millis(200);
/// The longest wait for the next event.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// Connections that all do the same.
#[derive(Clone, Debug)]
pub struct Group {
    /// The request, ready to be sent.
    pub request: Vec<u8>,
    /// How many connections.
    pub connections: usize,
    /// Whether each request gets a connection of its own.
    pub reconnect: bool,
}

/// A load on one server.
pub struct Generator {
    address: SocketAddr,
    epoll: OwnedFd,
    groups: Vec<Group>,
    connections: Vec<Connection>,
    schedule: Option<Schedule>,
    /// Nanoseconds, by group; 4.2 seconds at most.
    latencies: Vec<Vec<u32>>,
    answered: u64,
    errors: u64,
    opened: u32,
    piece: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    group: usize,
    /// When the request that is under way was due. None: nothing is under way.
    due: Option<Instant>,
    /// When it was begun on this connection.
    begun: Instant,
    /// Bytes of the request that are sent.
    sent: usize,
    answer: Answer,
}

/// When requests are due.
struct Schedule {
    interval: Duration,
    next: Instant,
    /// Due, but no connection was free.
    waiting: VecDeque<Instant>,
    free: Vec<usize>,
}

/// What a group of connections saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests a second.
    pub rate: f64,
    /// Answers.
    pub requests: u64,
    /// Latencies at 50, 99 and 99.9 per cent, in microseconds.
    pub latencies_us: [f64; 3],
}

impl Generator {
    /// Connects all groups. With a `rate` the loop is open: so many requests a second, of the first
    /// group's kind.
    pub fn connect(
        address: SocketAddr,
        groups: &[Group],
        rate: Option<u32>,
    ) -> Result<Generator, Failure> {
        let mut generator = Generator {
            address,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            groups: groups.to_vec(),
            connections: Vec::new(),
            schedule: rate.map(|rate| Schedule {
                interval: Duration::from_secs(1) / rate,
                next: Instant::now(),
                waiting: VecDeque::new(),
                free: Vec::new(),
            }),
            latencies: vec![Vec::new(); groups.len()],
            answered: 0,
            errors: 0,
            opened: 0,
            piece: vec![0; PIECE],
        };
        for (number, group) in groups.iter().enumerate() {
            for _ in 0..group.connections {
                let stream = generator.open(generator.connections.len())?;
                generator.connections.push(Connection {
                    stream,
                    group: number,
                    due: None,
                    begun: Instant::now(),
                    sent: 0,
                    answer: Answer::default(),
                });
            }
        }
        Ok(generator)
    }

    /// Loads the server for a while. What is under way at the end goes on with the next run.
    pub fn run(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        self.run_while(|_, now| now < end)
    }

    /// Loads the server until it has answered `requests` more.
    pub fn run_requests(&mut self, requests: u64, limit: Duration) -> Result<(), Failure> {
        let (enough, end) = (self.answered + requests, Instant::now() + limit);
        self.run_while(|answered, now| answered < enough && now < end)?;
        if self.answered < enough {
            return Err("answers too slowly".into());
        }
        Ok(())
    }

    /// Answers so far.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Forgets what was seen so far.
    pub fn reset(&mut self) {
        self.latencies.iter_mut().for_each(Vec::clear);
        self.errors = 0;
    }

    /// Broken connections since the last reset.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// What each group saw in `duration`, which has just ended. Of an open loop, requests that are
    /// due and not answered count with their age.
    pub fn seen(&mut self, duration: Duration) -> Vec<Seen> {
        let now = Instant::now();
        let mut late = Vec::new();
        if let Some(schedule) = &self.schedule {
            let under_way = self.connections.iter().filter_map(|connection| connection.due);
            late.extend(schedule.waiting.iter().copied().chain(under_way));
        }
        let mut seen = Vec::new();
        for (number, latencies) in self.latencies.iter_mut().enumerate() {
            let requests = latencies.len() as u64;
            if number == 0 {
                latencies.extend(late.iter().map(|&due| nanoseconds(now - due)));
            }
            latencies.sort_unstable();
            let at = |share: f64| {
                let last = latencies.len().saturating_sub(1);
                let index = (latencies.len() as f64 * share) as usize;
                latencies.get(index.min(last)).map_or(0.0, |&ns| f64::from(ns) / 1e3)
            };
            seen.push(Seen {
                rate: requests as f64 / duration.as_secs_f64(),
                requests,
                latencies_us: [at(0.5), at(0.99), at(0.999)],
            });
        }
        seen
    }

    fn run_while(&mut self, go_on: impl Fn(u64, Instant) -> bool) -> Result<(), Failure> {
        let now = Instant::now();
        match &mut self.schedule {
            Some(schedule) => {
                schedule.next = schedule.next.max(now);
                schedule.free = (0..self.connections.len())
                    .filter(|&slot| self.connections[slot].due.is_none())
                    .collect();
            }
            None => {
                for slot in 0..self.connections.len() {
                    if self.connections[slot].due.is_none() {
                        self.ask(slot, now, now)?;
                    }
                }
            }
        }
        let mut next_check = now + SILENCE_CHECK;
        let mut events = Vec::with_capacity(1024);
        loop {
            let now = Instant::now();
            if !go_on(self.answered, now) {
                return Ok(());
            }
            self.ask_what_is_due(now)?;
            if now >= next_check {
                next_check = now + SILENCE_CHECK;
                self.replace_silent(now)?;
            }
            // An open loop does not sleep: it would wake too late for what is due next.
            let wait = if self.schedule.is_some() { Duration::ZERO } else { LONGEST_WAIT };
            let timeout = Timespec::try_from(wait)?;
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                self.progress(event.data.u64() as usize)?;
            }
        }
    }

    fn ask_what_is_due(&mut self, now: Instant) -> Result<(), Failure> {
        let Some(schedule) = &mut self.schedule else { return Ok(()) };
        while schedule.next <= now {
            schedule.waiting.push_back(schedule.next);
            schedule.next += schedule.interval;
        }
        while let Some(schedule) = &mut self.schedule {
            if schedule.free.is_empty() {
                break;
            }
            let Some(due) = schedule.waiting.pop_front() else { break };
            if let Some(slot) = schedule.free.pop() {
                self.ask(slot, due, now)?;
            }
        }
        Ok(())
    }

    /// Begins a request that was due at `due`.
    fn ask(&mut self, slot: usize, due: Instant, now: Instant) -> Result<(), Failure> {
        let connection = &mut self.connections[slot];
        connection.due = Some(due);
        connection.begun = now;
        connection.sent = 0;
        connection.answer = Answer::default();
        self.send(slot)
    }

    fn send(&mut self, slot: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[slot];
        let request = &self.groups[connection.group].request;
        while connection.sent < request.len() {
            match connection.stream.write(&request[connection.sent..]) {
                Ok(count) => connection.sent += count,
                // NotConnected: it still connects, and says when it has.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) =>
                {
                    break;
                }
                Err(_) => return self.replace(slot),
            }
        }
        Ok(())
    }

    /// Does what an event on a connection allows.
    fn progress(&mut self, slot: usize) -> Result<(), Failure> {
        if self.connections[slot].due.is_some() {
            self.send(slot)?;
        }
        loop {
            let connection = &mut self.connections[slot];
            let count = match connection.stream.read(&mut self.piece) {
                Ok(0) => return self.replace(slot),
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) =>
                {
                    return Ok(());
                }
                Err(_) => return self.replace(slot),
            };
            let Ok(done) = connection.answer.feed(&self.piece[..count]) else {
                return self.replace(slot);
            };
            if done {
                return self.finish(slot);
            }
            if count < self.piece.len() {
                return Ok(());
            }
        }
    }

    fn finish(&mut self, slot: usize) -> Result<(), Failure> {
        let now = Instant::now();
        let connection = &mut self.connections[slot];
        let group = connection.group;
        if let Some(due) = connection.due.take() {
            self.latencies[group].push(nanoseconds(now - due));
            self.answered += 1;
        }
        if self.groups[group].reconnect {
            self.connections[slot].stream = self.open(slot)?;
        }
        match &mut self.schedule {
            Some(schedule) => {
                schedule.free.push(slot);
                Ok(())
            }
            None => self.ask(slot, now, now),
        }
    }

    fn replace_silent(&mut self, now: Instant) -> Result<(), Failure> {
        for slot in 0..self.connections.len() {
            let connection = &self.connections[slot];
            if connection.due.is_some() && now - connection.begun > SILENCE_LIMIT {
                self.replace(slot)?;
            }
        }
        Ok(())
    }

    /// A broken connection: another one takes its place and its request. One that had no request
    /// was not broken: the server does not wait for ever, and is free to end it.
    fn replace(&mut self, slot: usize) -> Result<(), Failure> {
        self.connections[slot].stream = self.open(slot)?;
        let Some(due) = self.connections[slot].due else { return Ok(()) };
        self.errors += 1;
        if self.errors > ERRORS_LIMIT {
            return Err("breaks its connections".into());
        }
        self.ask(slot, due, Instant::now())
    }

    /// A connection that may still be on its way.
    fn open(&mut self, slot: usize) -> Result<TcpStream, Failure> {
        let socket = socket_from(self.opened)?;
        self.opened += 1;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(socket);
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &stream, EventData::new_u64(slot as u64), all)?;
        Ok(stream)
    }
}

fn nanoseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX)
}

/// A socket of one of many source addresses, so that ports do not run out.
pub fn socket_from(number: u32) -> io::Result<Socket> {
    const LAST: u32 = 250;
    let [.., third, fourth] = [1 + number / LAST % 200, 1 + number % LAST].map(|byte| byte as u8);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::new(127, 0, third, fourth), 0).into())?;
    Ok(socket)
}
