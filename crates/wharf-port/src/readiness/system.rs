//! The system calls of the readiness backend, and what their errors mean. What a socket is for, and
//! when to try again, is not known here.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;

use libc::c_int;
use mio::Interest;
use socket2::Socket;

use crate::lease::Pool;
use crate::listener::{Incoming, IncomingOrigin};
use crate::port::peer_of;
use crate::{FileRange, Gather, Lease};

/// Whether a receive that fills less than its block has taken all there was. True of Linux'
/// streams, but for urgent bytes (see [`is_urgent`]). Elsewhere nothing is known for certain, and
/// each receive costs a second one that would block.
pub(super) const SHORT_MEANS_DRAINED: bool = cfg!(target_os = "linux");

/// What an adopted socket is registered for.
#[cfg(target_os = "linux")]
pub(super) const INTEREST: Interest =
    Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(target_os = "linux"))]
pub(super) const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// A signal for a peer that is gone is not wanted; Apple's sockets have an option for that, which
/// socket2 sets.
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: c_int = 0;
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: c_int = libc::MSG_NOSIGNAL;

/// Parts given to the kernel in one call. Every system takes at least 1,024.
const PARTS: usize = 32;
/// The most of a file that is sent in one go, so that a fast reader does not keep the others out.
const FILE_BYTES: u64 = 1024 * 1024;
/// What is copied at a time where the kernel does not send files.
const COPY_BYTES: usize = 64 * 1024;

/// Whether the event says that urgent bytes are among those received: a receive stops in front of
/// them, short, though there is more.
#[cfg(target_os = "linux")]
pub(super) fn is_urgent(event: &mio::event::Event) -> bool {
    event.is_priority()
}
#[cfg(not(target_os = "linux"))]
pub(super) fn is_urgent(_: &mio::event::Event) -> bool {
    false
}

/// Receives into a block that was taken from the pool. None: the stream has ended. The block goes
/// back to the pool unless it is leased.
pub(super) fn receive(socket: &Socket, pool: &mut Pool, block: u32) -> io::Result<Option<Lease>> {
    let data = pool.data(block).cast::<MaybeUninit<u8>>();
    // SAFETY: the block is taken and not leased, so its `block_len` bytes are this call's alone.
    let room = unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), pool.block_len()) };
    match retry(|| socket.recv(room)) {
        // SAFETY: the block is taken, the kernel wrote its first `count` bytes, and `room` is gone.
        Ok(count) if count > 0 => Ok(Some(unsafe { pool.lease(block, count) })),
        nothing => {
            pool.give_back(block);
            nothing.map(|_| None)
        }
    }
}

/// Receives behind what the block holds. 0: the stream has ended.
pub(super) fn receive_into(socket: &Socket, block: &mut Vec<u8>) -> io::Result<usize> {
    let count = retry(|| socket.recv(block.spare_capacity_mut()))?;
    // SAFETY: the kernel wrote `count` bytes into the spare capacity, which begins at `len`.
    unsafe { block.set_len(block.len() + count) };
    Ok(count)
}

/// What a send achieved.
pub(super) struct Sent {
    pub(super) count: usize,
    /// Whether the socket takes no more until its next edge.
    pub(super) full: bool,
}

/// Sends what remains of the gather, as far as the socket takes it. At least one byte.
pub(super) fn send(socket: &Socket, gather: &Gather) -> io::Result<Sent> {
    if let Some(bytes) = gather.contiguous() {
        let count = retry(|| socket.send_with_flags(bytes, SEND_FLAGS))?;
        return Ok(Sent { count, full: SHORT_MEANS_DRAINED && count < bytes.len() });
    }
    let mut count = 0;
    let mut slices = gather.slices();
    loop {
        let mut parts = [IoSlice::new(&[]); PARTS];
        let (mut used, mut offered) = (0, 0);
        for (place, slice) in parts.iter_mut().zip(&mut slices) {
            offered += slice.len();
            *place = slice;
            used += 1;
        }
        if used == 0 {
            return Ok(Sent { count, full: false });
        }
        match retry(|| socket.send_vectored_with_flags(&parts[..used], SEND_FLAGS)) {
            Ok(sent) if sent == offered => count += sent,
            Ok(sent) => return Ok(Sent { count: count + sent, full: SHORT_MEANS_DRAINED }),
            Err(error) if count == 0 => return Err(error),
            // The next send will meet it again.
            Err(error) => {
                let full = error.kind() == io::ErrorKind::WouldBlock;
                return Ok(Sent { count, full });
            }
        }
    }
}

