//! Connections that come in: each is handed out once, or closed.

use std::collections::BTreeSet;

use wharf_port::{Event, Failure};

use crate::client::Client;
use crate::setup::{Setup, on_every_backend};

on_every_backend![
    everybody_is_accepted_once_with_his_address,
    a_cancelled_accept_loses_nobody,
    a_connection_moves_to_another_port,
    a_connection_that_nobody_adopts_is_closed,
    a_peer_that_is_gone_already_harms_nobody,
    who_waits_when_the_listener_closes_is_let_go,
];

fn everybody_is_accepted_once_with_his_address(setup: &Setup) {
    let mut rig = setup.rig();
    let (listener, address) = rig.listen();
    let accept = rig.accept(listener);
    let count = setup.amount(300, 100);
    let clients: Vec<Client> = (0..count).map(|_| rig.connect(address)).collect();
    let expected: BTreeSet<_> = clients.iter().map(Client::address).collect();
    let mut found = BTreeSet::new();
    for _ in 0..count {
        let Event::Accepted(incoming) = rig.next(accept.token) else { panic!("it goes on") };
        let peer = incoming.peer();
        rig.adopt(incoming);
        assert!(found.insert(peer), "{peer} was accepted twice");
    }
    assert_eq!(found, expected);
}

/// Connections come while the accept is cancelled: each of them is handed out before the accept's
/// end, or by the next accept, or its client is told that it is closed.
fn a_cancelled_accept_loses_nobody(setup: &Setup) {
    let mut rig = setup.rig();
    let (listener, address) = rig.listen();
    let mut clients = Vec::new();
    let mut sockets = Vec::new();
    for round in 0..setup.amount(60, 20) {
        let accept = rig.accept(listener);
        rig.idle(round % 3);
        for _ in 0..round % 5 {
            clients.push(rig.connect(address));
        }
        rig.idle(round % 2);
        rig.port.cancel(accept.operation);
        loop {
            match rig.next(accept.token) {
                Event::Accepted(incoming) => sockets.push(rig.adopt(incoming)),
                Event::AcceptEnded(Failure::Cancelled) => break,
                other => panic!("{other:?}"),
            }
        }
    }
    // One who comes behind them all shows that they had their chance.
    let accept = rig.accept(listener);
    let last = rig.connect(address);
    loop {
        let Event::Accepted(incoming) = rig.next(accept.token) else { panic!("it goes on") };
        let peer = incoming.peer();
        sockets.push(rig.adopt(incoming));
        if peer == last.address() {
            break;
        }
    }
    rig.until("the others", |rig| match rig.take(accept.token) {
        Some(Event::Accepted(incoming)) => {
            sockets.push(rig.adopt(incoming));
            None
        }
        Some(other) => panic!("{other:?}"),
        None => {
            clients.iter_mut().for_each(|client| drop(client.receive()));
            let closed = clients.iter().filter(|client| client.at_end() || client.is_reset());
            (sockets.len() + closed.count() == clients.len() + 1).then_some(())
        }
    });
}

fn a_connection_moves_to_another_port(setup: &Setup) {
    let mut first = setup.rig();
    let (incoming, mut client) = first.incoming();
    client.send(b"before");
    first.idle(2);
    let mut second = setup.rig();
    let socket = second.adopt(incoming);
    let receive = second.receive(socket);
    client.send(b" and after");
    // On the simulated port, the clock is one for both.
    let mut received = Vec::new();
    second.until("all of it", |second| {
        first.turn();
        while let Some(event) = second.take(receive.token) {
            let Event::Received(lease) = event else { panic!("{event:?}") };
            received.extend_from_slice(&lease);
        }
        (received == b"before and after").then_some(())
    });
    let send = second.send_bytes(socket, &b"answer"[..]);
    second.until("the answer", |second| {
        first.turn();
        second.take(send.token)
    });
    second.until("it to arrive", |_| {
        first.turn();
        (!client.receive().is_empty()).then_some(())
    });
    second.close(socket);
    second.until("the end", |second| {
        first.turn();
        client.receive();
        (second.counters().sockets == 0).then_some(())
    });
}

fn a_connection_that_nobody_adopts_is_closed(setup: &Setup) {
    let mut rig = setup.rig();
    let (incoming, mut client) = rig.incoming();
    drop(incoming);
    rig.drain(&mut client);
    let (incoming, mut client) = rig.incoming();
    std::thread::spawn(move || drop(incoming)).join().unwrap();
    rig.drain(&mut client);
}

fn a_peer_that_is_gone_already_harms_nobody(setup: &Setup) {
    let mut rig = setup.rig();
    let (listener, address) = rig.listen();
    for _ in 0..20 {
        rig.connect(address).reset();
        drop(rig.connect(address));
    }
    rig.idle(2);
    let accept = rig.accept(listener);
    for _ in 0..20 {
        rig.connect(address).reset();
        rig.idle(1);
        drop(rig.connect(address));
    }
    let mut last = rig.connect(address);
    last.send(b"still served?");
    loop {
        let Event::Accepted(incoming) = rig.next(accept.token) else { panic!("it goes on") };
        let is_last = incoming.peer() == last.address();
        // Where a connection is gone, there may be nothing to adopt any more.
        let Ok(socket) = rig.try_adopt(incoming) else { continue };
        let receive = rig.receive(socket);
        if is_last {
            assert_eq!(rig.receive_exactly(receive, 13), b"still served?");
            break;
        }
        assert!(matches!(rig.end_of(receive), Event::ReceiveEnded(_)));
    }
}

fn who_waits_when_the_listener_closes_is_let_go(setup: &Setup) {
    let mut rig = setup.rig();
    let (listener, address) = rig.listen();
    let mut clients: Vec<Client> = (0..5).map(|_| rig.connect(address)).collect();
    rig.idle(3);
    let closed = rig.close(listener);
    assert!(matches!(rig.next(closed), Event::Closed));
    for client in &mut clients {
        rig.drain(client);
    }
}
