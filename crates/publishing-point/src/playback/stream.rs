//! A player's stream: a position in its point's packet buffer, as the body of the response to its Play.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;

use super::framing;
use super::groups::{GroupPlace, Joining, PlayerGroups, Released, WireFormat};
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

/// Framed bytes that are read from the packet buffer at a time: enough for one packet of any size, but little, because
/// they stay in memory until the player has received them.
pub(super) const READ_BATCH_BYTES: u64 = 128 * 1024;

/// A player's Play request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlayRequest {
    /// The format of the response body.
    pub(crate) format: OutputFormat,
    /// The selected streams.
    pub(crate) selection: StreamSelection,
    /// Whether the player accepts another header in mid-stream, as Windows players do.
    pub(crate) accepts_header_changes: bool,
}

/// The format of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// The packets of a pull stream ([MS-WMSP] 2.2.3).
    #[default]
    Framed,
    /// An endless file: the header and data packets without framing.
    Plain,
}

/// What a player receives when the header changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnHeader {
    /// `$C`, the header, and the packets that follow.
    Send,
    /// Only the packets that follow, if the player's header decodes them too; otherwise the end of its stream. Of all
    /// programs that play ASF, only those of Windows use the new header for the following packets.
    EndUnlessDecodable,
    /// The end of its stream with Reason 1, so that the player connects again.
    End,
}

/// Changes of a player's stream by its other requests.
pub(crate) struct StreamControl {
    /// The selection of a request that the stream has not applied yet.
    selection: Mutex<Option<StreamSelection>>,
    /// Access to the position of the stream's reader.
    monitor: ReaderMonitor,
}

impl StreamControl {
    /// Returns the control of the stream that this reader supplies.
    pub(crate) fn new(reader: &Reader) -> Self {
        Self { selection: Mutex::new(None), monitor: reader.monitor() }
    }

    /// Selects other streams, from the next batch on.
    pub(crate) fn select(&self, selection: StreamSelection) {
        *self.selection.lock().unwrap_or_else(PoisonError::into_inner) = Some(selection);
        // A group sends all streams.
        self.monitor.release();
    }

