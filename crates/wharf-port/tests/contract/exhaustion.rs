//! Blocks or descriptors that run out: what needs one waits, nobody fails for it, and all goes on.

use std::thread;
use std::time::Duration;

use wharf_port::{Config, Event, Failure, Lease};

use crate::client::Client;
use crate::rig::{Rig, Submitted, assert_same, pattern};
use crate::setup::{PATIENCE, Setup, on_every_backend};

on_every_backend![
    receives_park_and_go_on,
    receives_go_on_when_another_thread_returns_leases,
    a_parked_receive_ends_when_asked_to,
    who_needs_no_block_is_not_held_up,
    blocks_circulate_under_shortage,
    accepts_park_and_go_on,
    a_parked_accept_ends_when_asked_to,
];

/// Few and small blocks.
fn few() -> Config {
    Config {
        receive_block_bytes: 1024,
        receive_blocks: 4,
        receive_blocks_max: 4,
        ..Config::default()
    }
}

/// Receives until all blocks are leased and the receive is parked.
fn exhaust(rig: &mut Rig, receive: Submitted, client: &mut Client) -> Vec<Lease> {
    let bytes = pattern(0, 16 * 1024);
    let mut sent = 0;
    let mut held = Vec::new();
    rig.until("the pool to be exhausted", |rig| {
        if sent < bytes.len() {
            sent += client.send(&bytes[sent..]);
        }
        while let Some(event) = rig.take(receive.token) {
            let Event::Received(lease) = event else { panic!("{event:?}") };
            held.push(lease);
        }
        let counters = rig.counters();
        (counters.parked_receives == 1 && held.len() == 4 && sent == bytes.len()).then_some(())
    });
    assert_eq!(rig.counters().leased_blocks, 4);
    held
}

/// Receives what is left of what [`exhaust`] sent.
fn assert_rest(rig: &mut Rig, receive: Submitted, held: Vec<Lease>) {
    let mut received: Vec<u8> = held.iter().flat_map(|lease| lease.to_vec()).collect();
    drop(held);
    let rest = 16 * 1024 - received.len();
    received.extend(rig.receive_exactly(receive, rest));
    assert_same(&received, &pattern(0, 16 * 1024));
}

fn receives_park_and_go_on(setup: &Setup) {
    let mut rig = setup.rig_with(&few());
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    let held = exhaust(&mut rig, receive, &mut client);
    // Others park too, and none of them fails.
    let mut others = Vec::new();
    for number in 0..5 {
        let (socket, mut client) = rig.pair();
        let receive = rig.receive(socket);
        assert_eq!(client.send(&[number; 100]), 100);
        others.push((receive, client));
    }
    rig.until("all to be parked", |rig| (rig.counters().parked_receives == 6).then_some(()));
    rig.idle(5);
    assert!(rig.take(receive.token).is_none());
    let mut received: Vec<u8> = held.iter().flat_map(|lease| lease.to_vec()).collect();
    drop(held);
    let mut rests = vec![0; others.len()];
    rig.until("everybody's bytes", |rig| {
        for (number, (receive, _client)) in others.iter().enumerate() {
            while let Some(event) = rig.take(receive.token) {
                let Event::Received(lease) = event else { panic!("{event:?}") };
                assert!(lease.iter().all(|&byte| byte == number as u8));
                rests[number] += lease.len();
            }
        }
        while let Some(event) = rig.take(receive.token) {
            let Event::Received(lease) = event else { panic!("{event:?}") };
            received.extend_from_slice(&lease);
        }
        (received.len() == 16 * 1024 && rests.iter().all(|&rest| rest == 100)).then_some(())
    });
    assert_same(&received, &pattern(0, 16 * 1024));
    assert_eq!(rig.counters().parked_receives, 0);
}

