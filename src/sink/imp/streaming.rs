//! The work of the streaming thread: parses bytes to packets, waits until they are due, and passes them to the
//! publisher.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use smallvec::SmallVec;

use super::{AsfPushSink, vfuncs};
use crate::sink::CAT;
use crate::sink::bus::plain_details;
use crate::sink::enums::OnError;
use crate::sink::pacing::{Due, Pacer};
use crate::sink::stats::Totals;
use asfpush_client::publish::stats::Stats;
use asfpush_client::publish::{DrainOutcome, Publisher};
use wmhttp::Hresult;

/// If an incomplete packet at the end of a buffer is shorter than this number of bytes, it is copied. Keeping the
/// buffer for it needs an allocation, which takes as long.
const COPY_BELOW_BYTES: usize = 16 * 1024;
/// Maximum number of bytes of packets from one buffer that are appended at once. After each portion, the publisher may
/// block upstream.
const MAX_APPEND_BYTES: usize = 512 * 1024;
/// Minimum time between key frame requests to upstream. Key frames are much larger than other frames, so the requests
/// of several destinations that reconnect at the same time share one.
const KEY_FRAME_INTERVAL: Duration = Duration::from_secs(1);

/// Packets that are due but not passed on yet. A muxer's buffer contains few of them, and up to four need no
/// allocation.
type ReadyPackets<B> = SmallVec<[asf::Packet<B>; 4]>;

/// The stream between the start and the stop of the element.
pub(super) struct Stream {
    publisher: Arc<Publisher>,
    parser: asf::Parser,
    pacer: Pacer,
    /// The header of the packets in [`ReadyPackets`].
    ready_header: Option<Arc<asf::Header>>,
    /// Whether packets wait until they are due if upstream is not live: the value of `sync` when the buffer arrived.
    paced: bool,
    /// Whether a buffer was received.
    seen_data: bool,
    /// The sequence number of the last STREAM_START.
    stream_start: Option<gst::Seqnum>,
    /// The same STREAM_START arrived twice, and its SEGMENT is expected.
    relinked: bool,
    /// The sequence number of the last SEGMENT.
    segment: Option<gst::Seqnum>,
    /// Whether upstream is live, and therefore paces the packets itself.
    live: bool,
    /// When upstream was last asked for a key frame, and how often in total.
    key_frame_requested_at: Option<Instant>,
    key_frame_requests: u32,
    /// An ERROR was posted for the input, so EOS needs no further message.
    rejected: bool,
    /// The end was sent. After a flush, the stream begins again in new sessions.
    ended: bool,
}

impl Stream {
    pub(super) fn new(publisher: Arc<Publisher>, settings: asf::Settings) -> Self {
        Self {
            publisher,
            parser: asf::Parser::new(settings),
            pacer: Pacer::default(),
            ready_header: None,
            paced: false,
            seen_data: false,
            stream_start: None,
            relinked: false,
            segment: None,
            live: false,
            key_frame_requested_at: None,
            key_frame_requests: 0,
            rejected: false,
            ended: false,
        }
    }

    /// Returns whether nothing more is pushed until a flush.
    pub(super) fn is_over(&self) -> bool {
        self.ended || self.rejected
    }

    /// Returns the stream for a new push after a flush that follows its end. The parser keeps what it knows about the
    /// bytes.
    pub(super) fn restarted(self, publisher: Arc<Publisher>) -> Self {
        let Self { stream_start, segment, .. } = self;
        let parser = self.parser.reset_after_error();
        Self { stream_start, segment, parser, ..Self::new(publisher, asf::Settings::default()) }
    }

    /// Handles STREAM_START: the first one precedes all data, a later one arrives in the middle of the stream. A
    /// repeated one only means that upstream was relinked.
    pub(super) fn new_stream(&mut self, number: gst::Seqnum) {
        let before = self.stream_start.replace(number);
        self.relinked = before == Some(number);
        if before.is_some() && !self.relinked {
            self.parser.new_stream();
        }
    }

