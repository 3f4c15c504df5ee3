//! Sockets by descriptor, or by their place in a table of the ring's own.
//!
//! A process may have so many descriptors, and a server so many connections. Beyond a number that
//! the [`Config`](crate::Config) gives, a connection moves into the ring's table of *direct
//! descriptors*, which counts against no limit of the process: its descriptor is closed, and
//! operations name its slot. What needs a descriptor, a file's bytes being sent, has one installed
//! again first.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use io_uring::squeue;
use io_uring::types::Fd;

use super::ring::Ring;
use crate::unsent;

/// Empties a slot.
const NOTHING: RawFd = -1;

pub(super) enum Descriptor {
    Plain(OwnedFd),
    /// A slot of the ring's table.
    Direct(u32),
}

impl Descriptor {
    /// What an entry names the socket by, and the flags that say so.
    #[inline]
    pub(super) fn target(&self) -> (Fd, squeue::Flags) {
        match self {
            Descriptor::Plain(fd) => (Fd(fd.as_raw_fd()), squeue::Flags::empty()),
            // Slots are fewer than 2^31.
            Descriptor::Direct(slot) => (Fd(*slot as RawFd), squeue::Flags::FIXED_FILE),
        }
    }

    /// How many of the bytes sent by the socket its peer has not taken. Of a slot nobody says it
    /// at once.
    pub(super) fn held(&self) -> Option<u32> {
        match self {
            Descriptor::Plain(fd) => unsent::held(fd.as_fd()),
            Descriptor::Direct(_) => None,
        }
    }
}

/// The slots of the ring's table.
pub(super) struct Table {
    /// Slots that the table is to have. 0: there is none.
    slots: u32,
    is_open: bool,
    /// Slots from here on were never used.
    fresh: u32,
    /// Used before and empty, to be used again last in, first out.
    free: Vec<u32>,
    /// Sockets that the port holds by descriptors.
    pub(super) plain: usize,
    /// Beyond so many of them, slots are used.
    plain_max: usize,
}

impl Table {
    pub(super) fn new(slots: u32, plain_max: usize) -> Table {
        let slots = slots.min(i32::MAX as u32);
        Table { slots, is_open: false, fresh: 0, free: Vec::new(), plain: 0, plain_max }
    }

    /// Moves a socket into the table, if it is time for that and there is room.
    pub(super) fn place(&mut self, fd: OwnedFd, ring: &Ring) -> Descriptor {
        if self.plain >= self.plain_max
            && self.open(ring)
            && let Some(slot) = self.take_slot()
        {
            match ring.registrar().register_files_update(slot, &[fd.as_raw_fd()]) {
                Ok(1) => return Descriptor::Direct(slot),
                _ => self.free.push(slot),
            }
        }
        self.plain += 1;
        Descriptor::Plain(fd)
    }

    /// Makes the table when it is needed for the first time.
    fn open(&mut self, ring: &Ring) -> bool {
        if !self.is_open && self.slots > 0 {
            match ring.registrar().register_files_sparse(self.slots) {
                Ok(()) => self.is_open = true,
                Err(error) => {
                    tracing::warn!(%error, "the ring gets no table of {} sockets", self.slots);
                    self.slots = 0;
                }
            }
        }
        self.is_open
    }

    fn take_slot(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let slot = self.fresh;
            (slot < self.slots).then(|| {
                self.fresh += 1;
                slot
            })
        })
    }

    /// A socket has left its slot for `fd`.
    pub(super) fn installed(&mut self, descriptor: &mut Descriptor, fd: OwnedFd, ring: &Ring) {
        self.plain += 1;
        if let Descriptor::Direct(slot) = std::mem::replace(descriptor, Descriptor::Plain(fd)) {
            self.empty(slot, ring);
        }
    }

    /// Closes a socket.
    pub(super) fn close(&mut self, descriptor: Descriptor, ring: &Ring) {
        match descriptor {
            Descriptor::Plain(fd) => {
                self.plain -= 1;
                drop(fd);
            }
            Descriptor::Direct(slot) => self.empty(slot, ring),
        }
    }

    fn empty(&mut self, slot: u32, ring: &Ring) {
        match ring.registrar().register_files_update(slot, &[NOTHING]) {
            Ok(_) => self.free.push(slot),
            // The slot is lost, and its socket is open until the ring is closed.
            Err(error) => tracing::error!(%error, "a slot could not be emptied"),
        }
    }
}
