//! A push session: a task that owns the protocol state machine and writes into a point.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::stream_writer::StreamWriter;
use crate::http::connection::Connection;
use crate::points::activity::Pusher;
use crate::points::publishing_point::PublishingPoint;
use crate::points::push_session::{BodyChunk, PublishSession, SessionControl, SessionRequest};
use crate::recording::recorder::SESSION_FINISH_TIMEOUT;
use asf::{self, Header};
use wmhttp::Hresult;
use wmhttp::server::{Output, Reply, ServerSession};

/// Requests that wait for the session. An encoder sends one at a time; beyond this, the handlers wait.
const REQUEST_QUEUE_LEN: usize = 4;
/// Maximum time that a request waits for the end of the previous PushStart. If an encoder reconnects at once, its new
/// connection may be seen before the loss of the old one.
const PREVIOUS_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// Called once when the session is deleted, with whether to remove its point (S-13).
type OnEnd = Box<dyn FnOnce(bool) + Send>;

/// The parameters of a session's task.
pub(crate) struct SessionStart {
    pub(crate) point: Arc<PublishingPoint>,
    pub(crate) session: ServerSession,
    pub(crate) pusher: Arc<Pusher>,
    /// The user that opens the session; `None` if no authentication was required.
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) on_end: OnEnd,
}

/// Starts the session's task.
pub(crate) fn spawn(start: SessionStart, connection: &Arc<Connection>) -> PublishSession {
    let (to_session, requests) = mpsc::channel(REQUEST_QUEUE_LEN);
    let (control, commands) = watch::channel(SessionControl::Continue);
    let latest_request = connection.requests();
    let (latest_connection, connection) = watch::channel(Arc::downgrade(connection));
    let SessionStart { point, session, pusher, owner, on_end } = start;
    let session = Session {
        point: Arc::clone(&point),
        pusher,
        session,
        on_end: Some(on_end),
        latest_connection,
        latest_request,
        current: None,
        waiting: None,
        writer: StreamWriter::new(point),
        displaced: None,
        refusal: None,
        reported_wait: None,
    };
    tokio::spawn(session.run(requests, commands));
    PublishSession::new(to_session, control, connection, owner)
}

/// The state of the session's task.
struct Session {
    point: Arc<PublishingPoint>,
    pusher: Arc<Pusher>,
    session: ServerSession,
    /// `None` after it was called.
    on_end: Option<OnEnd>,
    /// The connection of the latest request.
    latest_connection: watch::Sender<Weak<Connection>>,
    /// The number of the session's latest request on its connection.
    latest_request: u64,
    /// The PushStart in progress.
    current: Option<ActivePush>,
    /// A request that waits for the end of `current`, and until when.
    waiting: Option<(SessionRequest, Instant)>,
    writer: StreamWriter,
    /// Why the session no longer belongs to its point, whose stream continues.
    displaced: Option<&'static str>,
    /// The error that the session ends with.
    refusal: Option<String>,
    /// The end of the wait for the encoder, as last reported to the status.
    reported_wait: Option<Instant>,
}

/// The body and the response of the PushStart in progress.
struct ActivePush {
    chunks: mpsc::Receiver<BodyChunk>,
    answer: oneshot::Sender<Reply>,
}

/// What the session's task waits for.
enum Event {
    /// A part of the body; `None` if the connection was lost.
    Chunk(Option<BodyChunk>),
    /// A request of the encoder; `None` if the server has dropped the session.
    Request(Option<SessionRequest>),
    /// A command of the server.
    Control(SessionControl),
    /// A deadline has passed.
    Time,
}

impl Session {
    /// Runs the session until it ends or is displaced.
    async fn run(mut self, mut requests: mpsc::Receiver<SessionRequest>, mut control: watch::Receiver<SessionControl>) {
        self.report_wait();
        while !self.session.is_over() && self.displaced.is_none() {
            let event = self.next_event(&mut requests, &mut control).await;
            self.handle_event(event);
            self.process_outputs().await;
            self.handle_waiting_request();
            self.process_outputs().await;
            if self.displaced.is_none() && !self.session.is_over() {
                self.point.set_pushing(self.session.is_streaming());
                self.report_wait();
            }
        }
        if let Some(reason) = self.displaced {
            self.pusher.log_end(self.point.name(), reason, false);
        }
    }

