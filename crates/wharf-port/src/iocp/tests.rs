//! What only this backend promises; the contract that all backends share has its own suite.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::{Lease, ListenOptions};

mod files;
mod load;

/// A port that listens on loopback, with what completed on it.
struct Rig {
    port: Iocp,
    listener: Socket,
    address: std::net::SocketAddr,
}

/// Tokens, named by what they are for.
const ACCEPT: Token = Token(1);
const RECEIVE: Token = Token(2);
const SEND: Token = Token(3);
const CLOSE: Token = Token(4);

/// Longer than anything here takes, so that a test which hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

impl Rig {
    fn new(config: &Config) -> Rig {
        Rig::with(Iocp::open(config).unwrap())
    }

    fn with(mut port: Iocp) -> Rig {
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(any, &ListenOptions::default()).unwrap();
        let address = listener.address();
        let listener = port.listen(listener).unwrap();
        port.accept(listener, ACCEPT);
        Rig { port, listener, address }
    }

    /// Waits for the next completions. A wait may end without any, as by a lease that came back.
    fn wait(&mut self) -> Vec<Completion> {
        let mut completions = Vec::new();
        let until = Time::monotonic() + PATIENCE;
        while completions.is_empty() {
            assert!(Time::monotonic() < until, "nothing completed");
            self.port.wait(&mut completions, Some(until)).unwrap();
        }
        completions
    }

    /// Waits until a completion gives what is looked for; the others are dropped.
    fn find<T>(&mut self, mut look: impl FnMut(Completion) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.wait().into_iter().find_map(&mut look) {
                return found;
            }
        }
    }

    /// A connection: the peer's end, and this port's.
    fn connect(&mut self) -> (TcpStream, Socket) {
        let peer = TcpStream::connect(self.address).unwrap();
        let incoming = self.find(|completion| match completion.event {
            Event::Accepted(incoming) => Some(incoming),
            _ => None,
        });
        assert_eq!(incoming.peer(), peer.local_addr().unwrap());
        let socket = self.port.adopt(incoming).unwrap();
        (peer, socket)
    }

    fn received(&mut self) -> Lease {
        self.find(|completion| match completion.event {
            Event::Received(lease) => Some(lease),
            _ => None,
        })
    }
}

fn gather(bytes: &[u8]) -> Box<Gather> {
    let mut gather = Box::new(Gather::default());
    gather.block_mut().extend_from_slice(bytes);
    gather
}

fn small() -> Config {
    Config {
        receive_block_bytes: 64,
        receive_blocks: 2,
        receive_blocks_max: 2,
        ..Config::default()
    }
}

#[test]
fn an_idle_connection_holds_no_block() {
    let mut rig = Rig::new(&small());
    let (mut peer, socket) = rig.connect();
    rig.port.receive(socket, RECEIVE);
    let (mut other, other_socket) = rig.connect();
    rig.port.receive(other_socket, RECEIVE);
    assert_eq!((rig.port.filling, rig.port.counters().leased_blocks), (0, 0));
    peer.write_all(b"ping").unwrap();
    assert_eq!(&*rig.received(), b"ping");
    other.write_all(b"pong").unwrap();
    assert_eq!(&*rig.received(), b"pong");
    assert_eq!((rig.port.filling, rig.port.counters().leased_blocks), (0, 0));
}

/// What an idle connection holds: a socket, an operation, and a place for it to wait in.
#[test]
fn an_idle_connection_is_small() {
    let socket = size_of::<Endpoint>() + size_of::<u64>();
    let operation = size_of::<Flight>() + size_of::<u64>();
    let place = places::PLACE_BYTES + size_of::<Place>();
    assert!(socket + operation + place <= 160, "{socket} + {operation} + {place} bytes");
}

#[test]
fn a_busy_connection_takes_one_block_a_turn() {
    let config = Config { receive_blocks: 64, receive_blocks_max: 64, ..small() };
    let mut rig = Rig::new(&config);
    let (mut busy, socket) = rig.connect();
    busy.write_all(&[7; 64 * 16]).unwrap();
    // All of it lies in the kernel's buffer, once its last byte has come through loopback.
    rig.port.receive(socket, RECEIVE);
    let mut left = 64 * 16;
    while left > 0 {
        let completions = rig.wait();
        let blocks: Vec<usize> = completions
            .iter()
            .filter_map(|completion| match &completion.event {
                Event::Received(lease) => Some(lease.len()),
                _ => None,
            })
            .collect();
        assert!(blocks.len() <= 1, "one turn took {} blocks of one connection", blocks.len());
        left -= blocks.iter().sum::<usize>();
    }
}

