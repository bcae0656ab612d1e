//! Groups of players that are sent the same packets at the same time.
//!
//! Nearly all players of a point wait for the same packet. If each of their tasks were woken for it, the wake-ups, locks
//! and lists would cost a third of the processor time of sending it. Therefore the task of a group takes each packet
//! once, and writes it to the sockets of its players. A player whose socket accepts no more leaves the group, so that it
//! delays no other: its own task sends the rest, and what follows until the player has caught up.
//!
//! A player is in a group only while it receives all streams, without TLS, and has received everything so far. Its own
//! task waits meanwhile for the end of its connection or its stream.

use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;

use super::framing;
use super::stream::{OutputFormat, READ_BATCH_BYTES};
use crate::http::buf_list::BufList;
use crate::http::streaming::{CHUNK_END, chunk};
use crate::points::activity::PlayerInfo;
use asf::Header;
use asfpush_client::packet_buffer::{Batch, Follower, PacketBuffer, Reader, ReaderOptions, StartPosition};
use wmhttp::packet::FRAMING_LEN;

/// Maximum players of a group. A task sends to all of them before other tasks of its thread run, and several groups use
/// several processors.
const GROUP_SIZE: usize = 256;

/// The groups of a stream's players.
pub(crate) struct PlayerGroups {
    buffer: Arc<PacketBuffer>,
    groups: Mutex<Vec<Arc<Inbox>>>,
}

/// The format of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WireFormat {
    pub(crate) output: OutputFormat,
    /// Whether packets are sent as chunks.
    pub(crate) chunked: bool,
}

/// A player that joins a group.
pub(crate) struct Joining {
    /// Everything taken from the packet buffer has been written to it.
    pub(crate) socket: Arc<TcpStream>,
    pub(crate) format: WireFormat,
    pub(crate) follower: Follower,
    /// The header that the player uses for decoding.
    pub(crate) header: Arc<Header>,
    /// Packets sent so far.
    pub(crate) sent: u32,
    pub(crate) player: Option<Arc<PlayerInfo>>,
}

/// How far the group has sent, when it returns a player to the player's own task.
pub(crate) struct Released {
    /// Packets sent so far, including those in `unwritten`.
    pub(crate) sent: u32,
    /// Bytes that the socket has not accepted.
    pub(crate) unwritten: BufList,
}

/// A player's place in a group, which the player leaves when it is dropped.
pub(crate) struct GroupPlace {
    inbox: Arc<Inbox>,
    number: u64,
    released: oneshot::Receiver<Released>,
    /// Whether the group is to release the player, or has.
    leaving: bool,
}

/// The messages of players to the task of a group.
#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
    changed: Notify,
}

#[derive(Default)]
struct InboxState {
    /// At most two for each player: that it joins, and that it leaves.
    messages: Vec<Message>,
    /// Players that have joined and were not released.
    players: usize,
    /// The number of the next player.
    next: u64,
    /// Whether the task has ended.
    closed: bool,
}

enum Message {
    Join(Box<Member>),
    Leave(u64),
}

/// A player in a group.
struct Member {
    number: u64,
    joining: Joining,
    release: oneshot::Sender<Released>,
}

/// The task of a group.
struct Group {
    inbox: Arc<Inbox>,
    /// The members follow this reader.
    lead: Reader,
    /// The header of all members.
    header: Arc<Header>,
    members: Vec<Member>,
    /// For each member, whether it has taken the latest packets.
    taken: Vec<bool>,
    framed: SharedBytes,
    plain: SharedBytes,
}

/// Packets as they are sent to all members with the same output format. One write of contiguous bytes costs less than one of
/// several slices.
#[derive(Default)]
struct SharedBytes {
    /// The packets as a chunk; empty if they have not been copied here yet.
    bytes: BytesMut,
    /// The part of `bytes` without the framing of the chunk.
    body: Range<usize>,
}

