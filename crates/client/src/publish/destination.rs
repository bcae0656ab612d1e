//! The task of one destination, which carries out the actions of its protocol session.

mod acknowledgement;
mod batching;
mod control;
mod early_warnings;
mod reporting;
mod resend;
mod retries;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use self::acknowledgement::Acknowledgement;
use self::batching::{WriteCoalescer, wait_for_batch};
pub use self::control::Command;
pub(super) use self::control::Control;
use self::control::next_instruction;
use self::early_warnings::EarlyWarnings;
use self::reporting::Reporting;
use self::resend::{Body, BodyEnd};
use self::retries::{Retry, retry_decision_of};
use super::body_layout::BodyLayout;
use super::stats::Stats;
use super::status::{DropReason, State, Status};
use super::{DestinationObserver, lock};
use crate::packet_buffer::{DropPolicy, Reader};
use crate::transport::runtime::{BlockingTask, spawn_blocking};
use crate::transport::{Client, TransportEvent, kerberos};
use wmhttp::Hresult;
use wmhttp::auth::{Credentials, Target};
use wmhttp::client::{Event, Output, RestartReason, Session};
use wmhttp::failure::{Cause, Failure};
use wmhttp::headers::Kind;

/// The task. It waits only in [`DestinationTask::next_event`].
pub(super) struct DestinationTask {
    control: watch::Receiver<Control>,
    commands: mpsc::Receiver<Command>,
    stats: Arc<Mutex<Stats>>,
    observer: Arc<dyn DestinationObserver>,
    reporting: Reporting,
    session: Session,
    client: Client,
    reader: Reader,
    state: State,
    progress: PushProgress,
    retry: Retry,
    /// Set while credentials or a ticket are requested.
    auth_request: Option<BlockingTask<AuthReply>>,
    shutdown: Shutdown,
    flow: Flow,
    body: Body,
    acknowledgement: Acknowledgement,
    /// See [`DestinationTask::early_warning`].
    early_warnings: EarlyWarnings,
}

/// The progress of the push.
#[derive(Default)]
struct PushProgress {
    /// When data first flowed since the last connect.
    streaming_since: Option<Instant>,
    /// A session was opened since the destination was started.
    was_opened: bool,
    /// A reconnect after an open session was reported as started and not yet as finished.
    reconnecting: bool,
    /// The server has lost the stream, or is another one, so a new session must begin at a key frame: nothing before it
    /// can be decoded there.
    restarts_at_key_frame: bool,
}

/// How and when the task ends or rests.
struct Shutdown {
    /// Like [`Control::may_connect`].
    may_connect: bool,
    /// The session must end after the packets that are now in the buffer, and by this time.
    drain_by: Option<Instant>,
    /// The session must end without the remaining packets: [`Command::EndSession`] applies until the destination is at
    /// rest.
    ending: bool,
    /// The task must end.
    done: bool,
}

/// When packets are sent.
#[derive(Default)]
struct Flow {
    coalescer: WriteCoalescer,
    /// The connection's queue is full: sending waits until it has this many bytes of room.
    wants_room: Option<usize>,
    /// Since when the queue is full.
    full_since: Option<Instant>,
    /// Upstream was asked for the key frame that the reader needs.
    key_frame_wanted: bool,
}

/// The result of a request for credentials or a ticket.
enum AuthReply {
    Credentials(Option<Credentials>),
    Ticket(Result<Vec<u8>, String>),
}

/// What the task waits for.
enum TaskEvent {
    Transport(TransportEvent),
    /// Packets can be taken from the buffer.
    Data,
    /// [`Session::deadline`] has passed.
    Deadline,
    /// It is time for the next attempt.
    Retry,
    /// The reader lags beyond its limits.
    Overrun,
    /// It is time to query the kernel for acknowledgements.
    AcknowledgementDue,
    /// Packets were dropped while the task does not take any.
    Dropped,
    /// It is time to report dropped packets.
    DroppedDue,
    /// It is time to report a threat to the push.
    EarlyWarning,
    /// The application has decided whether to retry.
    Answer(bool),
    /// Credentials or a ticket have arrived, or will not.
    AuthReply(AuthReply),
    /// The time for draining is over.
    DrainDue,
    Command(Command),
    /// [`Control`] has changed.
    Control,
    /// The publisher was dropped or has removed this destination.
    Stop,
}