#[test]
fn sockets_that_cannot_skip_packets_complete_once_all_the_same() {
    let mut port = Iocp::open(&small()).unwrap();
    port.skip = false;
    let mut rig = Rig::with(port);
    let (mut peer, socket) = rig.connect();
    assert!(!rig.port.sockets[socket].skips);
    for round in 0..10u8 {
        peer.write_all(&[round; 4]).unwrap();
        if round == 0 {
            rig.port.receive(socket, RECEIVE);
        }
        assert_eq!(&*rig.received(), [round; 4]);
        rig.port.send(socket, gather(&[round; 3]), SEND);
        let sent = rig.find(|completion| match completion.event {
            Event::Sent { result, .. } => Some(result.unwrap()),
            _ => None,
        });
        assert_eq!(sent, 3);
        let mut answer = [0; 3];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [round; 3]);
    }
    rig.port.close(socket, false, CLOSE);
    let mut events = Vec::new();
    while !matches!(events.last(), Some(Event::Closed)) {
        events.extend(rig.wait().into_iter().map(|completion| completion.event));
    }
    assert!(
        matches!(&events[..], [Event::ReceiveEnded(Err(Failure::Cancelled)), Event::Closed]),
        "{events:?}"
    );
    assert_eq!(rig.port.counters().operations, 1, "the accept alone is left");
}

#[test]
fn loopback_sockets_of_this_system_skip_packets() {
    let mut rig = Rig::new(&small());
    let (_peer, socket) = rig.connect();
    assert!(rig.port.sockets[socket].skips);
}

#[test]
fn accepts_are_kept_posted() {
    let mut rig = Rig::new(&Config { accepts: 3, ..small() });
    let posted = |rig: &Rig| {
        let listener = &rig.port.sockets[rig.listener];
        match &rig.port.operations[listener.receiving.unwrap()].kind {
            Kind::Accept(accept) => accept.posted.len(),
            _ => 0,
        }
    };
    assert_eq!(posted(&rig), 3);
    let peers: Vec<_> = (0..10).map(|_| TcpStream::connect(rig.address).unwrap()).collect();
    let mut accepted = Vec::new();
    while accepted.len() < peers.len() {
        accepted.extend(rig.wait().into_iter().filter_map(|completion| match completion.event {
            Event::Accepted(incoming) => Some(incoming.peer()),
            _ => None,
        }));
        assert_eq!(posted(&rig), 3);
    }
    let mut all: Vec<_> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    all.sort();
    accepted.sort();
    assert_eq!(accepted, all);
}

#[test]
fn nobody_else_can_bind_the_address() {
    let rig = Rig::new(&small());
    let refused = Listener::bind(rig.address, &ListenOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
    let denied = io::Error::from_raw_os_error(windows_sys::Win32::Networking::WinSock::WSAEACCES);
    assert_eq!(address_in_use(denied).kind(), io::ErrorKind::AddrInUse);
    // Nor one that asks to share it, which is how an address is stolen on Windows.
    let thief = socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )
    .unwrap();
    thief.set_reuse_address(true).unwrap();
    thief.bind(&rig.address.into()).unwrap_err();
}

#[test]
fn a_drop_joins_everything_first() {
    let mut rig = Rig::new(&small());
    let (mut peer, socket) = rig.connect();
    rig.port.receive(socket, RECEIVE);
    let (unread, stalled) = rig.connect();
    peer.write_all(b"held").unwrap();
    let held = rig.received();
    // Sends until the peer's window and the kernel's buffers are full and one stays in flight.
    let full: bytes::Bytes = vec![0; 1 << 20].into();
    for _ in 0..64 {
        let mut gather = Box::new(Gather::default());
        gather.push(full.clone());
        rig.port.send(stalled, gather, SEND);
        let mut completions = Vec::new();
        let until = Time::monotonic() + Duration::from_millis(100);
        rig.port.wait(&mut completions, Some(until)).unwrap();
        if completions.is_empty() {
            break;
        }
    }
    assert!(rig.port.sockets[stalled].sending.is_some(), "the system buffers without end");

    rig.port.join();
    assert_eq!((rig.port.places.taken(), rig.port.filling), (0, 0));
    assert!(rig.port.operations.is_empty());
    drop(rig);
    assert_eq!(&*held, b"held", "a lease outlives its port");
    drop(unread);
    let end = peer.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0) | Err(_)), "the connection is still open");
}

