//! The clock, and who listens to it. Knows nothing of pages.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wharf::{Event, EventSender};

/// Ticks that are kept for those who come back: five minutes.
const KEPT: usize = 300;

pub(crate) struct Clock {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    ticks: VecDeque<Tick>,
    listeners: Vec<EventSender>,
}

#[derive(Clone)]
pub(crate) struct Tick {
    /// Counted from 1.
    pub(crate) number: u64,
    /// Hours, minutes and seconds, UTC.
    pub(crate) time: String,
}

impl Tick {
    fn event(&self) -> Event {
        Event::new(self.time.as_str()).name("tick").id(self.number)
    }
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { state: Mutex::default() }
    }

    /// Ticks until the process ends.
    pub(crate) fn run(&self) {
        for number in 1.. {
            self.tick(number);
            thread::sleep(Duration::from_secs(1));
        }
    }

    fn tick(&self, number: u64) {
        let tick = Tick { number, time: time_of_day() };
        let event = tick.event();
        let mut state = self.lock();
        // Who has gone, or has left so much unread that there is no room, is dropped: nobody waits
        // for the slowest. It connects again and gets what it has missed.
        state.listeners.retain(|listener| listener.try_send(&event).is_ok());
        if state.ticks.len() == KEPT {
            state.ticks.pop_front();
        }
        state.ticks.push_back(tick);
    }

    /// Sends the ticks since `last_seen`, as far as they are kept, and from now on every one. The
    /// lock is held over both, so that none is left out and none sent twice.
    pub(crate) fn subscribe(&self, listener: EventSender, last_seen: Option<u64>) {
        let mut state = self.lock();
        if let Some(last_seen) = last_seen {
            let missed = state.ticks.iter().filter(|tick| tick.number > last_seen);
            for tick in missed {
                if listener.try_send(&tick.event()).is_err() {
                    return;
                }
            }
        }
        state.listeners.push(listener);
    }

    /// The latest ticks, the newest first.
    pub(crate) fn latest(&self, count: usize) -> Vec<Tick> {
        self.lock().ticks.iter().rev().take(count).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn time_of_day() -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (hours, minutes, seconds) = (since_1970 / 3600 % 24, since_1970 / 60 % 60, since_1970 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}")
}