fn receives_go_on_when_another_thread_returns_leases(setup: &Setup) {
    let mut rig = setup.rig_with(&few());
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    let mut held = exhaust(&mut rig, receive, &mut client);
    let mut received: Vec<u8> = held.iter().flat_map(|lease| lease.to_vec()).collect();
    while received.len() < 16 * 1024 {
        let asleep = setup.is_simulated();
        let other = thread::spawn(move || {
            // Mostly, the port sleeps by then.
            thread::sleep(Duration::from_millis(if asleep { 0 } else { 10 }));
            drop(held);
        });
        let other = if asleep { other.join().map(|()| None) } else { Ok(Some(other)) };
        let until = rig.port.now() + PATIENCE;
        let lease = loop {
            if let Some(event) = rig.take(receive.token) {
                break event;
            }
            rig.wait(Some(until));
            assert!(rig.port.now() < until, "slept through the return of the leases");
        };
        let Event::Received(lease) = lease else { panic!("{lease:?}") };
        received.extend_from_slice(&lease);
        held = vec![lease];
        if let Some(other) = other.unwrap() {
            other.join().unwrap();
        }
    }
    assert_same(&received, &pattern(0, 16 * 1024));
}

fn a_parked_receive_ends_when_asked_to(setup: &Setup) {
    let mut rig = setup.rig_with(&few());
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    let held = exhaust(&mut rig, receive, &mut client);
    rig.port.cancel(receive.operation);
    let mut received: Vec<u8> = held.iter().flat_map(|lease| lease.to_vec()).collect();
    let end = rig.next(receive.token);
    assert!(matches!(end, Event::ReceiveEnded(Err(Failure::Cancelled))), "{end:?}");
    assert_eq!(rig.counters().parked_receives, 0);
    // Without a block of the port's, the next bytes come all the same.
    let into = rig.receive_into(socket, Vec::with_capacity(2000));
    let (block, result) = rig.received_into(into);
    assert!(result.is_ok());
    received.extend_from_slice(&block);
    assert_same(&received, &pattern(0, received.len()));
    // Closed while parked.
    let receive = rig.receive(socket);
    rig.until("it to park", |rig| (rig.counters().parked_receives == 1).then_some(()));
    let closed = rig.close(socket);
    assert!(matches!(rig.next(closed), Event::Closed));
    assert!(matches!(rig.take(receive.token), Some(Event::ReceiveEnded(Err(Failure::Cancelled)))));
    assert_eq!(rig.counters().parked_receives, 0);
    drop(held);
}

fn who_needs_no_block_is_not_held_up(setup: &Setup) {
    let mut rig = setup.rig_with(&few());
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    let held = exhaust(&mut rig, receive, &mut client);
    let (other, mut peer) = rig.pair();
    peer.send(b"body");
    let into = rig.receive_into(other, Vec::with_capacity(4));
    assert!(matches!(rig.received_into(into).1, Ok(1..)));
    let send = rig.send_bytes(other, &b"answer"[..]);
    assert!(matches!(rig.sent(send).1, Ok(1..)));
    // Nor is the end of the stream, where no byte has come before it.
    let (third, mut silent) = rig.pair();
    silent.shutdown();
    let ends = rig.receive(third);
    rig.idle(3);
    assert_rest(&mut rig, receive, held);
    assert!(matches!(rig.next(ends.token), Event::ReceiveEnded(Ok(()))));
}

/// Many connections and few blocks, each held for some turns.
fn blocks_circulate_under_shortage(setup: &Setup) {
    let mut rig = setup.rig_with(&few());
    let len = setup.amount(200_000, 5_000);
    let all = pattern(0, len);
    let mut connections: Vec<_> = (0..10)
        .map(|_| {
            let (socket, client) = rig.pair();
            (rig.receive(socket), client, 0, Vec::new())
        })
        .collect();
    let mut chance = fastrand::Rng::with_seed(setup.seed);
    let mut held = Vec::new();
    rig.until("all to be received", |rig| {
        let mut over = true;
        for (receive, client, sent, received) in &mut connections {
            if *sent < len {
                *sent += client.send(&all[*sent..]);
            }
            while let Some(event) = rig.take(receive.token) {
                let Event::Received(lease) = event else { panic!("{event:?}") };
                received.extend_from_slice(&lease);
                held.push(lease);
            }
            over &= received.len() == len;
        }
        held.retain(|_| chance.bool());
        over.then_some(())
    });
    for (.., received) in &connections {
        assert_same(received, &all);
    }
}

/// Descriptors that are used up, and given back with the drop.
enum UsedUp {
    #[cfg(unix)]
    Files(Vec<std::fs::File>),
    Simulated(wharf_port::sim::Network),
}

