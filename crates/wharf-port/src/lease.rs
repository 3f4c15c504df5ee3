//! The pool of receive blocks and the leases on them.
//!
//! A pool belongs to one port's thread, which takes blocks out of it. Leases may be dropped on any
//! thread; the last one on a block returns it through a lock-free list that the port's thread
//! empties as a whole. What a block is received from, and what its bytes mean, is not known here.
//!
//! ```text
//!   free (port's thread) ──take──► at the backend ──lease──► leased (any thread)
//!      ▲                              │                          │ last drop
//!      ├──────────give back───────────┘                          ▼
//!      └───────────────collect (port's thread)◄───── returned (lock-free list)
//! ```

use std::alloc::{self, Layout};
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, RangeBounds};
use std::ptr::{self, NonNull};

use crate::Waker;
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, OnceLock, Ordering};

/// A view of received bytes, in the block that they were received into.
///
/// Clones share the block; the block returns to its pool when the last of them is dropped, on
/// whatever thread that happens. A lease that is still held when its port is gone stays valid.
pub struct Lease {
    slot: NonNull<Slot>,
    start: u32,
    len: u32,
}

/// One block's administration. Never moves while its pool lives.
struct Slot {
    /// Leases on this block.
    refs: AtomicU32,
    /// The block's number in its pool.
    index: u32,
    /// The block's bytes; `Shared::block_len` of them.
    data: NonNull<u8>,
    shared: NonNull<Shared>,
    /// The next slot in the list of returned ones. Written by the returner before it publishes.
    next: UnsafeCell<*mut Slot>,
}

/// What the pool and the leases on its blocks have in common.
struct Shared {
    /// The list of returned slots; `STARVING` for an empty one whose next return wakes the port;
    /// or `CLOSED` once the pool is gone.
    returned: AtomicPtr<Slot>,
    /// Set before the list is ever `STARVING`.
    waker: OnceLock<Waker>,
    /// One for the pool itself, one for each block. Who takes the last one frees everything.
    alive: AtomicUsize,
    block_len: usize,
    /// Written by the port's thread only, and by whoever frees everything.
    chunks: UnsafeCell<Vec<Chunk>>,
}

/// A run of blocks allocated together.
struct Chunk {
    /// The allocation; the first block begins at its first page.
    memory: NonNull<u8>,
    layout: Layout,
    /// A leaked box, so that the leases' pointers into it stay valid.
    slots: NonNull<[Slot]>,
}

/// The mark of a closed pool: an address that no slot has.
const CLOSED: *mut Slot = ptr::without_provenance_mut(usize::MAX);
/// The mark of an empty list that the port's thread sleeps on.
const STARVING: *mut Slot = ptr::without_provenance_mut(usize::MAX - 1);
/// Blocks allocated at a time.
const CHUNK_BLOCKS: usize = 64;
const PAGE: usize = 4096;

/// The receive blocks of one port.
pub(crate) struct Pool {
    shared: NonNull<Shared>,
    /// Blocks to take, last in, first out: the block used last is the one still in the cache.
    free: Vec<u32>,
    /// Every slot by its number.
    slots: Vec<NonNull<Slot>>,
    max_blocks: usize,
}

impl Pool {
    /// A pool that begins with `blocks` blocks of `block_len` bytes and grows to `max_blocks`.
    pub(crate) fn new(block_len: usize, blocks: usize, max_blocks: usize) -> Pool {
        assert!(block_len > 0 && u32::try_from(block_len).is_ok() && blocks <= max_blocks);
        let shared = Box::new(Shared {
            returned: AtomicPtr::new(ptr::null_mut()),
            waker: OnceLock::new(),
            alive: AtomicUsize::new(1),
            block_len,
            chunks: UnsafeCell::new(Vec::new()),
        });
        let shared = NonNull::from(Box::leak(shared));
        let mut pool = Pool { shared, free: Vec::new(), slots: Vec::new(), max_blocks };
        while pool.slots.len() < blocks {
            pool.grow();
        }
        pool
    }

