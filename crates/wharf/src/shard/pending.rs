//! Received bytes that wait for their turn, in stream order.
//!
//! Nearly always there are none or one lease, which take 24 bytes of the connection and no
//! allocation.

use std::collections::VecDeque;

use wharf_port::Lease;

use crate::request::View;

#[derive(Default)]
pub(super) struct Pending {
    /// Invariant: if there is one, it is first in line, before all of `rest`.
    first: Option<Lease>,
    /// Boxed, since few connections have it and every connection pays for its room.
    /// Never an empty one.
    #[allow(clippy::box_collection)]
    rest: Option<Box<VecDeque<View>>>,
}

impl Pending {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    /// How many views wait.
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// Adds what was received last.
    pub(super) fn push(&mut self, view: View) {
        match view {
            View::Empty => {}
            View::Lease(lease) if self.is_empty() => self.first = Some(lease),
            view => self.rest.get_or_insert_default().push_back(view),
        }
    }

    /// Takes the first in line, if it is a lease that nothing was put before.
    #[inline]
    pub(super) fn next_lease(&mut self) -> Option<Lease> {
        self.first.take()
    }

    /// Takes the first in line.
    #[inline]
    pub(super) fn next(&mut self) -> Option<View> {
        if let Some(lease) = self.first.take() {
            return Some(View::Lease(lease));
        }
        if self.rest.is_none() { None } else { self.next_of_rest() }
    }

    fn next_of_rest(&mut self) -> Option<View> {
        let next = self.rest.as_mut()?.pop_front();
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
        next
    }

    /// Puts back what was taken and not used.
    pub(super) fn unread(&mut self, view: View) {
        if let Some(later) = self.first.take() {
            self.rest.get_or_insert_default().push_front(View::Lease(later));
        }
        match view {
            View::Empty => {}
            View::Lease(lease) => self.first = Some(lease),
            joined => self.rest.get_or_insert_default().push_front(joined),
        }
    }

    /// Copies everything out of the receive blocks.
    pub(super) fn copy_out(&mut self) {
        let views: VecDeque<View> =
            std::iter::from_fn(|| self.next()).map(View::copied_out).collect();
        self.rest = if views.is_empty() { None } else { Some(Box::new(views)) };
    }

    /// Throws everything away, and the room for it.
    pub(super) fn clear(&mut self) {
        *self = Pending::default();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wharf_port::sim::{Faults, Network};
    use wharf_port::{Config, Event, Listener, Token};

    use super::*;

    /// Leases on single bytes, `a`, `b` and so on.
    fn leases(count: usize) -> Vec<View> {
        let network = Network::new(1, Faults::none());
        let mut port = network.port(&Config::default());
        let address = "10.0.0.1:80".parse().expect("an address");
        let listener = port.listen(Listener::simulated(address)).expect("it listens");
        port.accept(listener, Token(0));
        let bytes: Vec<u8> = (b'a'..).take(count).collect();
        let mut peer = network.connect(address);
        peer.send(&bytes);
        let (mut completions, mut received) = (Vec::new(), None);
        while received.is_none() {
            port.wait(&mut completions, None).expect("a simulated port does not fail");
            for completion in completions.drain(..) {
                match completion.event {
                    Event::Accepted(incoming) => {
                        let socket = port.adopt(incoming).expect("it is there");
                        port.receive(socket, Token(1));
                    }
                    Event::Received(lease) => received = Some(lease),
                    other => panic!("{other:?}"),
                }
            }
        }
        let lease = received.expect("the loop's condition");
        (0..count).map(|at| View::Lease(lease.slice(at..=at))).collect()
    }

    fn joined(text: &'static str) -> View {
        View::Joined(Bytes::from_static(text.as_bytes()))
    }

    fn drain(pending: &mut Pending) -> String {
        let mut all = String::new();
        while let Some(view) = pending.next() {
            all.push_str(std::str::from_utf8(view.as_slice()).expect("ASCII"));
        }
        assert!(pending.is_empty());
        all
    }

    #[test]
    fn order_is_kept_whatever_is_put_back() {
        let mut pending = Pending::default();
        leases(3).into_iter().for_each(|view| pending.push(view));
        pending.push(joined("d"));
        assert_eq!(pending.len(), 4);
        let first = pending.next().expect("four wait");
        pending.unread(first);
        let (first, second) = (pending.next(), pending.next());
        pending.unread(second.expect("four wait"));
        pending.unread(first.expect("four wait"));
        pending.unread(joined("0"));
        pending.unread(View::Empty);
        pending.copy_out();
        assert_eq!(drain(&mut pending), "0abcd");
        pending.push(joined("x"));
        leases(2).into_iter().for_each(|view| pending.push(view));
        assert_eq!(drain(&mut pending), "xab");
        leases(1).into_iter().for_each(|view| pending.unread(view));
        pending.clear();
        assert!(pending.next().is_none());
    }
}
