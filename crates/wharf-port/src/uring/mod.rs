//! io_uring: the kernel's own completion port.
//!
//! One ring a port, entered once a turn: the enter submits what was pushed, does the work that the
//! kernel deferred for this thread, and sleeps. Accepts and receives repeat inside the kernel
//! (multishot); what they receive into, the kernel chooses from a ring of blocks ([`blocks`]) when
//! the bytes come. Sockets are in blocking mode, since io_uring answers for a non-blocking socket
//! that it would block instead of waiting; beyond a number of them they have no descriptor
//! ([`descriptors`]).
//!
//! An operation's key is the kernel's `user_data`. What there is most of, repeating receives and sends
//! from memory, is kept in its socket's entry, where a completion finds all that it needs; every
//! other operation is one entry of a table. At any time an operation is either *armed*, one
//! submission of it being in flight, or *parked* in one of the port's own queues:
//!
//! ```text
//!   submit ──► armed ──completions, F_MORE──► armed
//!                │ ▲
//!                │ └──blocks or descriptors are back, a delay──┐
//!                ├──ENOBUFS, EMFILE, no pipe─────────────────► parked
//!                │                                             │
//!                └──final completion──► gone ◄──cancel─────────┘
//! ```
//!
//! An operation is forgotten with the final completion of what was armed, never before, so that
//! memory the kernel may write to or read from is not freed early; a cancelled one is only marked and
//! asked to end.

// A message stays where it is while the kernel reads it, and moves between the table and the store.
#![expect(clippy::vec_box, reason = "messages are recycled with their boxes")]

mod blocks;
mod descriptors;
mod file;
mod pace;
mod ring;
#[cfg(test)]
mod tests;
mod wait;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{opcode, squeue};
use slotmap::{Key, KeyData, SlotMap};
use socket2::SockRef;

use self::blocks::Blocks;
use self::descriptors::{Descriptor, Table};
use self::file::{FileSend, Pipes};
use self::pace::Pace;
use self::ring::Ring;
use crate::listener::{IncomingOrigin, ListenerOrigin};
use crate::port::Implementation;
use crate::unsent::{Flow, Share, Unsent};
use crate::{
    Completion, Config, Counters, Event, Failure, FileRange, Gather, Incoming, Lease, Listener,
    Operation, Socket, Time, Token, Waker,
};

/// `user_data` of the poll on the waker's eventfd. Its lower half is a slot that no table has.
const WAKE: u64 = u32::MAX as u64;
/// `user_data` of a request to bound what a socket has unsent. No table has its slot, either.
const SHARE: u64 = WAKE - 1;
/// Set in the `user_data` of a request to cancel, beside the key of the operation it is for.
const CANCEL: u64 = 1 << 31;
/// Set in the key of an operation that its socket's entry has, beside the socket's own key and a
/// number that tells it from others of the socket, shortly before and after. The table of
/// operations does not grow to 2^30 slots, so no key of it has this bit.
const OF_SOCKET: u64 = 1 << 30;
/// Of those, set if it sends.
const SENDS: u64 = 1 << 29;
const NUMBER_SHIFT: u32 = 22;
const NUMBERS: u8 = 0x7f;
/// Sockets of one port are fewer: four times as many as a ring's table can have, and as a process
/// may have descriptors unless the system was told otherwise.
const SOCKETS_MAX: usize = 1 << NUMBER_SHIFT;
/// How long accepts wait for descriptors, and files for pipes, before they try again.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Bytes in one submission at most; the kernel's counts are 32 bits wide and signed.
const LENGTH_MAX: usize = 1 << 30;
/// Slices in one submission at most: IOV_MAX.
const SLICES_MAX: usize = 1024;
/// Scratches kept for sends of several slices.
const MESSAGES_KEPT: usize = 64;

