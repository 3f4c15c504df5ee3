//! The server as its users meet it: over loopback sockets, on every backend of the platform.

mod clients;
mod connections;
mod guestbook;
mod limits;
mod messages;
mod shutdown;
mod support;
