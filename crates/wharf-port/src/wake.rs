//! Waking a port's thread from another one, with a system call only when it sleeps.

use std::fmt;

use crate::sync::{Arc, AtomicU8, Ordering};

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

/// Makes a port's wait return, from any thread.
///
/// Costs one atomic exchange while the port's thread is awake or already notified.
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

struct Shared {
    /// ```text
    ///            about_to_sleep            notify: kick
    ///   AWAKE ───────────────────► ASLEEP ───────────────► NOTIFIED
    ///     ▲ │                         │                       │ ▲
    ///     │ └── notify: no kick ──────┼───────────────────────┼─┘
    ///     └──────── awake ────────────┴───────────────────────┘
    /// ```
    state: AtomicU8,
    kick: Box<dyn Fn() + Send + Sync>,
}

impl Waker {
    /// A waker that calls `kick` when the port's thread sleeps (or is just about to).
    pub(crate) fn new(kick: impl Fn() + Send + Sync + 'static) -> Waker {
        Waker(Arc::new(Shared { state: AtomicU8::new(AWAKE), kick: Box::new(kick) }))
    }

    /// Makes the port's current wait, or else its next one, return.
    pub fn wake(&self) {
        // AcqRel: what was written before the wake is seen by the thread that it wakes.
        if self.0.state.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP {
            (self.0.kick)();
        }
    }

    /// Whether the port may block. False: a wake came since the last wait, so only poll.
    pub(crate) fn about_to_sleep(&self) -> bool {
        self.0.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes the notification back, after every wait. True: there was one.
    pub(crate) fn awake(&self) -> bool {
        self.0.state.swap(AWAKE, Ordering::AcqRel) == NOTIFIED
    }

    /// Whether the port's next wait will return at once.
    #[cfg(feature = "sim")]
    pub(crate) fn is_notified(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == NOTIFIED
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
