//! The contract of the crate's front page, held up to every backend.
//!
//! Each test is written once, against a [`Rig`](rig::Rig): a port, and clients that the test plays.
//! [`on_every_backend`](setup::on_every_backend) makes of it `uring::…`, `readiness::…` or
//! `iocp::…`, and `sim::…`, which runs it on several seeds. The rig checks, in every test and at
//! every completion, what holds always: that each operation ends once and with an event of its
//! kind, that blocks come back, that nothing follows `Closed`; and at its end that nothing is left.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its cases do")]

mod accepting;
mod chaos;
mod client;
mod exhaustion;
mod files;
mod lifecycle;
mod monitor;
mod receiving;
mod rig;
mod sending;
mod setup;
mod waking;
