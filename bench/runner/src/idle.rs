//! Connections that only stay: in this process, or, beyond what one process may have, in several.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use io_uring::IoUring;

use crate::Failure;
use crate::answer::Answer;
use crate::generator::socket_from;

/// Connections that one process holds, well below what it may have descriptors.
const EACH: usize = 17_000;
/// The first word of the command line of a process that holds connections.
pub const COMMAND: &str = "hold";

/// Connections that have had one answer and stay.
#[derive(Debug)]
pub struct Held {
    /// The connections; dropping them closes them.
    pub connections: Vec<TcpStream>,
    /// Why there are not more.
    pub failure: Option<String>,
}

/// Opens connections one after another, asks once on each, and holds them. A few may fail. `first`
/// is the number of the first, by which source addresses are chosen.
pub fn hold(address: SocketAddr, request: &[u8], count: usize, first: u32) -> Held {
    const FAILURES: usize = 5;
    let mut held = Held { connections: Vec::with_capacity(count), failure: None };
    let mut failures = 0;
    let mut number = first;
    while held.connections.len() < count {
        match hold_one(address, request, number) {
            Ok(stream) => held.connections.push(stream),
            Err(error) => {
                failures += 1;
                held.failure = Some(format!("{failures} broken, the last by: {error}"));
                if failures == FAILURES {
                    break;
                }
            }
        }
        number += 1;
    }
    held
}

fn hold_one(address: SocketAddr, request: &[u8], number: u32) -> io::Result<TcpStream> {
    const LIMIT: Duration = Duration::from_secs(2);
    let socket = socket_from(number)?;
    socket.connect_timeout(&address.into(), LIMIT)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request)?;
    let mut answer = Answer::default();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count if answer.feed(&piece[..count])? => return Ok(stream),
            _ => {}
        }
    }
}

/// Processes that hold connections.
#[derive(Debug)]
pub struct Holders {
    children: Vec<Child>,
    /// Connections that they hold.
    pub connections: usize,
}

impl Holders {
    /// Starts as many processes as `count` connections need, and waits until they have them.
    pub fn start(address: SocketAddr, path: &str, count: usize) -> Result<Holders, Failure> {
        let mut holders = Holders { children: Vec::new(), connections: 0 };
        while holders.connections < count {
            let part = EACH.min(count - holders.connections);
            let first = holders.connections.to_string();
            let mut child = Command::new(std::env::current_exe()?)
                .args([COMMAND, &address.to_string(), &part.to_string(), &first, path])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let output = child.stdout.take().ok_or("a holder has no output")?;
            // It holds them until this end of its input is closed.
            holders.children.push(child);
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line)?;
            let held = line.trim().parse().unwrap_or(0);
            holders.connections += held;
            if held < part {
                break;
            }
        }
        Ok(holders)
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// What a holder does: `hold ADDRESS COUNT FIRST PATH`.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let [address, count, first, path] = arguments else {
        return Err("usage: hold ADDRESS COUNT FIRST PATH".into());
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let mut held = hold(address.parse()?, request.as_bytes(), count.parse()?, first.parse()?);
    let count = held.connections.len();
    let ring = registered(&held.connections);
    if ring.is_some() {
        held.connections.clear();
    }
    println!("{count}");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A ring that keeps the connections, so that they need no descriptors; none where io_uring is
/// denied. A supervisor or monitor that lists every process's descriptors each second takes 50 ms for
/// 100,000 of them, on the server's core perhaps, and ahead of the server.
fn registered(connections: &[TcpStream]) -> Option<IoUring> {
    let descriptors: Vec<_> = connections.iter().map(AsRawFd::as_raw_fd).collect();
    let ring = IoUring::new(1).ok()?;
    ring.submitter().register_files(&descriptors).ok()?;
    Some(ring)
}
