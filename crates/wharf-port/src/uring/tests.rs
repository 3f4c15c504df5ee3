//! What is io_uring's alone; what all backends share is in the contract suite.
//!
//! Where the machine denies io_uring each test says so and passes: the suite decides whether that
//! may be.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use super::*;
use crate::ListenOptions;

const PATIENCE: Duration = Duration::from_secs(60);

struct Rig {
    uring: Uring,
    address: SocketAddr,
    listener: Socket,
    accept: Operation,
    completions: VecDeque<Completion>,
}

impl Rig {
    fn new(config: &Config) -> Option<Rig> {
        let mut uring = match Uring::open(config) {
            Ok(uring) => uring,
            Err(error) => {
                println!("not tested: io_uring is not to be had here: {error}");
                return None;
            }
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, &ListenOptions::default()).unwrap();
        let address = listener.address();
        let listener = uring.listen(listener).unwrap();
        let accept = uring.accept(listener, Token(0));
        Some(Rig { uring, address, listener, accept, completions: VecDeque::new() })
    }

    fn wait(&mut self, until: Time) {
        let mut completions = Vec::new();
        self.uring.wait(&mut completions, Some(until)).unwrap();
        self.completions.extend(completions);
    }

    /// The next completion, in order.
    fn next(&mut self) -> Completion {
        let until = Time::monotonic() + PATIENCE;
        loop {
            if let Some(completion) = self.completions.pop_front() {
                return completion;
            }
            assert!(Time::monotonic() < until, "nothing completes");
            self.wait(until);
        }
    }

    /// Lets the kernel do what it has to do now.
    fn settle(&mut self) {
        let until = Time::monotonic() + Duration::from_millis(5);
        while Time::monotonic() < until {
            self.wait(until);
        }
    }

