//! The limit of epoll: `target-raw-epoll PORT`. Edge-triggered, one receive and one send an event,
//! no parsing, no timers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use target_contract as contract;
use target_raw::{Answers, BlankLines};

const EVENTS: usize = 1024;
/// What is received at once, in bytes. A shorter piece means that there is no more: man 7 epoll
/// lets a stream's reader stop there.
const PIECE: usize = 16 * 1024;

fn main() -> io::Result<()> {
    let address = contract::address();
    // Bound here once, so that a port in use is an error and not a silent worker.
    drop(target_raw::listener(address)?);
    contract::ready_once_listening(address);
    contract::on_each_worker(move || {
        if let Err(error) = serve(address) {
            eprintln!("a worker ended: {error}");
        }
    });
    Ok(())
}

#[derive(Clone, Copy, Default)]
struct Connection {
    lines: BlankLines,
    /// Answers that the socket has had no room for yet.
    owed: usize,
    /// Bytes of the first of them that are sent already.
    sent: usize,
}

fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = target_raw::listener(address)?;
    listener.set_nonblocking(true)?;
    let answers = Answers::new();
    // SAFETY: the call takes no pointers.
    let epoll = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    watch(epoll, listener.as_raw_fd(), libc::EPOLLIN as u32)?;
    let mut connections: Vec<Connection> = Vec::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let mut piece = vec![0; PIECE];
    loop {
        // SAFETY: `events` is valid for EVENTS entries for the length of the call.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1) };
        let count = match checked(count) {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for event in &events[..count] {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                accept(epoll, fd, &mut connections)?;
            } else if !answer(fd, &mut connections[fd as usize], &answers, &mut piece) {
                // SAFETY: the descriptor is a connection's, which nothing uses after this.
                unsafe { libc::close(fd) };
            }
        }
    }
}

fn accept(epoll: RawFd, listener: RawFd, connections: &mut Vec<Connection>) -> io::Result<()> {
    const FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    const EDGES: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
    loop {
        let null = std::ptr::null_mut();
        // SAFETY: null pointers ask for no address.
        let fd = unsafe { libc::accept4(listener, null, null.cast(), FLAGS) };
        if fd < 0 {
            // Whatever it was, the listener stays readable if somebody waits.
            return Ok(());
        }
        let slot = fd as usize;
        if connections.len() <= slot {
            connections.resize(slot + 1, Connection::default());
        }
        connections[slot] = Connection::default();
        watch(epoll, fd, EDGES as u32)?;
    }
}

/// Answers what has come. False when the connection has ended.
fn answer(fd: RawFd, connection: &mut Connection, answers: &Answers, piece: &mut [u8]) -> bool {
    loop {
        // SAFETY: `piece` is valid for its length for the length of the call.
        let received = unsafe { libc::recv(fd, piece.as_mut_ptr().cast(), piece.len(), 0) };
        if received < 0 {
            return would_block() && send(fd, connection, answers);
        }
        if received == 0 {
            return false;
        }
        let received = received as usize;
        connection.owed += connection.lines.count(&piece[..received]);
        if !send(fd, connection, answers) {
            return false;
        }
        if received < piece.len() {
            return true;
        }
    }
}

/// Sends what is owed, as far as the socket has room. False when the connection has ended.
fn send(fd: RawFd, connection: &mut Connection, answers: &Answers) -> bool {
    while connection.owed > 0 {
        let rest = &answers.take(connection.owed)[connection.sent..];
        // SAFETY: `rest` is valid for its length for the length of the call.
        let sent = unsafe { libc::send(fd, rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL) };
        if sent < 0 {
            return would_block();
        }
        let sent = connection.sent + sent as usize;
        connection.owed -= answers.count(sent);
        connection.sent = sent - answers.take(answers.count(sent)).len();
    }
    true
}

fn would_block() -> bool {
    io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

fn watch(epoll: RawFd, fd: RawFd, events: u32) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: fd as u64 };
    // SAFETY: `event` is valid for the length of the call.
    checked(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
