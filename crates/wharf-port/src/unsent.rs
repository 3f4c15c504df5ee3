//! What of large answers the kernel may hold without having sent it.
//!
//! The kernel takes up to the last number of `net.ipv4.tcp_wmem` for each socket, whether its peer
//! reads or not, and slows all sockets of the machine down once they hold `tcp_mem` together. A few
//! sockets may have that much: it feeds a fast peer at the least cost. Where many send much at a
//! time, whoever begins gets a share of the port's budget, so that peers that read nothing cannot
//! use up what is everybody's. For n of them the kernel then holds at most the budget times
//! 1 + ln(n / m), m being how many may have 4 MiB each, and what its own granularity adds.

#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use socket2::SockRef;

/// Who is sent so many KiB at once is sent much, and who has not taken most of the last so many.
const LARGE: u8 = 64;
/// Bytes that a peer may still have to take, and yet counts as one that takes what it is sent.
const HELD: u32 = 32 * 1024;
/// The share that need not be enforced, as a power of two: what the kernel has by default.
const SYSTEM: u8 = 22;
/// No share is smaller: below, a peer that does read would have to wait.
const LEAST: u8 = 14;

/// What a socket was sent, and what it may have unsent. An idle connection has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// KiB that were sent since it was last seen that the peer takes them.
    sent: u8,
    share: Share,
}

/// Bytes that the kernel may hold unsent for a socket, as a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(u8);

impl Share {
    /// In bytes, as the kernel has it: 0 leaves it to the system.
    pub(crate) fn bytes(self) -> &'static u32 {
        static BYTES: [u32; SYSTEM as usize + 1] = {
            let mut bytes = [0; SYSTEM as usize + 1];
            let mut at = 0;
            while at < SYSTEM {
                bytes[at as usize] = 1 << at;
                at += 1;
            }
            bytes
        };
        &BYTES[usize::from(self.0)]
    }

    /// Has the kernel hold to it. A socket that cannot is left to the system.
    pub(crate) fn set(self, socket: SockRef<'_>) {
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_notsent_lowat(*self.bytes());
        #[cfg(not(target_os = "linux"))]
        let _ = (socket, self.bytes());
    }
}

impl Flow {
    pub(crate) fn new() -> Flow {
        Flow { sent: 0, share: Share(SYSTEM) }
    }

    fn is_large(&self) -> bool {
        self.sent >= LARGE
    }
}

/// The port's budget, and who shares it.
#[derive(Debug)]
pub(crate) struct Unsent {
    budget: u64,
    /// Sends in flight to peers that are sent much.
    large: u64,
}

impl Unsent {
    pub(crate) fn new(budget: u64) -> Unsent {
        Unsent { budget, large: 0 }
    }

    /// A send of so many bytes begins. `held` says how many sent before the peer has not taken, if
    /// that can be known. Some: the socket is to be held to this share.
    #[inline(always)]
    pub(crate) fn begin(
        &mut self,
        flow: &mut Flow,
        bytes: u64,
        held: impl FnOnce() -> Option<u32>,
    ) -> Option<Share> {
        // As is worked out below, for what nearly all answers are.
        if bytes <= 1024 && flow.sent < LARGE - 1 {
            flow.sent += 1;
            return None;
        }
        let kib = bytes.div_ceil(1024).min(u64::from(u8::MAX)) as u8;
        flow.sent = flow.sent.saturating_add(kib);
        if flow.is_large() { self.begin_large(flow, kib, held()) } else { None }
    }

    #[cold]
    fn begin_large(&mut self, flow: &mut Flow, kib: u8, held: Option<u32>) -> Option<Share> {
        if held.is_some_and(|held| held <= HELD) {
            flow.sent = kib;
            if !flow.is_large() {
                return None;
            }
        }
        self.large += 1;
        let share = (self.budget / self.large).max(1).ilog2().clamp(LEAST.into(), SYSTEM.into());
        let (new, old) = (share as u8, flow.share.0);
        // What is given back a little at a time is not worth a system call each.
        if new == old || new == old + 1 {
            return None;
        }
        flow.share = Share(new);
        Some(flow.share)
    }

    /// The send that was in flight has ended.
    #[inline]
    pub(crate) fn end(&mut self, flow: &Flow) {
        if flow.is_large() {
            self.large -= 1;
        }
    }
}