impl PlayerGroups {
    pub(crate) fn new(buffer: Arc<PacketBuffer>) -> Self {
        Self { buffer, groups: Mutex::default() }
    }

    /// Adds a player to a group. The group releases it at once if it has missed a packet meanwhile.
    pub(crate) fn join(&self, joining: Joining) -> GroupPlace {
        let (release, released) = oneshot::channel();
        let header = Arc::clone(&joining.header);
        let (inbox, number, is_new) = self.pass_on(Member { number: 0, joining, release });
        inbox.changed.notify_one();
        if is_new {
            tokio::spawn(Group::new(Arc::clone(&inbox), &self.buffer, header).run());
        }
        GroupPlace { inbox, number, released, leaving: false }
    }

    /// Passes a player to a group with a place. Returns the group, the number of the player there, and whether the group
    /// is new.
    fn pass_on(&self, member: Member) -> (Arc<Inbox>, u64, bool) {
        let mut member = Some(member);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|inbox| !inbox.lock().closed);
        let with_place =
            groups.iter().find_map(|inbox| Some((Arc::clone(inbox), inbox.lock().add(&mut member)?, false)));
        with_place.unwrap_or_else(|| {
            let inbox = Arc::new(Inbox::default());
            let number = inbox.lock().add(&mut member).unwrap_or_default();
            groups.push(Arc::clone(&inbox));
            (inbox, number, true)
        })
    }
}

impl Inbox {
    fn send(&self, message: Message) {
        self.lock().messages.push(message);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, InboxState> {
        // The data is consistent after every statement, so a poisoned lock can still be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InboxState {
    /// Takes the player and returns its number; `None` if the group is full or closed.
    ///
    /// The check and the message need the same lock: the task of the group can end at any moment, and then reads no
    /// messages, so a player whose message it misses would wait forever.
    fn add(&mut self, member: &mut Option<Member>) -> Option<u64> {
        if self.closed || self.players >= GROUP_SIZE {
            return None;
        }
        let mut member = member.take()?;
        self.players += 1;
        self.next += 1;
        member.number = self.next;
        self.messages.push(Message::Join(Box::new(member)));
        Some(self.next)
    }
}

impl GroupPlace {
    /// Waits until the group has released the player; `None` if its task has failed.
    pub(crate) fn poll_released(&mut self, context: &mut Context<'_>) -> Poll<Option<Released>> {
        let released = Pin::new(&mut self.released).poll(context);
        self.leaving |= released.is_ready();
        released.map(Result::ok)
    }

    /// Asks the group to release the player.
    pub(crate) fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.inbox.send(Message::Leave(self.number));
        }
    }
}

impl Drop for GroupPlace {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Group {
    fn new(inbox: Arc<Inbox>, buffer: &Arc<PacketBuffer>, header: Arc<Header>) -> Self {
        let options = ReaderOptions { resync: StartPosition::Live, ..ReaderOptions::default() };
        Self {
            inbox,
            lead: buffer.reader(StartPosition::Live, options),
            header,
            members: Vec::new(),
            taken: Vec::new(),
            framed: SharedBytes::default(),
            plain: SharedBytes::default(),
        }
    }

    /// Sends packets until the last member has left or the stream has ended.
    async fn run(mut self) {
        while self.read_messages() {
            tokio::select! {
                () = self.inbox.changed.notified() => {}
                () = self.lead.ready(1) => {
                    if !self.send_next() {
                        return;
                    }
                    // A group that cannot keep up must not occupy its thread: other tasks wait there, such as those of
                    // the players that it has just released.
                    if self.lead.peek().is_some() {
                        yield_now().await;
                    }
                }
            }
        }
    }

    /// Admits and releases players; returns `false` if no player is left, and closes the group then.
    fn read_messages(&mut self) -> bool {
        let messages = std::mem::take(&mut self.inbox.lock().messages);
        for message in messages {
            match message {
                Message::Join(member) => self.admit(*member),
                Message::Leave(number) => {
                    if let Some(index) = self.members.iter().position(|member| member.number == number) {
                        let member = self.members.swap_remove(index);
                        self.release(member, BufList::default());
                    }
                }
            }
        }
        let mut inbox = self.inbox.lock();
        inbox.closed = inbox.players == 0;
        !inbox.closed
    }

