//! Computes when a packet is due, from the send times that the encoder wrote into the packets.
//!
//! Buffer timestamps cannot be used: files have none, and `asfmux` copies an encoder's offset of 1000 hours into them.
//! The send time starts again with each header.

use std::sync::Arc;

use gst::ClockTime;

/// A larger step of the send time is a discontinuity, not a pause.
const MAX_STEP_MS: i32 = 10_000;

/// Maps send times to running times.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// The start of the current timing; `None` before the first packet.
    anchor: Option<Anchor>,
}

/// The point from which send times are counted.
#[derive(Debug)]
struct Anchor {
    header: Arc<asf::Header>,
    /// Running time of the first packet.
    running_time: ClockTime,
    /// Send time of the previous packet in milliseconds.
    last: u32,
    /// Send time elapsed since the first packet in milliseconds; may decrease slightly.
    elapsed: i64,
}

/// When a packet is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Now, because it is the first packet of a stream.
    Now,
    /// At this running time.
    At(ClockTime),
    /// Now, because the send time jumped by this number of milliseconds.
    Jumped(i32),
}

impl Pacer {
    /// Returns when a packet with this header and send time is due. `now` is called only when the timing starts again.
    pub(super) fn due(&mut self, header: &Arc<asf::Header>, send_time: u32, now: impl Fn() -> ClockTime) -> Due {
        let Some(anchor) = self.anchor.as_mut().filter(|anchor| Arc::ptr_eq(&anchor.header, header)) else {
            self.restart(header, send_time, now());
            return Due::Now;
        };
        // The send time wraps after 49 days, which the signed difference handles.
        let step = send_time.wrapping_sub(anchor.last).cast_signed();
        if step.unsigned_abs() > MAX_STEP_MS.unsigned_abs() {
            self.restart(header, send_time, now());
            return Due::Jumped(step);
        }
        anchor.last = send_time;
        anchor.elapsed += i64::from(step);
        Due::At(anchor.running_time + ClockTime::from_mseconds(anchor.elapsed.max(0).unsigned_abs()))
    }

    /// Starts the timing with this packet.
    fn restart(&mut self, header: &Arc<asf::Header>, send_time: u32, running_time: ClockTime) {
        self.anchor = Some(Anchor { header: Arc::clone(header), running_time, last: send_time, elapsed: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use asf::test_util::HeaderBuilder;

    fn header() -> Arc<asf::Header> {
        Arc::new(asf::Header::parse(HeaderBuilder::default().build()).unwrap())
    }

    fn at(ms: u64) -> Due {
        Due::At(ClockTime::from_mseconds(ms))
    }

    #[test]
    fn send_times_count_from_the_first_packet_of_a_header() {
        let mut pacer = Pacer::default();
        let (first, second) = (header(), header());
        let now = |ms| move || ClockTime::from_mseconds(ms);
        assert_eq!(pacer.due(&first, 99_954, now(500)), Due::Now);
        assert_eq!(pacer.due(&first, 100_054, now(501)), at(600));
        assert_eq!(pacer.due(&first, 100_054, now(600)), at(600));
        // A small step back has no effect on the following packets.
        assert_eq!(pacer.due(&first, 100_004, now(600)), at(550));
        assert_eq!(pacer.due(&first, 100_154, now(600)), at(700));
        // Another header is another stream, even if it is equal byte for byte.
        assert_eq!(pacer.due(&second, 0, now(900)), Due::Now);
        assert_eq!(pacer.due(&second, 40, now(900)), at(940));
    }

    #[test]
    fn send_times_wrap() {
        let mut pacer = Pacer::default();
        let header = header();
        let now = || ClockTime::ZERO;
        pacer.due(&header, u32::MAX - 9, now);
        assert_eq!(pacer.due(&header, 30, now), at(40));
    }

    #[test]
    fn a_jump_does_not_cause_a_wait() {
        let mut pacer = Pacer::default();
        let header = header();
        let now = || ClockTime::from_mseconds(7000);
        pacer.due(&header, 0, now);
        // The offset of 1000 hours of libav's encoders, forward and back.
        assert!(matches!(pacer.due(&header, 3_600_000_000, now), Due::Jumped(_)));
        assert_eq!(pacer.due(&header, 3_600_000_100, now), at(7100));
        assert!(matches!(pacer.due(&header, 200, now), Due::Jumped(_)));
        assert_eq!(pacer.due(&header, 300, now), at(7100));
    }
}
