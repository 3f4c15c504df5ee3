//! Sends: gathered blocks, ranges of files, and the end of the stream.

use std::io;
use std::net::Shutdown;
use std::ptr;

use windows_sys::Win32::Networking::WinSock::WSABUF;

use super::{Iocp, Kind, Ready, system};
use crate::{FileRange, Gather, Operation, Socket, Token};

/// Slices that one call sends at most.
const SLICES_MAX: usize = 64;
/// Bytes that one call sends at most. A call completes as a whole, so with a slow peer this is the
/// grain at which its progress shows; and the kernel may lock all of it meanwhile.
const SEND_BYTES_MAX: usize = 1 << 20;
/// Bytes of a file that one call sends at most. More than of blocks: the next call begins only
/// when the peer has confirmed these.
const FILE_BYTES_MAX: u64 = 4 << 20;
const NOTHING: WSABUF = WSABUF { len: 0, buf: ptr::null_mut() };

impl Iocp {
    pub(super) fn begin_send(
        &mut self,
        socket: Socket,
        gather: Box<Gather>,
        token: Token,
    ) -> Operation {
        let operation = self.begin_sending(socket, token, Kind::Send(gather));
        let place = self.places.take(operation, 0);
        let Kind::Send(gather) = &self.operations[operation].kind else {
            unreachable!("inserted above");
        };
        let mut list = [NOTHING; SLICES_MAX];
        let buffers = list_slices(gather, &mut list);
        let endpoint = &self.sockets[socket];
        // SAFETY: the gather is kept in `operations`, its blocks unmoved on the heap, until the
        // packet is taken, and so is the place.
        let started = unsafe { system::send(&endpoint.socket, buffers, place.overlapped()) };
        let skips = endpoint.skips;
        self.note(operation, place, skips, started);
        operation
    }

    pub(super) fn begin_send_file(
        &mut self,
        socket: Socket,
        range: FileRange,
        token: Token,
    ) -> Operation {
        let (file, offset) = (range.file.clone(), range.offset);
        // TransmitFile fails half-way when the file ends before the range does, so what is there
        // is asked first. A file that shrinks meanwhile fails the send.
        let length = file.metadata().map(|metadata| {
            metadata.len().saturating_sub(offset).min(range.length).min(FILE_BYTES_MAX)
        });
        let operation = self.begin_sending(socket, token, Kind::SendFile(Box::new(range)));
        let length = match length {
            Ok(length @ 1..) => length as u32,
            nothing => {
                let outcome = nothing.map(|_| 0);
                self.ready.push_back(Ready::Done(operation, None, outcome));
                return operation;
            }
        };
        let place = self.places.take(operation, offset);
        let endpoint = &self.sockets[socket];
        let extensions = self.extensions();
        // SAFETY: the range, with its file, is kept in `operations` until the packet is taken, and
        // so is the place.
        let started =
            unsafe { extensions.transmit(&endpoint.socket, &file, length, place.overlapped()) };
        let skips = endpoint.skips;
        self.note(operation, place, skips, started);
        operation
    }

    pub(super) fn begin_shutdown(&mut self, socket: Socket, token: Token) -> Operation {
        let operation = self.begin_sending(socket, token, Kind::ShutDown);
        let outcome: io::Result<()> = self.sockets[socket].socket.shutdown(Shutdown::Write);
        self.ready.push_back(Ready::Done(operation, None, outcome.map(|()| 0)));
        operation
    }
}

/// Lists what remains of the gather, as far as one call goes.
fn list_slices<'a>(gather: &Gather, list: &'a mut [WSABUF; SLICES_MAX]) -> &'a [WSABUF] {
    let (mut count, mut room) = (0, SEND_BYTES_MAX);
    for (slot, slice) in list.iter_mut().zip(gather.slices()) {
        if room == 0 {
            break;
        }
        let length = slice.len().min(room);
        room -= length;
        *slot = WSABUF { len: length as u32, buf: slice.as_ptr().cast_mut() };
        count += 1;
    }
    &list[..count]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(gather: &Gather) -> Vec<u32> {
        let mut list = [NOTHING; SLICES_MAX];
        list_slices(gather, &mut list).iter().map(|buffer| buffer.len).collect()
    }

    #[test]
    fn one_call_lists_no_more_than_it_may() {
        let mut gather = Gather::default();
        gather.block_mut().extend_from_slice(b"head");
        for _ in 0..2 * SLICES_MAX {
            gather.push(bytes::Bytes::from_static(b"part"));
        }
        assert_eq!(listed(&gather), vec![4; SLICES_MAX]);

        gather.clear();
        gather.block_mut().extend_from_slice(b"head");
        gather.push(vec![0; SEND_BYTES_MAX].into());
        gather.push(bytes::Bytes::from_static(b"beyond"));
        assert_eq!(listed(&gather), [4, SEND_BYTES_MAX as u32 - 4]);
    }
}