/// How many of the bytes sent by this socket its peer has not taken.
pub(crate) fn held(socket: BorrowedFd<'_>) -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the number is written to `bytes`, which outlives the call (tcp(7), SIOCOUTQ).
        let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        (asked == 0).then_some(bytes as u32)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None
    }
}

/// What all ports of a process may have unsent together: a quarter of what the kernel's sockets may
/// hold before it looks at them at all.
pub(crate) fn budget() -> u64 {
    /// Where the kernel does not say.
    const DEFAULT: u64 = 256 * 1024 * 1024;
    const PAGE: u64 = 4096;
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").unwrap_or_default();
    let low = text.split_whitespace().next().and_then(|low| low.parse::<u64>().ok());
    low.map_or(DEFAULT, |pages| pages.saturating_mul(PAGE) / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// What each of so many peers that read nothing may have, one after another.
    fn shares(budget: u64, count: usize) -> Vec<u64> {
        let mut unsent = Unsent::new(budget);
        let share = |_| {
            let mut flow = Flow::new();
            unsent.begin(&mut flow, MIB, || Some(0));
            1 << flow.share.0
        };
        (0..count).map(share).collect()
    }

    #[test]
    fn a_few_are_left_to_the_system_and_many_share() {
        assert_eq!(*Share(SYSTEM).bytes(), 0);
        assert_eq!(*Share(LEAST).bytes(), 16 * 1024);
        let shares = shares(128 * MIB, 10_000);
        assert!(shares[..32].iter().all(|share| *share == 4 * MIB));
        assert_eq!(shares[63], 2 * MIB);
        assert_eq!(shares[511], MIB / 4);
        assert_eq!(shares[9_999], 16 * 1024);
    }

    #[test]
    fn all_together_have_no_more_than_is_said() {
        for count in [32usize, 100, 1_000, 5_000] {
            let all: u64 = shares(128 * MIB, count).iter().sum();
            let bound = 128.0 * (1.0 + (count as f64 / 32.0).ln());
            assert!(all as f64 / MIB as f64 <= bound + 0.1, "{count}: {all} of {bound} MiB");
        }
    }

    #[test]
    fn many_small_answers_that_nobody_reads_count_and_those_that_are_read_do_not() {
        let mut unsent = Unsent::new(MIB);
        let (mut reads, mut does_not) = (Flow::new(), Flow::new());
        let mut asked = 0;
        for sent in 0..1_000 {
            let held = || {
                asked += 1;
                Some(HELD)
            };
            unsent.begin(&mut reads, 3_000, held);
            unsent.end(&reads);
            unsent.begin(&mut does_not, 3_000, || Some(3_000 * sent));
            unsent.end(&does_not);
        }
        assert_eq!((unsent.large, reads.is_large(), does_not.is_large()), (0, false, true));
        assert_eq!((reads.share, does_not.share), (Share(SYSTEM), Share(20)));
        assert!((40..50).contains(&asked), "the kernel is asked once in 64 KiB: {asked}");
    }

    #[test]
    fn a_share_is_taken_at_once_and_given_back_when_it_is_much_more() {
        let mut unsent = Unsent::new(32 * MIB);
        let mut others = [Flow::new(); 7];
        others.iter_mut().for_each(|other| assert!(unsent.begin(other, MIB, || None).is_none()));
        let mut more = [Flow::new(); 8];
        let mut flow = Flow::new();
        assert_eq!(unsent.begin(&mut flow, MIB, || None), None, "one of eight");
        unsent.end(&flow);
        more.iter_mut().for_each(|other| {
            unsent.begin(other, MIB, || None);
        });
        assert_eq!(unsent.begin(&mut flow, MIB, || None), Some(Share(21)), "one of sixteen");
        unsent.end(&flow);
        more.iter().for_each(|other| unsent.end(other));
        assert_eq!(
            unsent.begin(&mut flow, MIB, || None),
            None,
            "one of eight again, which is twice as much"
        );
        assert_eq!(flow.share, Share(21));
        unsent.end(&flow);
        others.iter().for_each(|other| unsent.end(other));
        assert_eq!(unsent.large, 0);
    }

    #[test]
    fn the_kernels_number_is_read() {
        assert!(budget() >= MIB);
    }
}
