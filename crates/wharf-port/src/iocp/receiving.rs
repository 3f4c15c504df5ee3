//! Receives: into leases, and into a given block.
//!
//! ```text
//!                no block              a block came back
//!            ┌──────────────► Parked ──────────────┐
//!   Watching │                                     ▼
//!   (0 bytes in flight) ── something came ──► Filling (a block in flight)
//!        ▲                                         │
//!        └──────────────── Received ◄──────────────┘
//! ```
//! Filling is over at once, as a rule: the bytes are there. A receive that is cancelled while
//! Watching loses nothing, as no bytes were asked for; one that is cancelled while Filling ends
//! with its bytes if it got any.

use std::io;
use std::mem;

use super::{Flight, Iocp, Kind, aborted, system};
use crate::{Completion, Event, Failure, Operation, Socket, Token};

/// Bytes of a given block that one call receives at most: the kernel locks all of them meanwhile.
const RECEIVE_BYTES_MAX: usize = 1 << 20;

/// Where a repeating receive stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Receive {
    /// Waiting for anything to come.
    Watching,
    /// Receiving into the block with this number.
    Filling(u32),
    /// Waiting for a block.
    Parked,
}

impl Iocp {
    pub(super) fn begin_receive(&mut self, socket: Socket, token: Token) -> Operation {
        let operation = self.begin_receiving(socket, token, Kind::Receive(Receive::Parked));
        self.watch(operation);
        operation
    }

    pub(super) fn begin_receive_into(
        &mut self,
        socket: Socket,
        mut block: Vec<u8>,
        token: Token,
    ) -> Operation {
        let room = block.spare_capacity_mut();
        let (data, length) = (room.as_mut_ptr().cast(), room.len().min(RECEIVE_BYTES_MAX) as u32);
        let operation = self.begin_receiving(socket, token, Kind::ReceiveInto(block));
        let place = self.places.take(operation, 0);
        let endpoint = &self.sockets[socket];
        let skips = endpoint.skips;
        // SAFETY: the block is kept in `operations`, unmoved on the heap, until the packet is
        // taken, and so is the place.
        let started =
            unsafe { system::receive(&endpoint.socket, data, length, place.overlapped()) };
        self.note(operation, place, skips, started);
        operation
    }

    /// Waits, without memory, for anything to come.
    fn watch(&mut self, operation: Operation) {
        let socket = self.operations[operation].socket;
        let place = self.places.take(operation, 0);
        let endpoint = &self.sockets[socket];
        let skips = endpoint.skips;
        let nothing: *mut u8 = std::ptr::dangling_mut();
        // SAFETY: no bytes are received, and the place is taken until the packet is.
        let started = unsafe { system::receive(&endpoint.socket, nothing, 0, place.overlapped()) };
        self.operations[operation].kind = Kind::Receive(Receive::Watching);
        self.note(operation, place, skips, started);
    }

    /// Receives what is there into a block of the pool. False: no block is left.
    fn fill(&mut self, operation: Operation, completions: &mut Vec<Completion>) -> bool {
        let Some(block) = self.pool().take() else { return false };
        let socket = self.operations[operation].socket;
        let place = self.places.take(operation, 0);
        let pool = self.pool();
        let (data, length) = (pool.data(block), pool.block_len() as u32);
        let endpoint = &self.sockets[socket];
        let skips = endpoint.skips;
        // SAFETY: the block is this operation's until it is given back or leased, after the packet
        // was taken; so is the place.
        let started =
            unsafe { system::receive(&endpoint.socket, data.as_ptr(), length, place.overlapped()) };
        self.filling += 1;
        self.operations[operation].kind = Kind::Receive(Receive::Filling(block));
        let outcome = match started {
            Ok(system::Started::Complete(bytes)) if skips => Ok(bytes),
            Ok(_) => {
                self.operations[operation].place = Some(place);
                return true;
            }
            Err(error) => Err(error),
        };
        // The end of a step that looked for packets or for `ready` itself: no need to queue again.
        self.places.give_back(place);
        self.receive_step(operation, outcome, completions);
        true
    }

    pub(super) fn receive_step(
        &mut self,
        operation: Operation,
        outcome: io::Result<u32>,
        completions: &mut Vec<Completion>,
    ) {
        let Flight { token, cancelled, kind: Kind::Receive(state), .. } =
            &self.operations[operation]
        else {
            unreachable!("the caller knows the kind");
        };
        let (token, cancelled, state) = (*token, *cancelled, *state);
        let ended = match (state, outcome) {
            (Receive::Watching, Ok(_)) if !cancelled => {
                if !self.fill(operation, completions) {
                    self.operations[operation].kind = Kind::Receive(Receive::Parked);
                    self.parked.push_back(operation);
                }
                return;
            }
            (Receive::Filling(block), Ok(bytes @ 1..)) => {
                self.filling -= 1;
                // SAFETY: the block was taken for this operation, the kernel wrote that many
                // bytes to it and is done with it.
                let lease = unsafe { self.pool().lease(block, bytes as usize) };
                completions.push(Completion { token, event: Event::Received(lease) });
                if !cancelled {
                    return self.watch(operation);
                }
                Err(aborted())
            }
            (Receive::Filling(block), outcome) => {
                self.filling -= 1;
                self.pool().give_back(block);
                outcome
            }
            (Receive::Watching | Receive::Parked, outcome) => outcome.and(Err(aborted())),
        };
        self.finish(operation, ended, completions);
    }

    /// Lets parked receives go on, as far as blocks are there.
    pub(super) fn unpark(&mut self, completions: &mut Vec<Completion>) {
        while let Some(&operation) = self.parked.front() {
            if !self.fill(operation, completions) {
                return;
            }
            self.parked.pop_front();
        }
    }
}

/// The final event of a receive into a given block.
pub(super) fn received_into(mut block: Vec<u8>, result: Result<u32, Failure>) -> Event {
    let result = result.map(|count| count as usize);
    if let Ok(count) = result {
        // SAFETY: the kernel wrote `count` bytes behind those that the block held, inside its
        // capacity.
        unsafe { block.set_len(block.len() + count) };
    }
    Event::ReceivedInto { block: mem::take(&mut block), result }
}