    fn connect(&mut self) -> (TcpStream, Socket) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let Event::Accepted(incoming) = self.next().event else { panic!("not accepted") };
        assert_eq!(incoming.peer(), client.local_addr().unwrap());
        (client, self.uring.adopt(incoming).unwrap())
    }

    fn received(&mut self) -> crate::Lease {
        match self.next().event {
            Event::Received(lease) => lease,
            other => panic!("not received but {other:?}"),
        }
    }

    /// Closes all of them, and expects that many cancelled operations besides.
    fn close(&mut self, sockets: &[Socket], cancelled: usize) {
        sockets.iter().for_each(|socket| self.uring.close(*socket, false, Token(9)));
        let (mut ended, mut closed) = (0, 0);
        while closed < sockets.len() {
            match self.next().event {
                Event::Closed => closed += 1,
                Event::ReceiveEnded(Err(Failure::Cancelled))
                | Event::Sent { result: Err(Failure::Cancelled), .. }
                | Event::FileSent { result: Err(Failure::Cancelled), .. } => ended += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(ended, cancelled);
    }

    /// Nothing is left but the listener and its accept.
    fn assert_idle(&mut self) {
        let counters = self.uring.counters();
        assert_eq!((counters.sockets, counters.operations), (1, 1));
        assert_eq!((counters.leased_blocks, counters.parked_receives), (0, 0));
        assert!(self.completions.is_empty());
    }
}

fn gather(bytes: &'static [u8]) -> Box<Gather> {
    let mut gather = Box::new(Gather::default());
    gather.push(bytes.into());
    gather
}

fn small_blocks(blocks: usize) -> Config {
    Config {
        receive_block_bytes: 16,
        receive_blocks: blocks,
        receive_blocks_max: blocks,
        ..Config::default()
    }
}

/// A file without a name, of bytes that tell where they stand.
fn file(length: usize) -> (Arc<File>, Vec<u8>) {
    let bytes: Vec<u8> = (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    (Arc::new(file), bytes)
}

#[test]
fn an_idle_connection_is_small() {
    /// A slot's generation, behind its content.
    const GENERATION: usize = 4;
    let slot = (size_of::<Entry>() + GENERATION).next_multiple_of(align_of::<Entry>());
    assert!(slot <= 80, "{slot}");
}

#[test]
fn a_refusal_says_what_and_keeps_the_systems_word() {
    let denied = ring::refused("the thing", io::Error::from_raw_os_error(libc::EPERM));
    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    assert!(denied.to_string().starts_with("the thing: "), "{denied}");
    let source = std::error::Error::source(&denied).and_then(|error| error.downcast_ref());
    assert_eq!(source.and_then(io::Error::raw_os_error), Some(libc::EPERM));
}

#[test]
fn a_busy_echo_enters_the_kernel_once_a_turn() {
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    let (mut client, socket) = rig.connect();
    rig.uring.receive(socket, Token(1));
    rig.settle();
    let mut answer = [0; 4];
    for _ in 0..10 {
        client.write_all(b"ping").unwrap();
        let before = rig.uring.counters().waits;
        assert_eq!(&*rig.received(), b"ping");
        rig.uring.send(socket, gather(b"pong"), Token(2));
        let Event::Sent { result: Ok(4), .. } = rig.next().event else { panic!("not sent") };
        assert_eq!(rig.uring.counters().waits - before, 2);
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong");
    }
    rig.close(&[socket], 1);
    assert_eq!(client.read(&mut answer).unwrap(), 0);
    rig.assert_idle();
}

#[test]
fn more_submissions_in_one_turn_than_the_ring_has_entries() {
    let config = Config { submissions: 8, ..Config::default() };
    let Some(mut rig) = Rig::new(&config) else { return };
    let count = rig.uring.ring.capacity() * 20;
    let (mut clients, sockets): (Vec<_>, Vec<_>) = (0..count).map(|_| rig.connect()).unzip();
    for socket in &sockets {
        rig.uring.receive(*socket, Token(1));
        rig.uring.send(*socket, gather(b"hello"), Token(2));
    }
    for _ in 0..count {
        let Event::Sent { result: Ok(5), .. } = rig.next().event else { panic!("not sent") };
    }
    let mut greeting = [0; 5];
    for client in &mut clients {
        client.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"hello");
        client.write_all(b"x").unwrap();
    }
    let leases: Vec<_> = (0..count).map(|_| rig.received()).collect();
    assert!(leases.iter().all(|lease| **lease == *b"x"));
    drop(leases);
    rig.close(&sockets, count);
    rig.assert_idle();
}

#[test]
fn no_block_is_lost_when_bytes_and_a_cancel_meet() {
    let Some(mut rig) = Rig::new(&small_blocks(4)) else { return };
    let (mut client, socket) = rig.connect();
    let (mut sent, mut received) = (0, 0);
    for round in 0..300 {
        let receive = rig.uring.receive(socket, Token(1));
        if round % 3 != 0 {
            rig.settle();
        }
        let bytes = [7; 40];
        let length = round % 40;
        client.write_all(&bytes[..length]).unwrap();
        sent += length;
        rig.uring.cancel(receive);
        loop {
            match rig.next().event {
                Event::Received(lease) => received += lease.len(),
                Event::ReceiveEnded(Err(Failure::Cancelled)) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(rig.uring.blocks.counts(), (4, 0));
    }
    rig.uring.receive(socket, Token(1));
    while received < sent {
        received += rig.received().len();
    }
    assert_eq!(received, sent);
    rig.close(&[socket], 1);
    rig.assert_idle();
}

#[test]
fn receives_that_began_without_blocks_do_not_keep_one_from_those_with_bytes() {
    let Some(mut rig) = Rig::new(&small_blocks(1)) else { return };
    let (mut busy, first) = rig.connect();
    rig.uring.receive(first, Token(1));
    busy.write_all(b"takes the one block").unwrap();
    let lease = rig.received();
    let mut others: Vec<_> = (0..20).map(|_| rig.connect()).collect();
    others.iter().for_each(|(_, socket)| _ = rig.uring.receive(*socket, Token(1)));
    others[19].0.write_all(b"last").unwrap();
    let until = Time::monotonic() + PATIENCE;
    while rig.uring.counters().parked_receives < 20 {
        assert!(Time::monotonic() < until, "they do not park");
        rig.settle();
    }
    // The lease comes back on another thread, while the port sleeps.
    let returner = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(lease);
    });
    let mut bytes = Vec::new();
    while bytes.len() < 3 + 4 {
        bytes.extend_from_slice(&rig.received());
    }
    returner.join().unwrap();
    bytes.sort_unstable();
    assert_eq!(bytes, b"acklost", "the rest of the first, and the last, in whatever order");
    let sockets: Vec<_> = others.iter().map(|(_, socket)| *socket).chain([first]).collect();
    rig.close(&sockets, 21);
    rig.assert_idle();
}

#[test]
fn a_receive_that_was_cancelled_while_it_waited_for_a_block_is_not_armed_by_one() {
    let Some(mut rig) = Rig::new(&small_blocks(1)) else { return };
    let (mut busy, first) = rig.connect();
    rig.uring.receive(first, Token(1));
    busy.write_all(b"takes the block").unwrap();
    let lease = rig.received();
    let (mut client, second) = rig.connect();
    let waiting = rig.uring.receive(second, Token(2));
    let until = Time::monotonic() + PATIENCE;
    while rig.uring.counters().parked_receives == 0 {
        assert!(Time::monotonic() < until, "it does not park");
        rig.settle();
    }
    rig.uring.cancel(waiting);
    assert!(matches!(rig.next().event, Event::ReceiveEnded(Err(Failure::Cancelled))));
    drop(lease);
    client.write_all(b"for a later one").unwrap();
    rig.settle();
    assert!(rig.completions.is_empty());
    rig.uring.receive(second, Token(2));
    assert_eq!(rig.received()[..], b"for a later one"[..]);
    rig.close(&[first, second], 2);
    rig.assert_idle();
}

#[test]
fn a_wake_ends_a_sleep_and_costs_no_completion() {
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    let waker = rig.uring.waker();
    for round in 0..50 {
        let waker = waker.clone();
        let other = thread::spawn(move || {
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            waker.wake();
        });
        let mut completions = Vec::new();
        rig.uring.wait(&mut completions, None).unwrap();
        assert!(completions.is_empty());
        other.join().unwrap();
    }
}

/// As if the turns before had brought so much that the next sleep waits for several.
fn make_busy(rig: &mut Rig) {
    rig.uring.pace = Pace::new();
    // So many that what this test does meanwhile is little for each.
    rig.uring.pace.turned(0, 1_000_000, false);
    rig.uring.now = Time::monotonic();
    assert!(rig.uring.pace.wanted(rig.uring.sockets.len(), || Duration::ZERO) > 1);
}

#[test]
fn a_sleep_that_waits_for_several_is_content_with_one_and_with_a_wake_and_keeps_its_deadline() {
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    let (mut clients, sockets): (Vec<_>, Vec<_>) = (0..32).map(|_| rig.connect()).unzip();
    for socket in &sockets {
        rig.uring.receive(*socket, Token(1));
    }
    rig.settle();

    make_busy(&mut rig);
    clients[3].write_all(b"x").unwrap();
    rig.wait(Time::FAR);
    assert_eq!(&rig.received()[..], b"x");

    // If the other thread is first, the port does not sleep: then it is tried again.
    let rests = (0..100).any(|_| {
        make_busy(&mut rig);
        let waker = rig.uring.waker();
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(1));
            waker.wake();
        });
        rig.wait(Time::FAR);
        assert!(rig.completions.is_empty());
        other.join().unwrap();
        rig.uring.pace.wanted(32, || Duration::ZERO) == 1
    });
    assert!(rests, "a call does not end it");

    rig.settle();
    make_busy(&mut rig);
    let until = Time::monotonic() + Duration::from_millis(3);
    rig.wait(until);
    assert!(rig.uring.now() >= until && rig.completions.is_empty());

    rig.close(&sockets, 32);
    rig.assert_idle();
}

