//! Sending files without a copy and without waiting, neither for the disk nor for the peer.
//!
//! What lies in the page cache is sent at once, by `sendfile`. What does not may wait for a disk, so
//! the ring has a worker thread of the kernel move it into a pipe, which is then emptied into the
//! socket by a direct call: a worker would be held as long as a slow peer likes. If the socket has
//! no room, the ring is asked to say when it has.
//!
//! ```text
//!            ┌─────────────── no room at all ──────────────────┐
//!            ▼                                                 │
//!   ──► Writable? ──► Cached? ──yes──► sent from the cache ────┤
//!     (if the last       │ no                                  ├─► sent, all or some
//!      send filled it)   └──► pipe filled ──► pipe emptied ────┘
//!                                into it       into the socket
//! ```
//!
//! Bytes that did not fit are thrown away with their pipe: they are no more than references to the
//! file's pages, and the file still has them. So nothing is held for a socket between its sends,
//! no byte is lost, and what was sent is seen at once.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::types::{Fd, Fixed};
use slotmap::Key;

use super::descriptors::Descriptor;
use super::{Kind, RETRY_DELAY, State, Uring};
use crate::{Completion, Event, Failure, FileRange, Operation};

/// Bytes that a pipe is asked to hold; it may get fewer.
const PIPE_BYTES: libc::c_int = 256 * 1024;
/// Bytes sent from the cache at a time, so that the port's other sockets have their turn.
const CACHED_BYTES: u64 = 1024 * 1024;
/// How far apart the cache is probed at first: no farther than the kernel reads ahead by default.
/// Where a range's bytes were found there, the next ones are probed half as densely, down to the
/// ends of what is sent at a time: each probe is a system call.
const PROBE_BYTES: u64 = 128 * 1024;
/// Pipes of one port at most, two descriptors each.
pub(super) const PIPES_MAX: usize = 32;

pub(super) struct FileSend {
    pub(super) range: FileRange,
    /// Some while it is being filled.
    pipe: Option<Pipe>,
    /// The socket is about to get a descriptor.
    installing: bool,
}

impl FileSend {
    pub(super) fn new(range: FileRange) -> FileSend {
        FileSend { range, pipe: None, installing: false }
    }
}

/// An empty pipe, or one that a send is filling.
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    bytes: u32,
}

impl Pipe {
    fn new() -> io::Result<Pipe> {
        let mut fds = [0; 2];
        // SAFETY: there is room for two descriptors.
        if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else has it.
        let reader = unsafe { OwnedFd::from_raw_fd(fds[0]) };
        // SAFETY: as above.
        let writer = unsafe { OwnedFd::from_raw_fd(fds[1]) };
        // SAFETY: no pointer is passed.
        let mut bytes = unsafe { libc::fcntl(fds[1], libc::F_SETPIPE_SZ, PIPE_BYTES) };
        if bytes <= 0 {
            // Users have a bound on all their pipes together: take what this one came with.
            // SAFETY: no pointer is passed.
            bytes = unsafe { libc::fcntl(fds[1], libc::F_GETPIPE_SZ) };
        }
        let bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        Ok(Pipe { reader, writer, bytes: bytes.ok_or_else(io::Error::last_os_error)? })
    }
}

/// The port's pipes.
#[derive(Default)]
pub(super) struct Pipes {
    idle: Vec<Pipe>,
    /// Those that exist, idle ones included.
    count: usize,
    /// Nothing is taken for cached.
    #[cfg(test)]
    pub(super) only: bool,
}

impl Pipes {
    /// None: there are as many as may be, or no descriptors for one more.
    fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.count == PIPES_MAX {
            return None;
        }
        let pipe = Pipe::new().ok()?;
        self.count += 1;
        Some(pipe)
    }

    #[cfg(test)]
    pub(super) fn all_idle(&self) -> bool {
        self.idle.len() == self.count
    }

    /// `found` counts how often in a row the range's bytes were.
    fn may_be_cached(&self, file: &File, offset: i64, length: u64, found: &mut u8) -> bool {
        #[cfg(test)]
        if self.only {
            return false;
        }
        let apart = (PROBE_BYTES << (*found).min(3)).min(CACHED_BYTES);
        let is_cached = is_cached(file, offset, length, apart);
        *found = if is_cached { found.saturating_add(1) } else { 0 };
        is_cached
    }

    fn give_back(&mut self, pipe: Pipe) {
        self.idle.push(pipe);
    }

    fn throw_away(&mut self, pipe: Pipe) {
        self.count -= 1;
        drop(pipe);
    }
}

