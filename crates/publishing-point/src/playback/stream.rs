//! One player: a place in its point's log, as the body of the response to its Play.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};

use super::framing;
use super::stream_selection::{PayloadFilter, StreamSelection};
use crate::config::{HeaderChange, PointConfig, SlowPlayers};
use crate::http::body::BodyStream;
use crate::http::buf_list::BufList;
use crate::http::open_socket::OpenSocket;
use crate::points::activity::PlayerGuard;
use crate::points::client::Client;
use crate::points::publishing_point::{Joined, PlayerCountGuard};
use asf::{self, Header, Selected};
use asfpush_client::packet_buffer::{Batch, Reader, ReaderMonitor};
use wmhttp::packet::FRAMING_LEN;

/// Framed bytes taken from the log at one time. At least one packet of any size, yet little: what is
/// taken is kept until the player has it.
const READ_BATCH_BYTES: u64 = 128 * 1024;

/// What a player asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlayRequest {
    pub(crate) form: OutputFormat,
    /// The streams it wants.
    pub(crate) choice: StreamSelection,
    /// It accepts another header in mid-stream, as players of Windows do.
    pub(crate) takes_other_headers: bool,
}

/// How the stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// The packets of a pull stream ([MS-WMSP] 2.2.3).
    #[default]
    Framed,
    /// As a file that never ends: header and data packets back to back.
    Plain,
}

/// What a player receives when another header arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnHeader {
    /// `$C` and the header, and what follows.
    Send,
    /// Only the packets that follow, if the header that it has decodes them too, else the end of its stream: of all
    /// programs that play ASF only those of Windows decode by the new header what follows it.
    EndUnlessDecodable,
    /// The end of its stream, and that more follows for a player that asks again.
    End,
}

/// What other requests of a player change about its stream.
pub(crate) struct StreamControl {
    choice: Mutex<Option<StreamSelection>>,
    observer: ReaderMonitor,
}

impl StreamControl {
    pub(crate) fn new(reader: &Reader) -> Self {
        Self { choice: Mutex::new(None), observer: reader.monitor() }
    }

    /// Other streams from the next batch on.
    pub(crate) fn choose(&self, choice: StreamSelection) {
        *self.choice.lock().unwrap_or_else(PoisonError::into_inner) = Some(choice);
    }

    /// The stream ends with what there is by now.
    pub(crate) fn stop(&self) {
        self.observer.end_here();
    }

    fn take_choice(&self) -> Option<StreamSelection> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The stream that one player gets.
pub(crate) struct PlayerStream {
    /// Who plays. Before the cursor: its last look is at one that still reads.
    player: Option<PlayerGuard>,
    reader: Reader,
    control: Arc<StreamControl>,
    form: OutputFormat,
    on_header: OnHeader,
    slow: SlowPlayers,
    /// The header that the player decodes by.
    header: Arc<Header>,
    /// `None` where the player gets all streams: its packets are those of the log.
    filter: Option<PayloadFilter>,
    /// Where packets with a part of their payloads are made, for this player alone: a batch holds at most [`READ_BATCH_BYTES`]
    /// bytes of them.
    parts: BytesMut,
    /// Packets so far.
    sent: u32,
    /// Packets that it was too slow for.
    missed: u64,
    /// Bytes that go out next.
    pending: BufList,
    ended: bool,
    count: PlayerCountGuard,
}

impl PlayerStream {
    /// The stream of a player that has joined a point with this configuration.
    pub(crate) fn new(joined: Joined, order: &PlayRequest, config: &PointConfig) -> Self {
        let Joined { reader, header, count } = joined;
        let on_header = match (order.form, config.header_change) {
            (OutputFormat::Framed, HeaderChange::InPlace) => OnHeader::Send,
            (OutputFormat::Framed, HeaderChange::Auto) if order.takes_other_headers => OnHeader::Send,
            (_, HeaderChange::Reconnect) => OnHeader::End,
            // A file has one header.
            (OutputFormat::Plain, HeaderChange::InPlace) | (_, HeaderChange::Auto) => OnHeader::EndUnlessDecodable,
        };
        let first = match order.form {
            OutputFormat::Framed => framing::header(header.bytes()),
            OutputFormat::Plain => header.bytes().clone(),
        };
        Self {
            player: None,
            control: Arc::new(StreamControl::new(&reader)),
            reader,
            form: order.form,
            on_header,
            slow: config.slow_players,
            filter: PayloadFilter::of(&order.choice, &header),
            header,
            parts: BytesMut::new(),
            sent: 0,
            missed: 0,
            pending: first.into(),
            ended: false,
            count,
        }
    }

    /// Lists the player in the status: who plays, on a connection with this socket.
    pub(crate) fn set_client(&mut self, client: Client, socket: &Arc<OpenSocket>) {
        let (point, reader) = (self.count.point(), self.reader.monitor());
        self.player = Some(self.count.ledger().player(point, client, reader, socket.acknowledgements()));
    }

    pub(crate) fn control(&self) -> &Arc<StreamControl> {
        &self.control
    }

