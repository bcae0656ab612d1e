//! One destination: a task that carries out what its protocol session says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep_until;

use super::backoff::Backoff;
use super::stats::Stats;
use super::status::{Report, State, Status, Step};
use super::{Keeper, Reporter, Settings};
use crate::log::{Cursor, DropPolicy};
use crate::transport::{Client, Incoming};
use crate::wmhttp::Hresult;
use crate::wmhttp::auth::{Credentials, Target};
use crate::wmhttp::client::{Event, Output, Restart, Session};
use crate::wmhttp::headers::Kind;
use crate::wmhttp::verdict::{Cause, Condition, Failure};

/// After taking packets, the next are left to gather for this long, …
const GATHER: Duration = Duration::from_millis(1);
/// … or until there are this many bytes: one wake-up and one write for all of them.
const GATHER_BYTES: u64 = 192 * 1024;

/// How often the kernel is asked for the connection's figures at most.
const TELEMETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Control packets of a body whose places are remembered.
const CONTROL_KEPT: usize = 64;

/// What a destination can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Settings have changed.
    Reread,
    /// End the session by `$E`(0) now, and be done.
    EndSession,
    /// Close without `$E`, and wait for [`Command::Reconnect`]: the server keeps the session for a while.
    Disconnect,
    /// Connect now, also where a retry is being waited for.
    Reconnect,
}

/// The task. It awaits in one place, [`Actor::happening`].
pub(super) struct Actor {
    settings: Arc<Mutex<Settings>>,
    stats: Arc<Mutex<Stats>>,
    reporter: Reporter,
    keeper: Keeper,
    /// The question that the keeper has under way.
    asking: Option<JoinHandle<Option<Credentials>>>,
    commands: mpsc::Receiver<Command>,
    session: Session,
    client: Client,
    cursor: Cursor,
    backoff: Backoff,
    name: String,
    location: String,
    state: State,
    retry_at: Option<Instant>,
    last_take: Option<Instant>,
    asked_kernel_at: Option<Instant>,
    /// The connection's queue is full: data waits for room, not for packets.
    wants_room: bool,
    /// When packets began to flow, since the last connect.
    streaming_since: Option<Instant>,
    was_opened: bool,
    reconnecting: bool,
    body: BodyMap,
    /// Bytes at the end of the body that the far end had not acknowledged when it answered or was lost.
    undelivered: u64,
    done: bool,
}

enum Happening {
    Transport(Incoming),
    Data,
    Deadline,
    Retry,
    Credentials(Option<Credentials>),
    Command(Command),
    /// The publisher has let go.
    Stop,
}

/// Where the body under way has other bytes than data packets.
#[derive(Default)]
struct BodyMap {
    len: u64,
    /// Offset and length of control packets.
    control: Vec<(u64, u64)>,
}

impl Actor {
    pub(super) fn new(
        settings: Arc<Mutex<Settings>>,
        stats: Arc<Mutex<Stats>>,
        cursor: Cursor,
        commands: mpsc::Receiver<Command>,
        (reporter, keeper): (Reporter, Keeper),
    ) -> Self {
        let now = lock(&settings).clone();
        let (name, location) = {
            let stats = lock(&stats);
            (stats.name.clone(), stats.location.clone())
        };
        Self {
            session: Session::new(now.session),
            client: Client::new(now.transport),
            settings,
            stats,
            reporter,
            keeper,
            asking: None,
            commands,
            cursor,
            backoff: Backoff::default(),
            name,
            location,
            state: State::Idle,
            retry_at: None,
            last_take: None,
            asked_kernel_at: None,
            wants_room: false,
            streaming_since: None,
            was_opened: false,
            reconnecting: false,
            body: BodyMap::default(),
            undelivered: 0,
            done: false,
        }
    }

    pub(super) async fn run(mut self) {
        self.connect();
        loop {
            self.settle();
            if self.done {
                break;
            }
            let happening = self.happening().await;
            self.handle(happening);
        }
        self.client.close();
    }

    /// Carries out what the session says and offers it data, until both have nothing left.
    fn settle(&mut self) {
        loop {
            while let Some(output) = self.session.poll() {
                self.carry_out(output);
            }
            if self.done || !self.feed() {
                break;
            }
        }
        self.cursor.set_streaming(self.session.is_streaming());
        self.note_connection();
    }

