//! Which packets arrived lately, to leave out those that an origin sends again after a lost connection.
//!
//! A server gives a new player what it keeps from the newest key frame on. To a relay that comes back most of that is
//! known; to its players it would be the past once more.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Packets that are remembered: those of 5 s at 26 Mbit/s in packets of 4 KiB.
const MAX_PACKETS: usize = 4096;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct RecentPackets {
    hashes: VecDeque<u64>,
    /// The packets before the lost connection, until one arrives that is not among them.
    before: Option<HashSet<u64>>,
}

impl RecentPackets {
    /// The origin begins again.
    pub(super) fn reconnected(&mut self) {
        self.before = (!self.hashes.is_empty()).then(|| self.hashes.iter().copied().collect());
    }

    /// Another stream begins: nothing of it is known.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the packet is new. One that is not has arrived before the connection was lost.
    pub(super) fn is_new(&mut self, packet: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        packet.hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(before) = &self.before {
            if before.contains(&hash) {
                return false;
            }
            // What follows a new packet is new.
            self.before = None;
        }
        if self.hashes.len() == MAX_PACKETS {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_again_after_a_lost_connection_is_not_new() {
        let mut recent = RecentPackets::default();
        let packet = |n: u32| n.to_le_bytes();
        assert!((0..10).all(|n| recent.is_new(&packet(n))));
        // Within one connection nothing is compared: silence may repeat itself.
        assert!(recent.is_new(&packet(9)));
        recent.reconnected();
        assert!((4..10).all(|n| !recent.is_new(&packet(n))));
        assert!(recent.is_new(&packet(10)) && recent.is_new(&packet(5)));
        recent.clear();
        recent.reconnected();
        assert!(recent.is_new(&packet(10)));
    }

    #[test]
    fn little_is_remembered() {
        let mut recent = RecentPackets::default();
        for n in 0..3 * MAX_PACKETS {
            recent.is_new(&n.to_le_bytes());
        }
        assert_eq!(recent.hashes.len(), MAX_PACKETS);
    }
}
