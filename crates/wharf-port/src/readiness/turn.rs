//! A turn: what is in the list is tried, what ends completes, and what finds no block or no
//! descriptor is parked until it may.

use std::io;
use std::mem;
use std::net::Shutdown;
use std::time::Duration;

use super::system::{self, AcceptFailure};
use super::{Closing, Kind, PAUSE, Readiness};
use crate::{Completion, Event, Failure, Operation, Socket, Time};

/// Blocks received from one socket in a turn; the rest waits until the others had theirs.
const RECEIVES_PER_TURN: usize = 16;
/// Connections accepted from one listener in a turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Failures of single connections in a row, after which accepting pauses: whatever they are, they
/// do not pass by being retried at once.
const FAILED_ACCEPTS_PER_TURN: usize = 16;

impl Readiness {
    /// Tries what is in the list, each socket once.
    pub(super) fn run(&mut self, completions: &mut Vec<Completion>) {
        mem::swap(&mut self.turn, &mut self.running);
        for index in 0..self.running.len() {
            let key = self.running[index];
            // Closed since it was queued, and maybe its slot has another socket.
            let Some(entry) = self.sockets.get_mut(key) else { continue };
            entry.queued = false;
            let (receiving, sending) = (entry.receiving, entry.sending);
            if let Some(operation) = sending {
                self.try_send(key, operation, completions);
            }
            if let Some(operation) = receiving {
                self.try_receive(key, operation, completions);
            }
        }
        self.running.clear();
    }

    fn try_receive(
        &mut self,
        key: Socket,
        operation: Operation,
        completions: &mut Vec<Completion>,
    ) {
        let entry = &mut self.sockets[key];
        if entry.cancel_receive {
            return self.end_receive(key, Err(Failure::Cancelled), completions);
        }
        if !entry.readable || entry.parked {
            return;
        }
        match self.operations[operation].kind {
            Kind::Receive => self.receive_blocks(key, operation, completions),
            Kind::Accept { .. } => self.accept_some(key, operation, completions),
            _ => self.receive_once(key, operation, completions),
        }
    }

