//! What becomes of a destination after a failure: whether it is tried again, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DestinationTask;
use crate::publish::lock;
use crate::publish::status::{State, Status};
use crate::transport::runtime::{BlockingTask, spawn_blocking};
use wmhttp::failure::{Condition, Failure};

/// A failure, how long to wait after it, and the answer that is awaited.
pub(super) struct PendingRetryDecision {
    failure: Failure,
    delay: Duration,
    answer: BlockingTask<bool>,
}

impl DestinationTask {
    /// Whether the push has flowed for so long that `failure`, which follows or came before, is no further one in a
    /// row.
    pub(super) fn has_streamed(&self, failure: &Failure) -> bool {
        let policy = lock(&self.settings).retry;
        // A server that takes each push and drops it at once is no success: one attempt a retry-delay.
        // Two encoders that displace each other both stream for as long as the other waits: only more shows that
        // the publishing point is this one's again.
        let displaced = failure.condition == Condition::Displaced;
        let success = if displaced { 2 * policy.delay_max.max(policy.delay) } else { policy.delay };
        self.streaming_since.is_some_and(|since| since.elapsed() >= success)
    }

    /// The next failure is the first in a row.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff.reset();
        lock(&self.stats).retry_count = 0;
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        let lost = matches!(failure.condition, Condition::Lost(_));
        self.on_body_interrupted(0);
        self.begins_anew = true;
        let policy = lock(&self.settings).retry;
        let streamed = self.has_streamed(&failure);
        let begun = self.streaming_since.take().is_some();
        if streamed {
            self.reset_backoff();
        }
        let delay = if failure.permanent {
            self.backoff.refused(&policy)
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
        if self.ending || !self.may_connect {
            // Nobody wants it any more; what had not arrived stays so.
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
            // It may take its time, and other destinations have the I/O thread.
            spawn_blocking(move || observer.should_retry(&asked))
        });
        match answer {
            Some(Ok(answer)) => self.question = Some(PendingRetryDecision { failure, delay, answer }),
            // If no thread can be started, the default answer applies, as without a handler.
            Some(Err(_)) | None => self.retry_after(failure, delay),
        }
    }

    pub(super) fn answered(&mut self, resume: bool) {
        let Some(PendingRetryDecision { failure, delay, .. }) = self.question.take() else { return };
        if resume {
            self.retry_after(failure, delay);
        } else {
            self.stop_with(Status::Error, State::Failed, failure.hresult, Some(failure));
        }
    }

    fn retry_after(&mut self, failure: Failure, delay: Duration) {
        self.reconnecting = self.was_opened;
        self.retry_at = Some(Instant::now() + delay);
        self.report(Status::ReconnectStart, State::Reconnecting, failure.hresult, Some(failure), Some(delay));
    }
}

/// The answer that is awaited, where there is one.
pub(super) async fn answer_to(question: &mut Option<PendingRetryDecision>) -> bool {
    match question {
        // Where the application's code has panicked, its answer is the default.
        Some(question) => (&mut question.answer).await.unwrap_or(true),
        None => std::future::pending().await,
    }
}
