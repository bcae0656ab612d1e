//! Decides whether and when a destination is retried after a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DestinationTask;
use crate::publish::backoff::Backoff;
use crate::publish::lock;
use crate::publish::status::{State, Status};
use crate::transport::runtime::{BlockingTask, spawn_blocking};
use wmhttp::failure::{Condition, Failure};

/// A failure, the delay before the retry, and the application's pending decision.
pub(super) struct PendingRetryDecision {
    failure: Failure,
    delay: Duration,
    answer: BlockingTask<bool>,
}

/// The retries after failures.
#[derive(Default)]
pub(super) struct Retry {
    pub(super) backoff: Backoff,
    /// When the next attempt begins.
    pub(super) at: Option<Instant>,
    /// Set while the application decides whether to retry.
    pub(super) decision: Option<PendingRetryDecision>,
}

impl DestinationTask {
    /// Whether the push has streamed for so long that `failure` is not a further consecutive failure.
    pub(super) fn has_streamed(&self, failure: &Failure) -> bool {
        let policy = self.control.borrow().settings.retry;
        // A server that accepts each push and drops it immediately is not a success: streaming must last for
        // retry-delay, so that there is no more than one attempt per retry-delay. Two encoders that displace each other
        // both stream while the other waits, so only a longer time shows that this one has the publishing point again.
        let displaced = failure.condition == Condition::Displaced;
        let success = if displaced { 2 * policy.delay_max.max(policy.delay) } else { policy.delay };
        self.progress.streaming_since.is_some_and(|since| since.elapsed() >= success)
    }

    /// Resets the count of consecutive failures.
    pub(super) fn reset_backoff(&mut self) {
        self.retry.backoff.reset();
        lock(&self.stats).retry_count = 0;
    }

    /// Handles a failed attempt or push: schedules a retry, asks the application about it, or gives up.
    pub(super) fn handle_failure(&mut self, failure: Failure) {
        let lost = matches!(failure.condition, Condition::Lost(_));
        self.on_body_interrupted(0);
        self.progress.restarts_at_key_frame = true;
        let policy = self.control.borrow().settings.retry;
        let streamed = self.has_streamed(&failure);
        let begun = self.progress.streaming_since.take().is_some();
        if streamed {
            self.reset_backoff();
        }
        let delay = if failure.permanent {
            self.retry.backoff.refused(&policy)
        } else {
            self.retry.backoff.fail(&policy, streamed && lost, failure.retry_after, rand::random())
        };
        {
            let mut stats = lock(&self.stats);
            stats.retry_count = self.retry.backoff.failures();
            stats.last_error = Some(failure.clone());
        }
        // `Opened` reports the result of the first attempt, as WMT_OPENED does. Later attempts are reconnects.
        if !self.progress.was_opened && self.retry.backoff.failures() <= 1 {
            self.change_state(Status::Opened, self.state, failure.hresult, Some(failure.clone()));
        }
        if self.shutdown.ending || !self.shutdown.may_connect {
            // No retry is wanted, so data that has not arrived is lost.
            lock(&self.stats).end_unconfirmed = begun;
            self.stop_with(Status::Closed, State::Closed, failure.hresult, Some(failure));
            return;
        }
        let Some(delay) = delay else {
            self.stop_with(Status::Error, State::Failed, failure.hresult, Some(failure));
            return;
        };
        let answer = self.observer.has_retry_handler().then(|| {
            let (observer, asked) = (Arc::clone(&self.observer), failure.clone());
            // The callback may block, and other destinations share the I/O thread.
            spawn_blocking(move || observer.should_retry(&asked))
        });
        match answer {
            Some(Ok(answer)) => self.retry.decision = Some(PendingRetryDecision { failure, delay, answer }),
            // If no thread can be started, the default answer applies, as without a handler.
            Some(Err(_)) | None => self.retry_after(failure, delay),
        }
    }

    /// Continues with what the application has decided.
    pub(super) fn handle_retry_decision(&mut self, resume: bool) {
        let Some(PendingRetryDecision { failure, delay, .. }) = self.retry.decision.take() else { return };
        if resume {
            self.retry_after(failure, delay);
        } else {
            self.stop_with(Status::Error, State::Failed, failure.hresult, Some(failure));
        }
    }

    /// Schedules and reports the next attempt.
    fn retry_after(&mut self, failure: Failure, delay: Duration) {
        self.progress.reconnecting = self.progress.was_opened;
        self.retry.at = Some(Instant::now() + delay);
        self.report(Status::ReconnectStart, State::Reconnecting, failure.hresult, Some(failure), Some(delay));
    }
}

/// Waits for the application's decision, if one is pending.
pub(super) async fn retry_decision_of(question: &mut Option<PendingRetryDecision>) -> bool {
    match question {
        // If the application's callback has panicked, the default answer applies.
        Some(question) => (&mut question.answer).await.unwrap_or(true),
        None => std::future::pending().await,
    }
}
