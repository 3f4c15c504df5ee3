//! What threads meet through. The models in `models/` put loom's twins of these in this file's
//! place, so that they run the very code that the server runs.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

pub(crate) use crossbeam_queue::ArrayQueue;