#[test]
fn a_lease_that_comes_back_from_another_thread_ends_the_sleep() {
    let mut rig = Rig::new(&Config { receive_blocks: 1, receive_blocks_max: 1, ..small() });
    let (mut first, socket) = rig.connect();
    rig.port.receive(socket, RECEIVE);
    let (mut second, other) = rig.connect();
    rig.port.receive(other, RECEIVE);
    for round in 0..20u8 {
        first.write_all(&[round]).unwrap();
        let held = rig.received();
        assert_eq!(&*held, [round]);
        second.write_all(&[round, round]).unwrap();
        while rig.port.counters().parked_receives == 0 {
            let mut nothing = Vec::new();
            rig.port
                .wait(&mut nothing, Some(Time::monotonic() + Duration::from_millis(1)))
                .unwrap();
            assert!(nothing.is_empty(), "received without a block: {nothing:?}");
        }
        let elsewhere = std::thread::spawn(move || drop(held));
        assert_eq!(&*rig.received(), [round, round]);
        elsewhere.join().unwrap();
    }
}

#[test]
fn an_accept_that_lacks_sockets_pauses_and_one_without_a_listener_ends() {
    use windows_sys::Win32::Networking::WinSock::{WSAECONNRESET, WSAEMFILE, WSAENOTSOCK};
    let mut rig = Rig::new(&small());
    let operation = rig.port.sockets[rig.listener].receiving.unwrap();
    let mut completions = Vec::new();
    let mut fail = |rig: &mut Rig, error| {
        let error = io::Error::from_raw_os_error(error);
        rig.port.accept_step(operation, None, Err(error), &mut completions);
        assert!(completions.is_empty(), "{completions:?}");
        rig.port.counters().parked_accepts
    };
    assert_eq!(fail(&mut rig, WSAECONNRESET), 0, "the peer's affair");
    assert_eq!(fail(&mut rig, WSAEMFILE), 1);
    assert_eq!(fail(&mut rig, WSAEMFILE), 1, "parked once");
    let until = Time::monotonic() + PATIENCE;
    while rig.port.counters().parked_accepts > 0 {
        assert!(Time::monotonic() < until, "parked for ever");
        rig.port
            .wait(&mut Vec::new(), Some(Time::monotonic() + Duration::from_millis(10)))
            .unwrap();
    }
    rig.connect();
    fail(&mut rig, WSAENOTSOCK);
    let why = rig.find(|completion| match completion.event {
        Event::AcceptEnded(Failure::Io(why)) => Some(why),
        _ => None,
    });
    assert_eq!(why.raw_os_error(), Some(WSAENOTSOCK));
    assert_eq!(rig.port.places.taken(), 0);
}

#[test]
fn a_send_that_is_cancelled_half_way_says_how_much_went() {
    let mut rig = Rig::new(&small());
    let (mut peer, socket) = rig.connect();
    rig.port.sockets[socket].socket.set_send_buffer_size(64 * 1024).unwrap();
    let full: bytes::Bytes = vec![7; 1 << 20].into();
    let mut sent = 0;
    // Sends until one stays in flight, then takes it back.
    let last = loop {
        assert!(sent < 64 << 20, "the system buffers without end");
        let mut gather = Box::new(Gather::default());
        gather.push(full.clone());
        let operation = rig.port.send(socket, gather, SEND);
        let mut completions = Vec::new();
        rig.port
            .wait(&mut completions, Some(Time::monotonic() + Duration::from_millis(100)))
            .unwrap();
        match completions.pop() {
            Some(Completion { event: Event::Sent { result, .. }, .. }) => sent += result.unwrap(),
            Some(other) => panic!("{other:?}"),
            None => break operation,
        }
    };
    // Makes room for a part of it, which the system uses or not.
    let mut received = vec![0; 100_000];
    peer.read_exact(&mut received).unwrap();
    rig.port.cancel(last);
    let taken_back = rig.find(|completion| match completion.event {
        Event::Sent { result, .. } => Some(result),
        _ => None,
    });
    match taken_back {
        Ok(count) => sent += count,
        Err(Failure::Cancelled) => {}
        Err(Failure::Io(error)) => panic!("{error}"),
    }
    rig.port.close(socket, false, CLOSE);
    rig.find(|completion| matches!(completion.event, Event::Closed).then_some(()));
    peer.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), sent);
}