pub(crate) struct Uring {
    ring: Ring,
    blocks: Blocks,
    sockets: SlotMap<Socket, Entry>,
    table: Table,
    operations: SlotMap<Operation, InFlight>,
    /// Operations that are kept by their sockets' entries.
    in_entries: usize,
    /// Completions that needed no wait, for the next wait to deliver.
    queued: Vec<Completion>,
    /// Receives that found no block, first come, first served. May name operations that are gone.
    parked_receives: VecDeque<Operation>,
    /// Accepts that found no descriptor.
    parked_accepts: Vec<Operation>,
    /// File sends that found no pipe, first come, first served.
    parked_files: VecDeque<Operation>,
    /// When the parked accepts and file sends try again. Some while there are any.
    retry_at: Option<Time>,
    /// Accepts failed and none succeeded since: the log has been told.
    accepts_warned: bool,
    /// Cancelled operations that the kernel did not find, for they were on their way between two
    /// of its queues. Asked for again by the next wait.
    cancel_again: Vec<Operation>,
    messages: Vec<Box<Message>>,
    pipes: Pipes,
    unsent: Unsent,
    eventfd: Arc<OwnedFd>,
    waker: Waker,
    /// The eventfd was kicked in this turn.
    called: bool,
    pace: Pace,
    now: Time,
}

/// A socket. This is all there is of an idle connection.
struct Entry {
    fd: Descriptor,
    /// The operation of the receive kind in flight, or the accept.
    receiving: Option<Operation>,
    /// The operation of the send kind in flight.
    sending: Option<Operation>,
    /// The close that waits for both.
    closing: Option<Operation>,
    /// Of the repeating receive that is in flight.
    receive_token: Token,
    /// It waits in the port for a block.
    receive_parked: bool,
    /// It was asked to end, so it is not armed again.
    receive_cancelled: bool,
    /// Of the send from memory that is in flight.
    send_token: Token,
    send_cancelled: bool,
    gather: Option<Box<Gather>>,
    message: Option<Box<Message>>,
    /// The number of the operation that was kept here last.
    number: u8,
    /// The last file send found no more room: the next one waits for it first.
    full: bool,
    /// How often in a row bytes of the range that is being sent were found in the cache.
    found_cached: u8,
    flow: Flow,
}

/// An operation of the table.
struct InFlight {
    token: Token,
    socket: Socket,
    state: State,
    /// It was asked to end, so it is not armed again.
    cancelled: bool,
    /// Errors of an accept, one after another.
    failures: u8,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The kernel has it, or will with the next enter.
    Armed,
    /// It waits in the port for a descriptor or a pipe.
    Parked,
}

enum Kind {
    Accept,
    ReceiveInto(Vec<u8>),
    SendFile(Box<FileSend>),
    /// Of a socket with a descriptor it is done when it is asked for, else the kernel has it.
    ShutDown,
    /// Waits for the socket's other operations.
    Close {
        reset: bool,
        /// The kernel is setting up the reset of a socket without a descriptor.
        preparing: bool,
    },
}

/// What `sendmsg` reads: it stays where it is until the completion.
struct Message {
    header: libc::msghdr,
    slices: Vec<libc::iovec>,
}

impl Message {
    fn new() -> Box<Message> {
        // SAFETY: a msghdr is integers and pointers, for all of which zero is a value.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Message { header, slices: Vec::new() })
    }

    /// Points at what remains of the gather, or at as many slices as one call takes.
    fn describe(&mut self, gather: &Gather) {
        self.slices.clear();
        self.slices.extend(gather.slices().take(SLICES_MAX).map(|slice| libc::iovec {
            iov_base: slice.as_ptr().cast_mut().cast(),
            iov_len: slice.len(),
        }));
        self.header.msg_iov = self.slices.as_mut_ptr();
        // A count of a `usize` or an `int`, as the C library has it.
        self.header.msg_iovlen = self.slices.len() as _;
    }
}

/// Whether this backend may be used here, and can hold sockets without descriptors.
pub(crate) fn has_table() -> bool {
    Ring::open(0).is_ok_and(|ring| supports_table(&ring))
}

/// Linux 6.8. Without this operation a socket in the table could not be sent a file.
fn supports_table(ring: &Ring) -> bool {
    ring.supports(opcode::FixedFdInstall::CODE)
}