impl DestinationTask {
    pub(super) fn new(
        control: watch::Receiver<Control>,
        stats: Arc<Mutex<Stats>>,
        reader: Reader,
        commands: mpsc::Receiver<Command>,
        observer: Arc<dyn DestinationObserver>,
        at_rest: Box<dyn Fn() + Send>,
    ) -> Self {
        let settings = control.borrow().settings.clone();
        let reporting = Reporting::new(&lock(&stats), at_rest);
        Self {
            session: Session::new(settings.session),
            client: Client::new(settings.transport),
            control,
            commands,
            stats,
            observer,
            reporting,
            reader,
            state: State::Idle,
            progress: PushProgress::default(),
            retry: Retry::default(),
            auth_request: None,
            shutdown: Shutdown { may_connect: true, drain_by: None, ending: false, done: false },
            flow: Flow::default(),
            body: Body::default(),
            acknowledgement: Acknowledgement::default(),
            early_warnings: EarlyWarnings::default(),
        }
    }

    pub(super) async fn run(mut self: Box<Self>) {
        self.connect();
        loop {
            self.run_session();
            if self.shutdown.done {
                break;
            }
            let next_event = self.next_event().await;
            self.handle(next_event);
        }
        self.client.close();
    }

    /// Carries out the session's actions and offers it data until neither has anything left.
    fn run_session(&mut self) {
        loop {
            while let Some(output) = self.session.poll() {
                self.handle_output(output);
            }
            if self.shutdown.done || !self.send_packets() {
                break;
            }
        }
        // A destination that is not streaming must not block the pipeline while others are.
        self.reader.set_streaming(self.session.is_streaming());
        if self.reader.waits_for_key_frame() && self.session.wants_data() {
            if !std::mem::replace(&mut self.flow.key_frame_wanted, true) {
                self.request_key_frame();
            }
        } else {
            self.flow.key_frame_wanted = false;
        }
        // Checked after each event: no timer marks the moment at which a push has lasted long enough to count as a
        // success.
        if self.retry.backoff.failures() > 0 && self.progress.streaming_since.is_some() {
            let last = lock(&self.stats).last_error.clone();
            if last.is_some_and(|last| self.has_streamed(&last)) {
                self.reset_backoff();
            }
        }
        self.update_telemetry();
        self.watch_acknowledgement();
    }

    /// Waits for the next event. Each branch may be dropped and created again without losing an event.
    async fn next_event(&mut self) -> TaskEvent {
        let wants_data = self.session.wants_data() && self.flow.wants_room.is_none();
        let deadline = self.session.deadline();
        let batch_wait = self.flow.coalescer.batch_wait(Instant::now());
        let may_disconnect = self.disconnects_on_overrun();
        let early_warning_at = self.early_warning().map(|(at, _)| at);
        let acknowledgement_at = self.acknowledgement.poll.at();
        let dropped_at = self.reporting.dropped.report_at.filter(|_| self.reporting.dropped.packets > 0);
        let (retry_at, drain_by, wants_room) = (self.retry.at, self.shutdown.drain_by, self.flow.wants_room);
        let Self { client, reader, commands, control, retry, auth_request, .. } = self;
        let decision = &mut retry.decision;
        tokio::select! {
            incoming = client.next(wants_room) => TaskEvent::Transport(incoming),
            () = wait_for_batch(reader, batch_wait), if wants_data => TaskEvent::Data,
            () = at(deadline), if deadline.is_some() => TaskEvent::Deadline,
            () = at(retry_at), if retry_at.is_some() => TaskEvent::Retry,
            () = reader.wait_until_overrun(), if may_disconnect => TaskEvent::Overrun,
            () = at(acknowledgement_at), if acknowledgement_at.is_some() => TaskEvent::AcknowledgementDue,
            // While the task takes packets, the next batch reports the dropped ones.
            () = reader.wait_until_dropped(), if !wants_data && dropped_at.is_none() => TaskEvent::Dropped,
            () = at(dropped_at), if dropped_at.is_some() => TaskEvent::DroppedDue,
            () = at(early_warning_at), if early_warning_at.is_some() => TaskEvent::EarlyWarning,
            answer = retry_decision_of(decision), if decision.is_some() => TaskEvent::Answer(answer),
            answer = auth_reply(auth_request), if auth_request.is_some() => TaskEvent::AuthReply(answer),
            () = at(drain_by), if drain_by.is_some() => TaskEvent::DrainDue,
            event = next_instruction(commands, control) => event,
        }
    }

