//! Waits, and what ends them.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wharf_port::{Event, Time};

use crate::setup::{PATIENCE, Setup, on_every_backend};

on_every_backend![
    a_wake_before_a_wait_ends_it_and_is_no_completion,
    a_wake_ends_one_wait,
    wakes_from_other_threads_are_not_lost,
    a_wake_ends_a_wait_that_has_no_end,
    a_waker_outlives_its_port,
    a_wait_ends_when_its_time_is_reached,
    a_wait_whose_time_is_past_still_does_its_work,
    a_wait_with_something_to_hand_out_does_not_sleep,
    the_clock_and_the_tick_go_on,
];

fn a_wake_before_a_wait_ends_it_and_is_no_completion(setup: &Setup) {
    let mut rig = setup.rig();
    let waker = rig.port.waker();
    for wakes in 1..5 {
        for _ in 0..wakes {
            waker.clone().wake();
        }
        let until = rig.port.now() + PATIENCE;
        assert_eq!(rig.wait(Some(until)), 0, "a wake is no completion");
        assert!(rig.port.now() < until);
    }
    assert_eq!(rig.counters().operations, 0, "nor an operation");
}

fn a_wake_ends_one_wait(setup: &Setup) {
    let mut rig = setup.rig();
    rig.port.waker().wake();
    let until = rig.port.now() + Duration::from_millis(20);
    while rig.port.now() < until {
        // Ends early once or, for no reason, a few times; but it does not spin.
        rig.wait(Some(until));
    }
    assert!(rig.counters().waits < 100, "{} waits", rig.counters().waits);
}

/// Each thread wakes and then waits to be answered: a wake that is lost shows as a long sleep.
fn wakes_from_other_threads_are_not_lost(setup: &Setup) {
    // One alone, for whom no other one's wake makes up, and several at once.
    for threads in [1, 4] {
        answer_threads(setup, threads);
    }
}

fn answer_threads(setup: &Setup, threads: usize) {
    let mut rig = setup.rig();
    let rounds = setup.amount(1000, 100);
    let (asks, asked) = mpsc::channel();
    let threads: Vec<_> = (0..threads)
        .map(|thread| {
            let (waker, asks) = (rig.port.waker(), asks.clone());
            let (answer, answered) = mpsc::channel::<()>();
            let handle = thread::spawn(move || {
                for round in 0..rounds {
                    asks.send(thread).unwrap();
                    waker.wake();
                    answered.recv_timeout(PATIENCE).expect("an answer");
                    if round % 16 == thread {
                        // So that the port falls asleep now and then.
                        thread::sleep(Duration::from_micros(200));
                    }
                }
            });
            (handle, answer)
        })
        .collect();
    let mut answered = 0;
    while answered < threads.len() * rounds {
        let until = rig.port.now() + PATIENCE / 2;
        rig.wait(Some(until));
        assert!(setup.is_simulated() || rig.port.now() < until, "a wake was lost");
        for thread in asked.try_iter() {
            answered += 1;
            threads[thread].1.send(()).unwrap();
        }
    }
    for (handle, _) in threads {
        handle.join().unwrap();
    }
}

fn a_wake_ends_a_wait_that_has_no_end(setup: &Setup) {
    let mut rig = setup.rig();
    let (sender, receiver) = mpsc::channel();
    let waker = rig.port.waker();
    let other = thread::spawn(move || {
        // Again and again, lest a wait that returns for another reason swallows the only one.
        while receiver.recv_timeout(Duration::from_millis(2)).is_err() {
            waker.wake();
        }
    });
    for _ in 0..10 {
        rig.wait(None);
    }
    sender.send(()).unwrap();
    other.join().unwrap();
}

fn a_waker_outlives_its_port(setup: &Setup) {
    let rig = setup.rig();
    let waker = rig.port.waker();
    let other = thread::spawn({
        let waker = waker.clone();
        move || (0..10_000).for_each(|_| waker.wake())
    });
    drop(rig);
    waker.wake();
    other.join().unwrap();
}

fn a_wait_ends_when_its_time_is_reached(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, _client) = rig.pair();
    rig.receive(socket);
    rig.idle(2);
    for millis in [0, 1, 7, 30] {
        let until = rig.port.now() + Duration::from_millis(millis);
        let mut waits = 0;
        while rig.port.now() < until {
            rig.wait(Some(until));
            waits += 1;
        }
        assert!(waits < 20, "{waits} waits for {millis} ms");
    }
}

fn a_wait_whose_time_is_past_still_does_its_work(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let receive = rig.receive(socket);
    client.send(b"hello");
    let mut received = Vec::new();
    while received != b"hello" {
        rig.wait(Some(Time::ZERO));
        while let Some(event) = rig.take(receive.token) {
            let Event::Received(lease) = event else { panic!("{event:?}") };
            received.extend_from_slice(&lease);
        }
        if setup.is_simulated() {
            // Simulated time does not pass by itself.
            rig.turn();
        }
    }
}

/// Results that need no waiting come with the next wait.
fn a_wait_with_something_to_hand_out_does_not_sleep(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    for _ in 0..20 {
        let until = rig.port.now() + PATIENCE;
        let send = rig.send_bytes(socket, &b"x"[..]);
        while rig.take(send.token).is_none() {
            rig.wait(Some(until));
        }
        client.receive();
        assert!(rig.port.now() < until);
    }
    let until = rig.port.now() + PATIENCE;
    let receive = rig.receive(socket);
    rig.port.cancel(receive.operation);
    while rig.take(receive.token).is_none() {
        rig.wait(Some(until));
    }
    let closed = rig.close(socket);
    while rig.take(closed).is_none() {
        rig.wait(Some(until));
    }
    assert!(rig.port.now() < until);
}

fn the_clock_and_the_tick_go_on(setup: &Setup) {
    let mut rig = setup.rig();
    let (before, tick) = (rig.port.clock(), rig.port.tick());
    assert!(before >= rig.port.now(), "the clock is behind the last wait");
    // Longer than between any kernel's ticks.
    let until = before + Duration::from_millis(50);
    while rig.port.now() < until {
        rig.wait(Some(until));
    }
    assert!(rig.port.clock() >= rig.port.now());
    assert_ne!(rig.port.tick(), tick);
}