impl Uring {
    /// Opens a port on this thread, or says what was refused.
    pub(crate) fn open(config: &Config) -> io::Result<Uring> {
        let ring = Ring::open(config.submissions)?;
        // SAFETY: no pointer is passed; the result is checked.
        let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if eventfd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let eventfd = Arc::new(unsafe { OwnedFd::from_raw_fd(eventfd) });
        let blocks = Blocks::open(&ring, config)?;
        let has_table = config.direct_sockets > 0 && supports_table(&ring);
        let slots = if has_table { config.direct_sockets } else { 0 };
        let table = Table::new(slots, config.plain_sockets);
        let kicked = eventfd.clone();
        let mut uring = Uring {
            ring,
            blocks,
            sockets: SlotMap::with_capacity_and_key(config.room),
            table,
            operations: SlotMap::with_key(),
            in_entries: 0,
            queued: Vec::new(),
            parked_receives: VecDeque::new(),
            parked_accepts: Vec::new(),
            parked_files: VecDeque::new(),
            retry_at: None,
            accepts_warned: false,
            cancel_again: Vec::new(),
            messages: Vec::new(),
            pipes: Pipes::default(),
            unsent: Unsent::new(config.unsent_bytes),
            eventfd,
            waker: Waker::new(move || kick(&kicked)),
            called: false,
            pace: Pace::new(),
            now: Time::monotonic(),
        };
        uring.watch_eventfd();
        Ok(uring)
    }

    /// Has the kernel complete something whenever the eventfd is kicked. It is never read: each
    /// kick is an edge, and its count does not reach 2^64.
    fn watch_eventfd(&mut self) {
        let fd = Fd(self.eventfd.as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        // SAFETY: a poll refers to no memory.
        unsafe { self.ring.push(&poll.user_data(WAKE)) };
    }

    fn begin_receiving(&mut self, socket: Socket, kind: Kind, token: Token) -> Operation {
        let operation = InFlight::new(token, socket, kind);
        let entry = open_socket(&mut self.sockets, socket);
        assert!(entry.receiving.is_none(), "the socket receives or accepts already");
        *entry.receiving.insert(self.operations.insert(operation))
    }

    fn begin_sending(&mut self, socket: Socket, kind: Kind, token: Token) -> Operation {
        let operation = InFlight::new(token, socket, kind);
        let entry = open_socket(&mut self.sockets, socket);
        assert!(entry.sending.is_none(), "the socket sends already");
        *entry.sending.insert(self.operations.insert(operation))
    }

    /// Submits what the operation is, anew if it was submitted before.
    fn arm(&mut self, key: Operation) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        operation.state = State::Armed;
        let (fd, flags) = self.sockets[operation.socket].fd.target();
        let entry = match &mut operation.kind {
            Kind::Accept => opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build(),
            Kind::ReceiveInto(block) => {
                let room = block.spare_capacity_mut();
                let length = room.len().min(LENGTH_MAX) as u32;
                opcode::Recv::new(fd, room.as_mut_ptr().cast(), length).build()
            }
            // Files are armed by `arm_file`, the others not at all.
            Kind::SendFile(_) | Kind::ShutDown | Kind::Close { .. } => return,
        };
        // SAFETY: the operation owns the block that its entry points at, and stays in the table
        // until its final completion.
        unsafe { self.ring.push(&entry.flags(flags).user_data(key.data().as_ffi())) };
    }

    /// Submits a repeating receive, anew if it was submitted before.
    fn arm_receive(&mut self, key: Operation) {
        let Some(entry) = self.sockets.get_mut(socket_of(key)) else { return };
        entry.receive_parked = false;
        let (fd, flags) = entry.fd.target();
        let receive = opcode::RecvMulti::new(fd, blocks::GROUP).build();
        // SAFETY: it refers to no memory but the ring of blocks, which outlives it.
        unsafe { self.ring.push(&receive.flags(flags).user_data(key.data().as_ffi())) };
    }

    /// Submits a send from memory once more.
    #[cold]
    fn arm_send_again(&mut self, key: Operation) {
        let Some(entry) = self.sockets.get_mut(socket_of(key)) else { return };
        let Some(gather) = entry.gather.take() else { return };
        arm_send(entry, gather, key, &mut self.ring, &mut self.messages);
    }

    /// Whether the operation has not ended yet.
    fn is_in_flight(&self, key: Operation) -> bool {
        if !is_of_socket(key) {
            return self.operations.contains_key(key);
        }
        let entry = self.sockets.get(socket_of(key));
        entry.is_some_and(|entry| [entry.receiving, entry.sending].contains(&Some(key)))
    }

