//! How many connections there may be, in all and from one peer.
//!
//! Shared by the shards; touched when a connection begins and ends, never by a request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub(crate) struct Admission {
    max: usize,
    max_per_peer: usize,
    /// Invariant: never more than `max`.
    total: AtomicUsize,
    /// Addresses with at least one connection.
    peers: Mutex<HashMap<Peer, u32>>,
}

/// Peers that there is room for from the start.
const PEERS: usize = 14_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Wait until a connection ends.
    Full,
    /// This peer has its share.
    PeerFull,
}

impl Admission {
    pub(crate) fn new(max: usize, max_per_peer: usize) -> Admission {
        // So that tables are not moved as they fill; see the shard's.
        let peers = Mutex::new(HashMap::with_capacity(max.min(PEERS)));
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
        let count = peers.entry(Peer::of(peer)).or_insert(0);
        if *count as usize >= self.max_per_peer || *count == u32::MAX {
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
        if let Entry::Occupied(mut entry) = peers.entry(Peer::of(peer)) {
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

/// What counts as one peer, in few bytes, since each connection pays for them: an IPv4 address, or
/// the first half of an IPv6 address, as a host has a whole /64 to choose its addresses from. The
/// networks that IPv4 addresses would be taken for are not assigned to anybody (RFC 4291 section
/// 2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Peer([u32; 2]);

impl Peer {
    pub(crate) fn of(address: IpAddr) -> Peer {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = v6.to_bits() >> 64;
                Peer([(network >> 32) as u32, network as u32])
            }
            IpAddr::V4(v4) => Peer([0, v4.to_bits()]),
        }
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