#[test]
fn a_deadline_is_kept_as_a_point_in_time_and_as_a_duration() {
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    for absolute in [rig.uring.ring.absolute, false] {
        rig.uring.ring.absolute = absolute;
        // The first wait may end early, by what the kernel has to tell about the beginning.
        rig.settle();
        for _ in 0..10 {
            let until = Time::monotonic() + Duration::from_millis(3);
            rig.wait(until);
            assert!(rig.uring.now() >= until && rig.completions.is_empty());
        }
    }
}

#[test]
fn what_was_accepted_before_the_cancel_is_delivered_before_the_end() {
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    rig.settle();
    let clients: Vec<_> = (0..10).map(|_| TcpStream::connect(rig.address).unwrap()).collect();
    rig.uring.cancel(rig.accept);
    let mut accepted = 0;
    loop {
        match rig.next().event {
            Event::Accepted(incoming) => {
                accepted += 1;
                let socket = rig.uring.adopt(incoming).unwrap();
                rig.uring.close(socket, false, Token(3));
            }
            Event::AcceptEnded(Failure::Cancelled) => break,
            Event::Closed => {}
            other => panic!("{other:?}"),
        }
    }
    // Those that were not accepted yet are for the next accept.
    rig.uring.accept(rig.listener, Token(0));
    while accepted < clients.len() {
        if let Event::Accepted(_) = rig.next().event {
            accepted += 1;
        }
    }
}