impl Uring {
    /// Starts or goes on with a file send that is not in the kernel's hands. It may end at once.
    pub(super) fn arm_file(&mut self, key: Operation, completions: &mut Vec<Completion>) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        let (socket, Kind::SendFile(send)) = (operation.socket, &mut operation.kind) else {
            return;
        };
        let entry = &mut self.sockets[socket];
        let fd = match &entry.fd {
            Descriptor::Plain(fd) => fd,
            Descriptor::Direct(slot) => {
                operation.state = State::Armed;
                send.installing = true;
                // Close-on-exec by default.
                let install = opcode::FixedFdInstall::new(Fixed(*slot), 0).build();
                // SAFETY: it refers to no memory.
                unsafe { self.ring.push(&install.user_data(key.data().as_ffi())) };
                return;
            }
        };
        let range = &send.range;
        let offset = i64::try_from(range.offset).unwrap_or(i64::MAX);
        let left = range.length.min((i64::MAX - offset) as u64);
        if left == 0 {
            // Where the system cannot count to, every file has ended.
            return self.end_file(key, 0, completions);
        }
        let length = left.min(CACHED_BYTES);
        let found = &mut entry.found_cached;
        if !entry.full && self.pipes.may_be_cached(&range.file, offset, length, found) {
            match send_cached(fd, &range.file, offset, length as usize) {
                Ok(sent) => return self.end_file(key, sent as u64, completions),
                Err(error) if is_full(&error) => entry.full = true,
                Err(error) => return self.fail(key, Failure::Io(error), completions),
            }
        }
        let submission = if entry.full {
            opcode::PollAdd::new(Fd(fd.as_raw_fd()), libc::POLLOUT as u32).build()
        } else if let Some(pipe) = self.pipes.take() {
            let length = left.min(u64::from(pipe.bytes)) as u32;
            let (file, writer) = (range.file.as_raw_fd(), pipe.writer.as_raw_fd());
            send.pipe = Some(pipe);
            opcode::Splice::new(Fd(file), offset, Fd(writer), -1, length)
                .flags(libc::SPLICE_F_NONBLOCK)
                .build()
        } else {
            operation.state = State::Parked;
            self.parked_files.push_back(key);
            self.retry_at.get_or_insert(self.now + RETRY_DELAY);
            return;
        };
        operation.state = State::Armed;
        // SAFETY: neither refers to memory; the operation keeps file and pipe open.
        unsafe { self.ring.push(&submission.user_data(key.data().as_ffi())) };
    }

    /// A completion of a file send: the socket has room, or the pipe was filled.
    pub(super) fn file_progressed(
        &mut self,
        key: Operation,
        result: i32,
        completions: &mut Vec<Completion>,
    ) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        let (socket, cancelled) = (operation.socket, operation.cancelled);
        let Kind::SendFile(send) = &mut operation.kind else { return };
        if std::mem::take(&mut send.installing) {
            return self.installed(key, result, completions);
        }
        let pipe = send.pipe.take();
        let failure = match result {
            _ if cancelled => Some(Failure::Cancelled),
            result if result >= 0 || result == -libc::EINTR => None,
            result => Some(super::wait::failure(result)),
        };
        let filled = u32::try_from(result).unwrap_or(0);
        match (failure, pipe) {
            (Some(failure), pipe) => {
                if let Some(pipe) = pipe {
                    self.pipes.throw_away(pipe);
                }
                self.fail(key, failure, completions);
            }
            (None, None) => {
                self.sockets[socket].full = false;
                self.arm_file(key, completions);
            }
            // Interrupted before anything was read: once more.
            (None, Some(pipe)) if result < 0 => {
                self.pipes.give_back(pipe);
                self.arm_file(key, completions);
            }
            (None, Some(pipe)) if filled == 0 => {
                self.pipes.give_back(pipe);
                self.end_file(key, 0, completions);
            }
            (None, Some(pipe)) => self.empty(key, pipe, filled, completions),
        }
        if !self.parked_files.is_empty() {
            self.unpark_files(completions);
        }
    }

    /// The socket of a file send has a descriptor now, or there was none for it.
    fn installed(&mut self, key: Operation, result: i32, completions: &mut Vec<Completion>) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        if result >= 0 {
            // SAFETY: the kernel just made this descriptor for us.
            let fd = unsafe { OwnedFd::from_raw_fd(result) };
            let entry = &mut self.sockets[operation.socket];
            self.table.installed(&mut entry.fd, fd, &self.ring);
        }
        match -result {
            _ if operation.cancelled => self.fail(key, Failure::Cancelled, completions),
            libc::EMFILE | libc::ENFILE => {
                operation.state = State::Parked;
                self.parked_files.push_back(key);
                self.retry_at.get_or_insert(self.now + RETRY_DELAY);
            }
            1.. => self.fail(key, super::wait::failure(result), completions),
            _ => self.arm_file(key, completions),
        }
    }

    /// Moves a pipe's bytes to the socket, as many as it has room for.
    fn empty(
        &mut self,
        key: Operation,
        pipe: Pipe,
        filled: u32,
        completions: &mut Vec<Completion>,
    ) {
        let Some(operation) = self.operations.get(key) else { return };
        let entry = &mut self.sockets[operation.socket];
        let Descriptor::Plain(fd) = &entry.fd else {
            unreachable!("a socket without a descriptor gets one before a pipe is filled for it");
        };
        match splice_now(&pipe.reader, fd, filled) {
            Ok(sent) => {
                if sent == filled as usize {
                    self.pipes.give_back(pipe);
                } else {
                    entry.full = true;
                    self.pipes.throw_away(pipe);
                }
                self.end_file(key, sent as u64, completions);
            }
            Err(error) => {
                self.pipes.throw_away(pipe);
                if is_full(&error) {
                    entry.full = true;
                    self.arm_file(key, completions);
                } else {
                    self.fail(key, Failure::Io(error), completions);
                }
            }
        }
    }

    fn end_file(&mut self, key: Operation, sent: u64, completions: &mut Vec<Completion>) {
        let Some((operation, closing)) = self.take(key) else { return };
        if let Kind::SendFile(send) = operation.kind {
            if sent == send.range.length
                && let Some(entry) = self.sockets.get_mut(operation.socket)
            {
                // The next range is another one.
                entry.found_cached = 0;
            }
            let event = Event::FileSent { range: send.range, result: Ok(sent) };
            completions.push(Completion { token: operation.token, event });
        }
        if closing {
            self.close_joined(operation.socket, completions);
        }
    }

    /// Lets file sends that wait for a pipe go on, until there is none.
    pub(super) fn unpark_files(&mut self, completions: &mut Vec<Completion>) {
        while let Some(key) = self.parked_files.pop_front() {
            self.arm_file(key, completions);
            if self.operations.get(key).is_some_and(|file| file.state == State::Parked) {
                // It stood in line again: back to its place.
                self.parked_files.rotate_right(1);
                return;
            }
        }
    }
}