    fn has_selection(&self) -> bool {
        self.selection.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Ends the stream after the packets received so far.
    pub(crate) fn stop(&self) {
        self.monitor.end_at_head();
    }

    /// Returns the selection of a request since the last call, if any.
    fn take_selection(&self) -> Option<StreamSelection> {
        self.selection.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The stream of one player.
pub(crate) struct PlayerStream {
    /// The player's registration. It is declared before the reader, so that it is dropped while the reader still
    /// exists.
    player: Option<PlayerGuard>,
    reader: Reader,
    /// Shared with the player's other requests.
    control: Arc<StreamControl>,
    format: OutputFormat,
    on_header: OnHeader,
    slow: SlowPlayers,
    /// The header that the player uses for decoding.
    header: Arc<Header>,
    /// The stream selection; `None` if the player receives all streams and thereby the shared packets of the buffer.
    filter: Option<PayloadFilter>,
    /// Buffer for packets with a part of their payloads, which are created for this player only. A batch contains up to
    /// [`READ_BATCH_BYTES`] bytes of them.
    parts: BytesMut,
    /// Packets sent so far.
    sent: u32,
    /// Packets that the player missed because it was too slow.
    missed: u64,
    /// Bytes that are sent next.
    pending: BufList,
    /// Whether nothing follows after `pending`.
    ended: bool,
    groups: Arc<PlayerGroups>,
    /// The socket and the format of the response, if a group can write to it.
    socket: Option<(Arc<TcpStream>, WireFormat)>,
    /// The player's place in a group of players that are sent the same packets; while it has one, only the group takes
    /// packets for it.
    place: Option<GroupPlace>,
    /// Whether the stream may join a group when it has sent everything. A player that a group has released first
    /// takes packets of its own, so that it does not join the same group again at once.
    may_join: bool,
    /// Bytes that the group could not write; they are sent next.
    unwritten: BufList,
    /// Counts the player until the stream is dropped.
    count: PlayerCountGuard,
}

impl PlayerStream {
    /// Returns the stream of a player that has joined a point with this configuration.
    pub(crate) fn new(joined: Joined, play_request: &PlayRequest, config: &PointConfig) -> Self {
        let Joined { reader, groups, header, count } = joined;
        let on_header = match (play_request.format, config.header_change) {
            (OutputFormat::Framed, HeaderChange::InPlace) => OnHeader::Send,
            (OutputFormat::Framed, HeaderChange::Auto) if play_request.accepts_header_changes => OnHeader::Send,
            (_, HeaderChange::Reconnect) => OnHeader::End,
            // A file has a single header.
            (OutputFormat::Plain, HeaderChange::InPlace) | (_, HeaderChange::Auto) => OnHeader::EndUnlessDecodable,
        };
        let first = match play_request.format {
            OutputFormat::Framed => framing::header(header.bytes()),
            OutputFormat::Plain => header.bytes().clone(),
        };
        Self {
            player: None,
            control: Arc::new(StreamControl::new(&reader)),
            reader,
            format: play_request.format,
            on_header,
            slow: config.slow_players,
            filter: PayloadFilter::of(&play_request.selection, &header),
            header,
            parts: BytesMut::new(),
            sent: 0,
            missed: 0,
            pending: first.into(),
            ended: false,
            groups,
            socket: None,
            place: None,
            may_join: false,
            unwritten: BufList::default(),
            count,
        }
    }

    /// Registers the player for the status, with the socket of its connection.
    pub(crate) fn set_client(&mut self, client: Client, socket: &Arc<OpenSocket>) {
        let (point, reader) = (self.count.point(), self.reader.monitor());
        self.player = Some(self.count.activity().player(point, client, reader, socket.acknowledgements()));
    }

    /// Returns the control for the player's other requests.
    pub(crate) fn control(&self) -> &Arc<StreamControl> {
        &self.control
    }

    /// Returns all bytes that are available next; `None` at the end of the body.
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
            if let Some(place) = &mut self.place
                && let Poll::Ready(released) = place.poll_released(context)
            {
                self.place = None;
                self.take_back(released);
                continue;
            }
            // The wait has no state except its waker in the packet buffer, so it can be restarted on each poll.
            if pin!(self.reader.ready(1)).poll(context).is_pending() && !self.must_leave() {
                if self.place.is_none() && self.join() {
                    // Its place registers the waker.
                    continue;
                }
                return Poll::Pending;
            }
            if let Some(place) = &mut self.place {
                // The group may still be writing, so the stream continues when the group has released it.
                place.leave();
                return Poll::Pending;
            }
            match self.reader.take(READ_BATCH_BYTES) {
                Some(batch) => self.add(batch),
                None if self.reader.at_end() => {
                    // The stream may continue at another server with the same name.
                    let dismissed = self.player.as_ref().is_some_and(PlayerGuard::is_dismissed);
                    self.end(if dismissed { framing::end_of_entry() } else { framing::end() });
                }
                // The reader was moved past the packets that waited.
                None => {}
            }
        }
    }

    /// Joins a group if the player receives the shared packets; returns whether it did.
    fn join(&mut self) -> bool {
        let Some((socket, format)) = &self.socket else { return false };
        if !std::mem::take(&mut self.may_join) || self.filter.is_some() || !self.unwritten.is_empty() {
            return false;
        }
        let joining = Joining {
            socket: Arc::clone(socket),
            format: *format,
            follower: self.reader.follower(),
            header: Arc::clone(&self.header),
            sent: self.sent,
            player: self.player.as_ref().map(PlayerGuard::info),
        };
        self.place = Some(self.groups.join(joining));
        true
    }

    /// Returns whether the player's stream needs its own packets from now on.
    fn must_leave(&self) -> bool {
        self.place.is_some() && self.control.has_selection()
    }

    /// Continues after a group has sent packets to the player.
    fn take_back(&mut self, released: Option<Released>) {
        match released {
            Some(Released { sent, unwritten }) => {
                self.sent = sent;
                self.unwritten = unwritten;
            }
            // The group's task has panicked, so what the player has received is unknown.
            None => self.ended = true,
        }
    }

    /// Formats the packets of a batch for this player and appends them to `pending`.
    fn add(&mut self, mut batch: Batch) {
        self.may_join = true;
        if batch.header.packet_size() > framing::MAX_PAYLOAD && self.format == OutputFormat::Framed {
            // The pull protocol cannot represent a packet this large.
            let (size, limit) = (batch.header.packet_size(), framing::MAX_PAYLOAD);
            tracing::info!(
                point = self.count.point(),
                packet_size = size,
                limit,
                "player refused: the packets are too large for MMS over HTTP; players can use a plain GET"
            );
            return self.end(framing::end());
        }
        if self.sent > 0 && batch.skipped > 0 && !self.record_skip(batch.skipped) {
            return self.end(framing::end());
        }
        if !Arc::ptr_eq(&batch.header, &self.header) {
            if !self.change_header(&batch.header) {
                return;
            }
            // Frames that depend on the previous stream cannot be decoded.
            batch.starts = true;
        }
        if let Some(selection) = self.control.take_selection() {
            let filter = self.filter.get_or_insert_with(|| PayloadFilter::everything(&batch.header));
            filter.apply(&selection, &batch.header);
        }
        if batch.start_packet().is_some() {
            self.filter.get_or_insert_with(|| PayloadFilter::beginning(&batch.header)).restart();
        }
        // One allocation for the framing of all packets; the media are shared slices of the packet buffer.
        let mut heads = BytesMut::with_capacity(batch.sizes.len() * framing::HEAD_LEN);
        let mut media: BufList = batch.frames.into_iter().collect();
        for size in batch.sizes {
            // The packets in the buffer have the framing of the push protocol, which is replaced.
            media.advance(FRAMING_LEN);
            let len = (size as usize).saturating_sub(FRAMING_LEN);
            self.add_packet(&mut media, len, &mut heads);
        }
        if self.filter.take_if(|filter| filter.passes_all()).is_some() {
            // No more packets are made for this player: it needs no memory for them.
            self.parts = BytesMut::new();
        }
    }

    /// Adds the next packet of `media`, or the selected part of it.
    fn add_packet(&mut self, media: &mut BufList, len: usize, heads: &mut BytesMut) {
        let part = match self.filter.as_mut().filter(|filter| !filter.passes_all()) {
            None => None,
            Some(filter) => {
                let packet = media.copy_to_bytes(len);
                let selected = asf::select(&packet, &mut self.parts, |payload| filter.wants(payload));
                filter.count_packet();
                match selected {
                    Selected::Whole => Some(packet),
                    Selected::Part(part) => Some(part),
                    Selected::Nothing => return,
                }
            }
        };
        if self.format == OutputFormat::Framed {
            framing::put_data_head(heads, self.sent, len);
            self.pending.push(heads.split().freeze());
        }
        match part {
            None => media.move_to(len, &mut self.pending),
            Some(part) => self.pending.push(part),
        }
        self.sent = self.sent.wrapping_add(1);
    }

    /// Continues with another header; returns `false` if the stream ends instead.
    fn change_header(&mut self, header: &Arc<Header>) -> bool {
        match self.on_header {
            OnHeader::Send => {
                self.pending.push(framing::stream_change());
                self.pending.push(framing::header(header.bytes()));
            }
            OnHeader::EndUnlessDecodable if self.header.decodes_as(header) => {}
            // Without Reason 1, because VLC would connect again, but parse the header that it receives as packets, and
            // hang.
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
            // The selection refers to the previous streams.
            self.filter = None;
        }
        self.header = Arc::clone(header);
        true
    }

    /// Counts packets that the player was too slow for; returns `false` if its stream must end.
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

    /// Ends the stream after `pending` and, in a framed stream, this packet.
    fn end(&mut self, last: Bytes) {
        if self.format == OutputFormat::Framed {
            self.pending.push(last);
        }
        self.ended = true;
    }
}

impl BodyStream for PlayerStream {
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<BufList>> {
        self.next_bytes(context)
    }

    fn set_socket(&mut self, socket: &Arc<TcpStream>, chunked: bool) {
        self.socket = Some((Arc::clone(socket), WireFormat { output: self.format, chunked }));
    }

    fn take_unwritten(&mut self) -> BufList {
        std::mem::take(&mut self.unwritten)
    }
}
