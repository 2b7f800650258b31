//! Who is who among those that nobody knows: one peer, however many addresses and connections it has, takes no more than its
//! part of what all of them have together.
//!
//! An IPv4 address is a peer; of IPv6 a network of 64 bits, since whoever has one address has them all. This machine itself
//! is not counted: a proxy on it speaks for others.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::quotes::{Bucket, Rate};

/// Connections of one peer.
const MOST_SEATS: usize = 32;
/// Peers whose questions are counted; who asked longest ago is forgotten.
const MOST_PEERS: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    /// `None` for this machine.
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        let address = match address.to_canonical() {
            address if address.is_loopback() => return None,
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(network.into())
            }
            address => address,
        };
        Some(Self(address))
    }
}

/// Who a request is counted for, if for anybody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted(pub(crate) Option<Peer>);

/// Open connections by peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seats(Arc<Mutex<BTreeMap<Peer, usize>>>);

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Seats, Peer);

impl Seats {
    pub(crate) fn take(&self, peer: Peer) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(peer).or_default();
        if *count >= MOST_SEATS {
            return None;
        }
        *count += 1;
        Some(Seat(self.clone(), peer))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self(Seats(taken), peer) = self;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(peer);
            }
        }
    }
}

/// What one kind of question costs: each peer has its own part, and all have one together.
#[derive(Debug)]
pub(crate) struct Questions {
    all: Bucket,
    each: Rate,
    peers: BTreeMap<Peer, Bucket>,
}

impl Questions {
    pub(crate) fn new(all: Rate, each: Rate, now: Instant) -> Self {
        Self { all: Bucket::full(all, now), each, peers: BTreeMap::new() }
    }

    /// A peer that has spent its own takes nothing from the others.
    pub(crate) fn take(&mut self, peer: Option<Peer>, now: Instant) -> bool {
        if let Some(peer) = peer {
            let each = self.each;
            if !self.peers.entry(peer).or_insert_with(|| Bucket::full(each, now)).take(now) {
                return false;
            }
            while self.peers.len() > MOST_PEERS {
                let last = |(_, bucket): &(&Peer, &Bucket)| bucket.filled();
                let Some(oldest) = self.peers.iter().min_by_key(last).map(|(peer, _)| *peer) else {
                    break;
                };
                self.peers.remove(&oldest);
            }
        }
        self.all.take(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(text: &str) -> Option<Peer> {
        Peer::of(text.parse().expect("an address"))
    }

    #[test]
    fn a_peer_is_an_address_or_a_network() {
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(peer(own), None);
        }
    }

    #[test]
    fn a_peer_has_its_part_and_no_more() {
        let start = Instant::now();
        let (all, each) =
            (Rate { each_second: 5.0, burst: 20.0 }, Rate { each_second: 1.0, burst: 5.0 });
        let mut questions = Questions::new(all, each, start);
        let asks = |questions: &mut Questions, peer, now| {
            (0..99).filter(|_| questions.take(peer, now)).count()
        };
        assert_eq!(asks(&mut questions, peer("192.0.2.1"), start), 5);
        assert_eq!(asks(&mut questions, peer("2001:db8::1"), start), 5, "others have theirs");
        assert_eq!(asks(&mut questions, None, start), 10, "what is left for all");
        let later = start + Duration::from_secs(60);
        assert_eq!(asks(&mut questions, peer("192.0.2.1"), later), 5);
        for number in 0..MOST_PEERS as u32 + 100 {
            let address = std::net::Ipv4Addr::from(0xc612_0000 + number);
            questions.take(Peer::of(address.into()), later);
        }
        assert_eq!(questions.peers.len(), MOST_PEERS);
    }

    #[test]
    fn connections_of_a_peer_are_counted_while_they_are_open() {
        let (seats, peer) = (Seats::default(), peer("192.0.2.1").expect("a peer"));
        let held: Vec<_> = (0..99).map_while(|_| seats.take(peer)).collect();
        assert_eq!(held.len(), MOST_SEATS);
        assert!(seats.take(peer).is_none());
        drop(held);
        assert!(seats.take(peer).is_some());
        assert!(seats.0.lock().expect("a lock").is_empty(), "nothing is left of it");
    }
}
