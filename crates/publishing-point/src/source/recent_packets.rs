//! Remembers recent packets, to leave out those that an origin sends again after a lost connection.
//!
//! A server sends to a new player the packets since the latest key frame. A relay that reconnects already has most of
//! these; its players would see them again.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Number of packets whose hashes are kept: those of 5 s at 26 Mbit/s in packets of 4 KiB.
const MAX_PACKETS: usize = 4096;

/// The hashes of recent packets.
#[derive(Debug, Default)]
pub(super) struct RecentPackets {
    hashes: VecDeque<u64>,
    /// The packets before the lost connection, until a packet arrives that is not among them.
    before: Option<HashSet<u64>>,
}

impl RecentPackets {
    /// Records that the origin sends again after a lost connection.
    pub(super) fn reconnected(&mut self) {
        self.before = (!self.hashes.is_empty()).then(|| self.hashes.iter().copied().collect());
    }

    /// Removes all packets, because another stream begins.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns whether the packet is new. A packet that is not new has arrived before the connection was lost.
    pub(super) fn is_new(&mut self, packet: &[u8]) -> bool {
        // A wrong match of two 64-bit hashes would lose one packet, and is too improbable to compare the packets
        // themselves.
        let mut hasher = DefaultHasher::new();
        packet.hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(before) = &self.before {
            if before.contains(&hash) {
                return false;
            }
            // All packets after a new one are new.
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
    fn packets_sent_again_after_a_lost_connection_are_not_new() {
        let mut recent = RecentPackets::default();
        let packet = |n: u32| n.to_le_bytes();
        assert!((0..10).all(|n| recent.is_new(&packet(n))));
        // Packets of one connection are not compared, because silence may repeat itself.
        assert!(recent.is_new(&packet(9)));
        recent.reconnected();
        assert!((4..10).all(|n| !recent.is_new(&packet(n))));
        assert!(recent.is_new(&packet(10)) && recent.is_new(&packet(5)));
        recent.clear();
        recent.reconnected();
        assert!(recent.is_new(&packet(10)));
    }

    #[test]
    fn remembered_packets_are_bounded() {
        let mut recent = RecentPackets::default();
        for n in 0..3 * MAX_PACKETS {
            recent.is_new(&n.to_le_bytes());
        }
        assert_eq!(recent.hashes.len(), MAX_PACKETS);
    }
}
