//! TransmitFile: what one call sends, and where files end.

use std::fs::File;
use std::thread;

use super::*;

/// A file of its own that goes with the test.
fn file(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

impl Rig {
    fn file_sent(&mut self, socket: Socket, range: FileRange) -> Result<u64, Failure> {
        self.port.send_file(socket, range, SEND);
        self.find(|completion| match completion.event {
            Event::FileSent { result, .. } => Some(result),
            _ => None,
        })
    }
}

#[test]
fn a_large_file_goes_out_in_bounded_steps() {
    let bytes: Vec<u8> = (0..9_000_000u32).map(|i| (i / 7) as u8).collect();
    let file = file(&bytes);
    let mut rig = Rig::new(&small());
    let (mut peer, socket) = rig.connect();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    let (mut offset, end, mut steps) = (5, bytes.len() as u64 - 5, 0);
    while offset < end {
        let range = FileRange { file: file.clone(), offset, length: end - offset };
        let sent = rig.file_sent(socket, range).unwrap();
        assert!((1..=4 << 20).contains(&sent), "one step sent {sent} bytes");
        offset += sent;
        steps += 1;
    }
    assert!(steps >= 3);
    rig.port.close(socket, false, CLOSE);
    rig.find(|completion| matches!(completion.event, Event::Closed).then_some(()));
    let received = reader.join().unwrap();
    assert!(received == bytes[5..bytes.len() - 5], "{} bytes differ", received.len());
}

#[test]
fn a_range_beyond_the_file_sends_what_there_is() {
    let file = file(b"0123456789");
    let mut rig = Rig::new(&small());
    let (mut peer, socket) = rig.connect();
    let range = |offset, length| FileRange { file: file.clone(), offset, length };
    assert_eq!(rig.file_sent(socket, range(4, 100)).unwrap(), 6);
    assert_eq!(rig.file_sent(socket, range(10, 1)).unwrap(), 0);
    assert_eq!(rig.file_sent(socket, range(u64::MAX - 1, 1)).unwrap(), 0);
    let mut got = [0; 6];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"456789");
}
