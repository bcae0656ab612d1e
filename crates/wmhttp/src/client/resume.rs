//! Decides whether a lost session continues or a new one begins (C-15, S-7, S-10, S-14).
//!
//! A PushStart with an existing push-id continues with `$D` only. If the session no longer exists, its packets have no
//! header: a well-behaved server rejects the request, Windows Media Services begin a new session for it, and other
//! servers accept the data. In the last two cases players receive nothing until the push ends, and the encoder is not
//! notified. With [`Resume::Auto`], a session therefore continues only if the server has shown that it still has it:
//!
//! ```text
//!   connection lost ──▶ connect
//!                         ├─ the server rejects unknown ids ──▶ PushStart, old push-id ──┬─ accepted: resumed
//!                         │                                                              └─ rejected ─┐
//!                         └─ any other ──▶ PushSetup, push-id 0 ◀─────────────────────────────────────┘
//!                                            ├─ 2xx: a new session, with `$H`
//!                                            ├─ 404, 409: PushStart, old push-id ──┬─ accepted: resumed
//!                                            │                                     └─ rejected: the failure of the 404, 409
//!                                            └─ anything else: a failure, the session is gone
//! ```
//!
//! A refused connection means that the server process has ended, and its sessions with it. A temporary network outage
//! ends no session. A resume ends, within the same attempt, on any error status and on a response that sets another
//! push-id, whatever its status. The exception is 409: a PushStart of the session is still in progress, on a connection
//! whose loss the server has not detected yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use url::Url;

use super::{Connection, Output, ResponseHead, RestartReason, Resume, Server, Session, State};
use crate::failure::{Cause, Failure};
use crate::headers::PushId;
use crate::proxy;

/// During this time, a lost connection may be the reaction of a server to a resume that it does not support.
pub(super) const RESUME_REJECT_WINDOW: Duration = Duration::from_secs(2);

/// A session whose connection was lost and which the server may still have.
#[derive(Debug)]
pub(super) struct LostSession {
    /// The end of the Idle-Timeout, which keeps running (S-14).
    pub(super) until: Instant,
    url: Url,
    push_id: PushId,
    /// The header that the server has.
    announced: Arc<asf::Header>,
    /// [`Entry::is_between`](super::Entry::is_between).
    between_entries: bool,
    /// Whether the server rejects unknown ids, so that trying to resume is safe.
    refuses_unknown: bool,
    /// Whether resuming it was tried since the last connect.
    tried: bool,
}

/// A resumed session, until the server has accepted a whole body of it.
#[derive(Debug)]
pub(super) struct Resumed {
    /// When the request that resumes it was sent.
    pub(super) at: Instant,
    /// [`LostSession::until`].
    pub(super) until: Instant,
    /// Why no new session could begin, if that was tried first.
    refusal: Option<Failure>,
}

impl Session {
    /// Returns whether the resuming request is so recent that its loss may be the server's rejection (C-15). A server
    /// that rejects a body and closes the connection resets it, which can destroy its response. Even if the peer's TCP
    /// stack has acknowledged the body, the server has not read it.
    pub fn resume_is_unproven(&self, now: Instant) -> bool {
        let at = self.resumption.resumed.as_ref().map(|resumed| resumed.at);
        at.is_some_and(|at| now.saturating_duration_since(at) <= RESUME_REJECT_WINDOW)
    }

    /// Whether a response now concerns the resume itself, and not what the session did later.
    pub(super) fn is_resuming(&self, now: Instant) -> bool {
        let at = self.resumption.resumed.as_ref().map(|resumed| resumed.at);
        at.is_some_and(|at| now.saturating_duration_since(at) <= self.config.response_timeout)
    }

    /// Returns the current session as one that the server may keep until `until` after its connection is lost.
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

    /// Returns the session if the server may keep it after its connection was lost by `cause` during a request.
    pub(super) fn resumable_session(&self, cause: Cause, now: Instant) -> Option<LostSession> {
        let until = match &self.resumption.resumed {
            Some(resumed) if self.is_resuming(now) => resumed.until,
            Some(_) | None => now + self.idle_timeout(),
        };
        self.lost_session(until).filter(|_| self.may_be_kept_after(cause))
    }

    /// Whether the server may still have the session although a connection attempt failed by `cause`.
    pub(super) fn may_be_kept_after(&self, cause: Cause) -> bool {
        match cause {
            // No server listens there any more, or the response is not from the session's server because it is not
            // HTTP.
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

    /// Resumes the lost session, checks whether it still exists, or begins a new one.
    pub(super) fn resume_or_set_up(&mut self, now: Instant) {
        // Another URL means another publishing point.
        let same_point = *self.route.original_url() == self.config.url;
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

    /// Continues a lost session with its push-id: the next packet begins a PushStart without `$H`.
    fn resume(&mut self, lost: LostSession, refusal: Option<Failure>, connection: Connection, now: Instant) {
        self.cookies.set_push_id(lost.push_id);
        self.entry.header = Some(lost.announced);
        self.entry.is_between = lost.between_entries;
        self.resumption.resumed = Some(Resumed { at: now, until: lost.until, refusal });
        self.state = State::Ready { connection };
        self.advance_end(now);
    }

    /// After a PushSetup with push-id 0 was rejected by `failure`: returns whether the lost session still occupies the
    /// publishing point. If so, resumes it.
    pub(super) fn is_occupied_by_own_session(&mut self, head: &ResponseHead, failure: &Failure, now: Instant) -> bool {
        let by_proxy = self.uses_proxy() && proxy::responding_proxy(&head.headers).is_some();
        let taken = matches!(head.status, 404 | 409) && !by_proxy;
        let url = self.route.url();
        let Some(lost) =
            self.resumption.lost.take_if(|lost| taken && !lost.tried && now < lost.until && lost.url == *url)
        else {
            return false;
        };
        let connection = self.next_connection(head);
        // The connection that rejected the PushSetup cannot be used again.
        if connection == Connection::New {
            self.outputs.push_back(Output::Close);
        }
        self.resume(lost, Some(failure.clone()), connection, now);
        true
    }

    /// Whether `head` means that the session to resume no longer exists: by an error status, or by a push-id other than
    /// `before`.
    pub(super) fn ends_resume(&self, head: &ResponseHead, before: &PushId, now: Instant) -> bool {
        let in_progress = matches!(self.state, State::Open { .. } | State::Full { .. } | State::Ending { .. });
        if !in_progress || self.resumption.resumed.is_none() {
            return false;
        }
        let success = (200..300).contains(&head.status);
        let id = self.cookies.push_id();
        // Some servers set push-id 0 in every response and tell sessions apart by other means.
        if id != before && !(success && id.is_new_session()) {
            return true;
        }
        !success && self.is_resuming(now) && self.required_authentication(head, now).is_none()
    }

    /// Ends the resumed session, because the server no longer has it. Its data must be offered again, in a new session.
    pub(super) fn resume_refused(&mut self, head: &ResponseHead, before: &PushId, now: Instant) {
        let Some(Resumed { until, refusal, .. }) = self.resumption.resumed.take() else { return };
        // The session still exists, but its previous PushStart is in progress: another attempt may succeed later.
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
                // If the old session still occupies the publishing point, the next attempt may succeed.
                if matches!(self.state, State::Setup { .. }) {
                    self.resumption.lost = lost.map(|lost| LostSession { tried: true, ..lost });
                }
            }
            Some(failure) => {
                self.discard_push_start(RestartReason::SessionGone, Connection::New);
                let lost = kept.and_then(|until| self.lost_session(until));
                self.fail_keeping(failure, lost);
            }
        }
    }
}