    fn receive_blocks(
        &mut self,
        key: Socket,
        operation: Operation,
        completions: &mut Vec<Completion>,
    ) {
        let entry = &mut self.sockets[key];
        let token = self.operations[operation].token;
        for _ in 0..RECEIVES_PER_TURN {
            let Some(block) = self.pool.take() else {
                entry.parked = true;
                self.parked.push_back(operation);
                self.parked_receives += 1;
                return;
            };
            match system::receive(&entry.socket, &mut self.pool, block) {
                Ok(Some(lease)) => {
                    let short = lease.len() < self.pool.block_len();
                    completions.push(Completion { token, event: Event::Received(lease) });
                    if short && !entry.may_have_more() {
                        entry.readable = false;
                        return;
                    }
                }
                Ok(None) => return self.end_receive(key, Ok(0), completions),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    entry.readable = false;
                    return;
                }
                Err(error) => return self.end_receive(key, Err(error.into()), completions),
            }
        }
        entry.queue(key, &mut self.turn);
    }

    fn receive_once(
        &mut self,
        key: Socket,
        operation: Operation,
        completions: &mut Vec<Completion>,
    ) {
        let entry = &mut self.sockets[key];
        let Kind::ReceiveInto(block) = &mut self.operations[operation].kind else {
            unreachable!("the other kinds are dispatched before")
        };
        match system::receive_into(&entry.socket, block) {
            Ok(count) => {
                let short = count > 0 && block.len() < block.capacity();
                entry.readable = !short || entry.may_have_more();
                self.end_receive(key, Ok(count as u64), completions);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => entry.readable = false,
            Err(error) => self.end_receive(key, Err(error.into()), completions),
        }
    }

    fn accept_some(
        &mut self,
        key: Socket,
        operation: Operation,
        completions: &mut Vec<Completion>,
    ) {
        let entry = &mut self.sockets[key];
        let token = self.operations[operation].token;
        let mut failed = 0;
        for _ in 0..ACCEPTS_PER_TURN {
            match system::accept(&entry.socket) {
                Ok(incoming) => {
                    failed = 0;
                    completions.push(Completion { token, event: Event::Accepted(incoming) });
                }
                Err(AcceptFailure::WouldBlock) => {
                    entry.readable = false;
                    // Everybody who waited is in: the next shortage is news again.
                    self.operations[operation].kind = Kind::Accept { told: false };
                    return;
                }
                Err(AcceptFailure::Exhausted(error)) => return self.park_accept(key, &error),
                Err(AcceptFailure::Connection(error)) => {
                    failed += 1;
                    if failed == FAILED_ACCEPTS_PER_TURN {
                        return self.park_accept(key, &error);
                    }
                }
                Err(AcceptFailure::Listener(error)) => {
                    return self.end_receive(key, Err(error.into()), completions);
                }
            }
        }
        entry.queue(key, &mut self.turn);
    }

    fn park_accept(&mut self, key: Socket, error: &io::Error) {
        let entry = &mut self.sockets[key];
        entry.parked = true;
        self.parked_accepts.push(key);
        self.accept_again = Time::monotonic() + PAUSE;
        let Some(operation) = entry.receiving else { return };
        if let Kind::Accept { told } = &mut self.operations[operation].kind
            && !mem::replace(told, true)
        {
            tracing::warn!(%error, "accepting connections pauses until there is room again");
        }
    }

    fn try_send(&mut self, key: Socket, operation: Operation, completions: &mut Vec<Completion>) {
        let entry = &mut self.sockets[key];
        if entry.cancel_send {
            return self.end_send(key, Err(Failure::Cancelled), completions);
        }
        let outcome = match &self.operations[operation].kind {
            Kind::Shutdown => entry.socket.shutdown(Shutdown::Write).map(|()| 0),
            _ if !entry.writable => return,
            Kind::Send(gather) => system::send(&entry.socket, gather).map(|sent| {
                if sent.full {
                    entry.writable = false;
                }
                sent.count as u64
            }),
            Kind::SendFile(range) => system::send_file(&entry.socket, range, &mut self.copy),
            _ => unreachable!("only sends are noted as sending"),
        };
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => entry.writable = false,
            outcome => self.end_send(key, outcome.map_err(Failure::Io), completions),
        }
    }

    fn end_receive(
        &mut self,
        key: Socket,
        outcome: Result<u64, Failure>,
        completions: &mut Vec<Completion>,
    ) {
        let entry = &mut self.sockets[key];
        entry.cancel_receive = false;
        let was_parked = mem::replace(&mut entry.parked, false);
        let Some(operation) = entry.receiving.take() else { return };
        let Some(submitted) = self.operations.remove(operation) else { return };
        if was_parked {
            if matches!(submitted.kind, Kind::Accept { .. }) {
                self.parked_accepts.retain(|&parked| parked != key);
            } else {
                self.parked_receives -= 1;
                self.forget_parked();
            }
        }
        completions.push(Completion { token: submitted.token, event: submitted.kind.end(outcome) });
    }

    fn end_send(
        &mut self,
        key: Socket,
        outcome: Result<u64, Failure>,
        completions: &mut Vec<Completion>,
    ) {
        let entry = &mut self.sockets[key];
        entry.cancel_send = false;
        let Some(operation) = entry.sending.take() else { return };
        let Some(submitted) = self.operations.remove(operation) else { return };
        self.unsent.end(&entry.flow);
        completions.push(Completion { token: submitted.token, event: submitted.kind.end(outcome) });
    }

    /// Closes what was asked to be closed: there is nothing to join, for the kernel holds no
    /// operation of this backend.
    pub(super) fn close_all(&mut self, completions: &mut Vec<Completion>) {
        if self.closing.is_empty() {
            return;
        }
        let mut closing = mem::take(&mut self.closing);
        for Closing { socket: key, token, reset } in closing.drain(..) {
            self.end_receive(key, Err(Failure::Cancelled), completions);
            self.end_send(key, Err(Failure::Cancelled), completions);
            // The descriptor's end is its registration's too. Should a child of this process hold a
            // copy between fork and exec, late edges carry a name that finds nothing.
            let Some(entry) = self.sockets.remove(key) else { continue };
            if reset && let Err(error) = entry.socket.set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "a connection is closed without a reset");
            }
            drop(entry);
            completions.push(Completion { token, event: Event::Closed });
        }
        self.closing = closing;
        // A descriptor is free now.
        self.accept_again = Time::ZERO;
    }

    /// Puts back into the list what may find a block or a descriptor now.
    pub(super) fn unpark(&mut self) {
        if self.parked_receives > 0 {
            // At least one, for the memory that failed the pool may be there again.
            let mut blocks = self.pool.free().max(1);
            while blocks > 0 {
                let Some(operation) = self.parked.pop_front() else { break };
                let Some(submitted) = self.operations.get(operation) else { continue };
                let Some(entry) = self.sockets.get_mut(submitted.socket) else { continue };
                entry.parked = false;
                self.parked_receives -= 1;
                entry.queue(submitted.socket, &mut self.turn);
                blocks -= 1;
            }
        }
        if !self.parked_accepts.is_empty() && self.now >= self.accept_again {
            for key in self.parked_accepts.drain(..) {
                let Some(entry) = self.sockets.get_mut(key) else { continue };
                entry.parked = false;
                entry.queue(key, &mut self.turn);
            }
        }
    }

    /// Keeps ended receives from piling up in the list of parked ones.
    fn forget_parked(&mut self) {
        if self.parked.len() > 2 * self.parked_receives + 64 {
            let operations = &self.operations;
            self.parked.retain(|&operation| operations.contains_key(operation));
        }
    }
}