    async fn happening(&mut self) -> Happening {
        let wants_data = self.session.wants_data() && !self.wants_room;
        let deadline = self.session.deadline();
        let gather_until = self.last_take.map(|taken| taken + GATHER).filter(|until| Instant::now() < *until);
        let Self { client, cursor, commands, retry_at, wants_room, asking, .. } = self;
        tokio::select! {
            incoming = client.next(*wants_room) => Happening::Transport(incoming),
            () = gathered(cursor, gather_until), if wants_data => Happening::Data,
            () = at(deadline), if deadline.is_some() => Happening::Deadline,
            () = at(*retry_at), if retry_at.is_some() => Happening::Retry,
            answer = answered(asking), if asking.is_some() => Happening::Credentials(answer),
            command = commands.recv() => command.map_or(Happening::Stop, Happening::Command),
        }
    }

    fn handle(&mut self, happening: Happening) {
        let now = Instant::now();
        match happening {
            Happening::Data => {}
            Happening::Transport(Incoming::Room) => self.wants_room = false,
            Happening::Transport(Incoming::Connected) => self.session.handle_connected(),
            Happening::Transport(Incoming::Resolved) => {
                if self.state == State::Locating {
                    self.step(Status::Connecting, State::Connecting, Hresult::OK, None);
                }
            }
            Happening::Transport(Incoming::Response { head, undelivered }) => {
                self.undelivered = undelivered;
                lock(&self.stats).last_http_status = Some(head.status);
                self.session.handle_response(&head, now);
                let peer = self.session.peer().clone();
                let mut stats = lock(&self.stats);
                stats.server = peer.server;
                stats.idle_timeout = peer.idle_timeout;
                stats.auth_scheme = self.session.auth_scheme().or(stats.auth_scheme);
            }
            Happening::Transport(Incoming::Lost { cause, detail, undelivered }) => {
                self.undelivered = undelivered;
                self.session.handle_disconnect(cause, &detail, undelivered == 0, now);
            }
            Happening::Deadline => self.session.handle_timeout(now),
            Happening::Retry => self.connect(),
            Happening::Credentials(answer) => {
                self.asking = None;
                self.session.supply(answer, now);
            }
            Happening::Command(Command::Reread) => {
                let settings = lock(&self.settings).clone();
                self.cursor.set_policy(settings.drop_policy);
                self.client.set_settings(settings.transport);
                self.session.set_config(settings.session);
            }
            Happening::Command(Command::EndSession) => {
                if self.session.is_down() {
                    self.close_for_good();
                } else {
                    self.session.end(now);
                }
            }
            Happening::Command(Command::Disconnect) => {
                self.retry_at = None;
                self.session.disconnect(now);
                self.client.close();
                self.step(Status::Closed, State::Closed, Hresult::OK, None);
            }
            Happening::Command(Command::Reconnect) => {
                if self.session.is_down() {
                    self.backoff.reset();
                    self.connect();
                }
            }
            Happening::Stop => self.close_for_good(),
        }
    }

    fn close_for_good(&mut self) {
        self.done = true;
        self.session.disconnect(Instant::now());
        self.client.close();
        self.step(Status::Closed, State::Closed, Hresult::OK, None);
    }

    fn connect(&mut self) {
        self.retry_at = None;
        self.streaming_since = None;
        self.step(Status::Locating, State::Locating, Hresult::OK, None);
        self.session.connect(Instant::now());
    }

