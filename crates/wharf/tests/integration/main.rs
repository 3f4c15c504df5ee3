//! The server as its users meet it: over loopback sockets, on every backend of the platform.

mod clients;
mod connections;
mod limits;
mod messages;
mod support;
mod shutdown;
