//! When a packet is due: by the send times that the encoder wrote into the packets.
//!
//! Buffer timestamps are no help: files have none, and `asfmux` copies an encoder's
//! offset of 1000 hours into them. The send time starts anew with each header.

use std::sync::Arc;

use gst::ClockTime;

use crate::asf;

/// A step of the send time beyond this is a splice, not a pause.
const MAX_STEP_MS: i32 = 10_000;

/// Maps send times to running times.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    anchor: Option<Anchor>,
}

#[derive(Debug)]
struct Anchor {
    header: Arc<asf::Header>,
    /// Running time of the first packet.
    running_time: ClockTime,
    /// Send time of the packet before, milliseconds.
    last: u32,
    /// Send time passed since the first packet, milliseconds; may step back a little.
    elapsed: i64,
}

/// When a packet is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It begins a stream: now.
    Now,
    /// At this running time.
    At(ClockTime),
    /// Now, since the send times have jumped by so many milliseconds.
    Jumped(i32),
}

impl Pacer {
    /// When the packet with this send time, described by `header`, is due; `now` is asked where a clock is started.
    pub(super) fn due(&mut self, header: &Arc<asf::Header>, send_time: u32, now: impl Fn() -> ClockTime) -> Due {
        let Some(anchor) = self.anchor.as_mut().filter(|anchor| Arc::ptr_eq(&anchor.header, header)) else {
            self.start(header, send_time, now());
            return Due::Now;
        };
        // The send time wraps after 49 days: the difference as a signed number does not care.
        let step = send_time.wrapping_sub(anchor.last).cast_signed();
        if step.unsigned_abs() > MAX_STEP_MS.unsigned_abs() {
            self.start(header, send_time, now());
            return Due::Jumped(step);
        }
        anchor.last = send_time;
        anchor.elapsed += i64::from(step);
        Due::At(anchor.running_time + ClockTime::from_mseconds(anchor.elapsed.max(0).unsigned_abs()))
    }

    fn start(&mut self, header: &Arc<asf::Header>, send_time: u32, running_time: ClockTime) {
        self.anchor = Some(Anchor { header: Arc::clone(header), running_time, last: send_time, elapsed: 0 });
    }
}