    /// Offers what the log has; true where the session has said something new.
    fn feed(&mut self) -> bool {
        while self.session.wants_data() {
            let now = Instant::now();
            let Some(next) = self.cursor.peek() else {
                if self.cursor.at_end() {
                    self.session.end(now);
                    return true;
                }
                return false;
            };
            let granted = self.session.offer(&next.header, next.size, now);
            if granted == 0 || self.session.has_output() {
                return self.session.has_output();
            }
            let room = self.client.room() as u64;
            if room < next.size as u64 && room < self.client.capacity() as u64 {
                self.wants_room = true;
                return false;
            }
            self.wants_room = false;
            let Some(batch) = self.cursor.take(granted.min(room.max(next.size as u64))) else { return false };
            if batch.skipped > 0 {
                self.lapped(batch.skipped);
                if self.done || self.session.is_down() {
                    return true;
                }
            }
            let len = batch.len();
            for frame in batch.frames {
                self.client.send(frame);
            }
            self.body.len += len;
            self.session.sent(len);
            self.last_take = Some(now);
            lock(&self.stats).bytes_sent += len;
            if self.session.has_output() {
                return true;
            }
        }
        false
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Request(request) => {
                let mut stats = lock(&self.stats);
                stats.requests_sent += 1;
                stats.effective_location = Some(request.url.to_string());
                drop(stats);
                if request.head.kind == Kind::Start {
                    self.body = BodyMap::default();
                }
                self.wants_room = false;
                self.client.request(request);
            }
            Output::Send(bytes) => {
                let len = bytes.len() as u64;
                self.body.control(len);
                let mut stats = lock(&self.stats);
                stats.bytes_sent += len;
                if bytes.get(1) == Some(&b'F') {
                    stats.filler_bytes_sent += len;
                }
                drop(stats);
                self.client.send(bytes);
            }
            Output::Close => self.client.close(),
            Output::Event(event) => self.tell(event),
        }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Opened => {
                if !self.was_opened {
                    self.was_opened = true;
                    self.step(Status::Opened, State::Opened, Hresult::OK, None);
                } else {
                    self.set_state(State::Opened);
                }
                self.connected();
            }
            Event::Started => {
                self.streaming_since = Some(Instant::now());
                self.connected();
                self.step(Status::Started, State::Streaming, Hresult::OK, None);
            }
            Event::Authenticating => {
                if self.state != State::Authenticating {
                    self.step(Status::Connecting, State::Authenticating, Hresult::OK, None);
                }
            }
            Event::CredentialsNeeded(question) => {
                let keeper = Arc::clone(&self.keeper);
                self.asking = Some(spawn_blocking(move || keeper(&question)));
            }
            Event::PasswordExposed(target) => {
                let to = match target {
                    Target::Server => "the server",
                    Target::Proxy => "the proxy",
                };
                let text = format!("the password for {to} goes over the network readable, by Basic over http");
                self.notice(text, "use https, or let the far end do Digest or NTLM");
            }
            Event::RolledOver => lock(&self.stats).rollovers += 1,
            Event::HeaderChanged => {
                lock(&self.stats).header_changes += 1;
                self.step(Status::SourceSwitch, self.state, Hresult::OK, None);
            }
            Event::Restarted { reason, rewind } => self.restarted(reason, rewind),
            Event::Failed(failure) => self.failed(failure),
            Event::Ended { clean } => {
                let hresult = if clean { Hresult::OK } else { Hresult::TIMEOUT };
                self.step(Status::Stopped, State::Ending, hresult, None);
                self.done = true;
                self.step(Status::Closed, State::Closed, Hresult::OK, None);
            }
        }
    }

    /// It works again, or for the first time.
    fn connected(&mut self) {
        let mut stats = lock(&self.stats);
        stats.connected_at = Some(Instant::now());
        if std::mem::take(&mut self.reconnecting) {
            stats.reconnects += 1;
            drop(stats);
            self.step(Status::ReconnectEnd, self.state, Hresult::OK, None);
        }
    }

    fn restarted(&mut self, reason: Restart, rewind: u64) {
        // What had not arrived before the restart's own reason is missing too.
        let undelivered = self.body.data_in_last(std::mem::take(&mut self.undelivered));
        self.rewind(rewind.max(undelivered));
        self.body = BodyMap::default();
        let (text, remedy) = match reason {
            Restart::Stale | Restart::Unauthenticated => return,
            Restart::HeaderChange => {
                lock(&self.stats).header_changes += 1;
                self.step(Status::SourceSwitch, self.state, Hresult::OK, None);
                return;
            }
            Restart::SessionGone => ("the server no longer knew the session; a new one begins", "none needed"),
            Restart::HeaderChangeRefused => (
                "the server ended the session at a header change; a new session carries it, now and from now on",
                "set header-change=reconnect to spare the attempt",
            ),
            Restart::NoAnswer => (
                "the server did not answer at the end of a request's body; a new session begins",
                "leave content-length at 0 so that bodies end rarely",
            ),
        };
        self.notice(text.to_owned(), remedy);
    }

    fn failed(&mut self, failure: Failure) {
        let lost = matches!(failure.condition, Condition::Lost(_));
        let undelivered = std::mem::take(&mut self.undelivered);
        self.rewind(self.body.data_in_last(undelivered));
        self.body = BodyMap::default();
        let policy = lock(&self.settings).retry;
        // A server that takes each push and drops it at once is no success: one attempt a retry-delay.
        let streamed = self.streaming_since.take().is_some_and(|since| since.elapsed() >= policy.delay);
        if streamed {
            self.backoff.reset();
        }
        let delay = if failure.permanent {
            None
        } else {
            self.backoff.fail(&policy, streamed && lost, failure.retry_after, rand::random())
        };
        {
            let mut stats = lock(&self.stats);
            stats.retry_count = self.backoff.failures();
            stats.last_error = Some(failure.clone());
        }
        if !self.was_opened && self.backoff.failures() <= 1 {
            self.step(Status::Opened, self.state, failure.hresult, Some(failure.clone()));
        }
        match delay {
            Some(delay) => {
                self.reconnecting = self.was_opened;
                self.retry_at = Some(Instant::now() + delay);
                self.report(Status::ReconnectStart, State::Reconnecting, failure.hresult, Some(failure), Some(delay));
            }
            None => {
                self.done = true;
                self.step(Status::Error, State::Failed, failure.hresult, Some(failure));
            }
        }
    }

    /// The cursor fell behind what the log keeps.
    fn lapped(&mut self, packets: u64) {
        self.report_dropped(packets);
        let disconnects = lock(&self.settings).drop_policy == Some(DropPolicy::Disconnect);
        if disconnects && self.session.is_streaming() {
            self.session.disconnect(Instant::now());
            self.failed(Failure::lost(Cause::Stalled, "drop-policy=disconnect"));
        }
    }

    /// The last `bytes` of data have not reached the server: they are taken again.
    fn rewind(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let rewound = self.cursor.rewind(bytes);
        {
            let mut stats = lock(&self.stats);
            stats.bytes_sent = stats.bytes_sent.saturating_sub(bytes);
        }
        if rewound.lost > 0 {
            self.report_dropped(rewound.lost);
        }
    }

    // ---- reports ----

    fn step(&mut self, status: Status, new_state: State, hresult: Hresult, failure: Option<Failure>) {
        self.report(status, new_state, hresult, failure, None);
    }

    fn report(
        &mut self,
        status: Status,
        new_state: State,
        hresult: Hresult,
        failure: Option<Failure>,
        retry_in: Option<Duration>,
    ) {
        let old_state = self.state;
        self.set_state(new_state);
        (self.reporter)(Report::Step(Step {
            destination: self.name.clone(),
            location: self.location.clone(),
            status,
            hresult,
            old_state,
            new_state,
            failure,
            attempt: self.backoff.failures(),
            retry_in,
        }));
    }

    fn report_dropped(&self, packets: u64) {
        let progress = self.cursor.progress();
        (self.reporter)(Report::Dropped {
            destination: self.name.clone(),
            packets,
            sent: progress.taken,
            dropped: progress.dropped,
        });
    }

    fn notice(&self, text: String, remedy: &'static str) {
        (self.reporter)(Report::Notice { destination: self.name.clone(), text, remedy });
    }

    fn set_state(&mut self, state: State) {
        self.state = state;
        lock(&self.stats).state = state;
    }

    /// Asks the kernel about the connection, now and then.
    fn note_connection(&mut self) {
        let now = Instant::now();
        if self.asked_kernel_at.is_some_and(|at| now - at < TELEMETRY_INTERVAL) {
            return;
        }
        self.asked_kernel_at = Some(now);
        if let Some(told) = self.client.telemetry() {
            let mut stats = lock(&self.stats);
            stats.rtt = Some(Duration::from_micros(told.rtt.into()));
            stats.unsent_bytes = Some(told.unsent);
        }
    }
}

