//! The receive blocks that the kernel may choose from: a provided buffer ring over the pool.
//!
//! Only a few blocks lie in the ring at a time, those used last, so that they stay in the cache;
//! the count grows when the kernel found the ring empty.

use std::alloc::{self, Layout};
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::{Ring, refused};
use crate::lease::Pool;
use crate::{Config, Lease, Waker};

/// The one buffer group.
pub(super) const GROUP: u16 = 0;
/// Entries at most: the kernel's own bound, which also makes every block's number fit 16 bits.
const ENTRIES_MAX: usize = 1 << 15;
/// Blocks kept in the ring at first.
const PROVIDED_AT_FIRST: u32 = 64;
const PAGE: usize = 4096;

pub(super) struct Blocks {
    pool: ManuallyDrop<Pool>,
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    /// Where the next entry is written; the kernel sees it when it is published.
    tail: u16,
    /// Blocks in the ring. Invariant: `provided <= target <= entries`.
    provided: u32,
    /// Blocks wanted in the ring.
    target: u32,
}

impl Blocks {
    /// The pool, and its ring registered with the kernel.
    pub(super) fn open(ring: &Ring, config: &Config) -> io::Result<Blocks> {
        let max = config.receive_blocks_max.max(1).next_power_of_two().min(ENTRIES_MAX);
        let layout = Layout::from_size_align(max * size_of::<BufRingEntry>(), PAGE)
            .map_err(io::Error::other)?;
        // SAFETY: the layout's size is not zero.
        let entries = unsafe { alloc::alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(entries.cast::<BufRingEntry>()) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let address = entries.as_ptr() as u64;
        // SAFETY: the memory is page-aligned, as long as said, and freed only by `close`, after the
        // ring was unregistered.
        let registered =
            unsafe { ring.registrar().register_buf_ring_with_flags(address, max as u16, GROUP, 0) };
        if let Err(error) = registered {
            // SAFETY: allocated above with this layout; the kernel did not take it.
            unsafe { alloc::dealloc(entries.as_ptr().cast(), layout) };
            return Err(refused("io_uring_register refused a ring of receive buffers", error));
        }
        let pool =
            Pool::new(config.receive_block_bytes.max(1), config.receive_blocks.min(max), max);
        let mut blocks = Blocks {
            pool: ManuallyDrop::new(pool),
            entries,
            layout,
            mask: (max - 1) as u16,
            tail: 0,
            provided: 0,
            target: PROVIDED_AT_FIRST.min(max as u32),
        };
        blocks.top_up();
        Ok(blocks)
    }

    /// Fills the ring up to the count that is wanted, or as far as the pool goes.
    #[inline]
    pub(super) fn top_up(&mut self) {
        if self.provided < self.target {
            self.provide();
        }
    }

    fn provide(&mut self) {
        let len = self.pool.block_len() as u32;
        while self.provided < self.target {
            let Some(index) = self.pool.take() else { break };
            let address = self.pool.data(index).as_ptr() as u64;
            // SAFETY: `tail & mask` is less than the count of entries.
            let mut entry = unsafe { self.entries.add(usize::from(self.tail & self.mask)) };
            // SAFETY: the kernel reads entries before the published tail only, and this one lies
            // behind it: no more are provided than the ring holds.
            let entry = unsafe { entry.as_mut() };
            entry.set_addr(address);
            entry.set_len(len);
            entry.set_bid(index as u16);
            self.tail = self.tail.wrapping_add(1);
            self.provided += 1;
        }
        // SAFETY: the ring's first entry exists.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail lives as long as the ring, is aligned, and is shared as an atomic.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the kernel sees the entries before it sees the tail.
        tail.store(self.tail, Ordering::Release);
    }

    /// The kernel found the ring empty: keep more in it, if the pool has more.
    pub(super) fn was_empty(&mut self) {
        if self.provided < self.target {
            self.provide();
        }
        let all = u32::from(self.mask) + 1;
        if self.provided == self.target && self.target < all {
            self.target *= 2;
            self.provide();
        }
    }

    /// Leases a block that the kernel received `len` bytes into.
    #[inline]
    pub(super) fn lease(&mut self, index: u16, len: usize) -> Lease {
        self.provided -= 1;
        // SAFETY: the kernel took this block out of the ring and is done with it: it has written
        // `len` bytes, and pool memory is initialised from the start.
        unsafe { self.pool.lease(u32::from(index), len) }
    }

    /// Takes a block back from its lease.
    #[inline]
    pub(super) fn reclaim(&mut self, lease: Lease) {
        self.pool.reclaim(lease);
    }

    /// Takes back a block that the kernel took out of the ring for nothing.
    pub(super) fn give_back(&mut self, index: u16) {
        self.provided -= 1;
        self.pool.give_back(u32::from(index));
    }

    /// Blocks that the kernel can receive into now.
    pub(super) fn provided(&self) -> usize {
        self.provided as usize
    }

    /// Blocks that exist and blocks under lease.
    pub(super) fn counts(&mut self) -> (usize, usize) {
        let (all, free) = (self.pool.len(), self.pool.free());
        (all, all - free - self.provided())
    }

    /// Makes the next block's return wake `waker`. False: blocks are back already.
    pub(super) fn starve(&self, waker: &Waker) -> bool {
        self.pool.starve(waker)
    }

    /// Unregisters the ring and closes the pool, when no receive is in flight any more.
    pub(super) fn close(&mut self, ring: &Ring) {
        // Only a denied system call can fail it, and then the ring's end does it.
        let gone = ring.registrar().unregister_buf_ring(GROUP).is_ok();
        // SAFETY: `close` is called once, by the port's drop, which uses the pool no more.
        let pool = unsafe { ManuallyDrop::take(&mut self.pool) };
        pool.close(self.provided as usize);
        if gone {
            // SAFETY: allocated by `open` with this layout, and the kernel has let go of it.
            unsafe { alloc::dealloc(self.entries.as_ptr().cast(), self.layout) };
        }
    }
}