    /// Handles SEGMENT: only segments in bytes describe rewrites and seeks.
    pub(super) fn segment(&mut self, number: gst::Seqnum, segment: &gst::Segment) {
        let known = self.segment.replace(number) == Some(number);
        if std::mem::take(&mut self.relinked) && known {
            return;
        }
        let Some(segment) = segment.downcast_ref::<gst::format::Bytes>() else { return };
        let start = segment.start().map_or(0, u64::from);
        // After a seek without a flush, a source continues its running time. A muxer that goes back to rewrite its
        // header starts with 0 each time.
        match segment.base().map_or(0, u64::from) {
            0 => self.parser.segment(start),
            _ => self.parser.seek_to(start),
        }
    }

    /// Handles FLUSH_STOP.
    pub(super) fn flush(&mut self) {
        self.relinked = false;
        self.parser.discontinuity();
        // The running time may also start again.
        self.pacer = Pacer::default();
    }

    /// Handles the caps' `streamheader`.
    pub(super) fn stream_header(&mut self, header: Bytes) {
        self.parser.stream_header(header);
    }
}

impl AsfPushSink {
    /// Parses a buffer and passes on the packets that are due.
    pub(super) fn push_buffer(&self, stream: &mut Stream, buffer: &gst::Buffer) -> Result<(), gst::FlowError> {
        if buffer.flags().contains(gst::BufferFlags::DISCONT) && stream.seen_data {
            stream.parser.discontinuity();
        }
        stream.seen_data = true;
        stream.paced = self.obj().is_sync();
        self.request_key_frame(stream);
        gst::log!(CAT, imp = self, "{buffer:?}");
        // Counted here and added at the end: one lock for each buffer, not for each packet.
        let mut totals = Totals { bytes_received: buffer.size() as u64, ..Totals::default() };
        // Memories are mapped one by one, because mapping a buffer with several copies all of them into one.
        let mut memories = 0..buffer.n_memory();
        let result = memories.try_for_each(|index| self.push_memory(stream, buffer, index, &mut totals));
        let mut shared = self.shared();
        shared.totals.packets_received += totals.packets_received;
        shared.totals.bytes_received += totals.bytes_received;
        shared.totals.padding_bytes_saved += totals.padding_bytes_saved;
        shared.totals.headers += totals.headers;
        result
    }

    /// Parses packets in place; an incomplete packet at the end is kept for the next memory.
    fn push_memory(
        &self,
        stream: &mut Stream,
        buffer: &gst::Buffer,
        index: usize,
        totals: &mut Totals,
    ) -> Result<(), gst::FlowError> {
        let map = buffer.peek_memory(index).map_readable().map_err(|_| self.post_unreadable_error())?;
        let mut rest = map.as_slice();
        loop {
            self.push_packets(stream, buffer, |parser| parser.next_packet_in_place(&mut rest), totals)?;
            if rest.is_empty() {
                return Ok(());
            }
            let from = map.len() - rest.len();
            // The parser wants bytes that it can keep: the start of the next packet, or bytes that are not a packet.
            // Only as much is passed as completes the incomplete packet, so that the following ones are parsed in place
            // again.
            let (next, after) = rest.split_at(stream.parser.missing_bytes().unwrap_or(rest.len()).min(rest.len()));
            if next.len() <= COPY_BELOW_BYTES {
                stream.parser.push_copied(next);
            } else {
                let memory = buffer.memory(index).map(gst::Memory::into_mapped_memory_readable);
                let memory = memory.and_then(Result::ok).ok_or_else(|| self.post_unreadable_error())?;
                stream.parser.push(Bytes::from_owner(memory).slice(from..from + next.len()));
            }
            rest = after;
            self.push_packets(stream, buffer, asf::Parser::next_packet, totals)?;
        }
    }

    /// Posts the ERROR for memory that cannot be mapped.
    fn post_unreadable_error(&self) -> gst::FlowError {
        self.post_plain_error(gst::ResourceError::Read, "cannot map the memory of a buffer from upstream for reading; use an element upstream that produces system memory", Hresult::FAIL);
        gst::FlowError::Error
    }

