//! Why connections ended, over a run and over all of them.

use std::cell::RefCell;

use crate::{CloseReason, Statistics};

/// What the seeds have to come to, every timeout among it. The others have tests of their own.
const ALL_TO_BE_SEEN: [CloseReason; 10] = [
    CloseReason::PeerClosed,
    CloseReason::Answered,
    CloseReason::PeerReset,
    CloseReason::Truncated,
    CloseReason::Refused,
    CloseReason::FirstByteTimeout,
    CloseReason::HeadTimeout,
    CloseReason::BodyTimeout,
    CloseReason::IdleTimeout,
    CloseReason::WriteStalled,
];

thread_local! {
    static SEEN: RefCell<[u64; CloseReason::ALL.len()]> =
        const { RefCell::new([0; CloseReason::ALL.len()]) };
}

/// Asserts that every connection that was accepted has ended for one reason.
pub(super) fn check(statistics: &Statistics) {
    let counts = || CloseReason::ALL.iter().map(|&reason| statistics.closed(reason));
    assert_eq!(counts().sum::<u64>(), statistics.accepted, "each has its reason: {statistics:?}");
    SEEN.with_borrow_mut(|seen| seen.iter_mut().zip(counts()).for_each(|(all, now)| *all += now));
}

/// Connections that were closed for a reason that tells of a client who was not answered.
pub(super) fn unanswered(statistics: &Statistics) -> u64 {
    let is_fine = |reason: &CloseReason| {
        matches!(reason, CloseReason::PeerClosed | CloseReason::Answered | CloseReason::Drained)
    };
    let others = CloseReason::ALL.iter().filter(|reason| !is_fine(reason));
    others.map(|&reason| statistics.closed(reason)).sum()
}

pub(super) fn check_that_all_were_seen() {
    SEEN.with_borrow(|seen| {
        let missing = ALL_TO_BE_SEEN.iter().find(|reason| seen[**reason as usize] == 0);
        assert!(missing.is_none(), "no connection ended for {missing:?}: {seen:?}");
    });
}
