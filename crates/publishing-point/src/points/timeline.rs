//! One running time for a stream whose encoder restarts.

use std::time::Instant;

/// How far the send time may step back for the times to continue as they are, where the header has other bytes, milliseconds.
const MAX_STEP_BACK_MS: u32 = 1000;
/// The same where the header is equal byte for byte: an encoder that reconnects sends again what it is not sure of, from
/// a key frame on.
const MAX_REPEAT_MS: u32 = 10_000;
/// How near to its first send time a restarted encoder begins, milliseconds.
const FIRST_SPREAD_MS: i32 = 1000;
/// How far the send time may step forward, beyond the time that has passed, milliseconds.
const MAX_STEP_FORWARD_MS: u32 = 10_000;
/// The longest time from one packet to the next that is taken for the stream's own, milliseconds.
const MAX_PACKET_INTERVAL_MS: u32 = 1000;

/// Continues the times of packets where an encoder restarts under a header that decodes the same.
///
/// The send and presentation times of a restarted encoder begin at zero. VLC, which continues under its first header,
/// would show nothing until the new times have reached the old ones. Therefore the times are shifted.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Milliseconds added to the times of each packet; they wrap as the times do.
    shift: u32,
    /// The largest send time so far, as players have it, and when it came.
    newest: Option<(u32, Instant)>,
    /// The encoder's own first send time.
    first: Option<u32>,
    /// Milliseconds between the newest packets.
    interval: u32,
    /// The next packet is the first under another header: how far its time may step back without a shift, milliseconds.
    step_back: Option<u32>,
}

impl Timeline {
    /// The header of the following packets decodes as the one before, or `is_equal` to it byte for byte.
    pub(crate) fn begin_again(&mut self, is_equal: bool) {
        self.step_back = Some(if is_equal { MAX_REPEAT_MS } else { MAX_STEP_BACK_MS });
    }

    /// Shifts the times of the next packet, which came at `now`, if its encoder was restarted. A packet that cannot be
    /// read stays as it is.
    pub(crate) fn fit(&mut self, packet: &mut [u8], now: Instant) {
        let Some(send_time) = asf::send_time(packet) else { return };
        let first = *self.first.get_or_insert(send_time);
        if let Some(step_back) = self.step_back.take()
            && let Some((newest, came)) = self.newest
        {
            // An encoder that repeats from its first packet on cannot be told from one that was restarted soon.
            let from_first = send_time.wrapping_sub(first).cast_signed() <= FIRST_SPREAD_MS;
            let step_back = if from_first { MAX_STEP_BACK_MS } else { step_back };
            let step = i64::from(send_time.wrapping_add(self.shift).wrapping_sub(newest).cast_signed());
            let passed = i64::try_from(now.saturating_duration_since(came).as_millis()).unwrap_or(i64::MAX);
            if step < -i64::from(step_back) || step > passed.saturating_add(MAX_STEP_FORWARD_MS.into()) {
                self.shift = newest.wrapping_add(self.interval).wrapping_sub(send_time);
                self.first = Some(send_time);
            }
        }
        if self.shift != 0 {
            asf::shift_times(packet, self.shift);
        }
        self.note(send_time.wrapping_add(self.shift), now);
    }

    fn note(&mut self, at: u32, now: Instant) {
        let Some((newest, _)) = self.newest else {
            self.newest = Some((at, now));
            return;
        };
        let step = at.wrapping_sub(newest).cast_signed();
        if let Ok(step @ 1..) = u32::try_from(step) {
            self.interval = step.min(MAX_PACKET_INTERVAL_MS);
        }
        // A small step back is the multiplexer's order or a repetition, a large one a splice.
        if step > 0 || step.unsigned_abs() > MAX_REPEAT_MS {
            self.newest = Some((at, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use asf::test_util::{PacketBuilder, Payload};

    /// The send times of packets that came at `now`.
    fn fitted_at(timeline: &mut Timeline, now: Instant, send_times: &[u32]) -> Vec<u32> {
        let fit = |send_time: &u32| {
            let builder = PacketBuilder::asfmux(200, vec![Payload::new(1, b"audio")]);
            let mut packet = builder.send_time(*send_time).build().to_vec();
            timeline.fit(&mut packet, now);
            asf::send_time(&packet).unwrap()
        };
        send_times.iter().map(fit).collect()
    }

    fn fitted(timeline: &mut Timeline, send_times: &[u32]) -> Vec<u32> {
        fitted_at(timeline, Instant::now(), send_times)
    }

    #[test]
    fn times_continue_where_an_encoder_restarts() {
        let mut timeline = Timeline::default();
        assert_eq!(fitted(&mut timeline, &[5000, 5040, 5030, 5080]), [5000, 5040, 5030, 5080]);
        timeline.begin_again(false);
        assert_eq!(fitted(&mut timeline, &[0, 40, 20, 80]), [5120, 5160, 5140, 5200]);
        // The same header again, as at each PushStart of a session: the encoder's times continue.
        timeline.begin_again(true);
        assert_eq!(fitted(&mut timeline, &[120, 160]), [5240, 5280]);
        timeline.begin_again(true);
        assert_eq!(fitted(&mut timeline, &[3_600_000_000, 3_600_000_040]), [5320, 5360]);
        // With the same header as well: 20 s are more than an encoder repeats.
        assert_eq!(fitted(&mut timeline, &[3_600_020_000]), [25_320]);
        timeline.begin_again(true);
        assert_eq!(fitted(&mut timeline, &[0, 5000]), [26_320, 31_320]);
        // 5 s are not, but that it begins with its first packet again.
        timeline.begin_again(true);
        assert_eq!(fitted(&mut timeline, &[40, 80]), [32_320, 32_360]);
    }

    #[test]
    fn an_encoder_that_reconnects_may_repeat_and_leave_out() {
        let mut timeline = Timeline::default();
        let now = Instant::now();
        assert_eq!(fitted_at(&mut timeline, now, &[0, 20_000, 30_000]), [0, 20_000, 30_000]);
        timeline.begin_again(true);
        assert_eq!(fitted_at(&mut timeline, now, &[20_000, 30_040]), [20_000, 30_040]);
        timeline.begin_again(true);
        let later = now + Duration::from_mins(1);
        assert_eq!(fitted_at(&mut timeline, later, &[99_000]), [99_000]);
        timeline.begin_again(true);
        assert_eq!(fitted_at(&mut timeline, later, &[160_000]), [100_000], "no time has passed");
    }

    #[test]
    fn nothing_is_shifted_without_another_header() {
        let mut timeline = Timeline::default();
        let times = [0, 40, 3_600_000_000, 3_600_000_040, 7, 47];
        assert_eq!(fitted(&mut timeline, &times), times);
        let mut fresh = Timeline::default();
        fresh.begin_again(false);
        assert_eq!(fitted(&mut fresh, &times), times);
    }

    #[test]
    fn times_wrap() {
        let mut timeline = Timeline::default();
        assert_eq!(fitted(&mut timeline, &[u32::MAX - 50, u32::MAX - 10]), [u32::MAX - 50, u32::MAX - 10]);
        timeline.begin_again(false);
        assert_eq!(fitted(&mut timeline, &[1_000_000, 1_000_040]), [29, 69]);
    }
}
