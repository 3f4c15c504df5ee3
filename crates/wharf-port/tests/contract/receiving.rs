//! Bytes that come in: all of them, in order, until the stream ends.

use wharf_port::{Event, Failure};

use crate::client::Client;
use crate::rig::{Rig, Submitted, assert_same, pattern};
use crate::setup::{Setup, on_every_backend};

on_every_backend![
    bytes_come_in_order_until_the_end,
    the_end_comes_behind_bytes_that_it_came_with,
    a_block_is_received_into_behind_what_it_holds,
    a_block_is_returned_at_the_end,
    the_ways_of_receiving_alternate_without_losing_a_byte,
    a_half_closed_connection_still_sends,
    a_reset_is_the_peers_failure,
    what_was_sent_before_a_receive_is_there,
    an_idle_connection_holds_no_block,
    a_busy_connection_starves_no_other,
    a_lease_outlives_its_socket_and_port,
];

/// Sends a stream through a client, as there is room.
struct Stream {
    bytes: Vec<u8>,
    sent: usize,
}

impl Stream {
    fn new(len: usize) -> Stream {
        Stream { bytes: pattern(0, len), sent: 0 }
    }

    /// True: all is sent.
    fn go_on(&mut self, client: &mut Client) -> bool {
        self.sent += client.send(&self.bytes[self.sent..]);
        self.sent == self.bytes.len()
    }
}

/// Receives until the stream ends, while the client sends and shuts down.
fn receive_stream(
    rig: &mut Rig,
    receive: Submitted,
    client: &mut Client,
    mut stream: Stream,
) -> Vec<u8> {
    let mut received = Vec::new();
    let mut shut = false;
    let end = rig.until("the stream's end", |rig| {
        if !shut && stream.go_on(client) {
            client.shutdown();
            shut = true;
        }
        loop {
            match rig.take(receive.token)? {
                Event::Received(lease) => received.extend_from_slice(&lease),
                end => return Some(end),
            }
        }
    });
    assert!(matches!(end, Event::ReceiveEnded(Ok(()))), "{end:?}");
    assert_same(&received, &stream.bytes);
    received
}

fn bytes_come_in_order_until_the_end(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    let len = setup.amount(16 << 20, 300_000);
    receive_stream(&mut rig, receive, &mut client, Stream::new(len));
    assert_eq!(rig.counters().leased_blocks, 0);
}

fn the_end_comes_behind_bytes_that_it_came_with(setup: &Setup) {
    let mut rig = setup.rig();
    for len in [1, 100, 8 * 1024 - 1, 8 * 1024, 8 * 1024 + 1, 40_000] {
        // Everything is there before the receive.
        let (socket, mut client) = rig.pair();
        let stream = Stream::new(len);
        assert_eq!(client.send(&stream.bytes), len);
        client.shutdown();
        rig.idle(2);
        let receive = rig.receive(socket);
        let nothing = Stream { bytes: stream.bytes, sent: len };
        receive_stream(&mut rig, receive, &mut client, nothing);
        // And after it.
        let (socket, mut client) = rig.pair();
        let receive = rig.receive(socket);
        rig.idle(1);
        receive_stream(&mut rig, receive, &mut client, Stream::new(len));
    }
}

fn a_block_is_received_into_behind_what_it_holds(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let len = setup.amount(1 << 20, 50_000);
    let mut stream = Stream::new(len);
    let mut block = Vec::with_capacity(4 + len);
    block.extend_from_slice(b"head");
    while block.len() < block.capacity() {
        let receive = rig.receive_into(socket, block);
        let event = rig.until("a completion", |rig| {
            stream.go_on(&mut client);
            rig.take(receive.token)
        });
        let Event::ReceivedInto { block: back, result } = event else { panic!("{event:?}") };
        assert!(matches!(result, Ok(1..)), "{result:?}");
        block = back;
    }
    assert_eq!(&block[..4], b"head");
    assert_same(&block[4..], &stream.bytes);
}

fn a_block_is_returned_at_the_end(setup: &Setup) {
    let mut rig = setup.rig();
    for before in [true, false] {
        let (socket, mut client) = rig.pair();
        if before {
            client.shutdown();
            rig.idle(2);
        }
        let receive = rig.receive_into(socket, Vec::with_capacity(10));
        rig.idle(1);
        client.shutdown();
        let (block, result) = rig.received_into(receive);
        assert!(block.is_empty() && matches!(result, Ok(0)), "{result:?}");
    }
}