    /// Asks the kernel to end an operation that is armed.
    fn push_cancel(&mut self, key: Operation) {
        let user_data = key.data().as_ffi();
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(user_data))
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(user_data | CANCEL);
        // SAFETY: a cancel refers to no memory.
        unsafe { self.ring.push(&cancel) };
    }

    /// Ends an operation with `event`, and the close of its socket if that waited for it.
    fn end(&mut self, key: Operation, event: Event, completions: &mut Vec<Completion>) {
        if let Some((operation, closing)) = self.take(key) {
            completions.push(Completion { token: operation.token, event });
            if closing {
                self.close_joined(operation.socket, completions);
            }
        }
    }

    /// Takes an operation out of the table. True: a close of its socket may have waited for it, and
    /// is for the caller to look after.
    #[inline]
    fn take(&mut self, key: Operation) -> Option<(InFlight, bool)> {
        let operation = self.operations.remove(key)?;
        let entry = self.sockets.get_mut(operation.socket)?;
        let direction = match operation.kind {
            Kind::Accept | Kind::ReceiveInto(_) => &mut entry.receiving,
            Kind::SendFile(_) => {
                self.unsent.end(&entry.flow);
                &mut entry.sending
            }
            Kind::ShutDown => &mut entry.sending,
            Kind::Close { .. } => &mut entry.closing,
        };
        debug_assert_eq!(*direction, Some(key));
        *direction = None;
        Some((operation, entry.closing.is_some()))
    }

    /// Ends an operation that cannot go on, giving back what was submitted.
    fn fail(&mut self, key: Operation, failure: Failure, completions: &mut Vec<Completion>) {
        let Some((operation, closing)) = self.take(key) else { return };
        let event = match operation.kind {
            Kind::Accept => Event::AcceptEnded(failure),
            Kind::ReceiveInto(block) => Event::ReceivedInto { block, result: Err(failure) },
            Kind::SendFile(send) => Event::FileSent { range: send.range, result: Err(failure) },
            Kind::ShutDown => Event::ShutDown(Err(failure)),
            Kind::Close { .. } => unreachable!("a close cannot fail"),
        };
        completions.push(Completion { token: operation.token, event });
        if closing {
            self.close_joined(operation.socket, completions);
        }
    }

    /// Ends a repeating receive, and the close of its socket if that waited for it.
    fn end_receive(
        &mut self,
        key: Operation,
        result: Result<(), Failure>,
        completions: &mut Vec<Completion>,
    ) {
        let socket = socket_of(key);
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        debug_assert_eq!(entry.receiving, Some(key));
        entry.receiving = None;
        entry.receive_parked = false;
        self.in_entries -= 1;
        completions
            .push(Completion { token: entry.receive_token, event: Event::ReceiveEnded(result) });
        if entry.closing.is_some() {
            self.close_joined(socket, completions);
        }
    }

    /// Ends a send from memory, giving back what was submitted, and the close of its socket if that
    /// waited for it.
    #[inline(always)]
    fn end_send(
        &mut self,
        key: Operation,
        result: Result<usize, Failure>,
        completions: &mut Vec<Completion>,
    ) {
        wait::make_room(completions);
        let socket = socket_of(key);
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Some(gather) = entry.gather.take() else { return };
        debug_assert_eq!(entry.sending, Some(key));
        entry.sending = None;
        self.in_entries -= 1;
        self.unsent.end(&entry.flow);
        let (token, is_closing) = (entry.send_token, entry.closing.is_some());
        if let Some(message) = entry.message.take() {
            self.keep(message);
        }
        completions.push(Completion { token, event: Event::Sent { gather, result } });
        if is_closing {
            self.close_joined(socket, completions);
        }
    }

    /// Closes a socket for good, of which that was asked, once nothing of it is in flight.
    #[cold]
    fn close_joined(&mut self, socket: Socket, completions: &mut Vec<Completion>) {
        let entry = &self.sockets[socket];
        if entry.receiving.is_some() || entry.sending.is_some() {
            return;
        }
        let Some(closing) = entry.closing else { return };
        let is_preparing = self
            .operations
            .get(closing)
            .is_none_or(|close| matches!(close.kind, Kind::Close { preparing: true, .. }));
        if is_preparing {
            return;
        }
        let Some(close) = self.operations.remove(closing) else { return };
        let Some(entry) = self.sockets.remove(socket) else { return };
        if let (Kind::Close { reset: true, .. }, Descriptor::Plain(fd)) = (&close.kind, &entry.fd) {
            // It fails only for a connection that has been reset already.
            let _ = SockRef::from(fd).set_linger(Some(Duration::ZERO));
        }
        // A direct call: the ring would save this one switch into the kernel, and cost a further
        // completion and a turn before the descriptor is free.
        self.table.close(entry.fd, &self.ring);
        completions.push(Completion { token: close.token, event: Event::Closed });
        if !self.parked_accepts.is_empty() || !self.parked_files.is_empty() {
            self.retry_at = Some(Time::ZERO);
        }
    }

    /// Keeps a message for the next send that needs one.
    fn keep(&mut self, message: Box<Message>) {
        if self.messages.len() < MESSAGES_KEPT {
            self.messages.push(message);
        }
    }
}

