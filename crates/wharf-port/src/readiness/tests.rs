//! What is the readiness backend's alone; what all backends share is in the contract suite.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use super::system::AcceptFailure;
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A port with a listener, and what completed on it so far.
struct Rig {
    port: Port,
    address: SocketAddr,
    completions: Vec<Completion>,
}

impl Rig {
    fn new(config: Config) -> Rig {
        let mut port = Port::open(Choice::Only(Backend::Readiness), &config).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, &ListenOptions::default()).unwrap();
        let address = listener.address();
        let listener = port.listen(listener).unwrap();
        port.accept(listener, Token(0));
        Rig { port, address, completions: Vec::new() }
    }

    /// The next completion, in order.
    fn next(&mut self) -> Completion {
        let until = Time::monotonic() + PATIENCE;
        while self.completions.is_empty() {
            assert!(Time::monotonic() < until, "nothing completes");
            self.port.wait(&mut self.completions, Some(until)).unwrap();
        }
        self.completions.remove(0)
    }

    /// Lets the port note the edges that have come.
    fn settle(&mut self) {
        let until = Time::monotonic() + Duration::from_millis(5);
        while Time::monotonic() < until {
            self.port.wait(&mut self.completions, Some(until)).unwrap();
        }
    }

    /// Waits until exactly so many receives lack a block.
    fn until_parked(&mut self, count: usize) {
        let until = Time::monotonic() + PATIENCE;
        while self.port.counters().parked_receives != count {
            let parked = self.port.counters().parked_receives;
            assert!(Time::monotonic() < until, "{parked} receives are parked, not {count}");
            self.settle();
        }
    }

    fn connect(&mut self) -> (TcpStream, Socket) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let Event::Accepted(incoming) = self.next().event else { panic!("not accepted") };
        assert_eq!(incoming.peer(), client.local_addr().unwrap());
        (client, self.port.adopt(incoming).unwrap())
    }

    /// Receives until `count` bytes or the end are there.
    fn receive(&mut self, count: usize) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match self.next().event {
                Event::Received(lease) => bytes.extend_from_slice(&lease),
                Event::ReceiveEnded(Ok(())) => return (bytes, true),
                other => panic!("{other:?}"),
            }
        }
        (bytes, false)
    }

    fn send(&mut self, socket: Socket, bytes: &'static [u8]) {
        let mut gather = Box::new(Gather::default());
        gather.push(bytes.into());
        self.port.send(socket, gather, Token(2));
        let Event::Sent { result, .. } = self.next().event else { panic!("not sent") };
        assert_eq!(result.unwrap(), bytes.len());
    }
}

fn small_blocks(blocks: usize) -> Config {
    Config {
        receive_block_bytes: 16,
        receive_blocks: blocks,
        receive_blocks_max: blocks,
        ..Config::default()
    }
}

#[test]
fn an_echo_needs_one_wait_a_turn() {
    let mut rig = Rig::new(Config::default());
    let (mut client, socket) = rig.connect();
    rig.port.receive(socket, Token(1));
    // Finds the edge that came with the registration.
    rig.settle();
    for _ in 0..10 {
        let before = rig.port.counters().waits;
        client.write_all(b"ping").unwrap();
        assert_eq!(rig.receive(4).0, b"ping");
        rig.send(socket, b"pong");
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong");
        assert!(rig.port.counters().waits - before <= 2);
    }
    rig.port.close(socket, Token(3));
    assert!(matches!(rig.next().event, Event::ReceiveEnded(Err(Failure::Cancelled))));
    assert!(matches!(rig.next().event, Event::Closed));
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let counters = rig.port.counters();
    assert_eq!((counters.sockets, counters.operations, counters.leased_blocks), (1, 1, 0));
}

#[test]
fn an_end_that_came_with_the_bytes_is_noticed() {
    let mut rig = Rig::new(Config::default());
    for registered_before in [false, true] {
        let (mut client, socket) = rig.connect();
        if registered_before {
            rig.port.receive(socket, Token(1));
            rig.settle();
        }
        client.write_all(b"all there is").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        // Loopback: both are there, and had one edge between them.
        if !registered_before {
            rig.port.receive(socket, Token(1));
        }
        assert_eq!(rig.receive(usize::MAX), (b"all there is".to_vec(), true));
        // The end stays the end.
        rig.port.receive(socket, Token(1));
        assert_eq!(rig.receive(usize::MAX), (Vec::new(), true));
        rig.port.receive_into(socket, Vec::with_capacity(8), Token(1));
        let Event::ReceivedInto { result, .. } = rig.next().event else { panic!("no end") };
        assert_eq!(result.unwrap(), 0);
    }
}

