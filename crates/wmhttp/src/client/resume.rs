//! Whether a lost session goes on, or a new one begins (C-15, S-7, S-10, S-14).
//!
//! A PushStart with a push-id goes on with `$D` alone. Where the session is gone its packets have no header: an honest
//! server refuses the request, Windows Media Services begin a session for it, others just take it. In both of these
//! cases players get nothing, the encoder is told nothing, and that until the push ends. So a session goes on only
//! where the server has shown that it holds it ([`Resume::Auto`]):
//!
//! ```text
//!   connection lost ──▶ connect
//!                         ├─ the server refuses unknown ids ──▶ PushStart, old push-id ──┬─ taken: goes on
//!                         │                                                              └─ refused ─┐
//!                         └─ any other ──▶ PushSetup, push-id 0 ◀────────────────────────────────────┘
//!                                            ├─ 2xx: a new session, with `$H`
//!                                            ├─ 404, 409: PushStart, old push-id ──┬─ taken: goes on
//!                                            │                                     └─ refused: the failure of the 404, 409
//!                                            └─ anything else: a failure, the session is gone
//! ```
//!
//! A connection that is refused is a process that has ended, and its sessions with it. A network that is gone for a
//! while ends no session. What ends a resume ends it in that attempt: an error status, whatever it is, and an answer
//! that sets another push-id, whatever its status. One thing does not: 409 says that a PushStart of the session is
//! under way still, on a connection of which the server does not know yet that it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use url::Url;

use super::{Connection, Output, ResponseHead, RestartReason, Resume, Server, Session, State};
use crate::failure::{Cause, Failure};
use crate::headers::PushId;
use crate::proxy;

/// For so long a connection that breaks may be how a server refuses a resume that it does not know.
pub(super) const RESUME_REJECT_WINDOW: Duration = Duration::from_secs(2);

/// A session whose connection was lost, and which the server may hold still.
#[derive(Debug)]
pub(super) struct LostSession {
    /// Until when: the Idle-Timeout goes on (S-14).
    pub(super) until: Instant,
    url: Url,
    push_id: PushId,
    announced: Arc<asf::Header>,
    between_entries: bool,
    /// The server refuses what it does not know: asking it is safe.
    refuses_unknown: bool,
    /// It was tried to go on with it since the last connect.
    tried: bool,
}

/// A session that goes on, until the server has taken a whole body of it.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) at: Instant,
    pub(super) until: Instant,
    /// Why no new session could begin, where that was tried first.
    refusal: Option<Failure>,
}

impl Session {
    /// Whether the request that resumes a lost session is so young that its loss may be the server's refusal (C-15).
    /// A server that refuses a body and closes resets the connection, which can destroy its answer; whatever the
    /// peer's system has acknowledged of that body, nobody has read.
    pub fn resume_is_unproven(&self, now: Instant) -> bool {
        let at = self.resumption.resumed.as_ref().map(|resumed| resumed.at);
        at.is_some_and(|at| now.saturating_duration_since(at) <= RESUME_REJECT_WINDOW)
    }

    /// Whether an answer now is the server's answer to a resume, not to what the session did later.
    pub(super) fn is_resuming(&self, now: Instant) -> bool {
        let at = self.resumption.resumed.as_ref().map(|resumed| resumed.at);
        at.is_some_and(|at| now.saturating_duration_since(at) <= self.config.response_timeout)
    }

    /// The session under way, which the server may hold until `until` once its connection is lost.
    pub(super) fn lost_session(&self, until: Instant) -> Option<LostSession> {
        let announced = self.entry.header.as_ref().filter(|_| self.keeps_sessions())?;
        Some(LostSession {
            until,
            url: self.route.url().clone(),
            push_id: self.cookies.push_id().clone(),
            announced: Arc::clone(announced),
            between_entries: self.entry.is_between,
            refuses_unknown: self.peer.product == Server::PublishingPoint,
            tried: false,
        })
    }

    /// What is left of the session when its connection is lost by `cause` in the middle of a request.
    pub(super) fn survivor(&self, cause: Cause, now: Instant) -> Option<LostSession> {
        let until = match &self.resumption.resumed {
            Some(resumed) if self.is_resuming(now) => resumed.until,
            Some(_) | None => now + self.idle_timeout(),
        };
        self.lost_session(until).filter(|_| self.may_survive(cause))
    }

