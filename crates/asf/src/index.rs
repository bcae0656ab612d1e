//! The Simple Index Object: where the key frames of a video stream are (ASF 6.1).

use bytes::BufMut;

use crate::guid;

/// Maximum number of key frames kept in memory: those of 9 hours at one every 2 s. When it is exceeded, every second
/// one is dropped.
const MAX_FRAMES: usize = 16_384;
/// Maximum number of entries written, which are 120 kB.
const MAX_ENTRIES: u32 = 20_000;
/// Bytes of the object before its entries.
const HEAD: usize = 56;
/// Bytes of an entry.
const ENTRY: usize = 6;
/// Minimum interval between two entries, in milliseconds.
const MIN_INTERVAL_MS: u32 = 1000;

/// Collects the key frames of a video stream while a file is written.
///
/// ```
/// use asf::SimpleIndex;
///
/// let mut index = SimpleIndex::default();
/// index.add(3000, 0);
/// index.add(5000, 17);
/// let object = index.to_object(&[1; 16]);
/// // One entry per second. Each names the packet of the latest key frame up to its time.
/// assert_eq!(object.len(), 56 + 6 * 6);
/// assert_eq!(object[56 + 5 * 6..][..4], [17, 0, 0, 0]);
/// ```
#[derive(Clone, Debug)]
pub struct SimpleIndex {
    /// Presentation time in milliseconds and packet number, both ascending.
    frames: Vec<(u32, u32)>,
    /// Minimum distance between two key frames, in milliseconds.
    min_distance: u32,
}

impl Default for SimpleIndex {
    fn default() -> Self {
        Self { frames: Vec::new(), min_distance: 1 }
    }
}

impl SimpleIndex {
    /// Adds a key frame that begins in the packet with this number, counted from 0. `time` is its presentation time in
    /// milliseconds, including the preroll. A key frame that is not later than the previous one is ignored.
    pub fn add(&mut self, time: u32, packet: u32) {
        let earliest = self.frames.last().map_or(0, |(last, _)| last.saturating_add(self.min_distance));
        if time < earliest {
            return;
        }
        self.frames.push((time, packet));
        if self.frames.len() > MAX_FRAMES {
            let mut is_kept = false;
            self.frames.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            let first = self.frames.first().map_or(0, |(time, _)| *time);
            // From now on at most half of the capacity is filled in the same time again, so that the density stays
            // even.
            self.min_distance = (time - first) / (MAX_FRAMES as u32 / 2);
        }
    }

    /// Whether there are no key frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns the bytes of the Simple Index Object for the file with this File ID.
    #[must_use]
    pub fn to_object(&self, file_id: &[u8; 16]) -> Vec<u8> {
        let last = self.frames.last().map_or(0, |(time, _)| *time);
        let mut interval = MIN_INTERVAL_MS;
        // The interval doubles until the entries suffice, so that it stays a whole number of seconds.
        while last / interval >= MAX_ENTRIES {
            interval = interval.saturating_mul(2);
        }
        let entries = if self.is_empty() { 0 } else { last.div_ceil(interval) + 1 };
        let size = HEAD + entries as usize * ENTRY;
        let mut object = Vec::with_capacity(size);
        object.put_slice(&guid::SIMPLE_INDEX);
        object.put_u64_le(size as u64);
        object.put_slice(file_id);
        // Units of 100 ns.
        object.put_u64_le(u64::from(interval) * 10_000);
        // Maximum Packet Count: how many packets the key frame of any entry spans.
        object.put_u32_le(1);
        object.put_u32_le(entries);
        let mut frames = self.frames.iter().peekable();
        // Entries before the first key frame point to that key frame: decoding cannot start earlier.
        let mut packet = frames.peek().map_or(0, |(_, packet)| *packet);
        for entry in 0..entries {
            let time = entry.saturating_mul(interval);
            while let Some((_, later)) = frames.next_if(|(frame, _)| *frame <= time) {
                packet = *later;
            }
            object.put_u32_le(packet);
            object.put_u16_le(1);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(object: &[u8]) -> Vec<u32> {
        let (entries, []) = object[HEAD..].as_chunks::<ENTRY>() else { panic!("cut") };
        entries.iter().map(|entry| u32::from_le_bytes(entry[..4].try_into().unwrap())).collect()
    }

    #[test]
    fn each_second_has_the_key_frame_before_it() {
        let mut index = SimpleIndex::default();
        for (time, packet) in [(1500, 4), (3000, 7), (2900, 8), (3000, 9), (3100, 10), (5900, 30)] {
            index.add(time, packet);
        }
        let object = index.to_object(&[9; 16]);
        assert_eq!(object[16..24], (object.len() as u64).to_le_bytes());
        assert_eq!(object[24..40], [9; 16]);
        assert_eq!(object[52..56], 7_u32.to_le_bytes());
        assert_eq!(entries(&object), [4, 4, 4, 7, 10, 10, 30]);
        assert!(entries(&SimpleIndex::default().to_object(&[0; 16])).is_empty());
    }

    #[test]
    fn a_long_file_has_a_coarse_index() {
        let mut index = SimpleIndex::default();
        let frames = 400_000_u32;
        for frame in 0..frames {
            index.add(frame * 2000, frame * 10);
        }
        assert!(index.frames.len() <= MAX_FRAMES);
        let object = index.to_object(&[0; 16]);
        let interval = u64::from_le_bytes(object[40..48].try_into().unwrap()) / 10_000;
        let entries = entries(&object);
        assert!(entries.len() <= MAX_ENTRIES as usize + 1);
        for (entry, packet) in entries.iter().enumerate() {
            let time = entry as u64 * interval;
            let ideal = (time / 2000).min(frames.into()) * 10;
            assert!(u64::from(*packet) <= ideal && ideal - u64::from(*packet) < frames as u64 * 10 / 1000, "{entry}");
        }
    }
}
