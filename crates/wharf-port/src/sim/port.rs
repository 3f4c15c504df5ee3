//! The port of the simulated network: its tables and what is submitted.
//!
//! A submission only takes note; all happens in [`turn`](super::turn), inside of a wait.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::mem::{self, ManuallyDrop};
use std::rc::Rc;
use std::time::Duration;

use slotmap::SlotMap;

use super::world::{ConnectionKey, ListenerKey, PortKey, PortState, Side, World};
use crate::lease::Pool;
use crate::listener::{IncomingOrigin, ListenerOrigin};
use crate::port::Implementation;
use crate::*;

/// The simulated backend.
pub(crate) struct Simulated {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) key: PortKey,
    pub(super) sockets: SlotMap<Socket, Entry>,
    pub(super) operations: SlotMap<Operation, Submitted>,
    /// Sockets to look at in the next turn.
    pub(super) turn: BTreeSet<Socket>,
    /// When to look at a socket again.
    pub(super) timers: BTreeSet<(Time, Socket)>,
    /// Sockets of which something is done.
    pub(super) finished: BTreeSet<Socket>,
    /// Receives that found no block, in order.
    pub(super) parked: VecDeque<Socket>,
    /// Listeners that found no descriptor.
    pub(super) parked_accepts: Vec<Socket>,
    /// Until when the pool is made to look empty.
    pub(super) exhausted_until: Time,
    /// Until when descriptors are made to look used up.
    pub(super) refused_until: Time,
    waker: Waker,
    now: Time,
    waits: u64,
    /// Taken out only by the drop.
    pub(super) pool: ManuallyDrop<Pool>,
}

/// A socket in the table.
pub(super) struct Entry {
    pub(super) place: Place,
    /// The operation of the receive kind (on a listener, the accept), until its last completion is
    /// handed out.
    pub(super) receiving: Option<Operation>,
    /// The operation of the send kind, likewise.
    pub(super) sending: Option<Operation>,
    /// Whether `receiving` waits for a block or a descriptor.
    pub(super) parked: bool,
    pub(super) closing: Option<Closing>,
    /// Whether `closing` has happened and only has to be told.
    pub(super) closed: bool,
    /// What has completed and is not handed out yet, in order.
    pub(super) done: VecDeque<Done>,
}

impl Entry {
    /// Whether something may be handed out now.
    pub(super) fn has_due(&self, now: Time) -> bool {
        self.done.front().is_some_and(|first| first.due <= now)
    }
}

/// What a socket stands for.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Listener(ListenerKey),
    Connection(ConnectionKey),
}

pub(super) struct Closing {
    pub(super) token: Token,
    pub(super) reset: bool,
}

/// A completion that is not handed out before its time.
pub(super) struct Done {
    pub(super) due: Time,
    pub(super) completion: Completion,
    /// The operation that it ends.
    pub(super) ends: Option<Operation>,
}

/// An operation in flight.
pub(super) struct Submitted {
    pub(super) token: Token,
    pub(super) socket: Socket,
    pub(super) kind: Kind,
    /// When it ends if it has not before.
    pub(super) cancel_at: Option<Time>,
}

pub(super) enum Kind {
    Accept {
        /// Whether the log has been told that descriptors ran out.
        told: bool,
    },
    Receive,
    ReceiveInto(Vec<u8>),
    Send(Box<Gather>),
    SendFile(FileRange),
    Shutdown,
    /// Its last completion waits to be handed out.
    Over,
}

impl Simulated {
    pub(super) fn open(world: Rc<RefCell<World>>, config: &Config) -> Simulated {
        // The thread that waits never sleeps: it finds the notification.
        let waker = Waker::new(|| {});
        let key = world.borrow_mut().ports.insert(PortState::new(waker.clone()));
        let blocks_max = config.receive_blocks_max.next_power_of_two();
        let blocks = config.receive_blocks.min(blocks_max);
        let now = world.borrow().now();
        Simulated {
            world,
            key,
            sockets: SlotMap::with_key(),
            operations: SlotMap::with_key(),
            turn: BTreeSet::new(),
            timers: BTreeSet::new(),
            finished: BTreeSet::new(),
            parked: VecDeque::new(),
            parked_accepts: Vec::new(),
            exhausted_until: Time::ZERO,
            refused_until: Time::ZERO,
            waker,
            now,
            waits: 0,
            pool: ManuallyDrop::new(Pool::new(config.receive_block_bytes, blocks, blocks_max)),
        }
    }