impl InFlight {
    fn new(token: Token, socket: Socket, kind: Kind) -> InFlight {
        InFlight { token, socket, state: State::Armed, cancelled: false, failures: 0, kind }
    }
}

/// A socket's entry, which must be open for submissions.
#[inline(always)]
fn open_socket(sockets: &mut SlotMap<Socket, Entry>, socket: Socket) -> &mut Entry {
    let entry = sockets.get_mut(socket).expect("the socket is not one of this port's");
    assert!(entry.closing.is_none(), "the socket is closed");
    entry
}

impl Entry {
    fn new(fd: Descriptor) -> Entry {
        Entry {
            fd,
            receiving: None,
            sending: None,
            closing: None,
            receive_token: Token::default(),
            receive_parked: false,
            receive_cancelled: false,
            send_token: Token::default(),
            send_cancelled: false,
            gather: None,
            message: None,
            number: 0,
            full: false,
            found_cached: 0,
            flow: Flow::new(),
        }
    }

    /// A key for the next operation that is kept here.
    #[inline]
    fn next_key(&mut self, socket: Socket, sends: u64) -> Operation {
        self.number = self.number.wrapping_add(1) & NUMBERS;
        let number = u64::from(self.number) << NUMBER_SHIFT;
        KeyData::from_ffi(socket.data().as_ffi() | OF_SOCKET | sends | number).into()
    }
}

/// Whether an operation is kept in its socket's entry.
fn is_of_socket(key: Operation) -> bool {
    key.data().as_ffi() & OF_SOCKET != 0
}

/// The socket of an operation that is kept in its entry.
#[inline]
fn socket_of(key: Operation) -> Socket {
    let besides = u64::from(u32::MAX) & !(SOCKETS_MAX as u64 - 1);
    KeyData::from_ffi(key.data().as_ffi() & !besides).into()
}

/// Submits a send from memory: plainly if it is one run of bytes, else as a message of many.
#[inline(always)]
fn arm_send(
    entry: &mut Entry,
    gather: Box<Gather>,
    key: Operation,
    ring: &mut Ring,
    kept: &mut Vec<Box<Message>>,
) {
    let (fd, flags) = entry.fd.target();
    let key = key.data().as_ffi();
    // Without MSG_WAITALL: what the peer takes is to be seen as it takes it.
    if let Some(bytes) = gather.contiguous() {
        let length = bytes.len().min(LENGTH_MAX) as u32;
        let send = opcode::Send::new(fd, bytes.as_ptr(), length).flags(libc::MSG_NOSIGNAL);
        // SAFETY: the entry has the gather, which stays where it is behind its box, until the final
        // completion.
        unsafe { ring.push(&send.build().flags(flags).user_data(key)) };
    } else {
        let send = send_message(fd, &gather, &mut entry.message, kept);
        // SAFETY: as above, and so it has the message.
        unsafe { ring.push(&send.flags(flags).user_data(key)) };
    }
    entry.gather = Some(gather);
}

/// What sends a gather that is more than one run of bytes.
#[cold]
fn send_message(
    fd: Fd,
    gather: &Gather,
    message: &mut Option<Box<Message>>,
    kept: &mut Vec<Box<Message>>,
) -> squeue::Entry {
    let message = message.get_or_insert_with(|| kept.pop().unwrap_or_else(Message::new));
    message.describe(gather);
    opcode::SendMsg::new(fd, &raw const message.header).flags(libc::MSG_NOSIGNAL as u32).build()
}

