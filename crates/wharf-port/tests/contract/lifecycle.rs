//! Operations end once, whatever ends them; sockets close when their operations have ended.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wharf_port::{Event, Failure, Socket, Token, descriptor_limit};

use crate::rig::Rig;
use crate::setup::{Setup, on_every_backend};

on_every_backend![
    close_joins_everything,
    closing_a_listener_ends_its_accept,
    cancelled_operations_come_back,
    cancelling_what_has_ended_does_nothing,
    a_stale_operation_reaches_nobody,
    a_stale_socket_is_refused,
    a_second_operation_of_a_direction_is_refused,
    a_socket_that_closes_takes_nothing_more,
    slots_are_reused_while_completions_are_late,
    thousands_of_operations_in_flight,
    a_port_is_dropped_with_everything_in_flight,
    nothing_leaks_a_descriptor,
    time_does_not_go_backwards,
];

fn assert_cancelled(event: &Event) {
    assert!(
        matches!(
            event,
            Event::AcceptEnded(Failure::Cancelled)
                | Event::ReceiveEnded(Err(Failure::Cancelled))
                | Event::ReceivedInto { result: Err(Failure::Cancelled), .. }
                | Event::Sent { result: Err(Failure::Cancelled), .. }
                | Event::FileSent { result: Err(Failure::Cancelled), .. }
        ),
        "{event:?}"
    );
}

/// The monitor sees to it that all ends come before `Closed`.
fn close_joins_everything(setup: &Setup) {
    let mut rig = setup.rig();
    for how in [Rig::close, Rig::reset] {
        let (socket, client) = rig.pair();
        let receive = rig.receive(socket);
        let send = rig.fill(socket);
        let closed = how(&mut rig, socket);
        assert!(matches!(rig.next(closed), Event::Closed));
        assert_cancelled(&rig.take(receive.token).expect("it ended before"));
        let Some(Event::Sent { gather, result }) = rig.take(send.token) else {
            panic!("it ended before")
        };
        assert_eq!(gather.remaining(), 1 << 20, "the gather comes back");
        assert!(matches!(result, Err(Failure::Cancelled) | Ok(_)), "{result:?}");
        drop(client);

        let (socket, _client) = rig.pair();
        let receive = rig.receive_into(socket, Vec::with_capacity(100));
        rig.idle(1);
        let closed = how(&mut rig, socket);
        assert!(matches!(rig.next(closed), Event::Closed));
        assert_cancelled(&rig.take(receive.token).expect("it ended before"));
    }
}

fn closing_a_listener_ends_its_accept(setup: &Setup) {
    let mut rig = setup.rig();
    for turns in 0..3 {
        let (listener, address) = rig.listen();
        let accept = rig.accept(listener);
        rig.idle(turns);
        let closed = rig.close(listener);
        assert!(matches!(rig.next(closed), Event::Closed));
        assert_cancelled(&rig.take(accept.token).expect("it ended before"));
        // The address is free again.
        if !setup.is_simulated() {
            std::net::TcpStream::connect(address).unwrap_err();
        }
    }
}

fn cancelled_operations_come_back(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    for turns in 0..4 {
        let receive = rig.receive(socket);
        rig.idle(turns);
        rig.port.cancel(receive.operation);
        assert_cancelled(&rig.next(receive.token));

        let mut block = Vec::with_capacity(100);
        block.extend_from_slice(b"kept");
        let receive = rig.receive_into(socket, block);
        rig.idle(turns);
        rig.port.cancel(receive.operation);
        rig.port.cancel(receive.operation);
        let (block, result) = rig.received_into(receive);
        assert_eq!(block, b"kept");
        assert!(matches!(result, Err(Failure::Cancelled)), "{result:?}");

        let (listener, _) = rig.listen();
        let accept = rig.accept(listener);
        rig.idle(turns);
        rig.port.cancel(accept.operation);
        assert_cancelled(&rig.next(accept.token));
    }
    // A send that cannot go on; the system may find some room after all, once.
    let mut send = rig.fill(socket);
    loop {
        rig.port.cancel(send.operation);
        match rig.sent(send).1 {
            Err(Failure::Cancelled) => break,
            Ok(_) => send = rig.fill(socket),
            Err(failure) => panic!("{failure}"),
        }
    }
    // The connection is as good as before.
    client.send(b"still here");
    let receive = rig.receive(socket);
    assert_eq!(rig.receive_exactly(receive, 10), b"still here");
}

