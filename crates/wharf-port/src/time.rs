//! Points on the port's monotonic clock.

use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::Duration;

/// A point in time on a port's monotonic clock, in nanoseconds since an origin of the port's own.
///
/// Times of different ports of one process share their origin, except on simulated ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The clock's origin.
    pub const ZERO: Time = Time(0);
    /// A time that is never reached.
    pub const FAR: Time = Time(u64::MAX);

    /// The time that is `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// The system's monotonic clock now, which all ports but simulated ones have their times from.
    /// Its origin is the first use in this process.
    pub fn monotonic() -> Time {
        #[cfg(target_os = "linux")]
        return Time(clock(libc::CLOCK_MONOTONIC).saturating_sub(origin()));
        #[cfg(not(target_os = "linux"))]
        {
            static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
            let elapsed = ORIGIN.get_or_init(std::time::Instant::now).elapsed();
            Time(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
        }
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long `earlier` lies before this time; zero if it lies after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, duration: Duration) -> Time {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

/// Where [`Time::ZERO`] lies on `CLOCK_MONOTONIC`, in nanoseconds.
#[cfg(target_os = "linux")]
pub(crate) fn origin() -> u64 {
    static ORIGIN: OnceLock<u64> = OnceLock::new();
    *ORIGIN.get_or_init(|| clock(libc::CLOCK_MONOTONIC))
}

/// Nanoseconds on a clock of the kernel's. The standard library asks the same and takes four times
/// as many instructions to tell.
#[cfg(target_os = "linux")]
fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a timespec to where one is. A clock that it refused would leave the
    // zeros. Caught by the contract's test that ticks change.
    let refused = unsafe { libc::clock_gettime(id, &mut time) };
    debug_assert_eq!(refused, 0, "the clocks are there since Linux 2.6.32");
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// See [`Port::tick`](crate::Port::tick).
#[cfg(target_os = "linux")]
pub(crate) fn tick() -> u64 {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

/// See [`Port::tick`](crate::Port::tick).
#[cfg(not(target_os = "linux"))]
pub(crate) fn tick() -> u64 {
    Time::monotonic().as_nanos()
}