#[test]
fn an_end_behind_a_short_receive_is_noticed() {
    let mut rig = Rig::new(Config::default());
    let (mut client, socket) = rig.connect();
    rig.port.receive(socket, Token(1));
    client.write_all(b"first").unwrap();
    assert_eq!(rig.receive(5).0, b"first");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.receive(usize::MAX), (Vec::new(), true));
}

#[test]
fn an_edge_without_an_operation_is_kept() {
    let mut rig = Rig::new(Config::default());
    let (mut client, socket) = rig.connect();
    client.write_all(b"early").unwrap();
    rig.settle();
    let receive = rig.port.receive(socket, Token(1));
    assert_eq!(rig.receive(5).0, b"early");
    rig.port.cancel(receive);
    assert!(matches!(rig.next().event, Event::ReceiveEnded(Err(Failure::Cancelled))));
    client.write_all(b"between").unwrap();
    rig.settle();
    assert!(rig.completions.is_empty());
    rig.port.receive_into(socket, Vec::with_capacity(4), Token(2));
    let Event::ReceivedInto { block, result } = rig.next().event else { panic!("not received") };
    assert_eq!((&block[..], result.unwrap()), (&b"betw"[..], 4));
    rig.port.receive(socket, Token(3));
    assert_eq!(rig.receive(3).0, b"een");
}

#[cfg(target_os = "linux")]
#[test]
fn bytes_behind_urgent_ones_do_not_wait_for_an_edge() {
    let mut rig = Rig::new(Config::default());
    let mut clients: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    for (client, socket) in &mut clients {
        rig.port.receive(*socket, Token(1));
        rig.settle();
        client.write_all(b"before").unwrap();
        socket2::SockRef::from(&*client).send_out_of_band(b"!").unwrap();
        client.write_all(b"behind").unwrap();
        assert_eq!(rig.receive(12).0, b"beforebehind");
    }
}

#[test]
fn a_busy_socket_keeps_no_other_out() {
    let mut rig = Rig::new(small_blocks(4096));
    let (mut busy, busy_socket) = rig.connect();
    let (mut quiet, quiet_socket) = rig.connect();
    rig.port.receive(busy_socket, Token(1));
    rig.port.receive(quiet_socket, Token(2));
    let much = [b'x'; 16 * 4000];
    busy.write_all(&much).unwrap();
    while rig.completions.is_empty() {
        rig.port.wait(&mut rig.completions, None).unwrap();
    }
    assert!(rig.completions.len() <= 16, "a turn takes a bounded part");
    quiet.write_all(b"here").unwrap();
    let mut left = much.len();
    let until = Time::monotonic() + PATIENCE;
    loop {
        let Completion { token, event } = rig.next();
        let Event::Received(lease) = event else { panic!("{event:?}") };
        if token == Token(2) {
            break;
        }
        // The busy one always has more.
        if left > much.len() / 2 {
            left -= lease.len();
        } else {
            busy.write_all(&much[..lease.len()]).unwrap();
        }
        assert!(Time::monotonic() < until, "the quiet one waits for the busy one");
    }
    // No edge comes for what a turn leaves.
    rig.receive(left);
}

#[test]
fn waiting_takes_no_block() {
    let mut rig = Rig::new(small_blocks(1));
    let mut clients: Vec<_> = (0..10).map(|_| rig.connect()).collect();
    for (_, socket) in &clients {
        rig.port.receive(*socket, Token(1));
    }
    rig.settle();
    let counters = rig.port.counters();
    assert_eq!((counters.leased_blocks, counters.parked_receives), (0, 0));
    for (client, _) in &mut clients {
        client.write_all(b"one block serves all").unwrap();
        assert_eq!(rig.receive(20).0, b"one block serves all");
    }
}

