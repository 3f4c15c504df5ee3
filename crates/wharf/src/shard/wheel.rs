//! The timer wheel: when each connection is to be looked at next.
//!
//! A connection keeps its own deadline and moves it as it likes, without a word to the wheel. The
//! wheel holds each connection exactly once and visits it at its deadline, but at the latest after
//! the shortest timeout there is. So a deadline that is set at any time, which is at least the
//! shortest timeout away, is never found too late, and a request costs no timer work.

use std::time::Duration;

use wharf_port::Time;

/// How much of the shortest timeout a visit may come late: one part in this many.
const TICKS_IN_SHORTEST: u32 = 16;
/// Enough that an entry, at most `TICKS_IN_SHORTEST` + 1 ticks ahead, never meets the current slot.
const SLOTS: usize = 32;
/// Visits between two looks at what has completed. Those of idle connections are some hundred
/// nanoseconds each, as they are not in the cache, and thousands may fall into one tick.
const VISITS_IN_A_TURN: usize = 64;
/// Entries that a slot has room for from the start, so that a server of few connections is in its
/// steady state at once and not only after the wheel's first turn.
pub(super) const FEW: usize = 8;

pub(super) struct Wheel<K> {
    slots: [Vec<K>; SLOTS],
    tick: Duration,
    horizon: Duration,
    /// The number of the first tick that was not expired yet.
    next: u64,
    /// Entries in all slots, the stale ones of closed connections included.
    len: usize,
}

impl<K> Wheel<K> {
    /// A wheel whose visits come at most `shortest` apart.
    pub(super) fn new(shortest: Duration, now: Time) -> Wheel<K> {
        let tick = (shortest / TICKS_IN_SHORTEST).max(Duration::from_millis(1));
        let horizon = shortest.max(tick);
        let slots = std::array::from_fn(|_| Vec::with_capacity(FEW));
        let mut wheel = Wheel { slots, tick, horizon, next: 0, len: 0 };
        wheel.next = wheel.tick_of(now);
        wheel
    }

    fn tick_of(&self, time: Time) -> u64 {
        time.as_nanos() / self.tick.as_nanos() as u64
    }

    /// Sets the next visit of `key`: at `deadline`, or at the horizon if that is nearer.
    pub(super) fn insert(&mut self, key: K, deadline: Time, now: Time) {
        let visit = deadline.min(now + self.horizon);
        // The slot whose whole tick lies behind the deadline, so that the visit finds it passed.
        let tick = (self.tick_of(visit) + 1).max(self.next);
        let tick = tick.min(self.next + SLOTS as u64 - 1);
        self.slots[tick as usize % SLOTS].push(key);
        self.len += 1;
    }

    /// Takes out keys whose visit is due: all, unless they are so many that requests would wait for
    /// the visits. Then [`next_expiry`](Wheel::next_expiry) lies in the past until all are out.
    pub(super) fn expire(&mut self, now: Time, due: &mut Vec<K>) {
        let current = self.tick_of(now);
        if current < self.next {
            return;
        }
        let mut room = VISITS_IN_A_TURN;
        // After a long sleep one turn round the wheel sees every slot.
        for tick in self.next..=current.min(self.next + SLOTS as u64 - 1) {
            let slot = &mut self.slots[tick as usize % SLOTS];
            let taken = slot.len().min(room);
            due.extend(slot.drain(slot.len() - taken..));
            self.len -= taken;
            room -= taken;
            if !slot.is_empty() {
                self.next = tick;
                return;
            }
        }
        self.next = current + 1;
    }

    /// When [`expire`](Wheel::expire) has something to do next.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        if self.len == 0 {
            return None;
        }
        let tick = (self.next..self.next + SLOTS as u64)
            .find(|&tick| !self.slots[tick as usize % SLOTS].is_empty())?;
        Some(Time::from_nanos(tick.saturating_mul(self.tick.as_nanos() as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::from_secs(2);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// Runs the wheel as a shard does and returns when `deadline` was acted on.
    fn acted_on(deadline_ms: u64, moved_to: Option<(u64, u64)>) -> u64 {
        let mut wheel = Wheel::new(SHORTEST, at(0));
        let mut deadline = at(deadline_ms);
        wheel.insert('c', deadline, at(0));
        loop {
            let visit = wheel.next_expiry().expect("the connection is in the wheel");
            let now = visit;
            if let Some((when, to)) = moved_to
                && now >= at(when)
            {
                deadline = at(to);
            }
            let mut due = Vec::new();
            wheel.expire(now, &mut due);
            for key in due {
                if deadline <= now {
                    return (now - Time::ZERO).as_millis() as u64;
                }
                wheel.insert(key, deadline, now);
            }
        }
    }

    #[test]
    fn deadlines_are_met_no_earlier_and_at_most_a_tick_or_two_late() {
        let tick = SHORTEST.as_millis() as u64 / u64::from(TICKS_IN_SHORTEST);
        for deadline in [2_000, 2_001, 3_999, 10_000, 60_000, 61_234] {
            let late = acted_on(deadline, None).checked_sub(deadline).expect("not early");
            assert!(late <= 2 * tick, "{late} ms late");
        }
        // A deadline that moves nearer, but stays the shortest timeout away, is not missed.
        let late = acted_on(60_000, Some((5_000, 7_500))).checked_sub(7_500).expect("not early");
        assert!(late <= 2 * tick, "{late} ms late");
    }

    #[test]
    fn many_visits_are_spread_over_turns() {
        let mut wheel = Wheel::new(SHORTEST, at(0));
        let all = 10 * VISITS_IN_A_TURN + 1;
        (0..all).for_each(|key| wheel.insert(key, at(1_000 + key as u64 % 300), at(0)));
        let now = at(1_500);
        let mut seen = Vec::new();
        for turn in 1.. {
            let mut due = Vec::new();
            wheel.expire(now, &mut due);
            assert!(due.len() <= VISITS_IN_A_TURN);
            seen.append(&mut due);
            match wheel.next_expiry() {
                Some(next) => assert!(next <= now && turn <= 10),
                None => break,
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..all).collect::<Vec<_>>());
        // What is set meanwhile is not visited late for it.
        wheel.insert(0, at(2_000), now);
        assert!(wheel.next_expiry().is_some_and(|time| time >= at(2_000) && time <= at(2_250)));
    }

    #[test]
    fn a_long_sleep_loses_nobody() {
        let mut wheel = Wheel::new(SHORTEST, at(0));
        for key in 0..100 {
            wheel.insert(key, at(key * 20), at(0));
        }
        let mut due = Vec::new();
        while wheel.next_expiry().is_some() {
            wheel.expire(at(1_000_000), &mut due);
        }
        due.sort_unstable();
        assert_eq!(due, (0..100).collect::<Vec<_>>());
        assert_eq!(wheel.next_expiry(), None);
        wheel.insert(7, at(1_002_000), at(1_000_000));
        assert!(wheel.next_expiry().is_some_and(|time| time >= at(1_002_000)));
    }
}
