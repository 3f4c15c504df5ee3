//! How long a thread that could run has waited for a processor: time that passes on the clock and
//! is nothing that the thread did.
//!
//! Linux counts it for each thread. Elsewhere, and where `/proc` is not to be had, it is taken to
//! be none.

use std::time::Duration;

/// Tells of the thread that it is used on how long it waited for a processor since a moment.
#[derive(Debug, Default)]
pub struct ProcessorWait {
    /// The tick at which `seen` was read. None: never.
    tick: Option<u64>,
    /// What the kernel had counted then.
    seen: Duration,
}

impl ProcessorWait {
    /// Begins to count, or did so at most one tick ago (see [`Port::tick`](crate::Port::tick)): the
    /// kernel is asked no more often than that, as that is not free. Returns whether it was.
    pub fn begin(&mut self) -> bool {
        let tick = crate::time::tick();
        // Elsewhere there is nothing to ask for.
        let asks = cfg!(target_os = "linux") && self.tick != Some(tick);
        if asks {
            self.seen = waited();
            self.tick = Some(tick);
        }
        asks
    }

    /// How long the thread has waited since, and up to one tick before.
    pub fn end(&mut self) -> Duration {
        let now = waited();
        if self.tick.is_none() {
            return Duration::ZERO;
        }
        now.saturating_sub(std::mem::replace(&mut self.seen, now))
    }
}

#[cfg(target_os = "linux")]
fn waited() -> Duration {
    use std::io::Read;

    let mut text = [0; 64];
    // Opened anew each time, so that no thread holds a descriptor for it.
    let read = std::fs::File::open("/proc/thread-self/schedstat")
        .and_then(|mut file| file.read(&mut text));
    // "31415926 535897 93": nanoseconds run, nanoseconds waited, times run.
    let text = read.ok().and_then(|count| std::str::from_utf8(&text[..count]).ok());
    let nanos = text.and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
fn waited() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn sleeping_is_not_waiting_for_a_processor() {
        let mut wait = ProcessorWait::default();
        assert_eq!(wait.end(), Duration::ZERO, "nothing was begun");
        // Before it is counted, so that no wait is missing from what passes.
        let began = Instant::now();
        wait.begin();
        std::thread::sleep(Duration::from_millis(50));
        // Other tests may keep the processors busy, but it is the sleep that takes most of it.
        assert!(wait.end() <= began.elapsed() - Duration::from_millis(40));
    }

    /// Threads that share one processor wait for it half of the time.
    #[cfg(target_os = "linux")]
    #[test]
    fn threads_that_want_one_processor_wait_for_it() {
        let turns = std::sync::atomic::AtomicBool::new(true);
        let spin = || {
            while turns.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        std::thread::scope(|scope| {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..processors {
                scope.spawn(spin);
            }
            let mut wait = ProcessorWait::default();
            wait.begin();
            let mut waited = Duration::ZERO;
            let until = Instant::now() + Duration::from_secs(20);
            while waited.is_zero() && Instant::now() < until {
                (0..100_000).for_each(|_| std::hint::spin_loop());
                waited += wait.end();
            }
            turns.store(false, std::sync::atomic::Ordering::Relaxed);
            assert!(!waited.is_zero(), "more threads than processors, and none waits");
        });
    }
}
