//! How many connections there may be, in all and from one peer.
//!
//! Shared by the shards; touched when a connection begins and ends, never by a request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub(crate) struct Admission {
    max: usize,
    max_per_peer: usize,
    /// Invariant: never more than `max`.
    total: AtomicUsize,
    /// Addresses with at least one connection.
    peers: Mutex<HashMap<IpAddr, usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Wait until a connection ends.
    Full,
    /// This peer has its share.
    PeerFull,
}

impl Admission {
    pub(crate) fn new(max: usize, max_per_peer: usize) -> Admission {
        let peers = Mutex::new(HashMap::new());
        Admission { max, max_per_peer, total: AtomicUsize::new(0), peers }
    }

    /// Counts a connection in.
    pub(crate) fn admit(&self, peer: IpAddr) -> Result<(), Denied> {
        self.total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| {
                (total < self.max).then_some(total + 1)
            })
            .map_err(|_| Denied::Full)?;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(counted_as(peer)).or_insert(0);
        if *count >= self.max_per_peer {
            drop(peers);
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Denied::PeerFull);
        }
        *count += 1;
        Ok(())
    }

    /// Counts a connection out.
    pub(crate) fn release(&self, peer: IpAddr) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = peers.entry(counted_as(peer)) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        drop(peers);
        self.total.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.total() < self.max
    }

    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// An IPv6 host has a whole /64 to choose its addresses from, so that is what counts as one peer.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_all_and_by_peer() {
        let admission = Admission::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(admission.admit(ip("127.0.0.1")), Ok(()));
        assert_eq!(admission.admit(ip("::ffff:127.0.0.1")), Ok(()), "the same host");
        assert_eq!(admission.admit(ip("127.0.0.1")), Err(Denied::PeerFull));
        assert_eq!(admission.admit(ip("2001:db8::1")), Ok(()));
        assert_eq!(admission.admit(ip("127.0.0.2")), Err(Denied::Full));
        admission.release(ip("127.0.0.1"));
        assert_eq!(admission.admit(ip("2001:db8::2")), Ok(()));
        for peer in ["127.0.0.1", "2001:db8::1", "2001:db8::2"] {
            admission.release(ip(peer));
        }
        assert_eq!(admission.total(), 0);
        assert!(admission.peers.lock().unwrap().is_empty(), "no address is kept for nothing");
    }

    #[test]
    fn one_ipv6_network_is_one_peer() {
        let admission = Admission::new(9, 1);
        assert_eq!(admission.admit("2001:db8::1".parse().unwrap()), Ok(()));
        assert_eq!(admission.admit("2001:db8::ffff:2".parse().unwrap()), Err(Denied::PeerFull));
        assert_eq!(admission.admit("2001:db8:0:1::1".parse().unwrap()), Ok(()));
    }
}
