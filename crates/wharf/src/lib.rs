//! An HTTP server library: completion ports, zero copies, plain functions as handlers.
#![forbid(unsafe_code)]

mod admission;
mod error;
mod into_response;
mod limits;
mod mailbox;
mod pool;
mod request;
mod response;
mod router;
mod server;
mod shard;
mod shared;
#[cfg(feature = "signals")]
mod signals;
mod statistics;

pub use error::Error;
pub use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
pub use into_response::IntoResponse;
pub use limits::Limits;
pub use request::{AsHeaderName, FromParam, Request};
pub use response::{InvalidHeader, Response};
pub use router::{Route, Router, any, delete, get, method, patch, post, put};
pub use server::{Backend, Server, ServerHandle};
pub use shard::Drained;
pub use statistics::{CloseReason, Statistics};