fn cancelling_what_has_ended_does_nothing(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let receive = rig.receive_into(socket, Vec::with_capacity(10));
    client.send(b"one");
    let (_, result) = rig.received_into(receive);
    assert!(matches!(result, Ok(1..=3)), "{result:?}");
    rig.port.cancel(receive.operation);
    let send = rig.send_bytes(socket, &b"two"[..]);
    assert!(rig.sent(send).1.is_ok());
    rig.port.cancel(send.operation);
    rig.idle(3);
    // Cancelled in the very turn in which it may be complete: one or the other.
    for _ in 0..20 {
        client.send(b"x");
        let receive = rig.receive_into(socket, Vec::with_capacity(10));
        rig.port.cancel(receive.operation);
        let (_, result) = rig.received_into(receive);
        assert!(matches!(result, Ok(1..) | Err(Failure::Cancelled)), "{result:?}");
        let send = rig.send_bytes(socket, &b"y"[..]);
        rig.port.cancel(send.operation);
        let (_, result) = rig.sent(send);
        assert!(matches!(result, Ok(1) | Err(Failure::Cancelled)), "{result:?}");
        client.receive();
    }
}

fn a_stale_operation_reaches_nobody(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let mut stale = Vec::new();
    for _ in 0..50 {
        let receive = rig.receive(socket);
        rig.port.cancel(receive.operation);
        assert_cancelled(&rig.next(receive.token));
        stale.push(receive.operation);
    }
    let receive = rig.receive(socket);
    for operation in stale {
        rig.port.cancel(operation);
    }
    rig.idle(3);
    client.send(b"hello");
    assert_eq!(rig.receive_exactly(receive, 5), b"hello");
}

/// What a submission says that the port refuses, as a caller's bug.
fn refused<T: std::fmt::Debug>(rig: &mut Rig, submit: impl FnOnce(&mut Rig) -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| submit(rig))).expect_err("it was taken");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast::<&str>().map_or(String::new(), |text| text.to_string()),
    }
}

fn a_stale_socket_is_refused(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, _client) = rig.pair();
    let closed = rig.close(socket);
    assert!(matches!(rig.next(closed), Event::Closed));
    // Its slot may have another socket now.
    let (other, mut client) = rig.pair();
    let receive = rig.receive(other);
    let token = Token(u64::MAX);
    refused(&mut rig, |rig| rig.port.receive(socket, token));
    refused(&mut rig, |rig| rig.port.shutdown(socket, token));
    refused(&mut rig, |rig| rig.port.close(socket, token));
    refused(&mut rig, |rig| rig.port.receive(Socket::default(), token));
    client.send(b"hello");
    assert_eq!(rig.receive_exactly(receive, 5), b"hello");
}

fn a_second_operation_of_a_direction_is_refused(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let token = Token(u64::MAX);
    let receive = rig.receive(socket);
    refused(&mut rig, |rig| rig.port.receive(socket, token));
    refused(&mut rig, |rig| rig.port.receive_into(socket, Vec::with_capacity(1), token));
    let send = rig.fill(socket);
    refused(&mut rig, |rig| rig.port.shutdown(socket, token));
    let (listener, _) = rig.listen();
    let accept = rig.accept(listener);
    refused(&mut rig, |rig| rig.port.accept(listener, token));
    // What was there goes on.
    client.send(b"hello");
    assert_eq!(rig.receive_exactly(receive, 5), b"hello");
    rig.until("the send's end", |rig| {
        client.receive();
        rig.take(send.token)
    });
    rig.port.cancel(accept.operation);
    assert_cancelled(&rig.next(accept.token));
}

fn a_socket_that_closes_takes_nothing_more(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, _client) = rig.pair();
    rig.receive(socket);
    rig.close(socket);
    let token = Token(u64::MAX);
    refused(&mut rig, |rig| rig.port.close(socket, token));
    refused(&mut rig, |rig| rig.port.shutdown(socket, token));
}

/// The monitor sees to it that no completion goes astray.
fn slots_are_reused_while_completions_are_late(setup: &Setup) {
    let mut rig = setup.rig();
    let mut clients = Vec::new();
    for round in 0..setup.amount(100, 30) {
        let (socket, mut client) = rig.pair();
        let receive = rig.receive(socket);
        let send = rig.send_bytes(socket, format!("round {round}"));
        if round % 2 == 0 {
            client.send(b"too late, maybe");
        }
        if round % 3 == 0 {
            rig.port.cancel(receive.operation);
        }
        if round % 5 == 0 {
            rig.idle(1);
        }
        if round % 7 == 0 {
            rig.reset(socket);
        } else {
            rig.close(socket);
        }
        rig.port.cancel(send.operation);
        clients.push(client);
        if round % 4 == 0 {
            clients.clear();
        }
    }
}

