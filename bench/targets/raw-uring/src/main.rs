//! The limit of io_uring: `target-raw-uring PORT`. Multishot accept and receive, a buffer ring, one
//! system call a turn that submits and waits; no parsing, no timers.

use std::alloc::{self, Layout};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};
use target_contract as contract;
use target_raw::{Answers, BlankLines};

const ENTRIES: u32 = 1024;
/// Receive buffers: a power of two, as the kernel demands.
const BUFFERS: u16 = 1024;
const BUFFER_BYTES: usize = 4096;
const GROUP: u16 = 0;
const PAGE: usize = 4096;

const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;

fn main() -> io::Result<()> {
    let address = contract::address();
    // Bound here once, so that a port in use is an error and not a silent worker.
    drop(target_raw::listener(address)?);
    contract::ready_once_listening(address);
    contract::on_each_worker(move || {
        if let Err(error) = serve(address) {
            eprintln!("a worker ended: {error}");
        }
    });
    Ok(())
}

#[derive(Default)]
struct Connection {
    lines: BlankLines,
    /// Answers that are not sent yet, those that are being sent included.
    owed: usize,
    /// Bytes of the first of them that are sent already.
    sent: usize,
    sending: bool,
    /// The peer has ended: close once nothing is being sent.
    ended: bool,
}

struct Worker {
    ring: IoUring,
    buffers: Buffers,
    answers: Answers,
    /// By descriptor.
    connections: Vec<Connection>,
    listener: RawFd,
    /// Empty between turns.
    completions: Vec<cqueue::Entry>,
}

fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = target_raw::listener(address)?;
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(4 * ENTRIES)
        .build(ENTRIES)?;
    let buffers = Buffers::register(&ring)?;
    let mut worker = Worker {
        ring,
        buffers,
        answers: Answers::new(),
        connections: Vec::new(),
        listener: listener.as_raw_fd(),
        completions: Vec::new(),
    };
    worker.accept()?;
    loop {
        worker.turn()?;
    }
}

