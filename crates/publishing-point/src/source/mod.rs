//! Pulls a point's stream from another server.
//!
//! ```text
//!  origin ──▶ transport::download ──▶ wmhttp::pull::Session ──▶ StreamWriter ──▶ the point's packet buffer ──▶ players
//! ```
//!
//! Each point with a source has a task. It pulls always, or on demand: while clients play or wait to play, and a little
//! longer. A lost connection does not end the stream: the players keep theirs, and packets that the origin sends again
//! are left out. The stream ends when the origin ends it, when no client needs it, or when the origin is unavailable
//! for longer than an encoder may be.

mod recent_packets;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep_until;

use self::stream::StreamInput;
use crate::config::source::SourceConfig;
use crate::points::publishing_point::PublishingPoint;
use crate::points::source_state::Needed;
use asfpush_client::publish::backoff::{Backoff, Policy};
use asfpush_client::transport::download::{Download, Lost};
use wmhttp::pull::{Failure, Output, Request, Session};

/// After this time of streaming, a lost connection does not count as a failed attempt.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Starts to pull the source in the point's configuration, unless there is none or it is pulled already.
pub(crate) fn ensure(point: &Arc<PublishingPoint>, runtime: &Handle) {
    if point.config().source.is_none() || !point.source().begin_task() {
        return;
    }
    let point = Arc::clone(point);
    runtime.spawn(async move {
        let mut changes = point.source().changes();
        while let Some(config) = point.config().source.clone().filter(|_| !point.source().is_closed()) {
            Puller::new(&point, config, &mut changes).run().await;
        }
        point.source().end_task();
        // A reload may have added a source meanwhile.
        if point.config().source.is_some() {
            ensure(&point, &Handle::current());
        }
    });
}

/// Why a pull pauses or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pause {
    /// The point has another source now, or none.
    Reconfigured,
    /// No client needs the stream.
    NotNeeded,
    /// The origin has ended the stream.
    Ended,
    /// The attempt failed, or the connection was lost.
    Failed(Failure),
}

/// Pulls from one source.
struct Puller<'a> {
    point: &'a Arc<PublishingPoint>,
    config: SourceConfig,
    /// Changes of the source's state, which interrupt each wait.
    changes: &'a mut watch::Receiver<u64>,
    /// The stream, which continues across attempts.
    input: StreamInput,
    /// Computes the delays between attempts.
    backoff: Backoff,
    /// The earliest time of the next attempt, even if a player requests the stream.
    not_before: Option<Instant>,
}

/// The current operation of the pull.
enum Exchange {
    /// No request is in progress.
    Idle,
    /// A request was sent and its response has not arrived.
    Requesting(Pin<Box<dyn Future<Output = Result<Download, Lost>> + Send>>),
    /// The body of a response arrives.
    Receiving(Download),
}

/// What a pull waits for.
enum Event {
    /// A reason to stop that does not come from the origin.
    Interrupted(Pause),
    /// The deadline of the protocol has passed.
    Timeout,
    /// A response, or the loss of the connection.
    Response(Result<Download, Lost>),
    /// The next part of the body, `None` at its end.
    Body(Result<Option<bytes::Bytes>, Lost>),
}

impl<'a> Puller<'a> {
    /// Returns the pull of this source, which has not started.
    fn new(point: &'a Arc<PublishingPoint>, config: SourceConfig, changes: &'a mut watch::Receiver<u64>) -> Self {
        let input = StreamInput::new(Arc::clone(point));
        Self { point, config, changes, input, backoff: Backoff::default(), not_before: None }
    }

