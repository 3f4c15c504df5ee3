//! The system calls of the backend, each wrapped once.
//!
//! What an operation means, and who waits for it, is not known here. A call that hands memory to
//! the kernel is unsafe, and says for how long the memory must stay.

use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, AsRawSocket, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{INVALID_HANDLE_VALUE, WAIT_TIMEOUT};
use windows_sys::Win32::Networking::WinSock as winsock;
use windows_sys::Win32::Storage::FileSystem::SetFileCompletionNotificationModes;
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatusEx, OVERLAPPED, OVERLAPPED_ENTRY,
    PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::WindowsProgramming::{
    FILE_SKIP_COMPLETION_PORT_ON_SUCCESS, FILE_SKIP_SET_EVENT_ON_HANDLE,
};
use windows_sys::core::{BOOL, GUID};

/// Bytes that AcceptEx wants for each of its two addresses: the longest one and 16 more.
const ADDRESS_BYTES: usize = size_of::<winsock::SOCKADDR_STORAGE>() + 16;

/// The kernel's queue of completion packets.
#[derive(Debug)]
pub(super) struct CompletionPort(OwnedHandle);

impl CompletionPort {
    pub(super) fn new() -> io::Result<CompletionPort> {
        // One thread takes packets, so one may run.
        // SAFETY: asks for a new port; no memory is passed.
        let handle = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, 1) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just made, and nobody else has it.
        Ok(CompletionPort(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// From now on this socket's operations complete here; that cannot be undone.
    pub(super) fn associate(&self, socket: &socket2::Socket) -> io::Result<()> {
        let handle = socket.as_raw_socket() as _;
        // SAFETY: both handles are open; no memory is passed.
        let port = unsafe { CreateIoCompletionPort(handle, self.0.as_raw_handle(), 0, 0) };
        if port.is_null() { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Queues a packet that belongs to no operation.
    pub(super) fn post(&self) -> io::Result<()> {
        // SAFETY: the handle is open, and a packet without OVERLAPPED refers to no memory.
        check(unsafe { PostQueuedCompletionStatus(self.0.as_raw_handle(), 0, 0, ptr::null()) })
    }

    /// Takes as many packets as there are, or waits that long for the first. 0: none came.
    pub(super) fn take(
        &self,
        packets: &mut [OVERLAPPED_ENTRY],
        timeout_ms: u32,
    ) -> io::Result<usize> {
        let (room, mut count) = (packets.len() as u32, 0);
        // SAFETY: the handle is open, and `packets` is valid for `room` entries during the call.
        let taken = check(unsafe {
            GetQueuedCompletionStatusEx(
                self.0.as_raw_handle(),
                packets.as_mut_ptr(),
                room,
                &mut count,
                timeout_ms,
                0,
            )
        });
        match taken {
            Ok(()) => Ok(count as usize),
            Err(error) if error.raw_os_error() == Some(WAIT_TIMEOUT as i32) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// How an operation began that did not fail at once.
pub(super) enum Started {
    /// It is complete, with this many bytes. A packet comes none the less, unless the socket
    /// [skips](skip_on_success) it.
    Complete(u32),
    /// A packet will come.
    Pending,
}

/// Asks that operations which complete at once queue no packet. False: this socket's packets
/// always come.
///
/// With a layered provider whose sockets are not the kernel's own handles the option seems to
/// work but packets are lost or doubled, so such sockets are left as they are.
pub(super) fn skip_on_success(socket: &socket2::Socket) -> bool {
    let mut info = winsock::WSAPROTOCOL_INFOW::default();
    let mut length = size_of::<winsock::WSAPROTOCOL_INFOW>() as i32;
    // SAFETY: `info` is a valid place for `length` bytes during the call.
    let answer = unsafe {
        winsock::getsockopt(
            socket.as_raw_socket() as _,
            winsock::SOL_SOCKET,
            winsock::SO_PROTOCOL_INFOW,
            (&raw mut info).cast(),
            &mut length,
        )
    };
    if answer != 0 || info.dwServiceFlags1 & winsock::XP1_IFS_HANDLES == 0 {
        return false;
    }
    let modes = (FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | FILE_SKIP_SET_EVENT_ON_HANDLE) as u8;
    // SAFETY: the socket is open, and it is a handle of the kernel's own.
    unsafe { SetFileCompletionNotificationModes(socket.as_raw_socket() as _, modes) != 0 }
}

/// Receives into `length` bytes at `data`; 0 of them wait for the first byte, or the end.
///
/// # Safety
/// `data` and `overlapped` are valid, and nobody else touches them, until the operation is
/// complete.
pub(super) unsafe fn receive(
    socket: &socket2::Socket,
    data: *mut u8,
    length: u32,
    overlapped: *mut OVERLAPPED,
) -> io::Result<Started> {
    let buffer = winsock::WSABUF { len: length, buf: data };
    let (mut bytes, mut flags) = (0, 0);
    // SAFETY: the caller vouches for the data and the OVERLAPPED; the rest is read and written
    // during the call only.
    let answer = unsafe {
        winsock::WSARecv(
            socket.as_raw_socket() as _,
            &buffer,
            1,
            &mut bytes,
            &mut flags,
            overlapped,
            None,
        )
    };
    started(answer == 0, bytes)
}

/// Sends the bytes of all `buffers`.
///
/// # Safety
/// What the buffers point to and `overlapped` stay valid and unchanged until the operation is
/// complete. The list itself is the caller's again at return.
pub(super) unsafe fn send(
    socket: &socket2::Socket,
    buffers: &[winsock::WSABUF],
    overlapped: *mut OVERLAPPED,
) -> io::Result<Started> {
    let mut bytes = 0;
    // SAFETY: the caller vouches for the data and the OVERLAPPED; the rest is read and written
    // during the call only.
    let answer = unsafe {
        winsock::WSASend(
            socket.as_raw_socket() as _,
            buffers.as_ptr(),
            buffers.len() as u32,
            &mut bytes,
            0,
            overlapped,
            None,
        )
    };
    started(answer == 0, bytes)
}

/// Winsock's extension functions, asked of the provider once: called by their exported names,
/// they would be looked up anew each time.
#[derive(Clone, Copy)]
pub(super) struct Extensions {
    accept_ex: unsafe extern "system" fn(
        winsock::SOCKET,
        winsock::SOCKET,
        *mut core::ffi::c_void,
        u32,
        u32,
        u32,
        *mut u32,
        *mut OVERLAPPED,
    ) -> BOOL,
    transmit_file: unsafe extern "system" fn(
        winsock::SOCKET,
        windows_sys::Win32::Foundation::HANDLE,
        u32,
        u32,
        *mut OVERLAPPED,
        *const winsock::TRANSMIT_FILE_BUFFERS,
        u32,
    ) -> BOOL,
}

impl Extensions {
    /// The functions for `socket` and all sockets of its provider.
    pub(super) fn of(socket: &socket2::Socket) -> io::Result<Extensions> {
        let absent = || io::Error::new(io::ErrorKind::Unsupported, "Winsock lacks an extension");
        // SAFETY: the type is the one that belongs to the identifier.
        let accept_ex: winsock::LPFN_ACCEPTEX =
            unsafe { extension(socket, &winsock::WSAID_ACCEPTEX)? };
        // SAFETY: the type is the one that belongs to the identifier.
        let transmit_file: winsock::LPFN_TRANSMITFILE =
            unsafe { extension(socket, &winsock::WSAID_TRANSMITFILE)? };
        Ok(Extensions {
            accept_ex: accept_ex.ok_or_else(absent)?,
            transmit_file: transmit_file.ok_or_else(absent)?,
        })
    }

    /// Accepts a connection as `accepted`, a new socket of the listener's family.
    ///
    /// # Safety
    /// `addresses` and `overlapped` are valid, and nobody else touches them, and both sockets
    /// stay open, until the operation is complete.
    pub(super) unsafe fn accept(
        &self,
        listener: &socket2::Socket,
        accepted: &socket2::Socket,
        addresses: *mut Addresses,
        overlapped: *mut OVERLAPPED,
    ) -> io::Result<Started> {
        let mut bytes = 0;
        // SAFETY: the caller vouches for the memory and the sockets. No data is received with the
        // connection, so `addresses` has exactly the length that is told.
        let answer = unsafe {
            (self.accept_ex)(
                listener.as_raw_socket() as _,
                accepted.as_raw_socket() as _,
                addresses.cast(),
                0,
                ADDRESS_BYTES as u32,
                ADDRESS_BYTES as u32,
                &mut bytes,
                overlapped,
            )
        };
        started(answer != 0, bytes)
    }

    /// Sends `length` bytes of a file, from the offset that the OVERLAPPED holds.
    ///
    /// # Safety
    /// `overlapped` is valid, nobody else touches it, and the file stays open until the operation
    /// is complete.
    pub(super) unsafe fn transmit(
        &self,
        socket: &socket2::Socket,
        file: &File,
        length: u32,
        overlapped: *mut OVERLAPPED,
    ) -> io::Result<Started> {
        // SAFETY: the caller vouches for the OVERLAPPED and the file; no other memory is passed.
        let answer = unsafe {
            (self.transmit_file)(
                socket.as_raw_socket() as _,
                file.as_raw_handle(),
                length,
                0,
                overlapped,
                ptr::null(),
                0,
            )
        };
        match started(answer != 0, 0)? {
            // SAFETY: the caller's OVERLAPPED is of a complete operation of this socket.
            Started::Complete(_) => unsafe { outcome(socket, overlapped) }.map(Started::Complete),
            Started::Pending => Ok(Started::Pending),
        }
    }
}

/// Where AcceptEx writes the addresses of both ends. They are asked of the socket instead, but
/// it will write them.
pub(super) type Addresses = [u8; 2 * ADDRESS_BYTES];
pub(super) const NO_ADDRESSES: Addresses = [0; 2 * ADDRESS_BYTES];

/// # Safety
/// `F` is the `Option` of function pointer that belongs to `identifier`.
unsafe fn extension<F: Default>(socket: &socket2::Socket, identifier: &GUID) -> io::Result<F> {
    let (mut function, mut bytes) = (F::default(), 0);
    // SAFETY: `identifier` and `function` are valid for their lengths during the call, and what is
    // written is a pointer or null, either of which is a value of `F`.
    let answer = unsafe {
        winsock::WSAIoctl(
            socket.as_raw_socket() as _,
            winsock::SIO_GET_EXTENSION_FUNCTION_POINTER,
            ptr::from_ref(identifier).cast(),
            size_of::<GUID>() as u32,
            (&raw mut function).cast(),
            size_of::<F>() as u32,
            &mut bytes,
            ptr::null_mut(),
            None,
        )
    };
    if answer == 0 { Ok(function) } else { Err(io::Error::last_os_error()) }
}

/// The result of a complete operation, in Winsock's words.
///
/// # Safety
/// `overlapped` is valid and of an operation of this socket that is complete.
pub(super) unsafe fn outcome(
    socket: &socket2::Socket,
    overlapped: *const OVERLAPPED,
) -> io::Result<u32> {
    let (mut bytes, mut flags) = (0, 0);
    // SAFETY: the caller vouches for the OVERLAPPED; the rest is written during the call only.
    check(unsafe {
        winsock::WSAGetOverlappedResult(
            socket.as_raw_socket() as _,
            overlapped,
            &mut bytes,
            0,
            &mut flags,
        )
    })?;
    Ok(bytes)
}

/// Asks for one operation of the socket to end. It may be complete already, or complete well.
pub(super) fn cancel(socket: &socket2::Socket, overlapped: *const OVERLAPPED) {
    // SAFETY: the kernel compares the address with those of its operations and reads nothing.
    // Failure means that nothing is there to be cancelled.
    unsafe { CancelIoEx(socket.as_raw_socket() as _, overlapped) };
}

/// Makes an accepted socket a full one: before this, half of its calls fail.
pub(super) fn update_accept_context(
    accepted: &socket2::Socket,
    listener: &socket2::Socket,
) -> io::Result<()> {
    set_option(accepted, winsock::SO_UPDATE_ACCEPT_CONTEXT, &(listener.as_raw_socket() as usize))
}

/// Claims the address for this socket alone. Without it Windows lets another socket that asks for
/// `SO_REUSEADDR` take over the port of one that is listening.
pub(crate) fn set_exclusive_address_use(socket: &socket2::Socket) -> io::Result<()> {
    set_option(socket, winsock::SO_EXCLUSIVEADDRUSE, &1i32)
}

/// Windows keeps no ports for the privileged. Where `bind` says that access is denied, another
/// socket has the address for itself, or the system has reserved it.
pub(crate) fn address_in_use(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(io::ErrorKind::AddrInUse, error),
        _ => error,
    }
}

fn set_option<T: Copy>(socket: &socket2::Socket, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is valid for its length during the call.
    let answer = unsafe {
        winsock::setsockopt(
            socket.as_raw_socket() as _,
            winsock::SOL_SOCKET,
            option,
            ptr::from_ref(value).cast(),
            size_of::<T>() as i32,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn started(complete: bool, bytes: u32) -> io::Result<Started> {
    if complete {
        return Ok(Started::Complete(bytes));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(winsock::WSA_IO_PENDING) => Ok(Started::Pending),
        _ => Err(error),
    }
}

fn check(answer: BOOL) -> io::Result<()> {
    if answer != 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