    fn admit(&mut self, member: Member) {
        let Joining { follower, header, .. } = &member.joining;
        if self.members.is_empty() {
            self.header = Arc::clone(header);
        }
        if Arc::ptr_eq(header, &self.header) && self.lead.lead(follower) {
            self.members.push(member);
        } else {
            self.release(member, BufList::default());
        }
    }

    /// Returns a player to its own task.
    fn release(&self, member: Member, unwritten: BufList) {
        let Member { joining, release, .. } = member;
        joining.follower.release();
        self.inbox.lock().players -= 1;
        // Fails if the player has ended.
        let _ = release.send(Released { sent: joining.sent, unwritten });
    }

    /// Sends the next packets, if any, to all members; returns `false` at the end of the stream.
    fn send_next(&mut self) -> bool {
        let followers = self.members.iter().map(|member| &member.joining.follower);
        let batch = self.lead.take_with(&self.header, followers, READ_BATCH_BYTES, &mut self.taken);
        match batch {
            Some(batch) => self.send(&batch),
            None => match self.lead.peek() {
                // The players' own tasks handle the change.
                Some(next) if !Arc::ptr_eq(&next.header, &self.header) => {
                    self.header = next.header;
                    self.release_all();
                }
                Some(_) => {}
                None if self.lead.at_end() => {
                    self.release_all();
                    return false;
                }
                // The reader was moved past the packets that waited.
                None => {}
            },
        }
        true
    }

    fn release_all(&mut self) {
        for member in std::mem::take(&mut self.members) {
            self.release(member, BufList::default());
        }
    }

    /// Writes the packets to the sockets of all members. Members that did not take them, or whose sockets do not accept
    /// all of them, are released.
    fn send(&mut self, batch: &Batch) {
        self.framed.clear();
        self.plain.clear();
        let packets = u32::try_from(batch.sizes.len()).unwrap_or(u32::MAX);
        // From the end, because the last member takes the place of a released one.
        for index in (0..self.members.len()).rev() {
            let taken = self.taken.get(index).copied().unwrap_or_default();
            let Some(member) = self.members.get_mut(index) else { continue };
            let mut unwritten = BufList::default();
            if taken {
                let shared = match member.joining.format.output {
                    OutputFormat::Framed => &mut self.framed,
                    OutputFormat::Plain => &mut self.plain,
                };
                unwritten = shared.write_to(&member.joining, batch);
                member.joining.sent = member.joining.sent.wrapping_add(packets);
            }
            if !taken || !unwritten.is_empty() {
                let member = self.members.swap_remove(index);
                self.release(member, unwritten);
            }
        }
    }
}

impl Drop for Group {
    /// Releases the players that have joined meanwhile, so that none waits for a task that has ended.
    fn drop(&mut self) {
        let mut inbox = self.inbox.lock();
        inbox.closed = true;
        let messages = std::mem::take(&mut inbox.messages);
        drop(inbox);
        for message in messages {
            match message {
                Message::Join(member) => self.release(*member, BufList::default()),
                Message::Leave(_) => {}
            }
        }
    }
}

impl SharedBytes {
    fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Writes the packets to a member's socket as far as it accepts them, without waiting. Returns the rest.
    fn write_to(&mut self, member: &Joining, batch: &Batch) -> BufList {
        let bytes = self.of(member, batch);
        let len = bytes.len();
        // After an error, the player's own task fails to write too, and reports the error.
        let written = member.socket.try_write(bytes).unwrap_or_default();
        if let Some(player) = &member.player {
            player.count_sent(self.body.len());
        }
        let mut unwritten = BufList::default();
        if written < len {
            unwritten = pieces(batch, member.format, member.sent);
            unwritten.advance(written);
        }
        unwritten
    }

