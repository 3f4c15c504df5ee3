//! A client's end of a connection that waits, for tests of real servers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use std::{io, thread};

const BLOCK_BYTES: usize = 16 * 1024;

/// Sends bytes on a connection of their own, and receives until `is_done` has seen enough: it is told
/// all that has come, and whether the connection has ended. With `ends`, the server is told that
/// nothing more comes.
///
/// What the server does not take is no error, for it may have answered already.
///
/// # Errors
/// If the server cannot be reached, or is not done within `patience`.
pub fn exchange(
    address: SocketAddr,
    bytes: &[u8],
    ends: bool,
    patience: Duration,
    mut is_done: impl FnMut(&[u8], bool) -> bool,
) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(patience))?;
    thread::scope(|scope| {
        // Beside the receiving, since the server may answer while it reads.
        scope.spawn(|| {
            let sent = (&stream).write_all(bytes);
            if ends && sent.is_ok() {
                // The server may have gone.
                let _ = stream.shutdown(Shutdown::Write);
            }
        });
        let received = receive(&stream, until, &mut is_done);
        // Whoever still sends has nobody left to send to.
        let _ = stream.shutdown(Shutdown::Both);
        received
    })
}

fn receive(
    mut stream: &TcpStream,
    until: Instant,
    is_done: &mut impl FnMut(&[u8], bool) -> bool,
) -> io::Result<Vec<u8>> {
    let (mut received, mut block) = (Vec::new(), [0; BLOCK_BYTES]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let has_ended = match stream.read(&mut block) {
            Ok(count) => {
                received.extend_from_slice(&block[..count]);
                count == 0
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => false,
                // Windows says the one and Unix the other.
                ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => true,
                _ => return Err(error),
            },
        };
        if is_done(&received, has_ended) || has_ended {
            return Ok(received);
        }
    }
}