/// Whether a call that must not wait said that it would.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether the file's bytes lie in the page cache, as far as one byte here and there can tell.
fn is_cached(file: &File, offset: i64, length: u64, apart: u64) -> bool {
    let last = offset.saturating_add_unsigned(length - 1);
    let mut at = offset;
    loop {
        let mut byte = 0u8;
        let place = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        // SAFETY: the one byte is written to `byte`, and both outlive the call.
        match unsafe { libc::preadv2(file.as_raw_fd(), &place, 1, at, libc::RWF_NOWAIT) } {
            1 if at == last => return true,
            1 => at = last.min(at.saturating_add_unsigned(apart)),
            // The file ends before: nothing will be waited for there.
            0 => return true,
            // Not there (EAGAIN), or a file system that does not say.
            _ => return false,
        }
    }
}

fn send_cached(socket: &OwnedFd, file: &File, offset: i64, length: usize) -> io::Result<usize> {
    let mut offset = offset;
    without_waiting(socket, || {
        // SAFETY: `offset` is read and written, and outlives the call.
        unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &mut offset, length) }
    })
}

fn splice_now(pipe: &OwnedFd, socket: &OwnedFd, length: u32) -> io::Result<usize> {
    let sent = without_waiting(socket, || {
        // SAFETY: both offsets are null, as they must be for a pipe and a socket.
        unsafe {
            libc::splice(
                pipe.as_raw_fd(),
                std::ptr::null_mut(),
                socket.as_raw_fd(),
                std::ptr::null_mut(),
                length as usize,
                libc::SPLICE_F_NONBLOCK,
            )
        }
    });
    match sent {
        // The pipe is not empty, so the socket took nothing.
        Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
        other => other,
    }
}

/// Calls what sends to a socket in blocking mode as if it were not. Both calls used here go by the
/// socket's own mode, so that is changed meanwhile; no operation of the ring can see it, for they
/// run on this thread too.
fn without_waiting(socket: &OwnedFd, call: impl FnOnce() -> isize) -> io::Result<usize> {
    let mode = |flags: libc::c_int| {
        // SAFETY: no pointer is passed; the socket is open.
        unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags) }
    };
    mode(libc::O_NONBLOCK);
    let sent = call();
    let result = usize::try_from(sent).map_err(|_| io::Error::last_os_error());
    mode(0);
    result
}