    /// Asks upstream for a key frame if a destination needs one. An encoder that supports GstForceKeyUnit responds with
    /// its next frame.
    fn request_key_frame(&self, stream: &mut Stream) {
        // The flag is only a hint, and no other data depends on it, so the ordering is relaxed.
        let wanted = self.key_frame_wanted();
        if !wanted.load(Ordering::Relaxed)
            || stream.key_frame_requested_at.is_some_and(|at| at.elapsed() < KEY_FRAME_INTERVAL)
        {
            return;
        }
        // Reset before the request, so that a destination that needs a key frame from now on sets it again.
        wanted.store(false, Ordering::Relaxed);
        if !self.shared().settings.request_keyframe {
            return;
        }
        stream.key_frame_requested_at = Some(Instant::now());
        stream.key_frame_requests += 1;
        let structure = gst::Structure::builder("GstForceKeyUnit")
            .field("running-time", gst::ClockTime::NONE)
            .field("all-headers", false)
            .field("count", stream.key_frame_requests)
            .build();
        // If no element upstream handles the event, the next key frame arrives when the encoder produces one.
        let taken = self.obj().sink_pad().push_event(gst::event::CustomUpstream::new(structure));
        gst::debug!(CAT, imp = self, "requested a key frame; handled upstream: {taken}");
    }

    /// Takes all available packets and passes on each when it is due. The last of them was completed by this buffer.
    fn push_packets<B: asf::PacketBytes>(
        &self,
        stream: &mut Stream,
        buffer: &gst::Buffer,
        mut next: impl FnMut(&mut asf::Parser) -> Result<Option<asf::ParsedPacket<B>>, asf::Error>,
        totals: &mut Totals,
    ) -> Result<(), gst::FlowError> {
        let mut ready = ReadyPackets::new();
        let mut bytes = 0;
        loop {
            let parsed = next(&mut stream.parser);
            self.report_warnings(&mut stream.parser);
            let parsed = match parsed {
                Ok(Some(parsed)) => parsed,
                Ok(None) => break,
                Err(error) => {
                    self.append_ready(stream, &mut ready)?;
                    return Err(self.reject_input(stream, &error));
                }
            };
            let new_stream = stream.ready_header.as_ref().is_none_or(|header| !Arc::ptr_eq(header, &parsed.header));
            if new_stream {
                self.append_ready(stream, &mut ready)?;
                totals.headers += 1;
                gst::info!(CAT, imp = self, "stream started: {:?}", parsed.header);
                stream.live = self.upstream_is_live();
                stream.publisher.set_live(stream.live);
                stream.ready_header = Some(Arc::clone(&parsed.header));
            }
            // A packet that could not be parsed has no send time.
            if stream.paced && !stream.live && parsed.packet.is_parsed() {
                self.wait_until_due(stream, buffer, &mut ready, &parsed)?;
            }
            totals.packets_received += 1;
            totals.padding_bytes_saved += u64::from(parsed.packet.padding_removed());
            bytes += parsed.packet.len();
            ready.push(parsed.packet);
            if bytes >= MAX_APPEND_BYTES {
                self.append_ready(stream, &mut ready)?;
                bytes = 0;
            }
        }
        self.append_ready(stream, &mut ready)
    }

    /// Posts what the parser found: an INFO if it has repaired all of it, otherwise a WARNING.
    fn report_warnings(&self, parser: &mut asf::Parser) {
        while let Some(warning) = parser.take_warning() {
            if warning.is_repaired() {
                // gst-launch-1.0 prints only the second text of an INFO.
                gst::element_imp_info!(self, gst::StreamError::Format, ("{warning}"), ["{warning}"]);
            } else {
                gst::element_imp_warning!(self, gst::StreamError::Format, ("{warning}"));
            }
        }
    }