    /// Passes an event to the session, or to the part of the task that it concerns.
    fn handle(&mut self, event: TaskEvent) {
        let now = Instant::now();
        match event {
            TaskEvent::Data => {}
            TaskEvent::Transport(TransportEvent::Room) => self.clear_full_queue(),
            TaskEvent::Transport(TransportEvent::Connected) => self.session.handle_connected(),
            TaskEvent::Transport(TransportEvent::Resolved) => {
                if self.state == State::Locating {
                    self.change_state(Status::Connecting, State::Connecting, Hresult::OK, None);
                }
            }
            TaskEvent::Transport(TransportEvent::Response { head, undelivered }) => {
                self.body.undelivered = self.bytes_to_resend(&BodyEnd::Answer(head.status), undelivered, now);
                lock(&self.stats).last_http_status = Some(head.status);
                self.session.handle_response(&head, now);
                let peer = self.session.peer().clone();
                let mut stats = lock(&self.stats);
                stats.server = peer.server;
                stats.idle_timeout = peer.idle_timeout;
                stats.auth_scheme = self.session.auth_scheme().or(stats.auth_scheme);
            }
            TaskEvent::Transport(TransportEvent::Lost { cause, detail, undelivered }) => {
                self.body.undelivered = self.bytes_to_resend(&BodyEnd::Loss(cause), undelivered, now);
                let delivered = undelivered == 0 && !self.peer_read_nothing(cause, undelivered, now);
                self.session.handle_disconnect(cause, &detail, delivered, now);
                self.session.not_delivered(undelivered);
            }
            TaskEvent::Deadline => {
                // If a response is missing, this is the end of the body. After `$E`, nothing that has left this process
                // is sent again.
                self.body.undelivered =
                    if self.session.is_ending() { self.client.unsent_bytes() } else { self.client.undelivered() };
                self.session.handle_timeout(now);
            }
            TaskEvent::Retry => self.connect(),
            TaskEvent::Overrun => self.disconnect_overrun(),
            TaskEvent::Transport(TransportEvent::Closed { delivered }) => {
                if delivered {
                    self.body.undelivered = 0;
                }
                self.session.handle_closed(delivered, now);
            }
            TaskEvent::AcknowledgementDue => self.check_acknowledged(now),
            TaskEvent::Dropped => {
                let dropped = self.reader.take_dropped();
                self.record_dropped(dropped);
            }
            TaskEvent::DroppedDue => self.report_dropped(),
            TaskEvent::EarlyWarning => self.report_early_warning(),
            TaskEvent::Answer(resume) => self.handle_retry_decision(resume),
            TaskEvent::AuthReply(answer) => {
                self.auth_request = None;
                match answer {
                    AuthReply::Credentials(answer) => self.session.supply(answer, now),
                    AuthReply::Ticket(answer) => self.session.ticket(answer, now),
                }
            }
            TaskEvent::DrainDue | TaskEvent::Stop => self.close_permanently(),
            TaskEvent::Command(command) => self.handle_command(command, now),
            TaskEvent::Control => self.handle_control(now),
        }
    }