/// Bounds what the kernel may have unsent for a socket.
#[cold]
fn bound(socket: &Descriptor, share: Share, ring: &mut Ring) {
    match socket {
        Descriptor::Plain(fd) => share.set(SockRef::from(fd)),
        Descriptor::Direct(slot) => {
            let bytes = (&raw const *share.bytes()).cast();
            let (level, name) = (libc::IPPROTO_TCP as u32, libc::TCP_NOTSENT_LOWAT as u32);
            let option = opcode::SetSockOpt::new(Fixed(*slot), level, name, bytes, 4).build();
            let option = option.flags(squeue::Flags::SKIP_SUCCESS).user_data(SHARE);
            // SAFETY: the value that is read is a constant of the program.
            unsafe { ring.push(&option) };
        }
    }
}

/// Has the close of a socket without a descriptor reset its connection.
fn reset_on_close(slot: u32) -> squeue::Entry {
    static AT_ONCE: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (level, name) = (libc::SOL_SOCKET as u32, libc::SO_LINGER as u32);
    let length = size_of::<libc::linger>() as u32;
    opcode::SetSockOpt::new(Fixed(slot), level, name, (&raw const AT_ONCE).cast(), length).build()
}

fn kick(eventfd: &OwnedFd) {
    let one = 1u64;
    // SAFETY: the eight bytes are read from `one`, and the descriptor is open while this has it.
    // It fails only if its count is full, and then the port has been woken.
    let _ = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
}

/// Takes `O_NONBLOCK` off a socket that came from elsewhere.
fn make_blocking(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: no pointer is passed; the descriptor is open.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::O_NONBLOCK != 0 {
        SockRef::from(socket).set_nonblocking(false)?;
    }
    Ok(())
}

impl Implementation for Uring {
    fn now(&self) -> Time {
        self.now
    }

