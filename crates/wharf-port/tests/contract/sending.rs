//! Bytes that go out: all of them, in order, as the peer takes them.

use bytes::Bytes;
use wharf_port::{Backend, Config, Event, Failure, Gather};

use crate::rig::{assert_same, pattern};
use crate::setup::{Setup, on_every_backend};

on_every_backend![
    a_big_transfer_waits_for_its_reader,
    peers_that_read_nothing_share_what_the_kernel_holds_for_them,
    both_directions_at_once,
    a_gather_of_many_parts_arrives_whole,
    a_gather_of_many_parts_waits_for_its_reader,
    a_gather_goes_on_where_it_was_sent_to,
    the_end_comes_behind_what_was_sent,
    what_was_sent_arrives_after_a_close,
    a_reset_reaches_the_peer,
    sending_to_a_peer_that_is_gone_fails,
    shared_bytes_are_given_back,
];

fn gather(block: &[u8], parts: impl IntoIterator<Item = Bytes>) -> Box<Gather> {
    let mut gather = Box::new(Gather::default());
    gather.block_mut().extend_from_slice(block);
    parts.into_iter().for_each(|part| gather.push(part));
    gather
}

fn a_big_transfer_waits_for_its_reader(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let all = pattern(0, setup.amount(24 << 20, 500_000));
    let mut gather = gather(&all[..5], [Bytes::copy_from_slice(&all[5..])]);
    // Nobody reads: the send comes to a stop.
    let mut stopped = loop {
        let send = rig.send(socket, gather);
        rig.idle(10);
        match rig.take(send.token) {
            Some(Event::Sent { gather: back, result }) => {
                gather = back;
                gather.advance(result.unwrap());
                assert!(gather.remaining() > 0, "nobody read, and all was sent");
            }
            Some(other) => panic!("{other:?}"),
            None => break send,
        }
    };
    let mut received = Vec::new();
    while received.len() < all.len() {
        let event = rig.until("the reader or the sender", |rig| {
            // A slow reader at first.
            let count = if received.len() < 100_000 { 1000 } else { usize::MAX };
            received.extend(client.receive_at_most(count.min(1 << 20)));
            if received.len() == all.len() { Some(None) } else { rig.take(stopped.token).map(Some) }
        });
        let Some(event) = event else { break };
        let Event::Sent { gather: mut back, result } = event else { panic!("{event:?}") };
        back.advance(result.unwrap());
        if back.remaining() > 0 {
            stopped = rig.send(socket, back);
        }
    }
    assert_same(&received, &all);
}

fn peers_that_read_nothing_share_what_the_kernel_holds_for_them(setup: &Setup) {
    if setup.backend == Backend::Iocp {
        return; // Windows has no such bound.
    }
    let config = Config { unsent_bytes: 256 * 1024, ..Config::default() };
    let mut rig = setup.rig_with(&config);
    let all = Bytes::from(pattern(0, setup.amount(8 << 20, 300_000)));
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let (socket, client) = rig.pair();
        let mut whole = gather(&[], [all.clone()]);
        let mut taken = 0;
        let send = loop {
            let send = rig.send(socket, whole);
            rig.idle(10);
            match rig.take(send.token) {
                Some(Event::Sent { gather: back, result }) => {
                    taken += result.as_ref().unwrap();
                    whole = back;
                    whole.advance(result.unwrap());
                }
                Some(other) => panic!("{other:?}"),
                None => break send,
            }
        };
        // Left to itself, Linux takes 2.5 MB at once on the loopback.
        assert!(taken < 1 << 20, "{taken} bytes for a peer that reads nothing");
        stuck.push((socket, client, send));
    }
    // Whoever does read gets all of it.
    let (socket, mut client, mut send) = stuck.swap_remove(5);
    let mut received = Vec::new();
    while received.len() < all.len() {
        let event = rig.until("the reader or the sender", |rig| {
            received.extend(client.receive());
            if received.len() == all.len() { Some(None) } else { rig.take(send.token).map(Some) }
        });
        let Some(event) = event else { break };
        let Event::Sent { gather: mut back, result } = event else { panic!("{event:?}") };
        back.advance(result.unwrap());
        if back.remaining() > 0 {
            send = rig.send(socket, back);
        }
    }
    assert_same(&received, &all);
}

fn both_directions_at_once(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    let all = pattern(0, setup.amount(8 << 20, 200_000));
    let (mut sent, mut received) = (0, Vec::new());
    let mut sending = None;
    let mut echo: Vec<u8> = Vec::new();
    rig.until("the echo of everything", |rig| {
        if sent < all.len() {
            sent += client.send(&all[sent..]);
        }
        received.extend(client.receive());
        while let Some(event) = rig.take(receive.token) {
            let Event::Received(lease) = event else { panic!("{event:?}") };
            echo.extend_from_slice(&lease);
        }
        if let Some(event) = sending.and_then(|send: crate::rig::Submitted| rig.take(send.token)) {
            let Event::Sent { result, .. } = event else { panic!("{event:?}") };
            echo.drain(..result.unwrap());
            sending = None;
        }
        if sending.is_none() && !echo.is_empty() {
            sending = Some(rig.send_bytes(socket, echo.clone()));
        }
        (received.len() == all.len()).then_some(())
    });
    assert_same(&received, &all);
}

