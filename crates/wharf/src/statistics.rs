//! What an operator can watch: counts of connections, requests and reasons for closing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! close_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident $text:literal,)+) => {
        /// Why a connection ended. A closed set, counted in [`Statistics`] and logged at debug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl CloseReason {
            /// Every reason.
            pub const ALL: &'static [CloseReason] = &[$(CloseReason::$name),+];

            /// The reason's name in logs and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(CloseReason::$name => $text,)+
                }
            }
        }
    };
}

close_reasons! {
    /// The peer closed between requests, as it may.
    PeerClosed "peer-closed",
    /// The last answer said `Connection: close`.
    Answered "answered",
    /// The peer reset the connection or is unreachable.
    PeerReset "peer-reset",
    /// The peer closed in the middle of a request.
    Truncated "truncated",
    /// A request was refused: malformed, or beyond a limit.
    Refused "refused",
    /// No first byte in time.
    FirstByteTimeout "first-byte-timeout",
    /// A head was not whole in time.
    HeadTimeout "head-timeout",
    /// A body came too slowly.
    BodyTimeout "body-timeout",
    /// No further request in time.
    IdleTimeout "idle-timeout",
    /// The peer did not take what was sent, or too slowly.
    WriteStalled "write-stalled",
    /// An answer could not be sent to its end: what its body came from failed, or a file had become
    /// shorter.
    AnswerAborted "answer-aborted",
    /// Too many connections from one peer.
    PeerLimit "peer-limit",
    /// Closed while idle, because the server drains.
    Drained "drained",
    /// Cut at the end of the drain's time.
    Cut "cut",
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A server's counts at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Connections that are open now.
    pub connections: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Requests answered since the start, refused ones included.
    pub requests: u64,
    /// Answers of 503 because no worker and no place in the queue was free, or because a request's
    /// [time](crate::Route::timeout) was over before a worker took it.
    pub overloaded: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Requests that wait for a worker now.
    pub queued_requests: usize,
    /// Worker threads now.
    pub workers: usize,
    pub(crate) closed: Vec<u64>,
}

impl Statistics {
    /// Connections that ended for that reason.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason as usize).copied().unwrap_or(0)
    }
}

/// The counters behind [`Statistics`], shared by all threads.
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    /// One a shard.
    pub(crate) requests: Box<[Arc<RequestCount>]>,
    pub(crate) overloaded: AtomicU64,
    pub(crate) panics: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

/// The requests that one shard answered. Counted before the answer leaves, so that whoever has it
/// finds it counted. Aligned, so that shards do not share a cache line.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct RequestCount(AtomicU64);

impl RequestCount {
    /// Only the shard that it belongs to counts, so nothing is lost between load and store.
    #[inline]
    pub(crate) fn add_one(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Counts {
    pub(crate) fn new(shards: usize) -> Counts {
        Counts {
            accepted: AtomicU64::default(),
            requests: (0..shards).map(|_| Arc::default()).collect(),
            overloaded: AtomicU64::default(),
            panics: AtomicU64::default(),
            closed: Default::default(),
        }
    }

    pub(crate) fn count_closed(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Statistics {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Statistics {
            accepted: of(&self.accepted),
            requests: self.requests.iter().map(|shard| of(&shard.0)).sum(),
            overloaded: of(&self.overloaded),
            panics: of(&self.panics),
            closed: self.closed.iter().map(of).collect(),
            ..Statistics::default()
        }
    }
}
