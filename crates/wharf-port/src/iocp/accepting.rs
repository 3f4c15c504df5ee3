//! Accepts: several AcceptEx calls kept posted for one listening socket.
//!
//! AcceptEx takes the new connection's socket beforehand. It completes without data, as soon as
//! the connection is there: how long a silent peer is suffered is for the shard to say.

use std::io;
use std::time::Duration;

use socket2::{Domain, Protocol, Type};
use windows_sys::Win32::Foundation::{ERROR_INVALID_HANDLE, ERROR_NETNAME_DELETED};
use windows_sys::Win32::Networking::WinSock as winsock;

use super::{Iocp, Kind, Ready, aborted, system};
use crate::iocp::places::Place;
use crate::iocp::system::{Addresses, NO_ADDRESSES, Started};
use crate::listener::IncomingOrigin;
use crate::port::peer_of;
use crate::{Completion, Event, Incoming, Operation, Socket, Time, Token};

/// How long accepting pauses when no socket can be had for it.
const PAUSE: Duration = Duration::from_millis(100);

/// A repeating accept.
pub(super) struct Accept {
    /// The listener's family; accepted sockets are made in it beforehand.
    domain: Domain,
    /// What is in flight.
    pub(super) posted: Vec<Posted>,
    /// Why the accept ends, once the listener proved unusable and as soon as nothing is in flight.
    pub(super) broken: Option<io::Error>,
    /// Whether the shortage that it waits for was told to the log.
    warned: bool,
}

/// One AcceptEx in flight.
pub(super) struct Posted {
    pub(super) place: Place,
    socket: socket2::Socket,
    /// The kernel writes here; nobody reads it. A vector, so that moving it moves no bytes.
    _addresses: Vec<Addresses>,
}

/// What a failed AcceptEx says about the next one.
enum Fault {
    /// The connection was gone before it was accepted: take the next one.
    Connection,
    /// The system lacks something: try again later.
    Shortage,
    /// The listening socket is none, or no more.
    Listener,
}

fn fault(error: &io::Error) -> Fault {
    const NETNAME_DELETED: i32 = ERROR_NETNAME_DELETED as i32;
    const INVALID_HANDLE: i32 = ERROR_INVALID_HANDLE as i32;
    match error.raw_os_error() {
        Some(
            winsock::WSAECONNRESET
            | winsock::WSAECONNABORTED
            | winsock::WSAENETRESET
            | winsock::WSAETIMEDOUT
            | winsock::WSAENOTCONN
            | NETNAME_DELETED,
        ) => Fault::Connection,
        Some(
            winsock::WSAENOTSOCK
            | winsock::WSAEINVAL
            | winsock::WSAEOPNOTSUPP
            | winsock::WSAEBADF
            | INVALID_HANDLE,
        ) => Fault::Listener,
        _ => Fault::Shortage,
    }
}

impl Iocp {
    pub(super) fn begin_accept(&mut self, listener: Socket, token: Token) -> Operation {
        let domain = self.endpoint(listener).socket.local_addr().map(|address| address.domain());
        let (domain, broken) = match domain {
            Ok(domain) => (domain, None),
            Err(error) => (Domain::IPV4, Some(error)),
        };
        let accept =
            Accept { domain, posted: Vec::with_capacity(self.accepts), broken, warned: false };
        let broken = accept.broken.is_some();
        let operation = self.begin_receiving(listener, token, Kind::Accept(Box::new(accept)));
        if broken {
            self.ready.push_back(Ready::Done(operation, None, Err(aborted())));
        } else {
            self.post_accepts(operation);
        }
        operation
    }

