//! HTTP/1.1 messages as stateless functions and sans-I/O state machines.