    fn shared(&self) -> &Shared {
        // SAFETY: `alive` holds one for this pool until its drop, so `shared` is not freed.
        unsafe { self.shared.as_ref() }
    }

    pub(crate) fn block_len(&self) -> usize {
        self.shared().block_len
    }

    /// Blocks that exist, whoever has them.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Blocks that could be taken now without growing.
    pub(crate) fn free(&mut self) -> usize {
        self.collect();
        self.free.len()
    }

    /// Takes a block, growing the pool if it must and may. None: exhausted, try when leases are
    /// back.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            self.collect();
        }
        if self.free.is_empty() {
            self.grow();
        }
        self.free.pop()
    }

    /// Makes the next block that is returned, on whatever thread, wake `waker`. False: some are
    /// back already, so [collect](Pool::collect) them and do not sleep.
    ///
    /// For a port that is about to sleep while receives wait for a block. The mark is the list's
    /// own empty value, so that a return can neither miss it nor pays for it in other times.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn starve(&self, waker: &Waker) -> bool {
        let shared = self.shared();
        shared.waker.get_or_init(|| waker.clone());
        match shared.returned.compare_exchange(
            ptr::null_mut(),
            STARVING,
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            Ok(_) => true,
            Err(head) => head == STARVING,
        }
    }

    /// Gives back a block that was taken and not leased.
    pub(crate) fn give_back(&mut self, index: u32) {
        self.free.push(index);
    }

    /// Takes a block back from its lease, if that is its only one; else drops the lease. On the pool's
    /// own thread that needs nothing that other threads could see.
    #[inline(always)]
    pub(crate) fn reclaim(&mut self, lease: Lease) {
        let slot = lease.slot();
        if slot.shared == self.shared && slot.refs.load(Ordering::Acquire) == 1 {
            self.free.push(slot.index);
            std::mem::forget(lease);
        }
    }

    /// The bytes of a block that was taken and is not leased, for the backend to receive into.
    pub(crate) fn data(&self, index: u32) -> NonNull<u8> {
        // SAFETY: slots live as long as `shared`, which this pool keeps alive.
        unsafe { self.slots[index as usize].as_ref() }.data
    }

    /// Leases the first `len` bytes of a taken block.
    ///
    /// # Safety
    /// `index` was taken and is not leased; its first `len` bytes are initialised, and nobody
    /// writes to the block until it is taken again.
    pub(crate) unsafe fn lease(&mut self, index: u32, len: usize) -> Lease {
        assert!(len <= self.block_len());
        let slot = self.slots[index as usize];
        // SAFETY: slots live as long as `shared`, which this pool keeps alive.
        unsafe { slot.as_ref() }.refs.store(1, Ordering::Relaxed);
        Lease { slot, start: 0, len: len as u32 }
    }

    /// Moves the returned blocks to the free ones.
    pub(crate) fn collect(&mut self) {
        let returned = &self.shared().returned;
        let head = returned.load(Ordering::Relaxed);
        if head.is_null() || head == STARVING {
            return;
        }
        // Acquire: the uses of the blocks happened before their return.
        let first = returned.swap(ptr::null_mut(), Ordering::Acquire);
        self.take_list(first);
    }

    fn take_list(&mut self, mut at: *mut Slot) {
        while let Some(slot) = NonNull::new(at) {
            // SAFETY: a slot in the list is a slot of this pool, alive as long as `shared`.
            let slot = unsafe { slot.as_ref() };
            self.free.push(slot.index);
            // SAFETY: the returner wrote `next` before it published the slot and is done with it.
            at = unsafe { *slot.next.get() };
        }
    }

    fn grow(&mut self) {
        let first = self.slots.len();
        let count = CHUNK_BLOCKS.min(self.max_blocks - first);
        if count == 0 {
            return;
        }
        let block_len = self.block_len();
        // Aligned by hand: an allocator that is asked for alignment writes the zeros itself, and so
        // touches pages that may never be used, where it could have fresh ones from the system.
        let Ok(layout) = Layout::array::<u8>(block_len * count + PAGE) else { return };
        // SAFETY: the layout's size is not zero: both factors are positive.
        let memory = unsafe { alloc::alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else { return };
        let skip = memory.addr().get().next_multiple_of(PAGE) - memory.addr().get();
        // SAFETY: `skip < PAGE`, which the allocation is longer by.
        let data = unsafe { memory.add(skip) };
        let slots: Box<[Slot]> = (0..count)
            .map(|i| Slot {
                refs: AtomicU32::new(0),
                index: (first + i) as u32,
                // SAFETY: `i < count`, so the block begins inside the chunk's allocation.
                data: unsafe { data.add(i * block_len) },
                shared: self.shared,
                next: UnsafeCell::new(ptr::null_mut()),
            })
            .collect();
        let slots = Box::leak(slots);
        self.slots.extend(slots.iter().map(NonNull::from));
        // So that blocks come back without an allocation, however many at a time.
        self.free.reserve(self.slots.len() - self.free.len());
        // The block with the lowest number is taken first.
        self.free.extend((first..first + count).rev().map(|index| index as u32));
        self.shared().alive.fetch_add(count, Ordering::Relaxed);
        // SAFETY: only the port's thread touches `chunks` while the pool lives.
        let chunks = unsafe { &mut *self.shared().chunks.get() };
        chunks.push(Chunk { memory, layout, slots: NonNull::from(slots) });
    }

    /// Closes the pool when `at_backend` blocks, which nobody uses any more, were still taken.
    /// Frees the memory now, or with the last lease.
    pub(crate) fn close(mut self, at_backend: usize) {
        let first = self.shared().returned.swap(CLOSED, Ordering::AcqRel);
        if first != STARVING {
            self.take_list(first);
        }
        let gone = 1 + self.free.len() + at_backend;
        let shared = self.shared;
        // SAFETY: `gone` counts this pool, which ends here, and blocks that no lease refers to.
        unsafe { Shared::release(shared, gone) };
    }
}