impl BodyMap {
    fn control(&mut self, len: u64) {
        // Older ones have long arrived: a body without end must not keep them all.
        if self.control.len() == CONTROL_KEPT {
            self.control.remove(0);
        }
        self.control.push((self.len, len));
        self.len += len;
    }

    /// Bytes of data packets among the last `bytes` of the body.
    fn data_in_last(&self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.len);
        let from = self.len - bytes;
        let overlap = |(start, len): &(u64, u64)| (start + len).saturating_sub(*start.max(&from));
        bytes - self.control.iter().map(overlap).sum::<u64>().min(bytes)
    }
}

/// Waits for packets; until `gather_until` only for many of them.
async fn gathered(cursor: &Cursor, gather_until: Option<Instant>) {
    if let Some(until) = gather_until {
        tokio::select! {
            () = cursor.ready(GATHER_BYTES) => return,
            () = sleep_until(until.into()) => {}
        }
    }
    cursor.ready(1).await;
}

/// Waits for the keeper's answer; a keeper that panicked has none.
async fn answered(asking: &mut Option<JoinHandle<Option<Credentials>>>) -> Option<Credentials> {
    match asking {
        Some(asking) => asking.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_bytes_at_the_end_of_a_body() {
        let mut body = BodyMap::default();
        body.control(10);
        body.len += 100;
        body.control(20);
        body.len += 50;
        for (last, data) in
            [(0, 0), (50, 50), (60, 50), (70, 50), (80, 60), (170, 150), (175, 150), (180, 150), (999, 150)]
        {
            assert_eq!(body.data_in_last(last), data, "{last}");
        }
    }

    #[test]
    fn a_body_without_end_keeps_few_control_packets() {
        let mut body = BodyMap::default();
        for _ in 0..1000 {
            body.control(20);
            body.len += 100;
        }
        assert_eq!(body.control.len(), CONTROL_KEPT);
        assert_eq!(body.data_in_last(240), 200);
    }
}