#[test]
fn receives_without_a_block_go_on_when_leases_come_back() {
    let mut rig = Rig::new(small_blocks(2));
    let mut clients: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    for (client, socket) in &mut clients {
        rig.port.receive(*socket, Token(1));
        client.write_all(b"x").unwrap();
    }
    let mut held: Vec<Completion> = (0..2).map(|_| rig.next()).collect();
    rig.until_parked(2);
    assert!(rig.completions.is_empty());
    // On this thread, between two waits.
    held.pop();
    held.push(rig.next());
    assert_eq!(rig.port.counters().parked_receives, 1);
    // On another one, while this one sleeps.
    let last = held.pop();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        drop(last);
    });
    held.push(rig.next());
    other.join().unwrap();
    assert_eq!(rig.port.counters().parked_receives, 0);
}

#[test]
fn a_parked_receive_can_be_cancelled_and_closed() {
    let mut rig = Rig::new(small_blocks(1));
    let mut clients: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    let (mut receives, mut held) = (Vec::new(), Vec::new());
    for (client, socket) in &mut clients {
        receives.push(rig.port.receive(*socket, Token(1)));
        client.write_all(b"x").unwrap();
        if receives.len() > 1 {
            rig.until_parked(receives.len() - 1);
        } else {
            held.push(rig.next());
        }
    }
    assert!(matches!(held[0].event, Event::Received(_)));
    rig.port.cancel(receives[1]);
    assert!(matches!(rig.next().event, Event::ReceiveEnded(Err(Failure::Cancelled))));
    rig.port.close(clients[2].1, Token(2));
    assert!(matches!(rig.next().event, Event::ReceiveEnded(Err(Failure::Cancelled))));
    assert!(matches!(rig.next().event, Event::Closed));
    assert_eq!(rig.port.counters().parked_receives, 0);
    // The bytes are still there for the next receive.
    drop(held);
    rig.port.receive(clients[1].1, Token(3));
    assert_eq!(rig.receive(1).0, b"x");
}

#[test]
fn cancelled_receives_do_not_pile_up_among_the_parked() {
    let mut readiness = Readiness::open(&small_blocks(1)).unwrap();
    let taken = readiness.pool.take().unwrap();
    let mut completions = Vec::new();
    let soon = || Some(Time::monotonic() + Duration::from_millis(1));
    let mut clients = Vec::new();
    let mut receives = Vec::new();
    for _ in 0..200 {
        let (mut client, server) =
            socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        server.set_nonblocking(true).unwrap();
        client.write_all(b"x").unwrap();
        clients.push(client);
        let socket = readiness.add(server, system::INTEREST).unwrap();
        receives.push(readiness.receive(socket, Token(1)));
    }
    while readiness.parked_receives < receives.len() {
        readiness.wait(&mut completions, soon()).unwrap();
    }
    let last = receives.pop().unwrap();
    for receive in receives {
        readiness.cancel(receive);
    }
    readiness.wait(&mut completions, soon()).unwrap();
    assert_eq!((completions.len(), readiness.parked_receives), (199, 1));
    assert!(readiness.parked.len() < 100, "{} in the list", readiness.parked.len());
    readiness.pool.give_back(taken);
    readiness.wait(&mut completions, None).unwrap();
    assert!(matches!(completions.pop().unwrap().event, Event::Received(_)));
    assert!(readiness.operations.contains_key(last));
}

#[test]
fn a_gather_of_many_parts_arrives_whole() {
    let mut rig = Rig::new(Config::default());
    let (client, socket) = rig.connect();
    let mut gather = Box::new(Gather::default());
    gather.block_mut().extend_from_slice(b"head");
    for number in 0..2000u32 {
        gather.push(number.to_le_bytes().to_vec().into());
    }
    // One large part, so that the socket fills in the midst of it all.
    gather.push(vec![7; 16 * 1024 * 1024].into());
    for number in 0..50u32 {
        gather.push(number.to_le_bytes().to_vec().into());
    }
    let expected: Vec<u8> = gather.slices().flat_map(|slice| slice.to_vec()).collect();
    let length = expected.len();
    let (begin, begun) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        // Not before the sender has filled the socket.
        begun.recv().unwrap();
        let mut all = vec![0; length];
        (&client).read_exact(&mut all).unwrap();
        all
    });
    let mut sends = 0;
    while gather.remaining() > 0 {
        rig.port.send(socket, gather, Token(2));
        let Event::Sent { gather: back, result } = rig.next().event else { panic!("not sent") };
        gather = back;
        let count = result.unwrap();
        assert!(count > 0);
        gather.advance(count);
        sends += 1;
        let _ = begin.send(());
    }
    assert!(reader.join().unwrap() == expected, "the bytes arrive changed");
    assert!(sends > 1, "the socket never filled, so the test is too small");
}