impl Shared {
    /// Takes `count` from `alive` and frees everything with the last one.
    ///
    /// # Safety
    /// The caller gives up `count` of what `alive` counts and uses `shared` no more.
    unsafe fn release(shared: NonNull<Shared>, count: usize) {
        // SAFETY: `alive` still holds what the caller gives up, so `shared` is not freed.
        let alive = &unsafe { shared.as_ref() }.alive;
        if alive.fetch_sub(count, Ordering::Release) == count {
            // A fence would do, but the thread sanitizer does not see fences.
            alive.load(Ordering::Acquire);
            // SAFETY: nobody else is left; `shared` came from a leaked box.
            let shared = unsafe { Box::from_raw(shared.as_ptr()) };
            for chunk in shared.chunks.into_inner() {
                // SAFETY: the chunk was allocated with this layout; no lease is left.
                unsafe { alloc::dealloc(chunk.memory.as_ptr(), chunk.layout) };
                // SAFETY: the slots came from a leaked box; no lease is left.
                drop(unsafe { Box::from_raw(chunk.slots.as_ptr()) });
            }
        }
    }
}

// SAFETY: a lease only reads bytes that nobody writes while it exists, its count is atomic, and
// its return is a lock-free list made for any thread.
unsafe impl Send for Lease {}
// SAFETY: as for Send; `&Lease` gives nothing but reads and clones.
unsafe impl Sync for Lease {}

impl Lease {
    fn slot(&self) -> &Slot {
        // SAFETY: `alive` counts this lease's block, so its slot is not freed.
        unsafe { self.slot.as_ref() }
    }

