//! A continuous timeline for a stream whose encoder restarts.

use std::time::Instant;

/// Maximum step back of the send time, in milliseconds, without a shift, if the header has changed.
const MAX_STEP_BACK_MS: u32 = 1000;
/// The same for a header that is equal byte for byte, in milliseconds: an encoder that reconnects repeats packets that
/// may be lost, starting with a key frame.
const MAX_REPEAT_MS: u32 = 10_000;
/// A restarted encoder starts at most this much after its first send time, in milliseconds.
const MAX_FIRST_OFFSET_MS: i32 = 1000;
/// Maximum step forward of the send time, in milliseconds, in addition to the time that has passed.
const MAX_STEP_FORWARD_MS: u32 = 10_000;
/// Maximum interval between two packets, in milliseconds, that is taken as the packet interval of the stream.
const MAX_PACKET_INTERVAL_MS: u32 = 1000;

/// Makes packet times continuous if an encoder restarts with a compatible header.
///
/// The send and presentation times of a restarted encoder start at zero. VLC, which continues with its first header,
/// would show nothing until the new times have reached the old ones. Therefore the times are shifted.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Milliseconds added to the times of each packet, with wrap-around as in the times themselves.
    shift: u32,
    /// The largest send time so far, after the shift, and when its packet was received.
    latest: Option<(u32, Instant)>,
    /// The first send time, before the shift.
    first: Option<u32>,
    /// Milliseconds between the latest packets.
    interval: u32,
    /// Set for the first packet after a header: how far its time may step back without a shift, in milliseconds.
    step_back: Option<u32>,
}

impl Timeline {
    /// Records that a compatible header was received, which `is_equal` to the previous one byte for byte or differs.
    pub(crate) fn header_received(&mut self, is_equal: bool) {
        self.step_back = Some(if is_equal { MAX_REPEAT_MS } else { MAX_STEP_BACK_MS });
    }

    /// Shifts the times of the next packet, received at `now`, if its encoder was restarted. An invalid packet is not
    /// changed.
    pub(crate) fn adjust(&mut self, packet: &mut [u8], now: Instant) {
        let Some(send_time) = asf::send_time(packet) else { return };
        let first = *self.first.get_or_insert(send_time);
        if let Some(step_back) = self.step_back.take()
            && let Some((latest, received_at)) = self.latest
        {
            // Repeating from the first packet on looks the same as a restart soon after the first packet.
            let from_first = send_time.wrapping_sub(first).cast_signed() <= MAX_FIRST_OFFSET_MS;
            let step_back = if from_first { MAX_STEP_BACK_MS } else { step_back };
            // Send times wrap around after 49.7 days, so differences are signed 32-bit numbers.
            let step = i64::from(send_time.wrapping_add(self.shift).wrapping_sub(latest).cast_signed());
            let passed = i64::try_from(now.saturating_duration_since(received_at).as_millis()).unwrap_or(i64::MAX);
            if step < -i64::from(step_back) || step > passed.saturating_add(MAX_STEP_FORWARD_MS.into()) {
                // The first packet follows the latest one at the usual interval, as if the encoder had not been
                // restarted.
                self.shift = latest.wrapping_add(self.interval).wrapping_sub(send_time);
                self.first = Some(send_time);
            }
        }
        if self.shift != 0 {
            asf::shift_times(packet, self.shift);
        }
        self.record(send_time.wrapping_add(self.shift), now);
    }

    /// Records the shifted send time of a packet, and the interval to the packet before.
    fn record(&mut self, at: u32, now: Instant) {
        let Some((latest, _)) = self.latest else {
            self.latest = Some((at, now));
            return;
        };
        let step = at.wrapping_sub(latest).cast_signed();
        if let Ok(step @ 1..) = u32::try_from(step) {
            self.interval = step.min(MAX_PACKET_INTERVAL_MS);
        }
        // A small step back is the multiplexer's order or a repetition, a large one is a restart.
        if step > 0 || step.unsigned_abs() > MAX_REPEAT_MS {
            self.latest = Some((at, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use asf::test_util::{PacketBuilder, Payload};

    /// Returns the send times after the shift of packets received at `now`.
    fn fitted_at(timeline: &mut Timeline, now: Instant, send_times: &[u32]) -> Vec<u32> {
        let adjust = |send_time: &u32| {
            let builder = PacketBuilder::asfmux(200, vec![Payload::new(1, b"audio")]);
            let mut packet = builder.send_time(*send_time).build().to_vec();
            timeline.adjust(&mut packet, now);
            asf::send_time(&packet).unwrap()
        };
        send_times.iter().map(adjust).collect()
    }

    fn fitted(timeline: &mut Timeline, send_times: &[u32]) -> Vec<u32> {
        fitted_at(timeline, Instant::now(), send_times)
    }

    #[test]
    fn times_continue_if_an_encoder_restarts() {
        let mut timeline = Timeline::default();
        assert_eq!(fitted(&mut timeline, &[5000, 5040, 5030, 5080]), [5000, 5040, 5030, 5080]);
        timeline.header_received(false);
        assert_eq!(fitted(&mut timeline, &[0, 40, 20, 80]), [5120, 5160, 5140, 5200]);
        // The same header again, as at each PushStart of a session: the encoder's times continue.
        timeline.header_received(true);
        assert_eq!(fitted(&mut timeline, &[120, 160]), [5240, 5280]);
        timeline.header_received(true);
        assert_eq!(fitted(&mut timeline, &[3_600_000_000, 3_600_000_040]), [5320, 5360]);
        // The header is the same, but 20 s are more than an encoder repeats.
        assert_eq!(fitted(&mut timeline, &[3_600_020_000]), [25_320]);
        timeline.header_received(true);
        assert_eq!(fitted(&mut timeline, &[0, 5000]), [26_320, 31_320]);
        // A step of 5 s back would be a repetition, but the encoder starts with its first packet again.
        timeline.header_received(true);
        assert_eq!(fitted(&mut timeline, &[40, 80]), [32_320, 32_360]);
    }

    #[test]
    fn a_reconnecting_encoder_may_repeat_and_skip_packets() {
        let mut timeline = Timeline::default();
        let now = Instant::now();
        assert_eq!(fitted_at(&mut timeline, now, &[0, 20_000, 30_000]), [0, 20_000, 30_000]);
        timeline.header_received(true);
        assert_eq!(fitted_at(&mut timeline, now, &[20_000, 30_040]), [20_000, 30_040]);
        timeline.header_received(true);
        let later = now + Duration::from_mins(1);
        assert_eq!(fitted_at(&mut timeline, later, &[99_000]), [99_000]);
        timeline.header_received(true);
        assert_eq!(fitted_at(&mut timeline, later, &[160_000]), [100_000], "no time has passed");
    }

    #[test]
    fn times_are_not_shifted_without_another_header() {
        let mut timeline = Timeline::default();
        let times = [0, 40, 3_600_000_000, 3_600_000_040, 7, 47];
        assert_eq!(fitted(&mut timeline, &times), times);
        let mut fresh = Timeline::default();
        fresh.header_received(false);
        assert_eq!(fitted(&mut fresh, &times), times);
    }

    #[test]
    fn times_wrap() {
        let mut timeline = Timeline::default();
        assert_eq!(fitted(&mut timeline, &[u32::MAX - 50, u32::MAX - 10]), [u32::MAX - 50, u32::MAX - 10]);
        timeline.header_received(false);
        assert_eq!(fitted(&mut timeline, &[1_000_000, 1_000_040]), [29, 69]);
    }
}