    /// Passes on the packets that are due earlier, then waits for the clock.
    fn wait_until_due<B: asf::PacketBytes>(
        &self,
        stream: &mut Stream,
        buffer: &gst::Buffer,
        ready: &mut ReadyPackets<B>,
        parsed: &asf::ParsedPacket<B>,
    ) -> Result<(), gst::FlowError> {
        let now = || self.obj().current_running_time().unwrap_or(gst::ClockTime::ZERO);
        match stream.pacer.due(&parsed.header, parsed.packet.send_time(), now) {
            Due::Now => Ok(()),
            Due::Jumped(ms) => {
                gst::warning!(
                    CAT,
                    imp = self,
                    "the send time jumps by {ms} ms: sending this packet immediately, and pacing the next ones from it"
                );
                Ok(())
            }
            Due::At(time) => {
                let due = self.adjust_for_latency(time);
                if self.obj().current_running_time().is_some_and(|now| now >= due) {
                    return Ok(());
                }
                // Packets that are already due must not wait for this one.
                self.append_ready(stream, ready)?;
                self.wait_until(due, buffer)
            }
        }
    }

    /// Adds GstBaseSink's properties and the pipeline's latency to a running time.
    fn adjust_for_latency(&self, time: gst::ClockTime) -> gst::ClockTime {
        let sink = self.obj();
        let (late, offset) = (time.saturating_add(sink.latency()), sink.ts_offset());
        let shift = gst::ClockTime::from_nseconds(offset.unsigned_abs());
        let late = if offset < 0 { late.saturating_sub(shift) } else { late.saturating_add(shift) };
        // The render delay is included in the latency.
        late.saturating_sub(sink.render_delay())
    }

    /// Waits for a running time. `gst_base_sink_wait` cannot be used: on a change to PAUSED it waits without committing
    /// that state.
    fn wait_until(&self, due: gst::ClockTime, buffer: &gst::Buffer) -> Result<(), gst::FlowError> {
        loop {
            vfuncs::preroll(&self.obj(), buffer)?;
            if self.obj().wait_clock(due).0 != Err(gst::ClockError::Unscheduled) {
                return Ok(());
            }
        }
    }

    /// Appends the collected packets to the packet buffer, and blocks if a destination requires it.
    fn append_ready<B: asf::PacketBytes>(
        &self,
        stream: &mut Stream,
        ready: &mut ReadyPackets<B>,
    ) -> Result<(), gst::FlowError> {
        let Some(header) = &stream.ready_header else { return Ok(()) };
        if ready.is_empty() {
            return Ok(());
        }
        // `unlock` interrupts the wait, for a change of state or a flush. `wait_preroll` returns in PLAYING, or with
        // the error that the streaming thread must return.
        while stream.publisher.wait_for_room().is_err() {
            self.obj().wait_preroll()?;
        }
        stream.publisher.append(header, ready.drain(..));
        Ok(())
    }

    /// Handles EOS: sends the remaining packets and the end of the stream, within `eos-timeout`. Called with the
    /// preroll lock held.
    pub(super) fn drain(&self) -> Result<(), gst::FlowError> {
        // The stream is taken out, so that no lock is held during the wait.
        let Some(mut stream) = self.stream().take() else { return Err(gst::FlowError::Flushing) };
        let result = self.drain_stream(&mut stream);
        *self.stream() = Some(stream);
        result
    }

    fn drain_stream(&self, stream: &mut Stream) -> Result<(), gst::FlowError> {
        if let Err(error) = stream.parser.finish() {
            return Err(self.reject_input(stream, &error));
        }
        self.report_warnings(&mut stream.parser);
        if stream.ready_header.is_none() {
            let text =
                "the stream ended before its first data packet: nothing was pushed; check that the muxer receives data";
            gst::element_imp_warning!(self, gst::StreamError::Format, ("{text}"));
        }
        // Without data there was nothing to connect for, as the WARNING above says.
        let has_data = stream.ready_header.is_some();
        let until = Instant::now() + self.shared().settings.eos_timeout();
        stream.publisher.end();
        stream.ended = true;
        loop {
            match stream.publisher.wait_until_ended(until) {
                Ok(DrainOutcome::All) => return Ok(()),
                Ok(DrainOutcome::TimedOut(waiting)) => {
                    let unreached = stream.publisher.unreached();
                    // No connection may begin after the EOS message.
                    stream.publisher.stop_connecting();
                    let waiting = waiting.saturating_sub(unreached.len());
                    if has_data {
                        self.report_unreached(&unreached);
                    }
                    if waiting == 0 {
                        return Ok(());
                    }
                    gst::element_imp_warning!(
                        self,
                        gst::ResourceError::Write,
                        ("{waiting} publishing point(s) did not confirm the end of the stream within eos-timeout, so that \
                         its last packets may be lost; raise eos-timeout, or lower the bit rate to what the network \
                         carries")
                    );
                    return Ok(());
                }
                Err(_interrupted) => {
                    self.obj().wait_preroll()?;
                }
            }
        }
    }

