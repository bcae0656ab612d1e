//! One push session: a task that owns the protocol machine and writes into a point.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use crate::http::connection::Connection;
use crate::playback::framing;
use crate::points::activity::Pusher;
use crate::points::publishing_point::PublishingPoint;
use crate::points::registry::Registry;
use asf::{self, Header, Packet, Padding};
use wmhttp::Hresult;
use wmhttp::headers::{Directives, RequestHead};
use wmhttp::server::{Output, Reply, ServerSession};

/// Requests that wait for the session.
const REQUEST_QUEUE_LEN: usize = 4;
/// How long a request waits for the end of the PushStart before: a pusher that reconnects at once may be
/// seen on the new connection before the old one's end is.
const PREVIOUS_REQUEST_GRACE: Duration = Duration::from_millis(500);
/// Bytes of restored packets that share an allocation.
const PACKET_BLOCK_BYTES: usize = 64 * 1024;

/// A request to a session.
pub(crate) enum SessionRequest {
    SetUpAgain { directives: Directives, connection: Weak<Connection>, answer: oneshot::Sender<Reply> },
    Start(Start),
}

/// A PushStart.
pub(crate) struct Start {
    pub(crate) head: RequestHead,
    pub(crate) connection: Weak<Connection>,
    pub(crate) chunks: mpsc::Receiver<BodyChunk>,
    /// Dropped unused, it closes the connection without an answer.
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// A piece of a PushStart's body. A channel that closes before [`BodyChunk::End`] is a lost connection.
pub(crate) enum BodyChunk {
    Bytes(Bytes),
    End,
}

/// What the server decides about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionControl {
    Stay,
    /// Ended with an HTTP status (S-15).
    Expelled(u16),
    /// Another session goes on in its point: it vanishes, and the stream does not end.
    Displaced,
}

/// The way to a session's task.
#[derive(Clone)]
pub(crate) struct PublishSession {
    messages: mpsc::Sender<SessionRequest>,
    fate: watch::Sender<SessionControl>,
    /// The connection of the session's latest request.
    connection: watch::Receiver<Weak<Connection>>,
}

impl PublishSession {
    /// Hands a request over; a session that is gone drops it, and its answer with it.
    pub(crate) async fn tell(&self, message: SessionRequest) {
        let _ = self.messages.send(message).await;
    }

    pub(crate) fn decide(&self, fate: SessionControl) {
        self.fate.send_replace(fate);
    }

    /// Whether the pusher is there.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.borrow().strong_count() > 0
    }

    /// Waits until the session's task is over.
    pub(crate) async fn gone(&self) {
        self.messages.closed().await;
    }
}

/// Starts the session's task.
pub(crate) fn spawn(
    registry: Arc<Registry>,
    point: Arc<PublishingPoint>,
    reception: ServerSession,
    connection: &Arc<Connection>,
    pusher: Arc<Pusher>,
) -> PublishSession {
    let (to_session, messages) = mpsc::channel(REQUEST_QUEUE_LEN);
    let (fate, decided) = watch::channel(SessionControl::Stay);
    let request = connection.requests();
    let (connected, connection) = watch::channel(Arc::downgrade(connection));
    let session = Session {
        registry,
        point,
        pusher,
        reception,
        connected,
        request,
        current: None,
        waiting: None,
        header: None,
        block: BytesMut::new(),
        displaced: false,
    };
    tokio::spawn(session.run(messages, decided));
    PublishSession { messages: to_session, fate, connection }
}

struct Session {
    registry: Arc<Registry>,
    point: Arc<PublishingPoint>,
    pusher: Arc<Pusher>,
    reception: ServerSession,
    connected: watch::Sender<Weak<Connection>>,
    /// Which of its connection's requests is the session's latest.
    request: u64,
    /// The PushStart under way.
    current: Option<ActivePush>,
    /// A request that waits for the end of `current`, and how long.
    waiting: Option<(SessionRequest, Instant)>,
    header: Option<Arc<Header>>,
    block: BytesMut,
    displaced: bool,
}

struct ActivePush {
    chunks: mpsc::Receiver<BodyChunk>,
    answer: oneshot::Sender<Reply>,
}

enum Event {
    Chunk(Option<BodyChunk>),
    Message(Option<SessionRequest>),
    Fate(SessionControl),
    Time,
}

impl Session {
    async fn run(mut self, mut messages: mpsc::Receiver<SessionRequest>, mut fate: watch::Receiver<SessionControl>) {
        while !self.reception.is_over() && !self.displaced {
            let event = self.next_event(&mut messages, &mut fate).await;
            self.take(event);
            self.process_outputs().await;
            self.take_waiting();
            self.process_outputs().await;
            if !self.displaced && !self.reception.is_over() {
                self.point.set_pushing(self.reception.is_streaming());
            }
        }
    }