#[test]
fn a_socket_that_does_not_block_is_made_to() {
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    let mut client = TcpStream::connect(rig.address).unwrap();
    let Event::Accepted(incoming) = rig.next().event else { panic!("not accepted") };
    if let IncomingOrigin::Os(socket) = &incoming.origin {
        socket.set_nonblocking(true).unwrap();
    }
    let socket = rig.uring.adopt(incoming).unwrap();
    rig.uring.receive(socket, Token(1));
    rig.settle();
    client.write_all(b"late").unwrap();
    assert_eq!(&*rig.received(), b"late");
}

/// Reads all that the server sends until it ends, slowly at first.
fn slow_reader(mut client: TcpStream) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = vec![0; 30_000];
        for piece in bytes.chunks_mut(1000) {
            client.read_exact(piece).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        client.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

#[test]
fn a_file_larger_than_buffers_arrives_whole_from_the_cache() {
    large_file(false);
}

#[test]
fn a_file_larger_than_pipes_arrives_whole_and_leaves_nothing_behind() {
    large_file(true);
}

fn large_file(only_pipes: bool) {
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    rig.uring.pipes.only = only_pipes;
    let (file, bytes) = file(6 << 20);
    let (client, socket) = rig.connect();
    let Descriptor::Plain(fd) = &rig.uring.sockets[socket].fd else {
        panic!("it has a descriptor")
    };
    SockRef::from(fd).set_send_buffer_size(100_000).unwrap();
    let reader = slow_reader(client);
    let (start, end) = (1000, bytes.len() as u64);
    let mut range = FileRange { file, offset: start, length: end - start };
    let mut pieces = 0;
    while range.length > 0 {
        rig.uring.send_file(socket, range, Token(5));
        let Event::FileSent { range: sent, result } = rig.next().event else { panic!() };
        let count = result.unwrap();
        assert!(count > 0 && count <= sent.length);
        // So much the less is looked for in what comes next of the range.
        let found_cached = rig.uring.sockets[socket].found_cached;
        assert_eq!(found_cached > 0, !only_pipes && count < sent.length);
        range = FileRange { offset: sent.offset + count, length: sent.length - count, ..sent };
        pieces += 1;
    }
    // At the file's end there is nothing more to send.
    for offset in [end, end + 1_000_000, i64::MAX as u64, u64::MAX] {
        let range = FileRange { offset, length: u64::MAX, ..range.clone() };
        rig.uring.send_file(socket, range, Token(5));
        let Event::FileSent { result: Ok(0), .. } = rig.next().event else { panic!("no end") };
    }
    rig.close(&[socket], 0);
    assert!(reader.join().unwrap() == bytes[1000..], "the bytes differ");
    assert!(pieces > 1, "or the buffers held it all");
    assert!(rig.uring.pipes.all_idle());
    rig.assert_idle();
}

#[test]
fn more_files_at_once_than_pipes() {
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    rig.uring.pipes.only = true;
    let (file, bytes) = file(5000);
    let clients: Vec<_> = (0..3 * file::PIPES_MAX).map(|_| rig.connect()).collect();
    let range = FileRange { file, offset: 0, length: 5000 };
    for (_, socket) in &clients {
        rig.uring.send_file(*socket, range.clone(), Token(5));
    }
    assert!(!rig.uring.parked_files.is_empty());
    for _ in &clients {
        let Event::FileSent { result: Ok(5000), .. } = rig.next().event else { panic!() };
    }
    for (mut client, socket) in clients {
        let mut received = vec![0; 5000];
        client.read_exact(&mut received).unwrap();
        assert!(received == bytes);
        rig.close(&[socket], 0);
    }
    assert!(rig.uring.pipes.all_idle());
}

#[test]
fn a_file_send_that_waits_for_its_peer_can_be_closed_and_holds_no_pipe() {
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    rig.uring.pipes.only = true;
    let (file, _) = file(1 << 20);
    let (_client, socket) = rig.connect();
    let range = FileRange { file, offset: 0, length: 1 << 20 };
    // Until the peer's and our buffers are full.
    rig.uring.send_file(socket, range.clone(), Token(5));
    let mut idle = 0;
    while idle < 20 {
        rig.wait(Time::monotonic() + Duration::from_millis(5));
        match rig.completions.pop_front() {
            Some(sent) => {
                assert!(matches!(sent.event, Event::FileSent { result: Ok(1..), .. }));
                rig.uring.send_file(socket, range.clone(), Token(5));
                idle = 0;
            }
            None => idle += 1,
        }
    }
    assert!(rig.uring.pipes.all_idle());
    rig.close(&[socket], 1);
    rig.assert_idle();
}

#[test]
fn a_drop_joins_everything_in_flight() {
    static STALLED: [u8; 1 << 20] = [0; 1 << 20];
    let Some(mut rig) = Rig::new(&Config::default()) else { return };
    rig.uring.pipes.only = true;
    let (file, _) = file(100);
    let held = {
        let (mut client, socket) = rig.connect();
        rig.uring.receive(socket, Token(1));
        client.write_all(b"held").unwrap();
        (rig.received(), client)
    };
    let (mut clients, sockets): (Vec<_>, Vec<_>) = (0..11).map(|_| rig.connect()).unzip();
    for &socket in &sockets[..10] {
        rig.uring.receive_into(socket, Vec::with_capacity(100), Token(1));
        let mut parts = gather(&STALLED);
        (0..8).for_each(|_| parts.push(bytes::Bytes::from_static(&STALLED)));
        rig.uring.send(socket, parts, Token(2));
    }
    let range = FileRange { file: file.clone(), offset: 0, length: 100 };
    rig.uring.send_file(sockets[10], range, Token(2));
    drop(rig);
    assert_eq!(Arc::strong_count(&file), 1, "the send of the file is gone");
    assert_eq!(&*held.0, b"held");
    for client in &mut clients {
        // What had been sent, then an end or a reset: the descriptors are closed.
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest);
    }
}