    /// Whether the server may hold the session still though an attempt to reach it has failed by `cause`.
    pub(super) fn may_survive(&self, cause: Cause) -> bool {
        match cause {
            // Nobody listens there any more. What is not HTTP is no word of the session's server.
            Cause::Refused | Cause::ProxyNoTunnel | Cause::NotHttp => self.config.resume == Resume::Always,
            Cause::NameNotFound
            | Cause::NameTimeout
            | Cause::Unreachable
            | Cause::LocalAddress
            | Cause::ConnectTimeout
            | Cause::ProxyNameNotFound
            | Cause::ProxyNameTimeout
            | Cause::ProxyRefused
            | Cause::ProxyConnectTimeout
            | Cause::ProxyDenied
            | Cause::Stalled
            | Cause::Reset
            | Cause::Closed
            | Cause::Stale
            | Cause::Untrusted
            | Cause::Tls
            | Cause::Resources
            | Cause::Other => true,
        }
    }

    /// Goes on with the lost session, asks whether it is there still, or begins a new one.
    pub(super) fn go_on_or_begin(&mut self, now: Instant) {
        // Another URL since is another publishing point.
        let same_point = *self.route.begins_at() == self.config.url;
        let lost = self.resumption.lost.take().filter(|lost| now < lost.until && same_point);
        match (self.config.resume, lost) {
            (Resume::Always, Some(lost)) => self.resume(lost, None, Connection::New, now),
            (Resume::Auto, Some(lost)) if lost.refuses_unknown => self.resume(lost, None, Connection::New, now),
            (Resume::Auto, Some(lost)) => {
                self.resumption.lost = Some(LostSession { tried: false, ..lost });
                self.set_up(now);
            }
            (Resume::Never, _) | (_, None) => self.set_up(now),
        }
    }

    fn resume(&mut self, lost: LostSession, refusal: Option<Failure>, connection: Connection, now: Instant) {
        self.cookies.set_push_id(lost.push_id);
        self.entry.header = Some(lost.announced);
        self.entry.is_between = lost.between_entries;
        self.resumption.resumed = Some(Resumed { at: now, until: lost.until, refusal });
        self.state = State::Ready { connection };
        self.advance_end(now);
    }

    /// A PushSetup with push-id 0 was refused by `failure`: whether it is since the server holds the session that was
    /// lost, which then goes on.
    pub(super) fn is_taken_by_own_session(&mut self, head: &ResponseHead, failure: &Failure, now: Instant) -> bool {
        let by_proxy = self.uses_proxy() && proxy::responding_proxy(&head.headers).is_some();
        let taken = matches!(head.status, 404 | 409) && !by_proxy;
        let url = self.route.url();
        let Some(lost) =
            self.resumption.lost.take_if(|lost| taken && !lost.tried && now < lost.until && lost.url == *url)
        else {
            return false;
        };
        let connection = self.next_connection(head);
        if connection == Connection::New {
            self.outputs.push_back(Output::Close);
        }
        self.resume(lost, Some(failure.clone()), connection, now);
        true
    }

    /// Whether `head` answers that the session which was to go on is none: by an error, or by another push-id than
    /// `before`.
    pub(super) fn ends_resume(&self, head: &ResponseHead, before: &PushId, now: Instant) -> bool {
        let under_way = matches!(self.state, State::Open { .. } | State::Full { .. } | State::Ending { .. });
        if !under_way || self.resumption.resumed.is_none() {
            return false;
        }
        let success = (200..300).contains(&head.status);
        let id = self.cookies.push_id();
        // Some servers set 0 in all that they say, and keep their sessions apart by other means.
        if id != before && !(success && id.is_new_session()) {
            return true;
        }
        !success && self.is_resuming(now) && self.asks_for_credentials(head, now).is_none()
    }

    /// The session is none any more: what went into it comes again, in a new one.
    pub(super) fn resume_refused(&mut self, head: &ResponseHead, before: &PushId, now: Instant) {
        let Some(Resumed { until, refusal, .. }) = self.resumption.resumed.take() else { return };
        let kept = (head.status == 409 && self.cookies.push_id() == before).then_some(until);
        match refusal {
            None => {
                let announced = self.push_start.header_before.clone();
                let lost = kept.and_then(|until| {
                    self.entry.header = announced;
                    self.entry.is_between = self.push_start.was_between;
                    self.lost_session(until)
                });
                self.restart(RestartReason::SessionGone, self.push_start.bytes_sent, now);
                // Where the publishing point is taken by the session still, the next attempt may find it free.
                if matches!(self.state, State::Setup { .. }) {
                    self.resumption.lost = lost.map(|lost| LostSession { tried: true, ..lost });
                }
            }
            Some(failure) => {
                self.withdraw(RestartReason::SessionGone, Connection::New);
                let lost = kept.and_then(|until| self.lost_session(until));
                self.fail_keeping(failure, lost);
            }
        }
    }
}