/// A receive that was cancelled may have received before it ended; what comes next goes on there.
fn the_ways_of_receiving_alternate_without_losing_a_byte(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let mut stream = Stream::new(setup.amount(2 << 20, 60_000));
    let mut received = Vec::new();
    let mut chance = fastrand::Rng::with_seed(setup.seed);
    while received.len() < stream.bytes.len() {
        if chance.bool() {
            let receive = rig.receive(socket);
            for _ in 0..chance.usize(..4) {
                stream.go_on(&mut client);
                rig.turn();
            }
            rig.port.cancel(receive.operation);
            let end = loop {
                match rig.next(receive.token) {
                    Event::Received(lease) => received.extend_from_slice(&lease),
                    end => break end,
                }
            };
            assert!(matches!(end, Event::ReceiveEnded(Err(Failure::Cancelled))), "{end:?}");
        } else {
            let block = Vec::with_capacity(chance.usize(1..20_000));
            let receive = rig.receive_into(socket, block);
            let cancels = chance.bool();
            for _ in 0..chance.usize(..4) {
                stream.go_on(&mut client);
                rig.turn();
            }
            if cancels {
                rig.port.cancel(receive.operation);
            }
            let event = rig.until("a completion", |rig| {
                stream.go_on(&mut client);
                rig.take(receive.token)
            });
            let Event::ReceivedInto { block, result } = event else { panic!("{event:?}") };
            match result {
                Ok(1..) => received.extend_from_slice(&block),
                Err(Failure::Cancelled) if cancels => assert!(block.is_empty()),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_same(&received, &stream.bytes);
}

fn a_half_closed_connection_still_sends(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    client.send(b"question");
    client.shutdown();
    assert_eq!(rig.receive_exactly(receive, 8), b"question");
    assert!(matches!(rig.end_of(receive), Event::ReceiveEnded(Ok(()))));
    let answer = pattern(0, 100_000);
    let mut gather = Box::new(wharf_port::Gather::default());
    gather.push(answer.clone().into());
    let mut received = rig.send_all(socket, gather, &mut client);
    let shutdown = rig.shutdown(socket);
    received.extend(rig.drain(&mut client));
    assert!(matches!(rig.next(shutdown.token), Event::ShutDown(Ok(()))));
    assert!(client.at_end());
    assert_same(&received, &answer);
}

fn a_reset_is_the_peers_failure(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, client) = rig.pair();
    let receive = rig.receive(socket);
    rig.idle(2);
    client.reset();
    let end = rig.end_of(receive);
    assert!(matches!(end, Event::ReceiveEnded(Err(Failure::Io(_)))), "{end:?}");

    let (socket, client) = rig.pair();
    let receive = rig.receive_into(socket, Vec::with_capacity(100));
    rig.idle(2);
    client.reset();
    let (_, result) = rig.received_into(receive);
    assert!(matches!(result, Err(Failure::Io(_))), "{result:?}");
}

fn what_was_sent_before_a_receive_is_there(setup: &Setup) {
    let mut rig = setup.rig();
    let (incoming, mut client) = rig.incoming();
    client.send(b"before it was adopted, ");
    rig.idle(2);
    let socket = rig.adopt(incoming);
    rig.idle(2);
    client.send(b"before it was received");
    rig.idle(2);
    let receive = rig.receive(socket);
    let all = b"before it was adopted, before it was received";
    assert_eq!(rig.receive_exactly(receive, all.len()), all);
    // An edge that came while nobody received is not lost either.
    rig.port.cancel(receive.operation);
    rig.end_of(receive);
    client.send(b"meanwhile");
    rig.idle(3);
    let receive = rig.receive(socket);
    assert_eq!(rig.receive_exactly(receive, 9), b"meanwhile");
}

fn an_idle_connection_holds_no_block(setup: &Setup) {
    let mut rig = setup.rig();
    let mut connections = Vec::new();
    for _ in 0..20 {
        let (socket, client) = rig.pair();
        connections.push((rig.receive(socket), client));
    }
    rig.idle(3);
    assert_eq!(rig.counters().leased_blocks, 0);
    for (receive, client) in &mut connections {
        client.send(b"hello");
        drop(rig.receive_exactly(*receive, 5));
    }
    rig.idle(1);
    assert_eq!(rig.counters().leased_blocks, 0);
}

/// The busy one always has more. The other's bytes come before many more of its.
fn a_busy_connection_starves_no_other(setup: &Setup) {
    let mut rig = setup.rig();
    let (busy, mut flood) = rig.pair();
    let (calm, mut client) = rig.pair();
    let flooded = rig.receive(busy);
    let waits = rig.receive(calm);
    let bytes = vec![b'x'; 1 << 20];
    for _ in 0..setup.amount(50, 10) {
        let mut before = 0;
        client.send(b"!");
        let lease = rig.until("the calm one's byte", |rig| {
            while flood.send(&bytes) > 0 {}
            while let Some(event) = rig.take(flooded.token) {
                let Event::Received(lease) = event else { panic!("{event:?}") };
                before += lease.len();
            }
            rig.take(waits.token)
        });
        assert!(matches!(lease, Event::Received(_)), "{lease:?}");
        assert!(before < 64 << 20, "{before} bytes of the busy one came first");
    }
}

fn a_lease_outlives_its_socket_and_port(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    client.send(b"!");
    let lease = rig.received(receive);
    let kept = lease.clone();
    assert_eq!(rig.counters().leased_blocks, 1);
    let closed = rig.close(socket);
    rig.next(closed);
    // Other connections receive meanwhile, into other blocks.
    for _ in 0..5 {
        let (socket, mut client) = rig.pair();
        let receive = rig.receive(socket);
        client.send(&[b'?'; 100]);
        rig.receive_exactly(receive, 100);
    }
    assert_eq!((&*lease, &*kept), (&b"!"[..], &b"!"[..]));
    drop(lease);
    rig.close_all();
    rig.abandon();
    std::thread::spawn(move || assert_eq!(*kept, *b"!")).join().unwrap();
}
