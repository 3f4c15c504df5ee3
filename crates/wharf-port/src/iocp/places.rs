//! The OVERLAPPED structures of operations in flight, in places that never move.
//!
//! The kernel writes to a place from the call that begins an operation until its packet is taken;
//! nothing here reads or writes it meanwhile. Memory is allocated in chunks and kept for reuse,
//! last in, first out.

use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;

use windows_sys::Win32::System::IO::{OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0};

use crate::Operation;

/// Places allocated at a time.
const CHUNK_PLACES: usize = 128;

/// The memory of one operation in flight. The kernel's part comes first, so that a pointer to it
/// is one to the whole.
#[repr(C)]
struct Memory {
    overlapped: UnsafeCell<OVERLAPPED>,
    operation: Cell<Operation>,
}

/// What a place takes, for the test that adds up an idle connection.
#[cfg(test)]
pub(super) const PLACE_BYTES: usize = size_of::<Memory>();

/// One place, taken for one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(NonNull<Memory>);

impl Place {
    /// What the kernel is given.
    pub(super) fn overlapped(self) -> *mut OVERLAPPED {
        let memory: *mut OVERLAPPED = self.0.as_ptr().cast();
        memory
    }

    /// The place of a packet.
    ///
    /// # Safety
    /// `overlapped` came from [`overlapped`](Place::overlapped) of a place still taken.
    pub(super) unsafe fn of(overlapped: NonNull<OVERLAPPED>) -> Place {
        Place(overlapped.cast())
    }

    /// The operation that the place was taken for.
    pub(super) fn operation(self) -> Operation {
        // SAFETY: a chunk outlives its places, and the kernel does not write to this field.
        let operation = unsafe { &(*self.0.as_ptr()).operation };
        operation.get()
    }
}

/// All places of one port.
pub(super) struct Places {
    chunks: Vec<NonNull<[Memory]>>,
    free: Vec<Place>,
    taken: usize,
}

impl Places {
    pub(super) fn new() -> Places {
        Places { chunks: Vec::new(), free: Vec::new(), taken: 0 }
    }

    /// Places that the kernel may write to.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Takes a place for one operation, which begins at `offset` if it is one on a file.
    pub(super) fn take(&mut self, operation: Operation, offset: u64) -> Place {
        if self.free.is_empty() {
            self.grow();
        }
        let place = self.free.pop().expect("a chunk was just added");
        self.taken += 1;
        let offset = OVERLAPPED_0_0 { Offset: offset as u32, OffsetHigh: (offset >> 32) as u32 };
        let overlapped =
            OVERLAPPED { Anonymous: OVERLAPPED_0 { Anonymous: offset }, ..OVERLAPPED::default() };
        // SAFETY: the place was free, so no operation writes to it, and chunks outlive places.
        unsafe { place.overlapped().write(overlapped) };
        // SAFETY: a chunk outlives its places, and the kernel does not write to this field.
        let owner = unsafe { &(*place.0.as_ptr()).operation };
        owner.set(operation);
        place
    }

    /// Gives back the place of an operation that is complete, its packet taken, or never began.
    pub(super) fn give_back(&mut self, place: Place) {
        self.taken -= 1;
        self.free.push(place);
    }

    fn grow(&mut self) {
        let chunk: Box<[Memory]> = (0..CHUNK_PLACES)
            .map(|_| Memory {
                overlapped: UnsafeCell::new(OVERLAPPED::default()),
                operation: Cell::new(Operation::default()),
            })
            .collect();
        let chunk = NonNull::from(Box::leak(chunk));
        let first: NonNull<Memory> = chunk.cast();
        // SAFETY: the index stays inside the chunk.
        self.free.extend((0..CHUNK_PLACES).rev().map(|i| Place(unsafe { first.add(i) })));
        self.chunks.push(chunk);
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        if self.taken > 0 {
            // The kernel may still write to them: leaked memory is better than written memory.
            return;
        }
        for chunk in self.chunks.drain(..) {
            // SAFETY: the chunk came from a leaked box, and none of its places is taken.
            drop(unsafe { Box::from_raw(chunk.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_where_they_are_and_know_their_operation() {
        let mut places = Places::new();
        let mut operations = slotmap::SlotMap::<Operation, ()>::with_key();
        let taken: Vec<_> = (0..3 * CHUNK_PLACES)
            .map(|i| {
                let operation = operations.insert(());
                (operation, places.take(operation, i as u64))
            })
            .collect();
        assert_eq!(places.taken(), taken.len());
        for (operation, place) in &taken {
            let overlapped = NonNull::new(place.overlapped()).unwrap();
            // SAFETY: the pointer came from a place that is taken.
            let found = unsafe { Place::of(overlapped) };
            assert_eq!((found, found.operation()), (*place, *operation));
        }
        let last = taken.last().unwrap().1;
        taken.into_iter().for_each(|(_, place)| places.give_back(place));
        assert_eq!(places.taken(), 0);
        assert_eq!(places.take(Operation::default(), 0), last, "last in, first out");
        places.give_back(last);
    }

    #[test]
    fn a_file_offset_is_split_over_both_halves() {
        let mut places = Places::new();
        let place = places.take(Operation::default(), 0x1_2345_6789);
        // SAFETY: no operation was begun, so the place is nobody else's.
        let overlapped = unsafe { *place.overlapped() };
        // SAFETY: the offsets were written just now.
        let offset = unsafe { overlapped.Anonymous.Anonymous };
        assert_eq!((offset.Offset, offset.OffsetHigh), (0x2345_6789, 1));
        places.give_back(place);
    }
}