/// Only between two calls is it certain that some bytes are sent and the next ones find no room. A
/// local pair takes each call whole or not at all.
#[test]
fn a_socket_that_is_full_between_two_calls_keeps_the_count() {
    let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let near = socket2::Socket::from(near);
    let mut gather = Gather::default();
    for _ in 0..4096 {
        gather.push(vec![b'x'; 512].into());
    }
    let sent = system::send(&near, &gather).unwrap();
    assert!(sent.full && (1..gather.remaining()).contains(&sent.count));
    drop(near);
    let mut received = Vec::new();
    far.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), sent.count);
}

#[test]
fn files_are_copied_where_the_kernel_does_not_send_them() {
    let content: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let (sender, receiver) =
        socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    sender.set_nonblocking(true).unwrap();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        (&receiver).read_to_end(&mut all).unwrap();
        all
    });
    let (mut at, mut copy) = (1000, Vec::new());
    loop {
        match system::copy_file(&sender, &file, at, usize::MAX, &mut copy) {
            Ok(0) => break,
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(at, content.len() as u64);
    drop(sender);
    assert!(reader.join().unwrap() == content[1000..]);
}

#[test]
fn a_wake_ends_a_wait_and_completes_nothing() {
    let mut rig = Rig::new(Config::default());
    rig.settle();
    let waker = rig.port.waker();
    // Before the wait, and while it sleeps.
    waker.wake();
    rig.port.wait(&mut rig.completions, None).unwrap();
    for _ in 0..200 {
        let waker = waker.clone();
        let other = thread::spawn(move || waker.wake());
        rig.port.wait(&mut rig.completions, None).unwrap();
        other.join().unwrap();
    }
    assert!(rig.completions.is_empty());
}

#[test]
fn a_socket_that_blocks_is_made_not_to() {
    let mut rig = Rig::new(Config::default());
    let (_client, socket) = {
        let client = TcpStream::connect(rig.address).unwrap();
        let Event::Accepted(incoming) = rig.next().event else { panic!("not accepted") };
        let accepted = match &incoming.origin {
            IncomingOrigin::Os(socket) => socket,
            #[cfg(feature = "sim")]
            IncomingOrigin::Sim(_) => panic!("a simulated socket"),
        };
        assert!(accepted.nonblocking().unwrap() && accepted.tcp_nodelay().unwrap());
        accepted.set_nonblocking(false).unwrap();
        (client, rig.port.adopt(incoming).unwrap())
    };
    // Would hang, were it not so.
    rig.port.receive(socket, Token(1));
    let listener_and_socket = rig.port.counters().operations;
    rig.settle();
    assert_eq!(rig.port.counters().operations, listener_and_socket);
}

#[test]
fn names_find_the_socket_that_they_were_given_for() {
    let mut sockets = SlotMap::<Socket, ()>::with_key();
    let mut names = Names::new();
    let first = sockets.insert(());
    let name = names.name(first);
    assert_ne!(name, WAKE);
    assert_eq!(names.key(name), Some(first));
    sockets.remove(first);
    let second = sockets.insert(());
    let second_name = names.name(second);
    assert_eq!(names.key(second_name), Some(second));
    #[cfg(target_pointer_width = "64")]
    assert!(!sockets.contains_key(names.key(name).unwrap()), "a late edge reaches nobody");
}

#[test]
fn accept_errors_are_told_apart() {
    let kind = |errno| match AcceptFailure::from(io::Error::from_raw_os_error(errno)) {
        AcceptFailure::WouldBlock => "wait",
        AcceptFailure::Exhausted(_) => "exhausted",
        AcceptFailure::Connection(_) => "connection",
        AcceptFailure::Listener(_) => "listener",
    };
    assert_eq!(kind(libc::EAGAIN), "wait");
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
        assert_eq!(kind(errno), "exhausted");
    }
    for errno in [libc::ECONNABORTED, libc::EPROTO, libc::ENETDOWN, libc::EPERM] {
        assert_eq!(kind(errno), "connection");
    }
    for errno in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
        assert_eq!(kind(errno), "listener");
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn an_idle_connection_is_small() {
    // A slot map adds a generation to each.
    let entry = size_of::<Entry>() + 4;
    let operation = (size_of::<Submitted>() + 4).next_multiple_of(align_of::<Submitted>());
    assert!(entry + operation <= 96, "{entry} + {operation} bytes");
}
