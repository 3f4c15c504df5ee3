//! How many completions a sleep waits for: under load several, so that each takes a fraction of a
//! system call.
//!
//! A turn ends as soon as anything has completed, and so takes the fewer completions the faster
//! the port is. Where turns have lately brought several each, the next sleep asks the kernel to
//! wait for twice as many, but for no longer than [`GATHERING`]. That this long was waited in vain,
//! or that a thread called meanwhile, shows that it is the wrong load for it: then it rests, each
//! time twice as long. And where the program has much to do for each completion, a system call is
//! little beside it, and what was received is better worked on while it is in the cache.

use std::time::Duration;

/// The longest that a completion waits for others.
pub(super) const GATHERING: Duration = Duration::from_micros(20);
/// Completions waited for at most.
const MOST: u32 = 8;
/// Waiting for fewer than this gains too little.
const FEWEST: u32 = 4;
/// Sockets for each completion waited for: those of a few busy peers are not held up for each
/// other, which would have server and peers work in turns.
const SOCKETS_EACH: usize = 8;
/// The average is kept in 16ths of a completion.
const ONE: u32 = 16;
/// A turn's share in the average.
const SHARE: u32 = 8;
/// What the program does for a completion in less time than this is little.
const LITTLE: Duration = Duration::from_micros(1);
/// Sleeps that wait for a single completion after one that waited in vain.
const REST: u32 = 16;
const REST_MOST: u32 = 1024;

/// What the last turns brought.
#[derive(Debug)]
pub(super) struct Pace {
    /// Completions a turn that others caused, in 16ths.
    average: u32,
    /// Those of the last turn.
    last: u32,
    /// Sleeps until it is tried again.
    resting: u32,
    /// How long the next rest is.
    rest: u32,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { average: 0, last: 0, resting: 0, rest: REST }
    }

    /// How many completions the sleep that is about to begin waits for. `busy` says for how long the
    /// program has been at work since the last turn.
    pub(super) fn wanted(&mut self, sockets: usize, busy: impl FnOnce() -> Duration) -> u32 {
        if self.average < ONE + ONE / 2 {
            return 1;
        }
        if self.resting > 0 {
            self.resting -= 1;
            return 1;
        }
        if busy() > LITTLE * self.last {
            return 1;
        }
        let most = u32::try_from(sockets / SOCKETS_EACH).unwrap_or(MOST).min(MOST);
        let wanted = (2 * self.average / ONE).min(most);
        if wanted < FEWEST { 1 } else { wanted }
    }

    /// Takes into account what a turn brought that slept for `wanted` completions, or did not
    /// sleep (0). `called`: by a thread of the program's.
    pub(super) fn turned(&mut self, wanted: u32, completed: u32, called: bool) {
        self.average = self.average - self.average / SHARE + completed * ONE / SHARE;
        self.last = completed;
        if wanted > 1 {
            if called || completed < wanted / 2 {
                self.resting = self.rest;
                self.rest = (2 * self.rest).min(REST_MOST);
            } else {
                self.rest = REST;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Pace {
        let mut pace = Pace::new();
        (0..100).for_each(|_| pace.turned(0, 4, false));
        pace
    }

    /// What a sleep waits for after hardly any work.
    fn wanted(pace: &mut Pace, sockets: usize) -> u32 {
        pace.wanted(sockets, || LITTLE)
    }

    #[test]
    fn a_calm_port_waits_for_one() {
        let mut pace = Pace::new();
        for _ in 0..100 {
            assert_eq!(wanted(&mut pace, 1_000), 1);
            pace.turned(1, 1, false);
        }
    }

    #[test]
    fn a_busy_port_waits_for_several_as_its_sockets_allow() {
        let mut pace = busy();
        assert_eq!(wanted(&mut pace, 1_000), 8);
        assert_eq!(wanted(&mut pace, 32), 4);
        assert_eq!(wanted(&mut pace, 31), 1);
        assert_eq!(wanted(&mut pace, 0), 1);
    }

    #[test]
    fn where_there_is_much_to_do_for_each_it_waits_for_one() {
        let mut pace = busy();
        assert_eq!(pace.wanted(1_000, || 4 * LITTLE), 8);
        assert_eq!(pace.wanted(1_000, || 5 * LITTLE), 1);
    }

    #[test]
    fn it_never_waits_for_more_than_the_most() {
        let mut pace = Pace::new();
        (0..100).for_each(|_| pace.turned(0, 10_000, false));
        assert_eq!(wanted(&mut pace, usize::MAX), MOST);
    }

    #[test]
    fn it_waits_for_one_again_when_the_load_is_gone() {
        let mut pace = busy();
        (0..100).for_each(|_| pace.turned(1, 1, false));
        assert_eq!(wanted(&mut pace, 1_000), 1);
    }

    #[test]
    fn waiting_in_vain_rests_twice_as_long_each_time() {
        let mut pace = busy();
        let mut rest = REST;
        for _ in 0..20 {
            let several = wanted(&mut pace, 1_000);
            assert!(several > 1);
            pace.turned(several, 1, false);
            for _ in 0..rest {
                assert_eq!(wanted(&mut pace, 1_000), 1);
                pace.turned(1, 4, false);
            }
            rest = (2 * rest).min(REST_MOST);
        }
    }

    #[test]
    fn a_call_ends_it_however_much_completed() {
        let mut pace = busy();
        let several = wanted(&mut pace, 1_000);
        pace.turned(several, 20, true);
        assert_eq!(wanted(&mut pace, 1_000), 1);
    }

    #[test]
    fn success_forgets_the_rests() {
        let mut pace = busy();
        for completed in [1, 4, 1] {
            while wanted(&mut pace, 1_000) == 1 {
                pace.turned(1, 4, false);
            }
            pace.turned(4, completed, false);
        }
        assert_eq!((pace.resting, pace.rest), (REST, 2 * REST));
    }
}