    /// Starts again on request, after an end, a permanent failure or a disconnection.
    fn restart(&mut self) {
        if !self.session.is_down() || self.session.is_closed() {
            self.session = Session::new(self.control.borrow().settings.session.clone());
        }
        self.reader.resume();
        self.reset_backoff();
        self.progress.was_opened = false;
        self.connect();
    }

    /// Stops the push; packets that remain in the buffer are for other destinations.
    fn stop_with(&mut self, status: Status, state: State, hresult: Hresult, failure: Option<Failure>) {
        let reason = if state == State::Failed { DropReason::Failed } else { DropReason::Ended };
        self.report_last_dropped(reason);
        self.reader.pause();
        self.shutdown.ending = false;
        self.change_state(status, state, hresult, failure);
        self.shutdown.done = self.shutdown.drain_by.is_some();
        self.mark_at_rest();
    }

    /// Ends the task: the destination was removed, or its drain time is over.
    fn close_permanently(&mut self) {
        self.shutdown.done = true;
        if self.state.is_final() {
            return;
        }
        self.disconnect(Instant::now());
        self.change_state(Status::Closed, State::Closed, Hresult::OK, None);
    }

    /// Forgets a scheduled retry, and questions to the application that have no answer yet.
    fn cancel_retry(&mut self) {
        self.retry.at = None;
        self.retry.decision = None;
        self.auth_request = None;
    }

    /// Starts an attempt to connect.
    fn connect(&mut self) {
        self.cancel_retry();
        self.progress.streaming_since = None;
        lock(&self.stats).at_rest = false;
        self.change_state(Status::Locating, State::Locating, Hresult::OK, None);
        self.session.connect(Instant::now());
    }

    /// Offers packets from the buffer to the session; returns true if the session has new actions.
    fn send_packets(&mut self) -> bool {
        while self.session.wants_data() {
            let now = Instant::now();
            if self.shutdown.ending {
                self.session.end(now);
                return true;
            }
            // Looking at the buffer decides where an overrun reader resumes, so only look when something can be taken.
            if self.flow.wants_room.is_some() {
                return false;
            }
            let Some(next) = self.reader.peek() else {
                if self.reader.at_end() {
                    self.session.end(now);
                    return true;
                }
                return false;
            };
            // The offer may create actions, such as the head of a request, which come before the data.
            let granted = self.session.offer(&next.header, next.size, now);
            if granted == 0 || self.session.has_output() {
                return self.session.has_output();
            }
            let room = self.client.room() as u64;
            // A packet larger than the whole queue is sent when the queue is empty.
            if room < next.size as u64 && room < self.client.capacity() as u64 {
                self.flow.wants_room = Some(next.size);
                self.flow.full_since.get_or_insert(now);
                return false;
            }
            self.clear_full_queue();
            // The writer may have overrun the reader meanwhile; if so, look at the next packet again.
            let Some(mut batch) = self.reader.take_if_header(&next.header, granted.min(room.max(next.size as u64)))
            else {
                continue;
            };
            self.record_dropped(batch.skipped);
            self.acknowledgement.needed |= batch.needs_acknowledgement;
            // Servers may send everything they receive to players, including packets before the first usable one.
            batch.trim_start();
            let len = batch.len();
            for frame in batch.frames {
                self.client.send(frame);
            }
            self.body.layout.append_data(len, now);
            self.session.sent(len);
            self.flow.coalescer.taken(len, now);
            self.early_warnings.data_flows();
            lock(&self.stats).record_sent(len, now);
            if self.session.has_output() {
                return true;
            }
        }
        false
    }

    /// Records that the connection takes data again.
    fn clear_full_queue(&mut self) {
        self.flow.wants_room = None;
        self.flow.full_since = None;
    }

