//! Measures stream time from the send times of packets.

/// A step of the send time larger than this, in milliseconds, is a discontinuity and not elapsed time.
const MAX_STEP_MS: u32 = 10_000;

/// Counts stream time from the send times of packets.
///
/// Send times can step back, because some muxers write the packets of several streams in decoding order and others
/// write a packet late. Stream time advances only when the send time exceeds the largest one so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamTime {
    /// The largest send time since the last discontinuity.
    largest: Option<u32>,
    /// Stream time at that send time, in milliseconds.
    elapsed_ms: u64,
}

impl StreamTime {
    /// Takes the send time of the next packet and returns its stream time, both in milliseconds.
    pub fn packet(&mut self, send_time: u32) -> u64 {
        let Some(largest) = self.largest else {
            self.largest = Some(send_time);
            return self.elapsed_ms;
        };
        // Send times have 32 bits and wrap. Both differences are computed modulo 2^32, and the smaller one is the real
        // step.
        let (forward, back) = (send_time.wrapping_sub(largest), largest.wrapping_sub(send_time));
        // A packet that is written late does not move the time back for those after it.
        if back <= MAX_STEP_MS {
            return self.elapsed_ms.saturating_sub(back.into());
        }
        if forward <= MAX_STEP_MS {
            self.elapsed_ms += u64::from(forward);
        }
        self.largest = Some(send_time);
        self.elapsed_ms
    }

    /// Declares that the next packet's send time is unrelated to the previous ones.
    pub fn discontinuity(&mut self) {
        self.largest = None;
    }

    /// Stream time since the first packet, in milliseconds.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stream times of packets with these send times.
    fn at(send_times: &[u32]) -> Vec<u64> {
        let mut time = StreamTime::default();
        send_times.iter().map(|send_time| time.packet(*send_time)).collect()
    }

    #[test]
    fn a_step_back_adds_nothing() {
        assert_eq!(at(&[500, 540, 500, 580, 540, 620]), [0, 40, 0, 80, 40, 120]);
        assert_eq!(at(&[9000, 0, 9000, 9040]), [0, 0, 0, 40]);
        // The send time has 32 bits.
        assert_eq!(at(&[u32::MAX, 9, u32::MAX - 1, 10]), [0, 10, 0, 11]);
    }

    #[test]
    fn a_discontinuity_adds_nothing() {
        assert_eq!(at(&[0, 10_000, 30_000, 30_040, 5, 45]), [0, 10_000, 10_000, 10_040, 10_040, 10_080]);
        let mut time = StreamTime::default();
        time.packet(0);
        time.packet(400);
        time.discontinuity();
        assert_eq!((time.packet(0), time.packet(40), time.elapsed_ms()), (400, 440, 440));
    }
}