    fn add(&mut self, place: impl FnOnce(Socket) -> Place) -> Socket {
        self.sockets.insert_with_key(|key| Entry {
            place: place(key),
            receiving: None,
            sending: None,
            parked: false,
            closing: None,
            closed: false,
            done: VecDeque::new(),
        })
    }

    fn submit(&mut self, socket: Socket, token: Token, kind: Kind) -> Operation {
        let entry = self.sockets.get_mut(socket).expect("a socket of this port");
        assert!(entry.closing.is_none(), "the socket is being closed");
        let sends = matches!(kind, Kind::Send(_) | Kind::SendFile(_) | Kind::Shutdown);
        let accepts = matches!(kind, Kind::Accept { .. });
        assert_eq!(accepts, matches!(entry.place, Place::Listener(_)), "not of this socket's kind");
        let slot = if sends { &mut entry.sending } else { &mut entry.receiving };
        assert!(slot.is_none(), "one operation a direction");
        let submitted = Submitted { token, socket, kind, cancel_at: None };
        let operation = self.operations.insert(submitted);
        *slot = Some(operation);
        self.turn.insert(socket);
        operation
    }

    /// Makes an operation end, now or soon.
    fn cancel_soon(&mut self, operation: Operation) {
        let Some(submitted) = self.operations.get_mut(operation) else { return };
        if submitted.cancel_at.is_some() {
            return;
        }
        let mut world = self.world.borrow_mut();
        let late = world.faults.late_cancel && world.random.bool();
        let at = if late { world.now() + world.delay() } else { world.now() };
        submitted.cancel_at = Some(at);
        self.timers.insert((at, submitted.socket));
    }

    /// The part of a wait that comes before anything may happen, and what follows it. True: the
    /// wait is over.
    fn turn(&mut self, completions: &mut Vec<Completion>, until: Option<Time>) -> bool {
        let before = completions.len();
        loop {
            self.world.borrow_mut().happen();
            self.look_around();
            self.hand_out(completions);
            let mut world = self.world.borrow_mut();
            let acts = world.take_agenda();
            let reached = until.is_some_and(|until| world.now() >= until);
            if acts || reached || completions.len() > before || self.waker.is_notified() {
                return true;
            }
            drop(world);
            if self.turn.is_empty() {
                return false;
            }
        }
    }

    /// Lets time pass until something may happen. False: it may not pass.
    fn pass(&mut self, until: Option<Time>) -> bool {
        let mut world = self.world.borrow_mut();
        if !self.waker.about_to_sleep() {
            return false;
        }
        let timer = self.timers.first().map(|&(time, _)| time);
        let next = world.next_time().into_iter().chain(timer).chain(until).min();
        let allowed = world.others_allow(self.key);
        if allowed <= world.now() {
            return false;
        }
        match next {
            Some(time) => world.pass(time.min(allowed)),
            None if allowed < Time::FAR => world.pass(allowed),
            None => {
                world.deadlocks += 1;
                return false;
            }
        }
        !self.waker.awake()
    }
}

impl Implementation for Simulated {
    fn now(&self) -> Time {
        self.now
    }

    fn clock(&self) -> Time {
        self.world.borrow().now()
    }

    fn tick(&self) -> u64 {
        self.clock().as_nanos()
    }