    /// Carries out one action of the session.
    fn handle_output(&mut self, output: Output) {
        match output {
            Output::Request(request) => {
                let mut stats = lock(&self.stats);
                stats.requests_sent += 1;
                stats.effective_location = Some(request.url.to_string());
                drop(stats);
                if request.head.kind == Kind::Start {
                    self.body.layout = BodyLayout::new(Instant::now());
                }
                self.clear_full_queue();
                self.client.request(request);
            }
            Output::Filler(bytes) => {
                lock(&self.stats).filler_bytes_sent += bytes.len() as u64;
                self.send_control(bytes);
            }
            Output::Send(bytes) => self.send_control(bytes),
            Output::Close => self.client.close(),
            Output::CloseGracefully => self.close_gracefully(),
            Output::Event(event) => self.handle_session_event(event),
        }
    }

    /// Sends a packet that the session has created: a header, a filler, or the end.
    fn send_control(&mut self, bytes: Bytes) {
        let len = bytes.len() as u64;
        self.body.layout.append_control(len);
        lock(&self.stats).record_sent(len, Instant::now());
        self.client.send(bytes);
    }

    /// Updates state and statistics for an event of the session, and reports it.
    fn handle_session_event(&mut self, event: Event) {
        match event {
            Event::Opened => {
                if !self.progress.was_opened {
                    self.progress.was_opened = true;
                    self.change_state(Status::Opened, State::Opened, Hresult::OK, None);
                } else {
                    self.set_state(State::Opened);
                }
                self.record_connected();
                if std::mem::take(&mut self.progress.restarts_at_key_frame) {
                    self.move_to_key_frame();
                }
                // In a new session in the middle of the stream, players can show nothing before a key frame.
                if self.reader.progress().received > 0 {
                    self.request_key_frame();
                }
            }
            Event::Started => {
                self.progress.streaming_since = Some(Instant::now());
                self.progress.restarts_at_key_frame = false;
                self.record_connected();
                self.change_state(Status::Started, State::Streaming, Hresult::OK, None);
            }
            Event::Authenticating => {
                if self.state != State::Authenticating {
                    self.change_state(Status::Connecting, State::Authenticating, Hresult::OK, None);
                }
            }
            Event::CredentialsNeeded(question) => {
                let observer = Arc::clone(&self.observer);
                self.spawn_auth_request(move || AuthReply::Credentials(observer.credentials(&question)));
            }
            Event::TicketNeeded(request) => {
                self.spawn_auth_request(move || AuthReply::Ticket(kerberos::ticket(&request)));
            }
            Event::PasswordExposed(target) => {
                let (text, remedy) = match target {
                    Target::Server => (
                        "the password for the server is sent in clear text (Basic over http)",
                        "use https, or enable Digest or NTLM at the server",
                    ),
                    // Connections to a proxy are not encrypted, even if the location is https.
                    Target::Proxy => (
                        "the password for the proxy is sent in clear text (Basic over http)",
                        "enable Digest or NTLM at the proxy",
                    ),
                };
                self.notice(text.to_owned(), remedy);
            }
            Event::LargePayloads { largest } => self.notice(
                format!("the server closes the connection when data arrives: its payload limit may be 8192 bytes, and this stream has payloads of up to {largest} bytes"),
                "set packet-size of asfmux to 8192 or less, and remove large metadata such as pictures from the ASF header",
            ),
            Event::RolledOver => {
                self.discard_body();
                lock(&self.stats).rollovers += 1;
            }
            Event::HeaderChanged => {
                lock(&self.stats).header_changes += 1;
                self.change_state(Status::SourceSwitch, self.state, Hresult::OK, None);
            }
            Event::Restarted { reason, rewind } => self.handle_restart(reason, rewind),
            Event::Failed(failure) => self.handle_failure(failure),
            // The server responds at the end of a body; a proxy that does not forward the response may hold the body
            // back as well.
            Event::EndUnanswered if lock(&self.stats).rollovers > 0 => self.notice(
                "the server did not confirm the end of the stream, although it responded to earlier requests, and the \
                 last packets may be lost: a proxy that buffers requests until they are complete discards the last one"
                    .to_owned(),
                "configure the proxy to stream requests (nginx: proxy_request_buffering off)",
            ),
            Event::EndUnanswered => {}
            Event::Ended { clean } => {
                let hresult = if clean { Hresult::OK } else { Hresult::TIMEOUT };
                lock(&self.stats).end_unconfirmed = !clean;
                if clean {
                    self.discard_body();
                } else {
                    self.on_body_interrupted(0);
                }
                self.change_state(Status::Stopped, State::Ending, hresult, None);
                self.stop_with(Status::Closed, State::Closed, Hresult::OK, None);
            }
        }
    }