    /// Reports to the status since when and until when the session waits for its encoder.
    fn report_wait(&mut self) {
        let until = self.session.deadline().filter(|_| !self.session.is_streaming());
        if until != self.reported_wait {
            self.reported_wait = until;
            self.pusher.set_waiting(until);
        }
    }

    /// Waits for the next event.
    async fn next_event(
        &mut self,
        requests: &mut mpsc::Receiver<SessionRequest>,
        control: &mut watch::Receiver<SessionControl>,
    ) -> Event {
        let deadline = self.session.deadline();
        let waiting_until = self.waiting.as_ref().map(|(_, until)| *until);
        // Two deadlines: of the protocol, and of a request that waits for the end of the previous PushStart.
        let wake_at = deadline.into_iter().chain(waiting_until).min();
        // Chunks are last, because a body that never pauses must not delay the other events.
        tokio::select! {
            biased;
            // The registry keeps the sender while the session is in it.
            Ok(()) = control.changed() => Event::Control(*control.borrow_and_update()),
            () = sleep_to(wake_at) => Event::Time,
            request = requests.recv(), if self.waiting.is_none() => Event::Request(request),
            chunk = next_chunk(&mut self.current) => Event::Chunk(chunk),
        }
    }

    /// Passes an event to the state machine.
    fn handle_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Chunk(Some(BodyChunk::Bytes(bytes))) => self.session.body(bytes, now),
            Event::Chunk(Some(BodyChunk::End)) => self.session.body_end(now),
            Event::Chunk(None) => {
                self.pusher.log(self.point.name(), "connection of the encoder lost; waiting for the encoder to return");
                self.pusher.lost();
                self.current = None;
                self.session.connection_lost(now);
            }
            Event::Request(Some(request)) => self.waiting = Some((request, now + PREVIOUS_REQUEST_GRACE)),
            // No handle of the session is left.
            Event::Request(None) => self.displaced = Some("the server is stopping"),
            Event::Control(SessionControl::Displaced) => self.displaced = Some("an encoder opened another session"),
            Event::Control(SessionControl::Terminate(status)) => self.session.terminate(status, now),
            Event::Control(SessionControl::Continue) => {}
            Event::Time => self.session.timed_out(now),
        }
    }

    /// Handles the waiting request if the previous PushStart has ended or its time is over.
    fn handle_waiting_request(&mut self) {
        let now = Instant::now();
        let Some((request, _)) = self.waiting.take_if(|(_, until)| self.current.is_none() || now >= *until) else {
            return;
        };
        // `send` fails if the connection of the request is closed, and then nobody waits for the reply.
        match request {
            SessionRequest::SetUpAgain { directives, connection, answer } => {
                if self.current.is_none() {
                    self.record_request(connection);
                }
                drop(answer.send(self.session.set_up_again(&directives, now)));
            }
            SessionRequest::Start(start) => match self.session.start(&start.head, now) {
                Ok(()) => {
                    self.pusher.started();
                    self.record_request(start.connection);
                    self.current = Some(ActivePush { chunks: start.chunks, answer: start.answer });
                }
                Err(reply) => drop(start.answer.send(reply)),
            },
        }
    }

    /// Records that the session's latest request has arrived on this connection and waits for its response.
    fn record_request(&mut self, connection: Weak<Connection>) {
        self.latest_request = connection.upgrade().map_or(0, |connection| connection.requests());
        self.latest_connection.send_replace(connection);
    }

    /// Executes the outputs of the state machine.
    async fn process_outputs(&mut self) {
        // A client that receives the final response may open the next session at once, so the point must be free before
        // it is sent.
        let mut last_reply = None;
        while let Some(output) = self.session.poll() {
            match output {
                Output::Data(bytes) => {
                    if let Err(error) = self.writer.packet(&bytes).await {
                        self.refuse(&error);
                    }
                }
                Output::Header(bytes) | Output::StreamChange(bytes) => {
                    // The earlier packets are counted under the previous header.
                    self.flush();
                    match Header::parse(bytes) {
                        Ok(header) => self.writer.header(header).await,
                        Err(error) => self.refuse(&error),
                    }
                }
                Output::EntryEnded => {}
                Output::Reply(reply) if self.session.is_over() => {
                    if let (400.., Some((_, text))) = (reply.status, &reply.body) {
                        self.refusal = Some(format!("{} {}", reply.status, text.trim_end()));
                    }
                    last_reply = Some(reply);
                }
                Output::Reply(reply) => self.answer(reply),
                Output::Close => {
                    self.current = None;
                    let connection = self.latest_connection.borrow().upgrade();
                    // Proxies share a connection among encoders, so it may belong to another one by now.
                    if let Some(connection) =
                        connection.filter(|connection| connection.requests() == self.latest_request)
                    {
                        connection.close();
                    }
                }
                Output::Ended { reason, destroy } => {
                    self.flush();
                    let why = self.refusal.take();
                    let is_refused = matches!(reason, Hresult::BAD_REQUEST | Hresult::TIMEOUT);
                    self.pusher.log_end(
                        self.point.name(),
                        why.as_deref().unwrap_or_else(|| end_reason(reason)),
                        is_refused,
                    );
                    // The other reasons were already reported, or are not errors.
                    if ![Hresult::OK, Hresult::ABORT, Hresult::TIMEOUT, Hresult::BAD_REQUEST].contains(&reason) {
                        self.point
                            .activity()
                            .record_error(&format!("push session ended: {} ({reason})", end_reason(reason)));
                    }
                    self.writer.end(SESSION_FINISH_TIMEOUT).await;
                    self.point.set_pushing(false);
                    if let Some(on_end) = self.on_end.take() {
                        on_end(destroy);
                    }
                }
            }
        }
        self.flush();
        if let Some(reply) = last_reply {
            self.answer(reply);
        }
    }

    /// Answers the PushStart in progress. This has no effect if its connection is closed.
    fn answer(&mut self, reply: Reply) {
        if let (400.., Some((_, text))) = (reply.status, &reply.body) {
            self.point.activity().record_error(&format!("push ended: {} {}", reply.status, text.trim_end()));
        }
        if let Some(current) = self.current.take() {
            let _ = current.answer.send(reply);
        }
    }

    /// Passes the packets received so far to the players.
    fn flush(&mut self) {
        let (packets, received) = self.writer.flush();
        if packets > 0 {
            self.pusher.received(packets, received);
        }
    }

    /// Ends the session because its media are not ASF.
    fn refuse(&mut self, error: &asf::Error) {
        self.session.refuse(&error.to_string());
    }
}