    /// Returns the bytes of the packets for this member.
    fn of(&mut self, member: &Joining, batch: &Batch) -> &[u8] {
        let output = member.format.output;
        if self.bytes.is_empty() {
            let pieces = pieces(batch, WireFormat { output, chunked: true }, 0);
            let body: usize = batch.sizes.iter().map(|size| piece_len(output, *size)).sum();
            let end = pieces.remaining() - CHUNK_END.len();
            self.body = end.saturating_sub(body)..end;
            self.bytes.put(pieces);
        }
        if output == OutputFormat::Framed {
            let mut at = self.body.start;
            for (count, size) in (member.sent..=u32::MAX).chain(0..).zip(&batch.sizes) {
                if let Some(head) = self.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                    framing::set_count(head, count);
                }
                at += piece_len(output, *size);
            }
        }
        let range = if member.format.chunked { 0..self.bytes.len() } else { self.body.clone() };
        self.bytes.get(range).unwrap_or_default()
    }
}

/// Returns the bytes that a packet of `framed` bytes in the packet buffer needs in this format.
fn piece_len(output: OutputFormat, framed: u32) -> usize {
    let len = (framed as usize).saturating_sub(FRAMING_LEN);
    match output {
        OutputFormat::Framed => framing::HEAD_LEN + len,
        OutputFormat::Plain => len,
    }
}