impl UsedUp {
    /// Uses up all descriptors and connects `count` clients, who find nobody to accept them.
    fn with_clients(
        setup: &Setup,
        rig: &Rig,
        to: std::net::SocketAddr,
        count: usize,
    ) -> (UsedUp, Vec<Client>) {
        if let Some(network) = &setup.network {
            network.limit_descriptors(network.descriptors());
            return (
                UsedUp::Simulated(network.clone()),
                (0..count).map(|_| rig.connect(to)).collect(),
            );
        }
        #[cfg(unix)]
        {
            let mut files = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                files.push(file);
            }
            let clients = (0..count).map(|_| {
                files.pop();
                rig.connect(to)
            });
            let clients = clients.collect();
            (UsedUp::Files(files), clients)
        }
        #[cfg(not(unix))]
        unreachable!("only the simulated port's descriptors are limited")
    }

    fn give_back(self) {
        match self {
            #[cfg(unix)]
            UsedUp::Files(files) => drop(files),
            UsedUp::Simulated(network) => network.limit_descriptors(usize::MAX),
        }
    }
}

/// Before anything is submitted: io_uring takes note of the limit then.
fn limit_descriptors(setup: &Setup) {
    #[cfg(unix)]
    if !setup.is_simulated() {
        crate::setup::limit_descriptors(Some(100)).unwrap();
    }
    #[cfg(not(unix))]
    let _ = setup;
}

fn is_limited(setup: &Setup) -> bool {
    cfg!(unix) || setup.is_simulated()
}

fn accepts_park_and_go_on(setup: &Setup) {
    if !is_limited(setup) {
        return;
    }
    setup.in_child(|| {
        limit_descriptors(setup);
        let mut rig = setup.rig();
        let (open, mut client) = rig.pair();
        let (closing, _other) = rig.pair();
        let (listener, address) = rig.listen();
        let accept = rig.accept(listener);
        rig.idle(2);
        let (used_up, mut clients) = UsedUp::with_clients(setup, &rig, address, 4);
        rig.until("the accept to park", |rig| (rig.counters().parked_accepts > 0).then_some(()));
        // What is open goes on.
        let receive = rig.receive(open);
        client.send(b"hello");
        assert_eq!(rig.receive_exactly(receive, 5), b"hello");
        assert!(rig.take(accept.token).is_none());
        // A descriptor that the port itself gives up is used.
        rig.close(closing);
        let mut accepted = vec![match rig.next(accept.token) {
            Event::Accepted(incoming) => rig.adopt(incoming),
            other => panic!("{other:?}"),
        }];
        rig.until("the accept to park", |rig| (rig.counters().parked_accepts > 0).then_some(()));
        rig.idle(30);
        assert!(rig.take(accept.token).is_none());
        used_up.give_back();
        while accepted.len() < 4 {
            match rig.next(accept.token) {
                Event::Accepted(incoming) => accepted.push(rig.adopt(incoming)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(rig.counters().parked_accepts, 0);
        for client in &mut clients {
            client.send(b"hello");
        }
        for socket in accepted {
            let receive = rig.receive(socket);
            assert_eq!(rig.receive_exactly(receive, 5), b"hello");
        }
    });
}

fn a_parked_accept_ends_when_asked_to(setup: &Setup) {
    if !is_limited(setup) {
        return;
    }
    setup.in_child(|| {
        limit_descriptors(setup);
        let mut rig = setup.rig();
        let (listener, address) = rig.listen();
        let accept = rig.accept(listener);
        rig.idle(2);
        let (used_up, _clients) = UsedUp::with_clients(setup, &rig, address, 2);
        rig.until("the accept to park", |rig| (rig.counters().parked_accepts > 0).then_some(()));
        rig.port.cancel(accept.operation);
        let end = rig.next(accept.token);
        assert!(matches!(end, Event::AcceptEnded(Failure::Cancelled)), "{end:?}");
        assert_eq!(rig.counters().parked_accepts, 0);
        // Parked once more, and closed so.
        let accept = rig.accept(listener);
        rig.until("the accept to park", |rig| (rig.counters().parked_accepts > 0).then_some(()));
        let closed = rig.close(listener);
        assert!(matches!(rig.next(closed), Event::Closed));
        assert!(matches!(rig.take(accept.token), Some(Event::AcceptEnded(Failure::Cancelled))));
        assert_eq!(rig.counters().parked_accepts, 0);
        used_up.give_back();
    });
}
