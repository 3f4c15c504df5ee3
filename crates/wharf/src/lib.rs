//! An HTTP server library: completion ports, zero copies, plain functions as handlers.
#![forbid(unsafe_code)]