    /// Requests credentials or a ticket on a thread that may block. If no thread can be started, this attempt fails.
    fn spawn_auth_request(&mut self, call: impl FnOnce() -> AuthReply + Send + 'static) {
        match spawn_blocking(call) {
            Ok(auth_request) => self.auth_request = Some(auth_request),
            Err(error) => {
                self.session.abandon();
                self.handle_failure(Failure::lost(Cause::Resources, &error.to_string()));
            }
        }
    }

    /// Records that the connection works, for the first time or again.
    fn record_connected(&mut self) {
        let mut stats = lock(&self.stats);
        stats.record_connected();
        if std::mem::take(&mut self.progress.reconnecting) {
            stats.reconnects += 1;
            drop(stats);
            self.change_state(Status::ReconnectEnd, self.state, Hresult::OK, None);
        }
    }

    /// Handles that the session restarts by itself: rewinds the reader, and reports the reason if users should know it.
    fn handle_restart(&mut self, reason: RestartReason, rewind: u64) {
        if reason == RestartReason::HeaderChange {
            // The server has confirmed the end of the body, so none of it is uncertain.
            self.rewind_for_resend(rewind);
        } else {
            self.on_body_interrupted(rewind);
        }
        let (text, remedy) = match reason {
            RestartReason::Stale | RestartReason::Unauthenticated => return,
            RestartReason::HeaderChange => {
                lock(&self.stats).header_changes += 1;
                self.change_state(Status::SourceSwitch, self.state, Hresult::OK, None);
                return;
            }
            RestartReason::SessionGone => {
                self.progress.restarts_at_key_frame = true;
                ("the server has lost the session; a new one begins", "no action needed")
            }
            RestartReason::HeaderChangeRefused => (
                "the server ended the session at a header change; a new session carries this and later header changes",
                "set header-change=reconnect to start a new session at each header change without an attempt",
            ),
            RestartReason::NoAnswer => (
                "the server did not answer at the end of a request's body; a new session begins",
                "set content-length to 0 so that request bodies rarely end",
            ),
        };
        self.notice(text.to_owned(), remedy);
    }

    /// Whether the session ends if the reader is overrun: `drop-policy` is `disconnect`, and data flows.
    fn disconnects_on_overrun(&self) -> bool {
        self.session.is_streaming() && self.control.borrow().settings.options.policy == Some(DropPolicy::Disconnect)
    }

    /// Disconnects because the reader was overrun and `drop-policy` is `disconnect`.
    fn disconnect_overrun(&mut self) {
        self.body.undelivered =
            self.bytes_to_resend(&BodyEnd::Loss(Cause::Stalled), self.client.undelivered(), Instant::now());
        self.session.abandon();
        self.handle_failure(Failure::lost(Cause::Stalled, "drop-policy=disconnect"));
    }
}

/// If the application's callback has panicked, it supplied no credentials.
async fn auth_reply(auth_request: &mut Option<BlockingTask<AuthReply>>) -> AuthReply {
    match auth_request {
        Some(auth_request) => auth_request.await.unwrap_or(AuthReply::Credentials(None)),
        None => std::future::pending().await,
    }
}

/// Waits until a point in time, or forever without one.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