    async fn next_event(
        &mut self,
        messages: &mut mpsc::Receiver<SessionRequest>,
        fate: &mut watch::Receiver<SessionControl>,
    ) -> Event {
        let deadline = self.reception.deadline();
        let patience = self.waiting.as_ref().map(|(_, until)| *until);
        let wake_at = deadline.into_iter().chain(patience).min();
        // Chunks come last: a body that never pauses must not keep the rest waiting.
        tokio::select! {
            biased;
            // The registry has the sender as long as the session is in it.
            Ok(()) = fate.changed() => Event::Fate(*fate.borrow_and_update()),
            () = sleep_to(wake_at) => Event::Time,
            message = messages.recv(), if self.waiting.is_none() => Event::Message(message),
            chunk = next_chunk(&mut self.current) => Event::Chunk(chunk),
        }
    }

    fn take(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Chunk(Some(BodyChunk::Bytes(bytes))) => self.reception.body(bytes, now),
            Event::Chunk(Some(BodyChunk::End)) => self.reception.body_end(now),
            Event::Chunk(None) => {
                tracing::info!(point = self.point.name(), "the pusher's connection is lost");
                self.pusher.lost();
                self.current = None;
                self.reception.connection_lost(now);
            }
            Event::Message(Some(message)) => self.waiting = Some((message, now + PREVIOUS_REQUEST_GRACE)),
            // Nobody can reach the session any more: the server is gone.
            Event::Message(None) | Event::Fate(SessionControl::Displaced) => self.displaced = true,
            Event::Fate(SessionControl::Expelled(status)) => self.reception.terminate(status, now),
            Event::Fate(SessionControl::Stay) => {}
            Event::Time => self.reception.timed_out(now),
        }
    }

    /// Takes the request that waits, where the PushStart before it is over or does not end.
    fn take_waiting(&mut self) {
        let now = Instant::now();
        let Some((message, _)) = self.waiting.take_if(|(_, until)| self.current.is_none() || now >= *until) else {
            return;
        };
        // An answer cannot be handed over where its connection is gone.
        match message {
            SessionRequest::SetUpAgain { directives, connection, answer } => {
                if self.current.is_none() {
                    self.set_connection(connection);
                }
                drop(answer.send(self.reception.set_up_again(&directives, now)));
            }
            SessionRequest::Start(start) => match self.reception.start(&start.head, now) {
                Ok(()) => {
                    self.pusher.started();
                    self.set_connection(start.connection);
                    self.current = Some(ActivePush { chunks: start.chunks, answer: start.answer });
                }
                Err(reply) => drop(start.answer.send(reply)),
            },
        }
    }

    /// The session's latest request has come on this connection, and waits for its answer.
    fn set_connection(&mut self, connection: Weak<Connection>) {
        self.request = connection.upgrade().map_or(0, |connection| connection.requests());
        self.connected.send_replace(connection);
    }

    /// Does what the machine wants done.
    async fn process_outputs(&mut self) {
        let mut packets = Vec::new();
        let mut received = 0;
        // Who is told that a session is over may begin the next at once: the point must be free by then.
        let mut last_reply = None;
        while let Some(output) = self.reception.poll() {
            match output {
                Output::Data(bytes) => {
                    received += bytes.len() as u64;
                    match self.restore(&bytes) {
                        Ok((packet, bytes)) => {
                            if let Some(recorder) = self.point.recorder() {
                                recorder.packet(&packet, &bytes).await;
                            }
                            packets.push(packet);
                        }
                        Err(error) => last_reply = last_reply.or(Some(self.refuse(&error))),
                    }
                    continue;
                }
                Output::Header(bytes) | Output::StreamChange(bytes) => {
                    self.append(&mut packets, &mut received);
                    match Header::parse(bytes) {
                        Ok(header) => self.begin(header).await,
                        Err(error) => last_reply = last_reply.or(Some(self.refuse(&error))),
                    }
                }
                Output::EntryEnded => {}
                // What was refused here has its answer already, whatever the machine's is.
                Output::Reply(reply) if self.reception.is_over() => last_reply = last_reply.or(Some(reply)),
                Output::Reply(reply) => self.answer(reply),
                Output::Close => {
                    self.current = None;
                    let connection = self.connected.borrow().upgrade();
                    // Proxies have several encoders share one: it may be another's by now.
                    if let Some(connection) = connection.filter(|connection| connection.requests() == self.request) {
                        connection.close();
                    }
                }
                Output::Ended { reason, destroy } => {
                    self.append(&mut packets, &mut received);
                    tracing::info!(point = self.point.name(), %reason, destroy, "the push session is over");
                    // The others were answered, or are no errors.
                    if ![Hresult::OK, Hresult::ABORT, Hresult::TIMEOUT, Hresult::BAD_REQUEST].contains(&reason) {
                        self.point.ledger().trouble(&format!("the push session is over: {reason}"));
                    }
                    self.point.end();
                    if let Some(recorder) = self.point.recorder() {
                        recorder.finish().await;
                    }
                    self.point.set_pushing(false);
                    self.registry.remove_session(self.reception.push_id(), destroy.then(|| self.point.name()));
                }
            }
        }
        self.append(&mut packets, &mut received);
        if let Some(reply) = last_reply {
            self.answer(reply);
        }
    }

    /// Answers the PushStart under way; in vain where its connection is gone.
    fn answer(&mut self, reply: Reply) {
        if let (400.., Some((_, text))) = (reply.status, &reply.body) {
            self.point.ledger().trouble(&format!("the push was ended: {} {}", reply.status, text.trim_end()));
        }
        if let Some(current) = self.current.take() {
            let _ = current.answer.send(reply);
        }
    }

    async fn begin(&mut self, header: Header) {
        if header.packet_size() > framing::MAX_PAYLOAD {
            tracing::warn!(
                point = self.point.name(),
                packet_size = header.packet_size(),
                "packets are too large for players"
            );
        }
        let header = self.point.begin(header);
        if let Some(recorder) = self.point.recorder() {
            recorder.header(&header, &self.point.config()).await;
        }
        self.header = Some(header);
    }

    /// The packet at its full size, as players and files have it.
    fn restore(&mut self, packet: &[u8]) -> Result<(Packet, Bytes), asf::Error> {
        let Some(header) = &self.header else {
            // The machine lets no packet come before a header.
            return Err(asf::Error::OverlongPacket { len: packet.len(), size: 0 });
        };
        let size = header.packet_size();
        if self.block.capacity() < size {
            self.block = BytesMut::with_capacity(size.max(PACKET_BLOCK_BYTES));
        }
        asf::restore(packet, size, &mut self.block)?;
        let bytes = self.block.split().freeze();
        Ok((Packet::parse([bytes.clone(), Bytes::new()], header, Padding::Keep), bytes))
    }

    fn append(&self, packets: &mut Vec<Packet>, received: &mut u64) {
        if let Some(header) = self.header.as_ref().filter(|_| !packets.is_empty()) {
            self.point.append(header, std::mem::take(packets), std::mem::take(received));
        }
    }

    /// Ends the session over media that are no ASF; gives what to answer.
    fn refuse(&mut self, error: &asf::Error) -> Reply {
        tracing::warn!(point = self.point.name(), %error, "the push is refused");
        self.reception.terminate(400, Instant::now());
        Reply::error(&self.registry.config().policy, 400, &error.to_string())
    }
}

