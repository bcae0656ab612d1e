//! The length of a PushStart's body, and what it contains besides data: headers, fillers, the end (C-7, C-9, C-11,
//! C-12).

use std::sync::Arc;
use std::time::Instant;

use super::{AfterEnd, DEFAULT_CONTENT_LENGTH, Event, HeaderChange, MIN_FILLER_BYTES, Output, Session, State};
use crate::Hresult;
use crate::packet::{END_LEN, FRAMING_LEN, Packet};

/// Largest payload in bytes of a `$F` that all known servers accept (receivers, Framing 1).
const MAX_FILLER: u64 = 8_192;

impl Session {
    /// C-7: the body has space for at least three of the largest data packets and the header, and for an end or a
    /// filler.
    pub(super) fn content_length(&self, header: &asf::Header) -> u64 {
        let chosen = self.config.content_length.unwrap_or_else(|| {
            if self.uses_proxy() { self.body_size.next(header.max_bitrate()) } else { DEFAULT_CONTENT_LENGTH }
        });
        // A `$C` is larger than a `$H` by its Reason of 4 bytes.
        let largest_header = FRAMING_LEN + 4 + header.bytes().len();
        let least = 3 * (FRAMING_LEN + header.packet_size()) + largest_header + END_LEN;
        chosen.max(least as u64 + MIN_FILLER_BYTES)
    }

    /// Sends `header` to the server if it does not have it (C-12); returns false if data must wait.
    pub(super) fn announce(&mut self, header: &Arc<asf::Header>, now: Instant) -> bool {
        let State::Open { remaining, .. } = self.state else { return false };
        if self.entry.header.as_ref().is_some_and(|announced| Arc::ptr_eq(announced, header)) && !self.entry.is_between
        {
            return true;
        }
        // C-12 is not safe with this server: end the session, and begin one with the new header.
        if !self.entry.is_between && !self.may_change_in_session() {
            self.send_end(AfterEnd::NewSession, now);
            return false;
        }
        let change = Packet::StreamChange(header.bytes().clone());
        // After a `$E`(1) at the end of the last body, only the `$C` is missing.
        let end_len = if self.entry.is_between { 0 } else { END_LEN as u64 };
        if remaining < end_len + MIN_FILLER_BYTES {
            self.fill_up(now);
            return false;
        }
        if !self.entry.is_between {
            self.send(&Packet::End(Hresult::FALSE));
            self.entry.is_between = true;
            self.entry.changed_at = Some(now);
        }
        if remaining < end_len + change.wire_len() as u64 + MIN_FILLER_BYTES {
            self.fill_up(now);
            return false;
        }
        self.send(&change);
        self.entry.is_between = false;
        self.entry.header = Some(Arc::clone(header));
        self.entry.in_request = true;
        self.entry.bytes_sent = 0;
        self.event(Event::HeaderChanged);
        true
    }

    /// Reports that the connection was lost before the last `bytes` of the current body arrived.
    ///
    /// If the header was among them, the server would take the data packets for packets of the previous header.
    /// [`Session::connect`] then begins a new session instead of resuming this one (C-15).
    pub fn not_delivered(&mut self, bytes: u64) {
        if self.entry.in_request && bytes > self.entry.bytes_sent {
            self.entry.header = None;
            self.resumption.lost = None;
        }
    }

    /// Whether a changed header is sent with `$E`(1) and `$C`, instead of a new session (C-12).
    pub(super) fn may_change_in_session(&self) -> bool {
        match self.config.header_change {
            HeaderChange::StreamChange => true,
            HeaderChange::Reconnect => false,
            HeaderChange::Auto => self.applies_stream_change(),
        }
    }

    /// Advances towards the end that [`Session::end`] requested.
    pub(super) fn advance_end(&mut self, now: Instant) {
        if !self.end_wanted {
            return;
        }
        match self.state {
            State::Ready { connection } => match self.entry.header.clone() {
                Some(header) => {
                    self.send_push_start(connection, &header, now);
                    self.send_end(AfterEnd::Close, now);
                }
                // Nothing was sent, so there is nothing to end.
                None => self.ended(AfterEnd::Close, true, now),
            },
            State::Open { .. } => self.send_end(AfterEnd::Close, now),
            State::Down
            | State::Setup { .. }
            | State::AwaitingCredentials { .. }
            | State::Full { .. }
            | State::Ending { .. }
            | State::Closing { .. }
            | State::Closed => {}
        }
    }

    /// C-11: sends `$E`(0), or fills the body with `$F` if `$E` does not fit.
    pub(super) fn send_end(&mut self, then: AfterEnd, now: Instant) {
        let State::Open { remaining, .. } = self.state else { return };
        // C-11: `$E` follows in the next PushStart.
        if remaining < END_LEN as u64 {
            self.fill_up(now);
            return;
        }
        self.send(&Packet::End(Hresult::OK));
        self.state = State::Ending { deadline: now + self.config.end_timeout, answer_by: None, then };
    }

    /// C-9: fills the body with `$F`, then waits for the response (C-10).
    pub(super) fn fill_up(&mut self, now: Instant) {
        self.body_size.measure(self.push_start.bytes_sent, now);
        while let State::Open { remaining, .. } = self.state
            && remaining > 0
        {
            let mut take = remaining.min(MAX_FILLER + FRAMING_LEN as u64);
            // The last filler must not be too short for a framing header and one byte, so this one leaves more.
            if remaining > take && remaining - take < MIN_FILLER_BYTES {
                take -= MIN_FILLER_BYTES;
            }
            let payload = usize::try_from(take).unwrap_or(0).saturating_sub(FRAMING_LEN);
            self.send(&Packet::Filler(payload));
        }
        self.state = State::Full { deadline: now + self.config.response_timeout };
    }

    /// Appends a packet to the body of the current PushStart.
    pub(super) fn send(&mut self, packet: &Packet) {
        match packet.to_bytes() {
            Ok(bytes) => {
                if let State::Open { remaining, .. } = &mut self.state {
                    *remaining = remaining.saturating_sub(bytes.len() as u64);
                }
                self.outputs.push_back(match packet {
                    Packet::Filler(_) => Output::Filler(bytes),
                    Packet::Header(_) | Packet::Data(_) | Packet::StreamChange(_) | Packet::End(_) => {
                        Output::Send(bytes)
                    }
                });
            }
            // The parser has shrunk or rejected every header that is too large for a packet.
            Err(malformed) => debug_assert!(false, "{malformed}"),
        }
    }
}
