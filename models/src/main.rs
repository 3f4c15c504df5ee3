//! The server's ways from thread to thread, run by loom in every order that they allow.
//!
//! The files below are the server's own, not copies: only `sync.rs` is another one here. Each model
//! is short, since its orders grow with the power of its length; `LOOM_MAX_PREEMPTIONS` bounds how
//! often a thread is interrupted in one run (default 2, which is where bugs of this kind are found).
//!
//! `cargo run --release` runs all of them, and with a name that one.

// Much of these files belongs to other threads than the models have.
#![allow(dead_code)]

// So that `wharf_port::` means this crate, in files of `wharf`.
extern crate self as wharf_port;

#[path = "../../crates/wharf-port/src/lease.rs"]
mod lease;
#[path = "../../crates/wharf/src/mailbox.rs"]
mod mailbox;
mod models;
mod pool;
mod sync;
#[path = "../../crates/wharf-port/src/wake.rs"]
mod wake;

pub use wake::Waker;

/// In the place of a connection that is handed over.
pub struct Incoming;

/// In the place of the request, which nobody looks into.
#[derive(Debug)]
pub(crate) struct Request;

mod shared {
    /// In the place of what all threads share.
    pub(crate) struct Shared {
        pub(crate) mailboxes: Box<[crate::mailbox::Mailbox]>,
    }
}

fn main() {
    let only = std::env::args().nth(1);
    let mut ran = 0;
    for (name, model) in models::ALL {
        if only.as_deref().is_none_or(|only| only == *name) {
            let began = std::time::Instant::now();
            let mut builder = loom::model::Builder::new();
            builder.preemption_bound = builder.preemption_bound.or(Some(2));
            let executions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let count = executions.clone();
            builder.check(move || {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                model();
            });
            let executions = executions.load(std::sync::atomic::Ordering::Relaxed);
            println!("{name}: {executions} orders, {:.1?}", began.elapsed());
            ran += 1;
        }
    }
    assert!(ran > 0, "there is no model of that name");
}