    fn unix_time(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn listen(&mut self, listener: Listener) -> io::Result<Socket> {
        match listener.origin {
            ListenerOrigin::Os(socket) => self.insert(socket),
            #[cfg(feature = "sim")]
            ListenerOrigin::Sim => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn adopt(&mut self, incoming: Incoming) -> io::Result<Socket> {
        match incoming.origin {
            IncomingOrigin::Os(socket) => self.insert(socket),
            #[cfg(feature = "sim")]
            IncomingOrigin::Sim(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn accept(&mut self, listener: Socket, token: Token) -> Operation {
        let operation = self.begin_receiving(listener, Kind::Accept, token);
        self.arm(operation);
        operation
    }

    fn receive(&mut self, socket: Socket, token: Token) -> Operation {
        let entry = open_socket(&mut self.sockets, socket);
        assert!(entry.receiving.is_none(), "the socket receives or accepts already");
        let operation = entry.next_key(socket, 0);
        entry.receiving = Some(operation);
        entry.receive_token = token;
        entry.receive_cancelled = false;
        self.in_entries += 1;
        self.arm_receive(operation);
        operation
    }

    fn receive_into(&mut self, socket: Socket, block: Vec<u8>, token: Token) -> Operation {
        let operation = self.begin_receiving(socket, Kind::ReceiveInto(block), token);
        self.arm(operation);
        operation
    }

    #[inline(always)]
    fn send(&mut self, socket: Socket, gather: Box<Gather>, token: Token) -> Operation {
        let entry = open_socket(&mut self.sockets, socket);
        assert!(entry.sending.is_none(), "the socket sends already");
        let held = || entry.fd.held();
        if let Some(share) = self.unsent.begin(&mut entry.flow, gather.remaining() as u64, held) {
            bound(&entry.fd, share, &mut self.ring);
        }
        let operation = entry.next_key(socket, SENDS);
        entry.sending = Some(operation);
        entry.send_token = token;
        entry.send_cancelled = false;
        self.in_entries += 1;
        arm_send(entry, gather, operation, &mut self.ring, &mut self.messages);
        operation
    }

    fn send_file(&mut self, socket: Socket, range: FileRange, token: Token) -> Operation {
        let length = range.length;
        let send = Box::new(FileSend::new(range));
        let operation = self.begin_sending(socket, Kind::SendFile(send), token);
        let entry = &mut self.sockets[socket];
        let held = || entry.fd.held();
        if let Some(share) = self.unsent.begin(&mut entry.flow, length, held) {
            bound(&entry.fd, share, &mut self.ring);
        }
        let mut queued = std::mem::take(&mut self.queued);
        self.arm_file(operation, &mut queued);
        self.queued = queued;
        operation
    }

    fn shutdown(&mut self, socket: Socket, token: Token) -> Operation {
        // A direct call that never waits. It is the last send of its connection, so a ring's entry
        // and completion would save nothing.
        let operation = self.begin_sending(socket, Kind::ShutDown, token);
        let fd = match &self.sockets[socket].fd {
            Descriptor::Plain(fd) => fd,
            Descriptor::Direct(slot) => {
                let shutdown = opcode::Shutdown::new(Fixed(*slot), libc::SHUT_WR).build();
                // SAFETY: a shutdown refers to no memory.
                unsafe { self.ring.push(&shutdown.user_data(operation.data().as_ffi())) };
                return operation;
            }
        };
        let result = SockRef::from(fd).shutdown(std::net::Shutdown::Write);
        let mut queued = std::mem::take(&mut self.queued);
        self.end(operation, Event::ShutDown(result.map_err(Failure::Io)), &mut queued);
        self.queued = queued;
        operation
    }

    fn close(&mut self, socket: Socket, reset: bool, token: Token) {
        let entry = open_socket(&mut self.sockets, socket);
        let linger = match &entry.fd {
            Descriptor::Direct(slot) if reset => Some(reset_on_close(*slot)),
            _ => None,
        };
        let kind = Kind::Close { reset, preparing: linger.is_some() };
        let close = self.operations.insert(InFlight::new(token, socket, kind));
        entry.closing = Some(close);
        let joins = [entry.receiving, entry.sending];
        if let Some(linger) = linger {
            // SAFETY: the value that is read is a constant of the program.
            unsafe { self.ring.push(&linger.user_data(close.data().as_ffi())) };
        } else if joins == [None, None] {
            let mut queued = std::mem::take(&mut self.queued);
            self.close_joined(socket, &mut queued);
            self.queued = queued;
        }
        joins.into_iter().flatten().for_each(|operation| self.cancel(operation));
    }

    #[inline]
    fn give_back(&mut self, lease: Lease) {
        self.blocks.reclaim(lease);
    }

    fn cancel(&mut self, operation: Operation) {
        if is_of_socket(operation) {
            return self.cancel_of_socket(operation);
        }
        let Some(in_flight) = self.operations.get_mut(operation) else { return };
        if in_flight.cancelled {
            return;
        }
        in_flight.cancelled = true;
        if in_flight.state == State::Armed {
            self.push_cancel(operation);
        } else {
            let mut queued = std::mem::take(&mut self.queued);
            self.fail(operation, Failure::Cancelled, &mut queued);
            self.queued = queued;
        }
    }

    fn wait(&mut self, completions: &mut Vec<Completion>, until: Option<Time>) -> io::Result<()> {
        self.turn(completions, until)
    }

    fn counters(&mut self) -> Counters {
        let parked = |keys: &mut dyn Iterator<Item = &Operation>| {
            keys.filter(|key| self.is_in_flight(**key)).count()
        };
        let parked_receives = parked(&mut self.parked_receives.iter());
        let parked_accepts = parked(&mut self.parked_accepts.iter());
        let (receive_blocks, leased_blocks) = self.blocks.counts();
        Counters {
            sockets: self.sockets.len(),
            operations: self.operations.len() + self.in_entries,
            receive_blocks,
            leased_blocks,
            parked_receives,
            parked_accepts,
            waits: self.ring.enters,
        }
    }
}

impl Uring {
    fn insert(&mut self, socket: socket2::Socket) -> io::Result<Socket> {
        let fd = OwnedFd::from(socket);
        // The first slot of the table is never used.
        if self.sockets.len() + 1 >= SOCKETS_MAX {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        make_blocking(&fd)?;
        Ok(self.sockets.insert(Entry::new(self.table.place(fd, &self.ring))))
    }

    fn cancel_of_socket(&mut self, operation: Operation) {
        let Some(entry) = self.sockets.get_mut(socket_of(operation)) else { return };
        let cancelled = if entry.receiving == Some(operation) {
            &mut entry.receive_cancelled
        } else if entry.sending == Some(operation) {
            &mut entry.send_cancelled
        } else {
            return;
        };
        if std::mem::replace(cancelled, true) {
            return;
        }
        if entry.receiving == Some(operation) && entry.receive_parked {
            let mut queued = std::mem::take(&mut self.queued);
            self.end_receive(operation, Err(Failure::Cancelled), &mut queued);
            self.queued = queued;
        } else {
            self.push_cancel(operation);
        }
    }
}