fn thousands_of_operations_in_flight(setup: &Setup) {
    let mut rig = setup.rig();
    // Both ends are this process's.
    let limit = descriptor_limit().map_or(usize::MAX, |limit| limit as usize / 8);
    let count = setup.amount(1000, 300).min(limit);
    let mut connections = Vec::new();
    for _ in 0..count {
        let (socket, client) = rig.pair();
        let receive = rig.receive(socket);
        connections.push((socket, client, receive));
    }
    let sends: Vec<_> = connections
        .iter()
        .map(|(socket, ..)| rig.send_bytes(*socket, vec![b'x'; 10_000]))
        .collect();
    // One of the operations is the accept.
    let counters = rig.counters();
    assert_eq!((counters.sockets, counters.operations), (count + 1, 2 * count + 1));
    for send in sends {
        assert!(matches!(rig.sent(send).1, Ok(1..)));
    }
    for (index, (_, client, _)) in connections.iter_mut().enumerate() {
        assert_eq!(client.send(&(index as u32).to_be_bytes()), 4);
    }
    for (index, (_, _, receive)) in connections.iter().enumerate() {
        assert_eq!(rig.receive_exactly(*receive, 4), (index as u32).to_be_bytes());
    }
    assert_eq!(rig.counters().leased_blocks, 0);
    // All of them end with their sockets, in the rig's own end.
}

/// A port of every state that there is, with clients.
fn busy(setup: &Setup) -> (Rig, Vec<crate::client::Client>, Vec<wharf_port::Lease>) {
    let mut rig = setup.rig();
    let mut clients = Vec::new();
    let (listener, address) = rig.listen();
    rig.accept(listener);
    for _ in 0..10 {
        // Some of them are in nobody's hands yet.
        clients.push(rig.connect(address));
    }
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    client.send(b"held");
    let lease = rig.received(receive);
    rig.fill(socket);
    clients.push(client);
    let (socket, client) = rig.pair();
    rig.receive_into(socket, Vec::with_capacity(1000));
    clients.push(client);
    let (socket, client) = rig.pair();
    rig.receive(socket);
    rig.close(socket);
    clients.push(client);
    (rig, clients, vec![lease])
}

fn a_port_is_dropped_with_everything_in_flight(setup: &Setup) {
    let (rig, mut clients, leases) = busy(setup);
    rig.abandon();
    assert!(b"held".starts_with(&leases[0]), "a lease outlives its port");
    let mut rig = setup.rig();
    for client in &mut clients {
        rig.drain(client);
    }
}

fn nothing_leaks_a_descriptor(setup: &Setup) {
    setup.in_child(|| {
        let mut before = 0;
        for round in 0..4 {
            // The first round brings what the system keeps from then on.
            if round == 1 {
                before = descriptors(setup);
            }
            let (rig, clients, leases) = busy(setup);
            rig.abandon();
            drop((clients, leases));
            slots_are_reused_while_completions_are_late(setup);
        }
        assert_eq!(descriptors(setup), before);
    });
}

/// How many descriptors are open, where that can be counted.
fn descriptors(setup: &Setup) -> usize {
    match &setup.network {
        Some(network) => network.descriptors(),
        #[cfg(unix)]
        None => std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        #[cfg(windows)]
        None => handles(),
    }
}

/// The handles of this process, tried one by one: Wine does not know their number.
#[cfg(windows)]
fn handles() -> usize {
    use windows_sys::Win32::Foundation::GetHandleInformation;
    let is_open = |handle: &usize| {
        let mut flags = 0;
        // SAFETY: `flags` is a valid place for the result; a handle that is none is an error.
        unsafe { GetHandleInformation(*handle as _, &mut flags) != 0 }
    };
    (4..16 * 1024).step_by(4).filter(is_open).count()
}

fn time_does_not_go_backwards(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    let mut before = rig.port.now();
    for _ in 0..50 {
        client.send(b"x");
        rig.received(receive);
        assert!(rig.port.now() >= before);
        before = rig.port.now();
    }
    assert!(rig.port.unix_time() > 0);
}