    /// Drops the first `count` bytes from this view.
    ///
    /// # Panics
    /// If the view is shorter.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len as usize, "advanced past the end of a lease");
        self.start += count as u32;
        self.len -= count as u32;
    }

    /// Another view of a part of this one's bytes, without a copy.
    ///
    /// # Panics
    /// If the range lies outside.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Lease {
        let len = self.len as usize;
        let start = match range.start_bound() {
            std::ops::Bound::Included(&start) => start,
            std::ops::Bound::Excluded(&start) => start + 1,
            std::ops::Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            std::ops::Bound::Included(&end) => end + 1,
            std::ops::Bound::Excluded(&end) => end,
            std::ops::Bound::Unbounded => len,
        };
        assert!(start <= end && end <= len, "a slice outside of its lease");
        let mut slice = self.clone();
        slice.start += start as u32;
        slice.len = (end - start) as u32;
        slice
    }

    /// The bytes for writing (to decrypt in place, say), if no other lease shares the block.
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        if self.slot().refs.load(Ordering::Acquire) != 1 {
            return None;
        }
        let data = self.slot().data;
        // SAFETY: the view lies inside the block.
        let first = unsafe { data.add(self.start as usize) };
        // SAFETY: the bytes are initialised, and this is the block's only lease, borrowed mutably.
        Some(unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), self.len as usize) })
    }
}