/// More parts than one system call takes (IOV_MAX is 1,024).
fn a_gather_of_many_parts_arrives_whole(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    for count in [1, 2, 7, 8, 9, 1023, 1024, 1025, 3000] {
        let all = pattern(count, 10 + 5 * count);
        let whole = Bytes::copy_from_slice(&all[10..]);
        let parts = (0..count).map(|index| whole.slice(5 * index..5 * (index + 1)));
        let gather = gather(&all[..10], parts);
        let mut received = rig.send_all(socket, gather, &mut client);
        rig.until("the rest", |_| {
            received.extend(client.receive());
            (received.len() >= all.len()).then_some(())
        });
        assert_same(&received, &all);
    }
}

/// More than the system holds, in parts so small that it is full between any two of them.
fn a_gather_of_many_parts_waits_for_its_reader(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let part = 100;
    let all = Bytes::from(pattern(0, setup.amount(150_000, 5_000) * part));
    let mut gather = gather(b"", (0..all.len()).step_by(part).map(|at| all.slice(at..at + part)));
    let mut received = Vec::new();
    while gather.remaining() > 0 {
        let send = rig.send(socket, gather);
        let mut turns = 0;
        let event = rig.until("a send's end", |rig| {
            turns += 1;
            if turns > 2 {
                // Only when nothing more fits, and then a little.
                received.extend(client.receive_at_most(50_000));
            }
            rig.take(send.token)
        });
        let Event::Sent { gather: back, result } = event else { panic!("{event:?}") };
        gather = back;
        gather.advance(result.unwrap());
    }
    rig.until("the rest", |_| {
        received.extend(client.receive());
        (received.len() >= all.len()).then_some(())
    });
    assert_same(&received, &all);
}

/// Advanced by hand into its middle, again and again.
fn a_gather_goes_on_where_it_was_sent_to(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let all = pattern(0, 60);
    for skip in 0..all.len() {
        let parts = all[20..].chunks(10).map(Bytes::copy_from_slice);
        let mut gather = gather(&all[..20], parts);
        gather.advance(skip);
        let mut received = rig.send_all(socket, gather, &mut client);
        rig.until("the rest", |_| {
            received.extend(client.receive());
            (received.len() >= all.len() - skip).then_some(())
        });
        assert_same(&received, &all[skip..]);
    }
}

fn the_end_comes_behind_what_was_sent(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    let all = pattern(0, 200_000);
    let mut received = rig.send_all(socket, gather(&all, []), &mut client);
    let shutdown = rig.shutdown(socket);
    received.extend(rig.drain(&mut client));
    assert!(client.at_end() && !client.is_reset());
    assert_same(&received, &all);
    assert!(matches!(rig.next(shutdown.token), Event::ShutDown(Ok(()))));
    // The other direction goes on.
    client.send(b"thanks");
    assert_eq!(rig.receive_exactly(receive, 6), b"thanks");
}

fn what_was_sent_arrives_after_a_close(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let all = pattern(0, 50_000);
    let mut gather = gather(&all, []);
    while gather.remaining() > 0 {
        let send = rig.send(socket, gather);
        let (back, result) = rig.sent(send);
        gather = back;
        gather.advance(result.unwrap());
    }
    let closed = rig.close(socket);
    rig.next(closed);
    let received = rig.drain(&mut client);
    assert!(client.at_end() && !client.is_reset());
    assert_same(&received, &all);
}

fn a_reset_reaches_the_peer(setup: &Setup) {
    let mut rig = setup.rig();
    for in_flight in [false, true] {
        let (socket, mut client) = rig.pair();
        if in_flight {
            rig.receive(socket);
            rig.fill(socket);
        }
        let closed = rig.reset(socket);
        assert!(matches!(rig.next(closed), Event::Closed));
        rig.drain(&mut client);
        // Wine's own clients take a reset that comes while they do not receive for an end.
        if std::env::var_os("WHARF_UNDER_WINE").is_none() {
            assert!(client.is_reset() && !client.at_end());
        }
    }
}

/// Without a signal, too: SIGPIPE would end the process, as it is where nobody ignores it.
fn sending_to_a_peer_that_is_gone_fails(setup: &Setup) {
    setup.in_child(|| {
        #[cfg(unix)]
        if !setup.is_simulated() {
            // SAFETY: restores the default; no handler is involved.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        }
        let mut rig = setup.rig();
        let (socket, client) = rig.pair();
        client.reset();
        let part = Bytes::from_static(b"anybody?");
        for parts in [1, 2].into_iter().cycle().take(10_000) {
            let send = rig.send(socket, gather(b"", vec![part.clone(); parts]));
            match rig.sent(send).1 {
                Ok(_) => {}
                Err(Failure::Io(_)) => return,
                Err(failure) => panic!("{failure}"),
            }
        }
        panic!("nobody noticed");
    });
}

fn shared_bytes_are_given_back(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let shared = Bytes::from(pattern(0, 10_000));
    let received = rig.send_all(socket, gather(b"", [shared.clone()]), &mut client);
    drop(received);
    assert!(shared.is_unique(), "somebody holds the bytes still");
    let send = rig.fill(socket);
    let closed = rig.close(socket);
    rig.next(closed);
    let Some(Event::Sent { gather, .. }) = rig.take(send.token) else { panic!("it ended") };
    assert_eq!(gather.slices().map(|slice| slice.len()).sum::<usize>(), 1 << 20);
}
