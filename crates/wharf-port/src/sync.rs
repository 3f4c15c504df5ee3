//! What threads meet through. The models in `models/` put loom's twins of these in this file's
//! place, so that they run the very code that a port runs.

pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, OnceLock};