impl Deref for Lease {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let data = self.slot().data.as_ptr();
        // SAFETY: `start + len` never exceeds the initialised part of the block.
        let first = unsafe { data.add(self.start as usize) };
        // SAFETY: as above, and nobody writes to a leased block.
        unsafe { std::slice::from_raw_parts(first, self.len as usize) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Clone for Lease {
    fn clone(&self) -> Lease {
        let before = self.slot().refs.fetch_add(1, Ordering::Relaxed);
        // A lease is 16 bytes, so this many cannot be alive; only leaked ones can get here.
        assert!(before < u32::MAX / 2, "too many leases on one block");
        Lease { slot: self.slot, start: self.start, len: self.len }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let slot = self.slot();
        // The only lease needs no exchange: nobody else can clone or drop it meanwhile.
        if slot.refs.load(Ordering::Acquire) != 1 {
            if slot.refs.fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            slot.refs.load(Ordering::Acquire);
        }
        // SAFETY: `alive` counts this block until it is released below.
        let shared = unsafe { slot.shared.as_ref() };
        let mut head = shared.returned.load(Ordering::Relaxed);
        loop {
            if head == CLOSED {
                // SAFETY: this was the block's last lease, and the pool does not count it.
                return unsafe { Shared::release(slot.shared, 1) };
            }
            // Cloned before the block is published: from then on the pool may close and be freed.
            let starving = head == STARVING;
            let waker = if starving { shared.waker.get().cloned() } else { None };
            let next = if starving { ptr::null_mut() } else { head };
            // SAFETY: the last lease is gone, so the slot is this thread's until published.
            unsafe { *slot.next.get() = next };
            match shared.returned.compare_exchange_weak(
                head,
                self.slot.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                    return;
                }
                Err(now) => head = now,
            }
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} bytes of block {})", self.len, self.slot().index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a block, writes `bytes` to it and leases them, as a backend does.
    fn lease(pool: &mut Pool, bytes: &[u8]) -> Option<Lease> {
        let index = pool.take()?;
        let data = pool.data(index);
        // SAFETY: the block was just taken and is at least as long as `bytes`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), data.as_ptr(), bytes.len()) };
        // SAFETY: the bytes were just written and the block is taken.
        Some(unsafe { pool.lease(index, bytes.len()) })
    }

    #[test]
    fn blocks_come_back_last_in_first_out_and_the_pool_is_bounded() {
        let mut pool = Pool::new(64, 2, 2);
        let first = lease(&mut pool, b"first").unwrap();
        let second = lease(&mut pool, b"second").unwrap();
        assert!(lease(&mut pool, b"third").is_none(), "beyond the bound");
        let (at, shared) = (first.as_ptr(), first.clone());
        drop(first);
        assert!(lease(&mut pool, b"third").is_none(), "still shared");
        drop(shared);
        let third = lease(&mut pool, b"third").unwrap();
        assert_eq!(third.as_ptr(), at);
        assert_eq!((&*third, &*second), (&b"third"[..], &b"second"[..]));
        drop((second, third));
        assert_eq!(pool.free(), 2);
        pool.close(0);
    }

    #[test]
    fn a_pool_takes_back_at_once_what_is_its_own_and_nobody_shares() {
        let (mut pool, mut other) = (Pool::new(64, 1, 1), Pool::new(64, 1, 1));
        let whole = lease(&mut pool, b"whole").unwrap();
        pool.reclaim(whole);
        assert_eq!(pool.free.len(), 1);
        let first = lease(&mut pool, b"shared").unwrap();
        let second = first.slice(2..);
        pool.reclaim(first);
        assert!(pool.take().is_none(), "still shared");
        assert_eq!(&*second, b"ared");
        other.reclaim(second);
        assert_eq!((other.free.len(), pool.free.len()), (1, 0), "of the other pool");
        assert_eq!(pool.free(), 1);
        pool.close(0);
        other.close(0);
    }

    #[test]
    fn views_share_one_block() {
        let mut pool = Pool::new(64, 1, 1);
        let mut whole = lease(&mut pool, b"GET / HTTP/1.1").unwrap();
        assert_eq!(whole.get_mut().map(|bytes| bytes.len()), Some(14));
        let path = whole.slice(4..5);
        assert!(whole.get_mut().is_none(), "shared bytes are not writable");
        assert_eq!(&*path, b"/");
        assert_eq!(path.as_ptr(), whole[4..].as_ptr());
        whole.advance(6);
        assert_eq!(&*whole, b"HTTP/1.1");
        pool.close(0);
        assert_eq!(&*path, b"/", "a lease outlives its pool");
    }

    #[test]
    fn every_block_returns_whatever_thread_drops_it() {
        let mut pool = Pool::new(8, 0, 256);
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::channel::<Lease>();
            let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
            for _ in 0..3 {
                let receiver = receiver.clone();
                scope.spawn(move || {
                    loop {
                        let Ok(lease) = receiver.lock().unwrap().recv() else { return };
                        let other = lease.clone();
                        assert_eq!(&*lease, &*other);
                    }
                });
            }
            let mut made = 0u64;
            while made < 20_000 {
                match lease(&mut pool, &made.to_le_bytes()) {
                    Some(lease) => {
                        sender.send(lease).unwrap();
                        made += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        assert_eq!(pool.free(), pool.len());
        pool.close(0);
    }

    #[test]
    fn a_return_to_a_starving_pool_wakes_the_port_once() {
        let wakes = std::sync::Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        let waker = Waker::new(move || _ = counter.fetch_add(1, Ordering::SeqCst));
        let mut pool = Pool::new(64, 3, 3);
        let held: Vec<Lease> = (0..3).map(|_| lease(&mut pool, b"held").unwrap()).collect();
        assert!(pool.starve(&waker) && waker.about_to_sleep());
        assert!(pool.starve(&waker), "asked again, still nothing is back");
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
        std::thread::spawn(move || drop(held)).join().unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 1, "the first of three returns wakes");
        assert!(!pool.starve(&waker), "blocks are back, so nobody may sleep");
        assert_eq!(pool.free(), 3);
        assert!(pool.starve(&waker));
        assert_eq!(pool.free(), 3);
        pool.close(0);
    }

    #[test]
    fn the_last_lease_frees_a_closed_pool_from_another_thread() {
        let mut pool = Pool::new(32, 4, 4);
        let held: Vec<Lease> = (0..4).map(|_| lease(&mut pool, b"held").unwrap()).collect();
        let threads: Vec<_> = held
            .into_iter()
            .map(|lease| std::thread::spawn(move || assert_eq!(&*lease, b"held")))
            .collect();
        pool.close(0);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