    /// Runs until the point has another source.
    async fn run(mut self) {
        let location = self.config.target(self.point.name());
        loop {
            if !self.wait_until_due().await {
                break;
            }
            let pause = self.pull().await;
            let now = Instant::now();
            let streaming_time = self.input.disconnected().map(|since| now.saturating_duration_since(since));
            // An origin that closes after each first packet must not be tried again without a pause.
            if streaming_time.is_some_and(|time| time >= STABLE_AFTER) {
                self.backoff.reset();
            }
            match pause {
                Pause::Reconfigured => break,
                Pause::NotNeeded => {
                    tracing::info!(point = self.point.name(), from = %location, "source disconnected: no player needs it");
                    self.input.end().await;
                    self.backoff.reset();
                    // Reset the limit, so that a new player need not wait. Many players cause only one attempt each
                    // time.
                    self.not_before = None;
                    self.point.source().set_idle();
                }
                Pause::Ended => {
                    self.input.end().await;
                    let delay = self.delay(None, false);
                    tracing::info!(point = self.point.name(), from = %location, "the origin ended the stream");
                    self.point.source().set_ended(now + delay);
                    self.not_before = Some(now + delay);
                }
                Pause::Failed(failure) => self.failed(&failure, streaming_time.is_some(), now, location.as_str()),
            }
        }
        self.input.end().await;
    }

    /// Records a failed attempt and schedules the next one.
    fn failed(&mut self, failure: &Failure, had_streamed: bool, now: Instant, location: &str) {
        let delay = self.delay(Some(failure), had_streamed);
        let failures = self.backoff.failures();
        tracing::warn!(point = self.point.name(), from = location, error = %failure, retry_in = ?delay, "source failed");
        self.point.activity().record_error(&format!("source failed: {failure}"));
        self.point.source().set_failed(failure, failures, now + delay);
        self.not_before = Some(now + delay);
    }

    /// Returns the delay before the next attempt.
    fn delay(&mut self, failure: Option<&Failure>, had_streamed: bool) -> Duration {
        let delay_max = self.config.retry_delay_max;
        let policy = Policy {
            delay: Policy::default().delay.min(delay_max),
            delay_max,
            after_refusal: Some(delay_max.saturating_mul(SourceConfig::REFUSED_RETRY_FACTOR)),
            ..Policy::default()
        };
        let delay = match failure {
            Some(failure) if failure.permanent => self.backoff.refused(&policy),
            // A stream that had begun and broke is requested again at once, but only once.
            Some(failure) => self.backoff.fail(&policy, had_streamed, failure.retry_after, rand::random()),
            None => self.backoff.fail(&policy, false, None, rand::random()),
        };
        delay.unwrap_or(delay_max)
    }

    /// Waits until the stream is needed and the delay after a failure is over. Ends a stream whose origin was
    /// unavailable for too long. Returns `false` if the source has changed.
    async fn wait_until_due(&mut self) -> bool {
        loop {
            if self.is_reconfigured() {
                return false;
            }
            let now = Instant::now();
            let hold_end = self.input.hold_until(self.config.hold_time);
            if hold_end.is_some_and(|until| now >= until) {
                tracing::warn!(
                    point = self.point.name(),
                    "stream ended: the origin was unreachable for longer than `idle-timeout`"
                );
                self.input.end().await;
                continue;
            }
            let needed = self.needed(now);
            if needed == Needed::No && self.input.is_open() {
                self.input.end().await;
            }
            let due = self.not_before.filter(|until| now < *until);
            if needed != Needed::No && due.is_none() {
                return true;
            }
            let needed_until = if let Needed::Until(until) = needed { Some(until) } else { None };
            let wake_at = [due, hold_end, needed_until].into_iter().flatten().min();
            tokio::select! {
                // The point keeps the sender as long as this task has the point.
                _ = self.changes.changed() => {}
                () = sleep_to(wake_at) => {}
            }
        }
    }