async fn next_chunk(current: &mut Option<ActivePush>) -> Option<BodyChunk> {
    match current {
        Some(current) => current.chunks.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_to(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::sleep;

    use super::*;
    use crate::recording::recorder::Recorder;
    use crate::{Config, PointConfig, Server};
    use asf::test_util::HeaderBuilder;
    use wmhttp::packet::Packet as Framed;

    /// A pusher's request to the point `concert`.
    fn request(kind: &str, id: &str, length: u32) -> Vec<u8> {
        let text = format!(
            "POST /concert HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-push{kind}\r\n\
             User-Agent: WMEncoder/12.0.0.0\r\nContent-Length: {length}\r\nCookie: push-id={id}\r\n\r\n"
        );
        text.into_bytes()
    }

    /// A PushStart that begins with these packets.
    fn start(id: &str, packets: &[Framed]) -> Vec<u8> {
        let body = packets.iter().flat_map(|packet| packet.to_bytes().unwrap());
        request("start", id, i32::MAX as u32).into_iter().chain(body).collect()
    }

    /// A connection with a session, as soon as the point is free, and the session's id.
    async fn set_up(server: &Server) -> (TcpStream, String) {
        loop {
            let mut stream = TcpStream::connect(server.addr()).await.unwrap();
            stream.write_all(&request("setup", "0", 0)).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            if let Some(id) = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: push-id=")) {
                return (stream, id.to_owned());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// S-11: who is told that a push was refused finds the point free, however slow the disk.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn s11_a_refusal_comes_after_the_session_is_over() {
        let server = Server::start(Config::with_points(["concert"], &PointConfig::default())).await.unwrap();
        let point = server.registry.point("/concert").unwrap();
        let (recorder, disk) = Recorder::stalled();
        point.set_recorder(recorder);
        let (mut stream, id) = set_up(&server).await;
        let packets = [
            Framed::Header(HeaderBuilder::default().packet_size(200).build()),
            // Larger than the header says.
            Framed::Data(Bytes::from(vec![0; 201])),
        ];
        stream.write_all(&start(&id, &packets)).await.unwrap();
        let mut status = [0; 12];
        tokio::select! {
            answer = stream.read_exact(&mut status) => assert_eq!(answer.unwrap(), 12),
            () = sleep(Duration::from_millis(500)) => {
                drop(disk);
                stream.read_exact(&mut status).await.unwrap();
            }
        }
        assert_eq!((&status, server.registry.sessions()), (b"HTTP/1.1 400", 0));
        server.shutdown().await;
    }
}
