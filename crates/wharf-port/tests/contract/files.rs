//! Ranges of files, sent through the kernel.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use wharf_port::{Event, Failure, Socket};

use crate::client::Client;
use crate::rig::{Rig, assert_same, pattern};
use crate::setup::{Setup, on_every_backend};

on_every_backend![
    ranges_arrive_whole_and_in_order,
    a_file_goes_between_other_bytes,
    a_file_that_ends_early_says_so,
    a_file_waits_for_its_reader,
    what_is_left_of_a_cancelled_file_reaches_nobody_else,
    a_file_that_cannot_be_read_fails,
];

/// A file that is removed with its drop.
pub(crate) struct Temporary {
    pub(crate) file: Arc<File>,
    path: PathBuf,
    _folder: TempDir,
}

impl Temporary {
    pub(crate) fn new(bytes: &[u8]) -> Temporary {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        Temporary { file: Arc::new(File::open(&path).unwrap()), path, _folder: folder }
    }
}

/// Sends a range in as many sends as it takes; stops where the file ends.
fn send_range(
    rig: &mut Rig,
    socket: Socket,
    file: &Arc<File>,
    (mut offset, mut length): (u64, u64),
    client: &mut Client,
) -> Vec<u8> {
    let mut received = Vec::new();
    while length > 0 {
        let send = rig.send_file(socket, file, offset, length);
        let event = rig.until("a send's end", |rig| {
            received.extend(client.receive());
            rig.take(send.token)
        });
        let Event::FileSent { result, .. } = event else { panic!("{event:?}") };
        match result.unwrap() {
            0 => break,
            count => {
                offset += count;
                length -= count;
            }
        }
    }
    received
}

/// Receives up to `len` bytes in all.
fn receive_rest(rig: &mut Rig, client: &mut Client, mut received: Vec<u8>, len: usize) -> Vec<u8> {
    rig.until("the rest", |_| {
        received.extend(client.receive());
        (received.len() >= len).then_some(())
    });
    received
}

fn ranges_arrive_whole_and_in_order(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    // Many times what a pipe holds.
    let all = pattern(0, setup.amount(8 << 20, 300_000));
    let temporary = Temporary::new(&all);
    let len = all.len();
    let ranges = [(0, len), (0, 1), (len - 1, 1), (4095, 2), (1000, 70_000), (65_536, 65_536)];
    for (offset, length) in ranges {
        let range = (offset as u64, length as u64);
        let received = send_range(&mut rig, socket, &temporary.file, range, &mut client);
        let received = receive_rest(&mut rig, &mut client, received, length);
        assert_same(&received, &all[offset..offset + length]);
    }
}

fn a_file_goes_between_other_bytes(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let all = pattern(77, 150_000);
    let temporary = Temporary::new(&all);
    let (mut expected, mut received) = (Vec::new(), Vec::new());
    for round in 0..5u8 {
        let mut head = Box::new(wharf_port::Gather::default());
        head.block_mut().extend_from_slice(&[round; 33]);
        received.extend(rig.send_all(socket, head, &mut client));
        let range = (1, all.len() as u64 - 1);
        received.extend(send_range(&mut rig, socket, &temporary.file, range, &mut client));
        expected.extend_from_slice(&[round; 33]);
        expected.extend_from_slice(&all[1..]);
    }
    let shutdown = rig.shutdown(socket);
    received.extend(rig.drain(&mut client));
    assert!(matches!(rig.next(shutdown.token), Event::ShutDown(Ok(()))));
    assert_same(&received, &expected);
}

fn a_file_that_ends_early_says_so(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let all = pattern(3, 10_000);
    let temporary = Temporary::new(&all);
    let received = send_range(&mut rig, socket, &temporary.file, (9_000, 5_000), &mut client);
    let received = receive_rest(&mut rig, &mut client, received, 1_000);
    assert_same(&received, &all[9_000..]);
    for offset in [10_000, 1 << 40] {
        let send = rig.send_file(socket, &temporary.file, offset, 10);
        let event = rig.next(send.token);
        assert!(matches!(event, Event::FileSent { result: Ok(0), .. }), "{event:?}");
    }
    // The connection goes on.
    let send = rig.send_bytes(socket, &b"the end"[..]);
    assert!(matches!(rig.sent(send).1, Ok(1..=7)));
}