    /// Reports destinations that were never connected before the end of the stream; `on-error` decides whether that is
    /// an ERROR.
    fn report_unreached(&self, unreached: &[Stats]) {
        let Some(first) = unreached.first() else { return };
        let (policy, destinations) = {
            let shared = self.shared();
            (shared.settings.on_error, shared.destinations.len())
        };
        let why = first.last_error.as_ref().map_or_else(
            || "no server answered; check location and the network, or raise eos-timeout".to_owned(),
            |failure| format!("{}; {}", failure.text, failure.remedy),
        );
        let hresult = first.last_error.as_ref().map_or(Hresult::TIMEOUT, |failure| failure.hresult);
        let others = match unreached.len() - 1 {
            0 => String::new(),
            more => format!(" ({more} more publishing point(s) received nothing either)"),
        };
        let text =
            format!("{} ({}): the stream ended before any of it was pushed: {why}{others}", first.name, first.location);
        let details = plain_details(hresult);
        let is_error = match policy {
            OnError::FailAny => true,
            OnError::FailAll => unreached.len() >= destinations,
            OnError::Never => false,
        };
        if is_error {
            gst::element_imp_error!(self, gst::ResourceError::OpenWrite, ("{text}"), ["{hresult}"], details: details);
        } else {
            gst::element_imp_warning!(self, gst::ResourceError::OpenWrite, ("{text}"), ["{hresult}"], details: details);
        }
    }

    /// Posts the ERROR for input that is not ASF or cannot be pushed, but only once.
    fn reject_input(&self, stream: &mut Stream, error: &asf::Error) -> gst::FlowError {
        if std::mem::replace(&mut stream.rejected, true) {
            return gst::FlowError::Error;
        }
        gst::error!(CAT, imp = self, "{error}");
        let hresult = hresult_of(error);
        let details = plain_details(hresult);
        if error.is_wrong_type() {
            gst::element_imp_error!(self, gst::StreamError::WrongType, ("{error}"), ["{hresult}"], details: details);
        } else {
            gst::element_imp_error!(self, gst::StreamError::Format, ("{error}"), ["{hresult}"], details: details);
        }
        gst::FlowError::Error
    }

    /// Asks upstream by a LATENCY query whether it is live.
    fn upstream_is_live(&self) -> bool {
        let mut query = gst::query::Latency::new();
        let answered = self.obj().static_pad("sink").is_some_and(|pad| pad.peer_query(&mut query));
        answered && query.result().0
    }
}

/// Returns the Windows code for input that cannot be pushed.
fn hresult_of(error: &asf::Error) -> Hresult {
    match error {
        asf::Error::HeaderTooBig { .. } => Hresult::ASF_HEADER_SIZE,
        asf::Error::PacketTooBig { .. } | asf::Error::OverlongPacket { .. } => Hresult::ASF_PACKET_TOO_LARGE,
        asf::Error::LostAlignment { .. } => Hresult::ASF_BAD_DATA_UNIT,
        asf::Error::NoHeader { .. } => Hresult::ASF_NO_HEADER,
        asf::Error::NotAsf { .. }
        | asf::Error::AsfStream { .. }
        | asf::Error::InvalidHeader { .. }
        | asf::Error::PacketSize { .. } => Hresult::ASF_INVALID_HEADER,
    }
}