#[test]
fn what_a_message_describes_is_what_remains() {
    let mut parts = gather(b"zero");
    (0..3 * SLICES_MAX).for_each(|_| parts.push(bytes::Bytes::from_static(b"part")));
    parts.advance(2);
    let mut message = Message::new();
    message.describe(&parts);
    assert_eq!(message.slices.len(), SLICES_MAX);
    assert_eq!(message.slices[0].iov_len, 2);
}

/// Beyond the second socket, the listener being the first, none takes a descriptor; a slot is used
/// again; and who is sent a file gets a descriptor for it.
#[test]
fn connections_beyond_a_number_take_no_descriptor() {
    let config = Config { plain_sockets: 2, direct_sockets: 2, ..Config::default() };
    let Some(mut rig) = Rig::new(&config) else { return };
    let of = |rig: &Rig, socket: Socket| match &rig.uring.sockets[socket].fd {
        Descriptor::Plain(_) => "plain",
        Descriptor::Direct(0) => "slot 0",
        Descriptor::Direct(1) => "slot 1",
        Descriptor::Direct(_) => "beyond the table",
    };
    let mut connections: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    let places: Vec<_> = connections.iter().map(|(_, socket)| of(&rig, *socket)).collect();
    assert_eq!(places, ["plain", "slot 0", "slot 1", "plain"], "a full table is no end");
    for (client, socket) in &mut connections {
        rig.uring.receive(*socket, Token(1));
        client.write_all(b"ping").unwrap();
        assert_eq!(&*rig.received(), b"ping");
        rig.uring.send(*socket, gather(b"pong"), Token(2));
        let Event::Sent { result: Ok(4), .. } = rig.next().event else { panic!("not sent") };
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pong");
    }
    let (file, bytes) = file(100);
    rig.uring.send_file(connections[1].1, FileRange { file, offset: 0, length: 100 }, Token(3));
    let Event::FileSent { result: Ok(100), .. } = rig.next().event else { panic!("not sent") };
    let mut answer = [0; 100];
    connections[1].0.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..], bytes);
    assert_eq!(of(&rig, connections[1].1), "plain");
    connections.push(rig.connect());
    assert_eq!(of(&rig, connections[4].1), "slot 0", "what was left is used again");
    let sockets: Vec<_> = connections.iter().map(|(_, socket)| *socket).collect();
    rig.close(&sockets, 4);
    for (client, _) in &mut connections {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "its last descriptor is closed");
    }
    rig.assert_idle();
    assert_eq!(rig.uring.table.plain, 1, "the listener's");
}