/// Sends ranges until nobody takes more.
fn stop_up(rig: &mut Rig, socket: Socket, file: &Arc<File>) -> (crate::rig::Submitted, u64) {
    let mut sent = 0;
    loop {
        let send = rig.send_file(socket, file, 0, 1 << 20);
        let mut quiet = 0;
        let event = rig.until("a send or a full window", |rig| {
            quiet += 1;
            match rig.take(send.token) {
                Some(event) => Some(Some(event)),
                None => (quiet > 20).then_some(None),
            }
        });
        match event {
            Some(Event::FileSent { result, .. }) => sent += result.unwrap(),
            Some(other) => panic!("{other:?}"),
            None => return (send, sent),
        }
    }
}

fn a_file_waits_for_its_reader(setup: &Setup) {
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let temporary = Temporary::new(&vec![b'f'; 1 << 20]);
    let (send, mut sent) = stop_up(&mut rig, socket, &temporary.file);
    let mut received = Vec::new();
    let event = rig.until("the reader to make room", |rig| {
        received.extend(client.receive());
        rig.take(send.token)
    });
    let Event::FileSent { result, .. } = event else { panic!("{event:?}") };
    sent += result.unwrap();
    let shutdown = rig.shutdown(socket);
    received.extend(rig.drain(&mut client));
    rig.next(shutdown.token);
    assert_eq!(received.len() as u64, sent);
    assert!(received.iter().all(|&byte| byte == b'f'));
}

/// Whatever a backend keeps between the file and the socket.
fn what_is_left_of_a_cancelled_file_reaches_nobody_else(setup: &Setup) {
    let mut rig = setup.rig();
    let stale = Temporary::new(&vec![b's'; 1 << 20]);
    let fresh = Temporary::new(&pattern(0, 100_000));
    for closes in [false, true] {
        let (socket, client) = rig.pair();
        let (send, _) = stop_up(&mut rig, socket, &stale.file);
        if closes {
            let closed = rig.close(socket);
            assert!(matches!(rig.next(closed), Event::Closed));
        } else {
            rig.port.cancel(send.operation);
        }
        let event = rig.next(send.token);
        assert!(
            matches!(event, Event::FileSent { result: Ok(_) | Err(Failure::Cancelled), .. }),
            "{event:?}"
        );
        for _ in 0..10 {
            let (socket, mut client) = rig.pair();
            let range = (0, 100_000);
            let received = send_range(&mut rig, socket, &fresh.file, range, &mut client);
            let received = receive_rest(&mut rig, &mut client, received, 100_000);
            assert_same(&received, &pattern(0, 100_000));
        }
        drop(client);
    }
}

fn a_file_that_cannot_be_read_fails(setup: &Setup) {
    if std::env::var_os("WHARF_UNDER_WINE").is_some() {
        return println!("not run: Wine sends from files that are not open for reading");
    }
    let mut rig = setup.rig();
    let (socket, mut client) = rig.pair();
    let temporary = Temporary::new(b"secret");
    let unreadable = Arc::new(File::options().write(true).open(&temporary.path).unwrap());
    let send = rig.send_file(socket, &unreadable, 0, 6);
    let event = rig.next(send.token);
    assert!(matches!(event, Event::FileSent { result: Err(Failure::Io(_)), .. }), "{event:?}");
    // It is the file's failure, not the connection's.
    let send = rig.send_bytes(socket, &b"sorry"[..]);
    assert!(matches!(rig.sent(send).1, Ok(1..=5)));
    rig.until("it to arrive", |_| (!client.receive().is_empty()).then_some(()));
}