/// Sends a part of a file. 0: the file ends before the range does.
///
/// On Linux by `sendfile(2)`, which raises SIGPIPE for a peer that is gone where the process has
/// not ignored it; Rust's runtime does. Elsewhere through `copy`, for the other systems' `sendfile`
/// calls report bytes together with would-block, each in a way of its own.
pub(super) fn send_file(socket: &Socket, range: &FileRange, copy: &mut Vec<u8>) -> io::Result<u64> {
    let length = range.length.min(FILE_BYTES) as usize;
    #[cfg(target_os = "linux")]
    if libc::off_t::try_from(range.offset).is_ok()
        && let Ok(offset) = usize::try_from(range.offset)
    {
        let sent =
            retry(|| socket.sendfile(&*range.file, offset, std::num::NonZeroUsize::new(length)));
        // Some files cannot be sent without a copy.
        match sent.as_ref().map_err(|error| error.raw_os_error()) {
            Err(Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)) => {}
            _ => return sent.map(|count| count as u64),
        }
    }
    copy_file(socket, &range.file, range.offset, length, copy)
}

/// Reads a piece of the file and sends it. What the socket does not take is read again next time.
pub(super) fn copy_file(
    socket: &Socket,
    file: &File,
    offset: u64,
    length: usize,
    copy: &mut Vec<u8>,
) -> io::Result<u64> {
    copy.resize(COPY_BYTES, 0);
    let room = &mut copy[..length.min(COPY_BYTES)];
    let count = retry(|| file.read_at(room, offset))?;
    if count == 0 {
        return Ok(0);
    }
    retry(|| socket.send_with_flags(&room[..count], SEND_FLAGS)).map(|sent| sent as u64)
}

/// Why nothing was accepted.
pub(super) enum AcceptFailure {
    /// Nobody waits.
    WouldBlock,
    /// Descriptors or memory ran out; whoever waits still waits.
    Exhausted(io::Error),
    /// One connection failed before it was accepted; the next may not.
    Connection(io::Error),
    /// The listening socket is of no use any more.
    Listener(io::Error),
}

impl From<io::Error> for AcceptFailure {
    /// accept(2) of Linux passes errors of the new connection on; what is not known to mean the
    /// listener or the process is taken for one of those.
    fn from(error: io::Error) -> AcceptFailure {
        if error.kind() == io::ErrorKind::WouldBlock {
            return AcceptFailure::WouldBlock;
        }
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                AcceptFailure::Exhausted(error)
            }
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT | libc::ENOSYS) => {
                AcceptFailure::Listener(error)
            }
            _ => AcceptFailure::Connection(error),
        }
    }
}

/// Accepts a connection, which does not block and is not inherited by child processes.
pub(super) fn accept(listener: &Socket) -> Result<Incoming, AcceptFailure> {
    let (socket, address) = accept_nonblocking(listener)?;
    let peer = peer_of(address).map_err(AcceptFailure::Connection)?;
    Ok(Incoming { origin: IncomingOrigin::Os(socket), peer })
}

/// Linux hands the listener's TCP_NODELAY on.
#[cfg(target_os = "linux")]
fn accept_nonblocking(listener: &Socket) -> io::Result<(Socket, socket2::SockAddr)> {
    retry(|| listener.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC))
}

#[cfg(not(target_os = "linux"))]
fn accept_nonblocking(listener: &Socket) -> io::Result<(Socket, socket2::SockAddr)> {
    let (socket, address) = retry(|| listener.accept())?;
    // These fail for a peer that is gone already, with EINVAL on macOS, which would be taken for
    // the listener's.
    let set = socket.set_nonblocking(true).and_then(|()| socket.set_tcp_nodelay(true));
    set.map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error))?;
    Ok((socket, address))
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
