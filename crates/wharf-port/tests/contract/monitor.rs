//! What holds at every completion, whatever the test: checked here for all of them.

use std::collections::BTreeMap;

use wharf_port::{Completion, Event, Socket, Token};

/// What was submitted, as far as it has to come back.
#[derive(Debug)]
pub(crate) enum Kind {
    Accept,
    Receive,
    /// The block's address, length and capacity.
    ReceiveInto {
        at: usize,
        len: usize,
        capacity: usize,
    },
    /// The gather's address, and how much it holds.
    Send {
        at: usize,
        remaining: usize,
    },
    SendFile {
        offset: u64,
        length: u64,
    },
    Shutdown,
    Close,
}

/// Follows every operation from its submission to its end.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    last: u64,
    in_flight: BTreeMap<u64, (Socket, Kind)>,
    /// Bytes that the stream of a socket had ended behind: nothing may come after.
    ended: BTreeMap<Socket, u64>,
}

impl Monitor {
    /// A token that no other operation has.
    pub(crate) fn submit(&mut self, socket: Socket, kind: Kind) -> Token {
        self.last += 1;
        self.in_flight.insert(self.last, (socket, kind));
        Token(self.last)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Holds a completion to the contract. True: it is final.
    pub(crate) fn check(&mut self, completion: &Completion) -> bool {
        let (token, event) = (completion.token.0, &completion.event);
        let Some((socket, kind)) = self.in_flight.get(&token) else {
            panic!("{event:?} for an operation that has ended or was never submitted: {token}");
        };
        let socket = *socket;
        match (kind, event) {
            (Kind::Accept, Event::Accepted(_)) => return false,
            (Kind::Receive, Event::Received(lease)) => {
                assert!(!lease.is_empty(), "nothing was received");
                assert!(!self.ended.contains_key(&socket), "bytes behind the end of the stream");
                return false;
            }
            (Kind::Accept, Event::AcceptEnded(_)) => {}
            (Kind::Receive, Event::ReceiveEnded(result)) => {
                if result.is_ok() {
                    self.ended.insert(socket, token);
                }
            }
            (Kind::ReceiveInto { at, len, capacity }, Event::ReceivedInto { block, result }) => {
                assert_eq!((block.as_ptr().addr(), block.capacity()), (*at, *capacity));
                let count = *result.as_ref().unwrap_or(&0);
                assert_eq!(block.len(), len + count, "longer by what was received");
                assert!(count == 0 || !self.ended.contains_key(&socket), "bytes behind the end");
                if matches!(result, Ok(0)) {
                    self.ended.insert(socket, token);
                }
            }
            (Kind::Send { at, remaining }, Event::Sent { gather, result }) => {
                assert_eq!(std::ptr::from_ref(&**gather).addr(), *at, "the gather comes back");
                assert_eq!(gather.remaining(), *remaining, "and was not advanced");
                if let Ok(count) = result {
                    assert!((1..=*remaining).contains(count), "{count} of {remaining} sent");
                }
            }
            (Kind::SendFile { offset, length }, Event::FileSent { range, result }) => {
                assert_eq!((range.offset, range.length), (*offset, *length));
                if let Ok(count) = result {
                    assert!(count <= length, "{count} of {length} sent");
                }
            }
            (Kind::Shutdown, Event::ShutDown(_)) => {}
            (Kind::Close, Event::Closed) => {
                let others = self
                    .in_flight
                    .iter()
                    .find(|&(&other, (of, _))| of == &socket && other != token);
                assert!(others.is_none(), "closed before the end of {others:?}");
                self.ended.remove(&socket);
            }
            (kind, event) => panic!("{event:?} for {kind:?}"),
        }
        self.in_flight.remove(&token);
        true
    }
}
