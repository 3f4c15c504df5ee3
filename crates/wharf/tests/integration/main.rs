//! The server as its users meet it: over loopback sockets, on every backend of the platform.

// Tests that are made by a macro are not seen as tests by the lint's own exception.
#![allow(clippy::unwrap_used)]

mod app;
mod attacks;
#[cfg(target_os = "linux")]
mod browser;
mod clients;
mod compression;
mod connections;
mod decompression;
mod dispatch;
mod etag;
mod examples;
mod failures;
mod files;
mod guestbook;
mod hooks;
mod limits;
mod load;
mod messages;
#[cfg(target_os = "linux")]
mod pages;
mod pool;
mod programs;
mod rate_limit;
mod served;
mod shipped_hooks;
mod shutdown;
mod streaming;
mod support;
mod timeouts;
mod values;