/// Returns why a session ended, as text.
fn end_reason(reason: Hresult) -> &'static str {
    match reason {
        Hresult::OK => "the encoder ended the stream",
        Hresult::ABORT => "the server ended the session",
        Hresult::TIMEOUT => "no request arrived from the encoder in time",
        Hresult::RESET_CONNECTION => "the connection was lost, and the encoder did not return in time",
        _ => "the encoder ended the stream with an error",
    }
}

/// Waits for the next part of the body; forever if no PushStart is in progress.
async fn next_chunk(current: &mut Option<ActivePush>) -> Option<BodyChunk> {
    match current {
        Some(current) => current.chunks.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits until this time; forever if there is none.
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

    use bytes::Bytes;

    use super::*;
    use crate::recording::recorder::Recorder;
    use crate::{Config, PointConfig, Server};
    use asf::test_util::HeaderBuilder;
    use wmhttp::packet::Packet as Framed;

    /// Returns an encoder's request to the point `concert`.
    fn request(kind: &str, id: &str, length: u32) -> Vec<u8> {
        let text = format!(
            "POST /concert HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-wms-push{kind}\r\n\
             User-Agent: WMEncoder/12.0.0.0\r\nContent-Length: {length}\r\nCookie: push-id={id}\r\n\r\n"
        );
        text.into_bytes()
    }

    /// Returns a PushStart that begins with these packets.
    fn start(id: &str, packets: &[Framed]) -> Vec<u8> {
        let body = packets.iter().flat_map(|packet| packet.to_bytes().unwrap());
        request("start", id, i32::MAX as u32).into_iter().chain(body).collect()
    }

    /// Opens a session as soon as the point is free; returns its connection and its id.
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

    /// S-11: an encoder that receives the refusal of its push finds the point free, however slow the disk is.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn s11_a_refusal_is_sent_after_the_session_has_ended() {
        let server = Server::start(Config::with_points(["concert"], &PointConfig::default())).await.unwrap();
        let point = server.registry.point("/concert").unwrap();
        let (recorder, disk) = Recorder::stalled();
        point.set_recorder(recorder);
        let (mut stream, id) = set_up(&server).await;
        let packets = [
            Framed::Header(HeaderBuilder::default().packet_size(200).build()),
            // Larger than the packet size in the header.
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