    fn unix_time(&self) -> u64 {
        self.world.borrow().unix_time()
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn listen(&mut self, listener: Listener) -> io::Result<Socket> {
        match listener.origin {
            ListenerOrigin::Sim => {}
            ListenerOrigin::Os(_) => return Err(not_simulated()),
        }
        let (world, port) = (self.world.clone(), self.key);
        let address = listener.address;
        Ok(self.add(|socket| Place::Listener(world.borrow_mut().listen(address, (port, socket)))))
    }

    fn adopt(&mut self, incoming: Incoming) -> io::Result<Socket> {
        let IncomingOrigin::Sim(accepted) = incoming.origin else { return Err(not_simulated()) };
        let Some(connection) = self.world.borrow_mut().adopt(accepted) else {
            return Err(not_simulated());
        };
        let socket = self.add(|_| Place::Connection(connection));
        self.world.borrow_mut().own(connection, (self.key, socket));
        Ok(socket)
    }

    fn accept(&mut self, listener: Socket, token: Token) -> Operation {
        self.submit(listener, token, Kind::Accept { told: false })
    }

    fn receive(&mut self, socket: Socket, token: Token) -> Operation {
        self.submit(socket, token, Kind::Receive)
    }

    fn receive_into(&mut self, socket: Socket, block: Vec<u8>, token: Token) -> Operation {
        self.submit(socket, token, Kind::ReceiveInto(block))
    }

    fn send(&mut self, socket: Socket, gather: Box<Gather>, token: Token) -> Operation {
        self.submit(socket, token, Kind::Send(gather))
    }

    fn send_file(&mut self, socket: Socket, range: FileRange, token: Token) -> Operation {
        self.submit(socket, token, Kind::SendFile(range))
    }

    fn shutdown(&mut self, socket: Socket, token: Token) -> Operation {
        self.submit(socket, token, Kind::Shutdown)
    }

    fn close(&mut self, socket: Socket, reset: bool, token: Token) {
        let entry = self.sockets.get_mut(socket).expect("a socket of this port");
        assert!(entry.closing.is_none(), "the socket is being closed");
        entry.closing = Some(Closing { token, reset });
        let in_flight = [entry.receiving, entry.sending];
        in_flight.into_iter().flatten().for_each(|operation| self.cancel_soon(operation));
        self.turn.insert(socket);
    }

    fn give_back(&mut self, lease: Lease) {
        self.pool.reclaim(lease);
    }

    fn cancel(&mut self, operation: Operation) {
        self.cancel_soon(operation);
    }

    fn wait(&mut self, completions: &mut Vec<Completion>, until: Option<Time>) -> io::Result<()> {
        let before = completions.len();
        self.waits += 1;
        let spurious = {
            let mut world = self.world.borrow_mut();
            world.close_dropped();
            let per_mille = world.faults.spurious_wake_per_mille;
            world.chance(per_mille)
        };
        while !self.turn(completions, until) && !spurious && self.pass(until) {}
        self.waker.awake();
        let mut world = self.world.borrow_mut();
        let some = completions.len() > before;
        if some {
            // A turn takes time, or one who always finds something would stop the clock.
            let later = world.now() + Duration::from_micros(1);
            world.pass(later);
        }
        self.now = world.now();
        let state = &mut world.ports[self.key];
        state.until = until;
        state.busy = some || !self.turn.is_empty();
        Ok(())
    }

    fn counters(&mut self) -> Counters {
        let (blocks, free) = (self.pool.len(), self.pool.free());
        Counters {
            sockets: self.sockets.len(),
            operations: self.operations.len(),
            receive_blocks: blocks,
            leased_blocks: blocks - free,
            parked_receives: self.parked.len(),
            parked_accepts: self.parked_accepts.len(),
            waits: self.waits,
        }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // Accepted connections among the completions say that they are dropped.
        let sockets = mem::take(&mut self.sockets);
        let places: Vec<Place> = sockets.values().map(|entry| entry.place).collect();
        drop(sockets);
        // A test that fails may be in the middle of something.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            for place in places {
                match place {
                    Place::Listener(listener) => world.unlisten(listener),
                    Place::Connection(connection) => world.close(connection, Side::Server, false),
                }
            }
            world.close_dropped();
            world.ports.remove(self.key);
        }
        // SAFETY: nobody uses the pool after this; the drop runs once.
        let pool = unsafe { ManuallyDrop::take(&mut self.pool) };
        // Blocks are taken only while bytes are copied into them.
        pool.close(0);
    }
}

fn not_simulated() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a simulated port has sockets of its network only")
}