    /// Posts as many as there shall be, or as the system lets.
    fn post_accepts(&mut self, operation: Operation) {
        let (wanted, extensions) = (self.accepts, self.extensions());
        let flight = &mut self.operations[operation];
        let Kind::Accept(accept) = &mut flight.kind else { unreachable!("the caller knows") };
        let listener = &self.sockets[flight.socket];
        while accept.posted.len() < wanted {
            let socket = socket2::Socket::new(accept.domain, Type::STREAM, Some(Protocol::TCP));
            let socket = match socket {
                Ok(socket) => socket,
                Err(error) => return self.pause_accept(operation, &error),
            };
            let place = self.places.take(operation, 0);
            let mut addresses = vec![NO_ADDRESSES];
            // SAFETY: sockets, addresses and place are kept until the packet is taken.
            let started = unsafe {
                extensions.accept(
                    &listener.socket,
                    &socket,
                    addresses.as_mut_ptr(),
                    place.overlapped(),
                )
            };
            accept.posted.push(Posted { place, socket, _addresses: addresses });
            match started {
                Ok(Started::Complete(_)) if listener.skips => {
                    self.ready.push_back(Ready::Done(operation, Some(place), Ok(0)));
                }
                Ok(_) => {}
                Err(error) => {
                    // Its step says whether to go on; posting more now could fail without end.
                    self.ready.push_back(Ready::Done(operation, Some(place), Err(error)));
                    return;
                }
            }
        }
        accept.warned = false;
    }

    /// Lets an accept wait for what the system lacks, and says so once until it recovers.
    fn pause_accept(&mut self, operation: Operation, error: &io::Error) {
        let Kind::Accept(accept) = &mut self.operations[operation].kind else {
            unreachable!("the caller knows");
        };
        if !std::mem::replace(&mut accept.warned, true) {
            tracing::warn!(%error, "accepting waits until the system has sockets again");
        }
        if !self.parked_accepts.contains(&operation) {
            self.parked_accepts.push(operation);
        }
        self.accept_again = Time::monotonic() + PAUSE;
    }

    pub(super) fn accept_step(
        &mut self,
        operation: Operation,
        place: Option<Place>,
        outcome: io::Result<u32>,
        completions: &mut Vec<Completion>,
    ) {
        let flight = &mut self.operations[operation];
        let Kind::Accept(accept) = &mut flight.kind else { unreachable!("the caller knows") };
        let posted = place
            .and_then(|place| accept.posted.iter().position(|posted| posted.place == place))
            .map(|index| accept.posted.swap_remove(index));
        let mut shortage = None;
        match (posted, outcome) {
            (Some(posted), Ok(_)) => {
                let listener = &self.sockets[flight.socket].socket;
                match accepted(posted.socket, listener) {
                    Ok(incoming) => completions
                        .push(Completion { token: flight.token, event: Event::Accepted(incoming) }),
                    Err(error) => tracing::debug!(%error, "a connection was gone when accepted"),
                }
            }
            (_, Err(error)) if !flight.cancelled && accept.broken.is_none() => {
                match fault(&error) {
                    Fault::Connection => {}
                    Fault::Shortage => shortage = Some(error),
                    Fault::Listener => {
                        accept.broken = Some(error);
                        let listener = &self.sockets[flight.socket].socket;
                        for posted in &accept.posted {
                            system::cancel(listener, posted.place.overlapped());
                        }
                    }
                }
            }
            _ => {}
        }
        let ends = flight.cancelled || accept.broken.is_some();
        if !ends {
            match shortage {
                Some(error) => self.pause_accept(operation, &error),
                None => self.post_accepts(operation),
            }
        } else if accept.posted.is_empty() {
            let why = accept.broken.take().unwrap_or_else(aborted);
            self.parked_accepts.retain(|&parked| parked != operation);
            self.finish(operation, Err(why), completions);
        }
    }

    /// Lets parked accepts go on, when their pause is over.
    pub(super) fn retry_accepts(&mut self) {
        if self.parked_accepts.is_empty() || Time::monotonic() < self.accept_again {
            return;
        }
        for operation in std::mem::take(&mut self.parked_accepts) {
            self.post_accepts(operation);
        }
    }
}

/// Makes a connection of a socket that AcceptEx is done with.
fn accepted(socket: socket2::Socket, listener: &socket2::Socket) -> io::Result<Incoming> {
    system::update_accept_context(&socket, listener)?;
    let peer = peer_of(socket.peer_addr()?)?;
    socket.set_tcp_nodelay(true)?;
    Ok(Incoming { origin: IncomingOrigin::Os(socket), peer })
}
