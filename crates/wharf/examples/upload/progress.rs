//! How far uploads are, told to the frames that watch them. Knows nothing of files.
//!
//! A frame's page is a body that is pushed: it holds no thread while it waits. One thread adds a
//! line to each when there is something new; the page's style shows the last line alone.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use wharf::{BodySender, Response};

const INTERVAL: Duration = Duration::from_millis(250);
/// Intervals after which a frame gets a word though nothing is new: it may have gone, and a proxy
/// would take the silence for a failure.
const SILENT_INTERVALS: u32 = 60;
const PAGE_START: &str = include_str!("progress.html");

/// A number that tells one form from the others.
pub(crate) fn new_id() -> u64 {
    // The standard library's keys are random, and no two are the same.
    RandomState::new().build_hasher().finish()
}

pub(crate) struct Uploads {
    watchers: Mutex<Vec<Watcher>>,
}

/// A frame, and the upload of its form once that has begun.
struct Watcher {
    id: u64,
    page: BodySender,
    state: Option<Arc<State>>,
    shown_bytes: u64,
    silent_intervals: u32,
}

#[derive(Default)]
struct State {
    received: AtomicU64,
    /// Of the whole body, if the client has said it.
    length: Option<u64>,
    is_over: AtomicBool,
}

/// An upload that runs; it is over when this is dropped.
pub(crate) struct Upload(Arc<State>);

impl Upload {
    pub(crate) fn add(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

impl Uploads {
    /// With the thread that tells the watchers.
    pub(crate) fn start() -> Arc<Uploads> {
        let uploads = Arc::new(Uploads { watchers: Mutex::default() });
        let telling = uploads.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(INTERVAL);
                telling.lock().retain_mut(Watcher::tell);
            }
        });
        uploads
    }

    /// The page of a frame, which goes on until the upload is over.
    pub(crate) fn watch(&self, id: u64) -> Response {
        let (page, response) = Response::channel();
        if page.try_send(PAGE_START).is_ok() {
            self.lock().push(Watcher {
                id,
                page,
                state: None,
                shown_bytes: 0,
                silent_intervals: 0,
            });
        }
        response
            .header("content-type", "text/html; charset=utf-8")
            .header("cache-control", "no-store")
    }

    pub(crate) fn begin(&self, id: u64, length: Option<u64>) -> Upload {
        let state = Arc::new(State { length, ..State::default() });
        for watcher in self.lock().iter_mut().filter(|watcher| watcher.id == id) {
            watcher.state = Some(state.clone());
        }
        Upload(state)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Adds a line if there is something new. False: the page is at its end.
    fn tell(&mut self) -> bool {
        if self.page.is_closed() || self.page.is_draining() {
            return false;
        }
        self.silent_intervals += 1;
        if self.silent_intervals == SILENT_INTERVALS {
            self.silent_intervals = 0;
            let _ = self.page.try_send("<!-- -->\n");
        }
        let Some(state) = &self.state else { return true };
        let is_over = state.is_over.load(Ordering::Acquire);
        let received = state.received.load(Ordering::Relaxed);
        if received == self.shown_bytes && !is_over {
            return true;
        }
        self.shown_bytes = received;
        // A frame that is not read from misses lines, and nobody waits for it.
        let _ = self.page.try_send(line(received, state.length, is_over));
        !is_over
    }
}

fn line(received: u64, length: Option<u64>, is_over: bool) -> String {
    match length {
        _ if is_over => "<p><progress value=\"1\"></progress> Over</p>\n".to_owned(),
        Some(length @ 1..) => {
            let percent = received.min(length) as f64 / length as f64 * 100.0;
            format!(
                "<p><progress max=\"100\" value=\"{percent:.1}\"></progress> {percent:.0} %</p>\n"
            )
        }
        _ => format!("<p><progress></progress> {:.1} MB</p>\n", received as f64 / 1e6),
    }
}