impl Worker {
    fn turn(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            // Completions fill their queue: take them, then submit the rest.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
        // Copied, so that operations can be pushed meanwhile.
        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.ring.completion());
        for completion in completions.drain(..) {
            self.complete(&completion)?;
        }
        self.completions = completions;
        self.buffers.publish();
        Ok(())
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (kind, fd) = (completion.user_data() >> 32 << 32, completion.user_data() as RawFd);
        let result = completion.result();
        let more = cqueue::more(completion.flags());
        match kind {
            ACCEPT => {
                if result >= 0 {
                    self.accepted(result)?;
                }
                if !more {
                    self.accept()?;
                }
            }
            RECEIVE => {
                if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                    let length = usize::try_from(result).unwrap_or(0);
                    let piece = self.buffers.get(buffer, length);
                    let connection = &mut self.connections[fd as usize];
                    connection.owed += connection.lines.count(piece);
                    self.buffers.give_back(buffer);
                }
                let out_of_buffers = result == -libc::ENOBUFS;
                if result > 0 || out_of_buffers {
                    self.send(fd)?;
                    if !more {
                        self.receive(fd)?;
                    }
                } else {
                    self.connections[fd as usize].ended = true;
                    self.close_if_done(fd);
                }
            }
            SEND => {
                let connection = &mut self.connections[fd as usize];
                connection.sending = false;
                match usize::try_from(result) {
                    Ok(bytes) => {
                        let bytes = connection.sent + bytes;
                        let whole = self.answers.count(bytes);
                        connection.owed -= whole;
                        connection.sent = bytes - self.answers.take(whole).len();
                        self.send(fd)?;
                    }
                    // The receive will say so too, and closes.
                    Err(_) => connection.owed = 0,
                }
                self.close_if_done(fd);
            }
            _ => {}
        }
        Ok(())
    }

    fn accepted(&mut self, fd: RawFd) -> io::Result<()> {
        let slot = fd as usize;
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, Connection::default);
        }
        self.connections[slot] = Connection::default();
        self.receive(fd)
    }

    fn accept(&mut self) -> io::Result<()> {
        self.push(opcode::AcceptMulti::new(Fd(self.listener)).build().user_data(ACCEPT))
    }

    fn receive(&mut self, fd: RawFd) -> io::Result<()> {
        let receive = opcode::RecvMulti::new(Fd(fd), GROUP).build();
        self.push(receive.user_data(RECEIVE | fd as u64))
    }

    /// Sends what is owed, unless something is being sent: the order of two sends in flight is not
    /// the kernel's to keep.
    fn send(&mut self, fd: RawFd) -> io::Result<()> {
        let connection = &mut self.connections[fd as usize];
        if connection.sending || connection.owed == 0 || connection.ended {
            return Ok(());
        }
        connection.sending = true;
        let bytes = &self.answers.take(connection.owed)[connection.sent..];
        let send = opcode::Send::new(Fd(fd), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL)
            .build();
        self.push(send.user_data(SEND | fd as u64))
    }

    fn close_if_done(&mut self, fd: RawFd) {
        let connection = &self.connections[fd as usize];
        if connection.ended && !connection.sending {
            // SAFETY: the descriptor is a connection's: its receive has ended, nothing is being
            // sent, so that no operation has it any more.
            unsafe { libc::close(fd) };
        }
    }

    fn push(&mut self, operation: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what the operation points to, the answers, lives as long as the ring.
            if unsafe { self.ring.submission().push(&operation) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

/// The receive buffers and the ring by which the kernel is given them.
struct Buffers {
    /// BUFFERS entries, page-aligned; the first one's last field is the tail.
    entries: *mut BufRingEntry,
    bytes: *mut u8,
    tail: u16,
}

impl Buffers {
    fn register(ring: &IoUring) -> io::Result<Buffers> {
        let entries = zeroed_pages(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        let bytes = zeroed_pages(usize::from(BUFFERS) * BUFFER_BYTES)?;
        let mut buffers = Buffers { entries: entries.cast(), bytes, tail: 0 };
        let address = entries as u64;
        // SAFETY: the entries are never freed: they outlive the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, BUFFERS, GROUP, 0) }?;
        for buffer in 0..BUFFERS {
            buffers.give_back(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// What the kernel put into a buffer that it has handed out.
    fn get(&self, buffer: u16, length: usize) -> &[u8] {
        assert!(buffer < BUFFERS && length <= BUFFER_BYTES, "the kernel chose one of ours");
        // SAFETY: within the allocation, by the assertion.
        let start = unsafe { self.bytes.add(usize::from(buffer) * BUFFER_BYTES) };
        // SAFETY: initialised, and the kernel leaves it alone until it is given back, which needs
        // `&mut self`.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// Gives a buffer back; the kernel sees it with the next [`publish`](Buffers::publish).
    fn give_back(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: the slot is within the BUFFERS entries.
        let entry = unsafe { self.entries.add(slot) };
        // SAFETY: the kernel reads no entry from the tail on, and this one is the tail's.
        let entry = unsafe { &mut *entry };
        // SAFETY: within the allocation: buffers are numbered below BUFFERS.
        let start = unsafe { self.bytes.add(usize::from(buffer) * BUFFER_BYTES) };
        entry.set_addr(start as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: `entries` is the ring's base.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: the tail is aligned, lives as long as the ring, and is only ever reached
        // atomically, by this thread and the kernel.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

fn zeroed_pages(bytes: usize) -> io::Result<*mut u8> {
    let layout = Layout::from_size_align(bytes.next_multiple_of(PAGE), PAGE)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // SAFETY: the layout's size is not zero: no caller asks for zero bytes.
    let start = unsafe { alloc::alloc_zeroed(layout) };
    if start.is_null() { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(start) }
}