    /// The next bytes of the body, all that have gathered; `None` at its end.
    fn next_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<BufList>> {
        loop {
            if !self.pending.is_empty() {
                let slices = std::mem::take(&mut self.pending);
                if let Some(player) = &self.player {
                    player.sent(slices.remaining());
                }
                return Poll::Ready(Some(slices));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            // The wait keeps nothing but its waker, in the log: it can be begun anew each time.
            if pin!(self.reader.ready(1)).poll(context).is_pending() {
                return Poll::Pending;
            }
            match self.reader.take(READ_BATCH_BYTES) {
                Some(batch) => self.add(batch),
                None if self.reader.at_end() => {
                    // The stream itself may go on, at another server behind the same name.
                    let dismissed = self.player.as_ref().is_some_and(PlayerGuard::is_dismissed);
                    self.end(if dismissed { framing::end_of_entry() } else { framing::end() });
                }
                // It was moved: what waited is gone.
                None => {}
            }
        }
    }

    fn add(&mut self, mut batch: Batch) {
        if batch.header.packet_size() > framing::MAX_PAYLOAD && self.form == OutputFormat::Framed {
            // The pull protocol has no way to say so large a packet.
            let (size, limit) = (batch.header.packet_size(), framing::MAX_PAYLOAD);
            tracing::info!(size, limit, "packets are too large for MMS over HTTP; players can use a plain GET");
            return self.end(framing::end());
        }
        if self.sent > 0 && batch.skipped > 0 && !self.record_skip(batch.skipped) {
            return self.end(framing::end());
        }
        if !Arc::ptr_eq(&batch.header, &self.header) {
            if !self.change_header(&batch.header) {
                return;
            }
            // What depends on frames of the stream before cannot be decoded by those of this one.
            batch.starts = true;
        }
        if let Some(choice) = self.control.take_choice() {
            let filter = self.filter.get_or_insert_with(|| PayloadFilter::everything(&batch.header));
            filter.apply(&choice, &batch.header);
        }
        if batch.start_packet().is_some() {
            self.filter.get_or_insert_with(|| PayloadFilter::beginning(&batch.header)).restart();
        }
        let mut heads = BytesMut::with_capacity(batch.sizes.len() * framing::HEAD_LEN);
        let mut media: BufList = batch.frames.into_iter().collect();
        for size in batch.sizes {
            media.advance(FRAMING_LEN);
            let len = (size as usize).saturating_sub(FRAMING_LEN);
            self.add_packet(&mut media, len, &mut heads);
        }
        if self.filter.take_if(|filter| filter.passes_all()).is_some() {
            // No more packets are made for this player: it needs no memory for them.
            self.parts = BytesMut::new();
        }
    }

    /// One packet, the next of `media`, or what the player wants of it.
    fn add_packet(&mut self, media: &mut BufList, len: usize, heads: &mut BytesMut) {
        let part = match self.filter.as_mut().filter(|filter| !filter.passes_all()) {
            None => None,
            Some(filter) => {
                let packet = media.copy_to_bytes(len);
                let selected = asf::select(&packet, &mut self.parts, |payload| filter.wants(payload));
                filter.packet_done();
                match selected {
                    Selected::Whole => Some(packet),
                    Selected::Part(part) => Some(part),
                    Selected::Nothing => return,
                }
            }
        };
        if self.form == OutputFormat::Framed {
            framing::put_data_head(heads, self.sent, len);
            self.pending.push(heads.split().freeze());
        }
        match part {
            None => media.move_to(len, &mut self.pending),
            Some(part) => self.pending.push(part),
        }
        self.sent = self.sent.wrapping_add(1);
    }

    /// Goes on under another header; `false` where the stream ends instead.
    fn change_header(&mut self, header: &Arc<Header>) -> bool {
        match self.on_header {
            OnHeader::Send => {
                self.pending.push(framing::stream_change());
                self.pending.push(framing::header(header.bytes()));
            }
            OnHeader::EndUnlessDecodable if self.header.decodes_as(header) => {}
            // Without Reason 1: VLC would ask again, but take the header that it receives for packets, and hang.
            OnHeader::EndUnlessDecodable => {
                self.end(framing::end());
                return false;
            }
            OnHeader::End => {
                self.end(framing::end_of_entry());
                return false;
            }
        }
        if header.streams() != self.header.streams() {
            // What was chosen are streams of another kind now.
            self.filter = None;
        }
        self.header = Arc::clone(header);
        true
    }

    /// Counts packets that the player was too slow for; `false` where its stream ends for it.
    fn record_skip(&mut self, missed: u64) -> bool {
        if self.missed == 0 {
            let address = self.player.as_ref().map(|player| player.address());
            let policy = match self.slow {
                SlowPlayers::Skip => "skip",
                SlowPlayers::Disconnect => "disconnect",
            };
            tracing::info!(point = self.count.point(), address, missed, policy, "player too slow");
        }
        self.missed += missed;
        if let Some(player) = &self.player {
            player.lost(missed);
        }
        self.slow == SlowPlayers::Skip
    }

    fn end(&mut self, last: Bytes) {
        if self.form == OutputFormat::Framed {
            self.pending.push(last);
        }
        self.ended = true;
    }
}

impl BodyStream for PlayerStream {
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<BufList>> {
        self.next_bytes(context)
    }
}