/// Returns the packets of a batch for a player that has been sent `sent` packets, without copying them.
fn pieces(batch: &Batch, format: WireFormat, sent: u32) -> BufList {
    let mut media: BufList = batch.frames.iter().cloned().collect();
    let mut heads = BytesMut::with_capacity(batch.sizes.len() * framing::HEAD_LEN);
    let mut pieces = BufList::default();
    for (count, size) in (sent..=u32::MAX).chain(0..).zip(&batch.sizes) {
        media.advance(FRAMING_LEN);
        let len = (*size as usize).saturating_sub(FRAMING_LEN);
        if format.output == OutputFormat::Framed {
            framing::put_data_head(&mut heads, count, len);
            pieces.push(heads.split().freeze());
        }
        media.move_to(len, &mut pieces);
    }
    if format.chunked { chunk(pieces) } else { pieces }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;
    use std::time::Duration;

    use super::*;
    use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
    use asf::{Packet, Padding};
    use asfpush_client::packet_buffer::Limits;
    use bytes::Bytes;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    /// Ends only a test that fails.
    const TEST_TIMEOUT: Duration = Duration::from_secs(60);
    const SIZE: u32 = 3200;
    const FORMATS: [WireFormat; 3] = [
        WireFormat { output: OutputFormat::Framed, chunked: false },
        WireFormat { output: OutputFormat::Framed, chunked: true },
        WireFormat { output: OutputFormat::Plain, chunked: false },
    ];

    /// A point's stream, and what a player must receive of it.
    struct Stream {
        groups: PlayerGroups,
        buffer: Arc<PacketBuffer>,
        header: Arc<Header>,
        oracle: Reader,
    }

    /// A player's own task: its reader, its place, and the peer.
    struct Player {
        reader: Reader,
        place: GroupPlace,
        peer: TcpStream,
        socket: Arc<TcpStream>,
    }

    impl Stream {
        fn new() -> Self {
            let limits = Limits { time: Duration::ZERO, bytes: 0, packets: 0 };
            let buffer = PacketBuffer::new(limits);
            Self {
                groups: PlayerGroups::new(Arc::clone(&buffer)),
                oracle: buffer.reader(StartPosition::Oldest, ReaderOptions::default()),
                buffer,
                header: header(),
            }
        }

        async fn join(&self, format: WireFormat, header: &Arc<Header>) -> Player {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let socket = Arc::new(listener.accept().await.unwrap().0);
            let (reader, place) = self.place(&socket, format, header);
            // The group admits the player.
            yield_now().await;
            Player { reader, place, peer, socket }
        }

        /// Adds a player with this socket to a group; returns its reader and its place.
        fn place(&self, socket: &Arc<TcpStream>, format: WireFormat, header: &Arc<Header>) -> (Reader, GroupPlace) {
            let reader = self.buffer.reader(StartPosition::Live, ReaderOptions::default());
            let place = self.groups.join(Joining {
                socket: Arc::clone(socket),
                format,
                follower: reader.follower(),
                header: Arc::clone(header),
                sent: 0xff,
                player: None,
            });
            (reader, place)
        }

        /// Appends packets with these send times; returns what players receive of them in each format.
        fn append(&mut self, times: Range<u32>) -> [Vec<u8>; 3] {
            let sent = 0xff + times.start;
            self.buffer.append(&self.header, times.map(|time| packet(&self.header, time)));
            let batch = self.oracle.take(u64::MAX).unwrap();
            FORMATS.map(|format| {
                let mut pieces = pieces(&batch, format, sent);
                pieces.copy_to_bytes(pieces.remaining()).to_vec()
            })
        }
    }

    impl Player {
        async fn received(&mut self, len: usize) -> Vec<u8> {
            let mut received = vec![0; len];
            self.peer.read_exact(&mut received).await.unwrap();
            received
        }

        /// Waits until the player is released; returns the number of packets sent and the unwritten bytes.
        async fn released(&mut self) -> (u32, Vec<u8>) {
            unpacked(poll_fn(|context| self.place.poll_released(context)).await)
        }

        /// Like [`Player::released`], if the player is released already.
        fn released_now(&mut self) -> Option<(u32, Vec<u8>)> {
            match self.place.poll_released(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(released) => Some(unpacked(released)),
                Poll::Pending => None,
            }
        }
    }

    fn unpacked(released: Option<Released>) -> (u32, Vec<u8>) {
        let Released { sent, mut unwritten } = released.unwrap();
        (sent, unwritten.copy_to_bytes(unwritten.remaining()).to_vec())
    }

    fn header() -> Arc<Header> {
        Arc::new(Header::parse(HeaderBuilder::default().packet_size(SIZE).build()).unwrap())
    }

    fn packet(header: &Header, time: u32) -> Packet {
        let payload = Payload::new(2, &time.to_le_bytes());
        let bytes = PacketBuilder::asfmux(SIZE as usize, vec![payload]).send_time(time).build();
        Packet::parse([bytes, Bytes::new()], header, Padding::Keep)
    }

    #[tokio::test]
    async fn members_receive_the_packets_in_their_formats() {
        let mut stream = Stream::new();
        let mut players = Vec::new();
        for format in FORMATS {
            players.push(stream.join(format, &stream.header).await);
        }
        for times in [0..1, 1..2, 2..30] {
            let expected = stream.append(times.clone());
            for (player, expected) in players.iter_mut().zip(expected) {
                assert_eq!(player.received(expected.len()).await, expected, "packets {times:?}");
            }
        }
        let group = stream.groups.groups.lock().unwrap()[0].clone();
        assert_eq!(group.lock().players, 3, "one group");
        for player in &mut players {
            let progress = player.reader.progress();
            assert_eq!((progress.taken, progress.lag.packets), (30, 0));
            player.place.leave();
            assert_eq!(player.released().await, (0xff + 30, Vec::new()));
        }
        assert!(group.lock().closed, "nobody is left");
    }

    #[tokio::test]
    async fn a_member_whose_socket_is_full_leaves_with_the_rest() {
        for format in FORMATS {
            let mut stream = Stream::new();
            let mut slow = stream.join(format, &stream.header).await;
            let mut other = stream.join(FORMATS[0], &stream.header).await;
            let (mut expected, mut count) = (Vec::new(), 0);
            let (sent, unwritten) = loop {
                let [framed, chunked, plain] = stream.append(count..count + 3);
                count += 3;
                assert_eq!(other.received(framed.len()).await, framed, "the slow player delays nobody");
                expected.extend(if format == FORMATS[0] {
                    framed
                } else if format.chunked {
                    chunked
                } else {
                    plain
                });
                if let Some(released) = slow.released_now() {
                    break released;
                }
                assert!(expected.len() < 1 << 28, "the socket accepts everything");
            };
            assert_eq!((sent, slow.reader.progress().taken), (0xff + count, count.into()));
            assert!(!unwritten.is_empty());
            let mut all = slow.received(expected.len() - unwritten.len()).await;
            all.extend(unwritten);
            assert!(all == expected, "{format:?}");
        }
    }

    #[tokio::test]
    async fn another_header_and_the_end_release_all() {
        let mut stream = Stream::new();
        let mut player = stream.join(FORMATS[0], &stream.header).await;
        let expected = stream.append(0..1);
        assert_eq!(player.received(expected[0].len()).await, expected[0]);
        let mut stranger = stream.join(FORMATS[0], &header()).await;
        assert_eq!(stranger.released().await, (0xff, Vec::new()), "it uses another header");
        stream.header = header();
        stream.append(1..2);
        assert_eq!(player.released().await, (0x100, Vec::new()));
        assert_eq!(player.reader.progress().lag.packets, 1, "the packet of the new stream is its own task's");
        let mut last = stream.join(FORMATS[0], &stream.header).await;
        stream.buffer.end();
        assert_eq!(last.released().await, (0xff, Vec::new()));
    }

    #[tokio::test]
    async fn players_that_end_free_their_places_and_groups_their_members() {
        let stream = Stream::new();
        let mut players = Vec::new();
        for _ in 0..=GROUP_SIZE {
            players.push(stream.join(FORMATS[0], &stream.header).await);
        }
        let counts = || -> Vec<usize> {
            stream.groups.groups.lock().unwrap().iter().map(|group| group.lock().players).collect()
        };
        assert_eq!(counts(), [GROUP_SIZE, 1]);
        players.truncate(1);
        yield_now().await;
        yield_now().await;
        assert_eq!(counts(), [1, 0]);
        players.push(stream.join(FORMATS[0], &stream.header).await);
        assert_eq!(counts(), [2], "the empty group has ended");
    }

    #[tokio::test]
    async fn other_tasks_run_between_the_batches_of_a_group_that_lags() {
        let mut stream = Stream::new();
        let player = stream.join(FORMATS[0], &stream.header).await;
        let batch = READ_BATCH_BYTES / u64::from(SIZE);
        let all = 3 * u32::try_from(batch).unwrap();
        stream.append(0..all);
        let first = loop {
            match player.reader.progress().taken {
                0 => yield_now().await,
                taken => break taken,
            }
        };
        assert!(first <= batch, "{first} of {all} packets before another task ran");
    }

    /// A player that has joined a group whose task ends at the same moment would never receive the end of the stream.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn players_that_join_while_the_stream_ends_are_released() {
        for round in 0..200 {
            let stream = Arc::new(Stream::new());
            let mut first = stream.join(FORMATS[0], &stream.header).await;
            let joining = tokio::spawn({
                let stream = Arc::clone(&stream);
                async move {
                    let mut places = Vec::new();
                    while first.released_now().is_none() {
                        places.push(stream.place(&first.socket, FORMATS[0], &stream.header));
                    }
                    places
                }
            });
            yield_now().await;
            stream.buffer.end();
            for (number, (_reader, mut place)) in joining.await.unwrap().into_iter().enumerate() {
                let released = timeout(TEST_TIMEOUT, poll_fn(|context| place.poll_released(context))).await;
                let released = released.unwrap_or_else(|_| panic!("player {number} waits, in round {round}"));
                assert_eq!(unpacked(released), (0xff, Vec::new()));
            }
        }
    }
}