    /// Makes an attempt and streams until it ends.
    async fn pull(&mut self) -> Pause {
        let source = Arc::clone(self.point.source());
        source.set_connecting();
        let mut session = Session::new(self.config.session(self.point.name(), source.via_pseudonym(), source.via()));
        let transport = self.config.transport();
        let mut exchange = Exchange::Idle;
        session.connect(Instant::now());
        loop {
            while let Some(output) = session.poll() {
                match output {
                    Output::Request(Request { url, headers }) => {
                        source.set_address(url.as_str().to_owned());
                        let proxy = match self.config.proxy_for(&url) {
                            Ok(proxy) => proxy,
                            Err(text) => {
                                session.refuse(Failure::proxy_setting(text));
                                continue;
                            }
                        };
                        let settings = transport.clone();
                        exchange = Exchange::Requesting(Box::pin(async move {
                            Download::get(&settings, url, headers, proxy).await
                        }));
                    }
                    Output::Started(via) => self.point.relays().set_via(&via),
                    Output::Header(header) => {
                        let size = header.packet_size();
                        self.input.header(*header).await;
                        source.set_streaming();
                        let address = source.stats().address;
                        tracing::info!(
                            point = self.point.name(),
                            from = address,
                            packet_size = size,
                            "source connected"
                        );
                    }
                    Output::Data(bytes) => {
                        if let Err(error) = self.input.packet(&bytes).await {
                            session.refuse(Failure::malformed(format!("the origin's stream: {error}")));
                        }
                    }
                    Output::Plain(bytes) => match self.input.plain(bytes).await {
                        Ok(true) => source.set_streaming(),
                        Ok(false) => {}
                        Err(error) => {
                            session.refuse(Failure::malformed(format!("the origin's stream: {error}")));
                        }
                    },
                    Output::Ended => return Pause::Ended,
                    Output::Failed(failure) => return Pause::Failed(failure),
                }
            }
            source.add_duplicates(self.input.flush());
            let deadline = session.deadline();
            let event = tokio::select! {
                // Chunks are last, because a body that never pauses must not delay the other events.
                biased;
                pause = self.interruption() => Event::Interrupted(pause),
                () = sleep_to(deadline) => Event::Timeout,
                event = exchange.next() => event,
            };
            let now = Instant::now();
            match event {
                Event::Interrupted(pause) => return pause,
                Event::Timeout => session.handle_timeout(now),
                Event::Response(Ok(download)) => {
                    session.handle_response(download.status(), download.headers(), now);
                    exchange = Exchange::Receiving(download);
                }
                Event::Body(Ok(Some(bytes))) => session.handle_body(bytes, now),
                Event::Body(Ok(None)) => {
                    exchange = Exchange::Idle;
                    session.handle_body_end();
                }
                Event::Response(Err(Lost { cause, detail })) | Event::Body(Err(Lost { cause, detail })) => {
                    exchange = Exchange::Idle;
                    session.handle_lost(cause, &detail);
                }
            }
        }
    }

    /// Waits for a reason to stop that does not come from the origin.
    async fn interruption(&mut self) -> Pause {
        loop {
            if self.is_reconfigured() {
                return Pause::Reconfigured;
            }
            let until = match self.needed(Instant::now()) {
                Needed::Yes => None,
                Needed::Until(until) => Some(until),
                Needed::No => return Pause::NotNeeded,
            };
            tokio::select! {
                _ = self.changes.changed() => {}
                () = sleep_to(until) => {}
            }
        }
    }

    /// Returns whether the point has another source now, or none.
    fn is_reconfigured(&self) -> bool {
        self.point.source().is_closed() || self.point.config().source.as_ref() != Some(&self.config)
    }

    /// Returns whether the stream is needed.
    fn needed(&self, now: Instant) -> Needed {
        match self.config.on_demand {
            None => Needed::Yes,
            Some(linger) => self.point.source().is_needed(linger, now),
        }
    }
}

impl Exchange {
    /// Waits for the response or the next part of its body; forever if no request is in progress.
    async fn next(&mut self) -> Event {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Requesting(request) => Event::Response(request.await),
            Self::Receiving(download) => Event::Body(download.chunk().await),
        }
    }
}

/// Waits until this time; forever if there is none.
async fn sleep_to(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
