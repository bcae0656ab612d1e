//! Handles 401 and 407 responses of a session (C-5, C-13).

use std::time::{Duration, Instant};

use http::header::{HeaderName, HeaderValue};

use super::{Connection, Event, Output, ResponseHead, RestartReason, Session, State};
use crate::auth::{AuthContext, AuthStep, Authenticator, Credentials, Login, Target};
use crate::failure::Failure;
use crate::headers::Kind;

/// How long an application may take to supply credentials: enough for a person to type them.
pub(super) const SUPPLY_TIMEOUT: Duration = Duration::from_secs(120);

impl Session {
    /// Processes the application's answer to [`Event::CredentialsNeeded`]; `None` if it has no credentials.
    pub fn supply(&mut self, answer: Option<Credentials>, now: Instant) {
        let State::AwaitingCredentials { target, kind, connection, .. } = self.state else { return };
        // If the idle connection was closed meanwhile, the next request will detect it.
        let step = self.authenticate(target, kind, true, |authenticator, now| authenticator.supply(answer, now));
        self.apply_auth_step(step, target, kind, connection, now);
    }

    /// Processes the answer to [`Event::TicketNeeded`]: a SPNEGO token, or why no ticket could be obtained.
    pub fn ticket(&mut self, answer: Result<Vec<u8>, String>, now: Instant) {
        let State::AwaitingCredentials { target, kind, connection, .. } = self.state else { return };
        let step = self.authenticate(target, kind, true, |authenticator, now| authenticator.ticket(answer, now));
        self.apply_auth_step(step, target, kind, connection, now);
    }

    /// Returns the name of the scheme that authenticates this client to the server.
    pub fn auth_scheme(&self) -> Option<&'static str> {
        self.authenticators.server.scheme().map(|scheme| scheme.name())
    }

    /// Returns the authentication headers of the next request, which is sent on `connection`.
    pub(super) fn authorization(&mut self, connection: Connection) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for authenticator in [&mut self.authenticators.server, &mut self.authenticators.proxy] {
            if connection == Connection::New {
                authenticator.connection_changes();
            }
            if authenticator.exposes(self.route.url()) {
                self.outputs.push_back(Output::Event(Event::PasswordExposed(authenticator.target())));
            }
            if let Some(value) = authenticator.authorize(self.route.url()) {
                headers.push((authenticator.target().answer_header(), value));
            }
        }
        headers
    }

    /// If the response requires authentication of the current request, returns the target and the request's type.
    pub(super) fn required_authentication(&self, head: &ResponseHead, now: Instant) -> Option<(Target, Kind)> {
        let target = Target::from_status(head.status)?;
        let asks = head.headers.contains_key(target.challenge_header());
        let kind = match self.state {
            State::Setup { .. } => Kind::Setup,
            // Without a challenge, the status may be a server's way to reject an unknown session or to confirm the end.
            State::Open { .. } | State::Full { .. } if asks || !self.is_resuming(now) => Kind::Start,
            State::Ending { .. } if asks => Kind::Start,
            State::Open { .. }
            | State::Full { .. }
            | State::Ending { .. }
            | State::Closing { .. }
            | State::Down
            | State::AwaitingCredentials { .. }
            | State::Ready { .. }
            | State::Closed => return None,
        };
        Some((target, kind))
    }

    /// Records that the peer accepted a request, whatever else the response means.
    pub(super) fn authenticated(&mut self) {
        self.authenticators.server.accepted();
        self.authenticators.proxy.accepted();
    }

    /// Answers a 401 or 407 response to the request of type `kind` (C-5, C-13).
    pub(super) fn challenged(&mut self, target: Target, kind: Kind, head: &ResponseHead, now: Instant) {
        if target == Target::Server {
            // The proxy forwarded the request to the server, so it accepted the authentication.
            self.authenticators.proxy.accepted();
        }
        let connection = match self.state {
            // C-13: body bytes already sent on this connection would be parsed as the next request.
            State::Open { .. } | State::Ending { .. } => Connection::New,
            State::Setup { .. }
            | State::Full { .. }
            | State::Closing { .. }
            | State::Down
            | State::AwaitingCredentials { .. }
            | State::Ready { .. }
            | State::Closed => self.next_connection(head),
        };
        let kept = connection == Connection::Same;
        let step =
            self.authenticate(target, kind, kept, |authenticator, now| authenticator.challenged(&head.headers, now));
        // The data of the rejected request was not accepted; it is offered again with the next one.
        if kind == Kind::Start && !matches!(step, AuthStep::Refused(_)) {
            self.attempt.started = false;
            self.discard_push_start(RestartReason::Unauthenticated, connection);
        }
        self.apply_auth_step(step, target, kind, connection, now);
    }

    /// Handles that neither credentials nor a ticket arrived in time.
    pub(super) fn unanswered(&mut self, target: Target) {
        let failure = match target {
            Target::Server => self.authenticators.server.unanswered(),
            Target::Proxy => self.authenticators.proxy.unanswered(),
        };
        self.fail(failure);
    }

    /// Carries out the next step of an authentication, for the request of type `kind`.
    fn apply_auth_step(&mut self, step: AuthStep, target: Target, kind: Kind, connection: Connection, now: Instant) {
        match step {
            AuthStep::Resend => {
                self.event(Event::Authenticating);
                match kind {
                    Kind::Setup => self.send_push_setup(connection, now),
                    Kind::Start => {
                        self.state = State::Ready { connection };
                        self.advance_end(now);
                    }
                }
            }
            AuthStep::NeedCredentials(question) => {
                self.event(Event::Authenticating);
                self.state = State::AwaitingCredentials { deadline: now + SUPPLY_TIMEOUT, target, kind, connection };
                self.event(Event::CredentialsNeeded(question));
            }
            AuthStep::NeedTicket(request) => {
                self.event(Event::Authenticating);
                self.state = State::AwaitingCredentials { deadline: now + SUPPLY_TIMEOUT, target, kind, connection };
                self.event(Event::TicketNeeded(request));
            }
            AuthStep::RepeatSetup if std::mem::replace(&mut self.attempt.sent_back_to_setup, true) => {
                let text = "it requires authentication of each PushStart, by a scheme that works only for a PushSetup";
                let remedy = "enable Digest or Kerberos at the server or proxy";
                self.fail(Failure::unauthorized(target, text, remedy));
            }
            AuthStep::RepeatSetup => {
                // The rejected PushStart used this connection, and PushSetup needs a new one.
                if connection == Connection::Same {
                    self.close();
                }
                // The session may continue on the connection that PushSetup authenticates.
                self.resumption.lost =
                    self.resumption.resumed.take().and_then(|resumed| self.lost_session(resumed.until));
                self.set_up(now);
            }
            AuthStep::Refused(failure) => self.fail(failure),
        }
    }

    /// Calls the authenticator of `target` with the circumstances of a request of type `kind`.
    fn authenticate(
        &mut self,
        target: Target,
        kind: Kind,
        kept: bool,
        call: impl FnOnce(&mut Authenticator, &AuthContext<'_>) -> AuthStep,
    ) -> AuthStep {
        let no_login = Login::default();
        // After a redirect another server requires authentication. It must not receive the credentials of the first.
        let is_original_server = self.route.url().origin() == self.config.url.origin();
        let (authenticator, login) = match target {
            Target::Server if is_original_server => (&mut self.authenticators.server, &self.config.login),
            Target::Server => (&mut self.authenticators.server, &no_login),
            Target::Proxy => {
                (&mut self.authenticators.proxy, self.proxy.as_ref().map_or(&no_login, |proxy| &proxy.login))
            }
        };
        let now = AuthContext {
            kind,
            url: self.route.url(),
            methods: self.config.auth_methods,
            login,
            random: self.config.random,
            wall_clock: self.config.wall_clock,
            kept,
            tickets: self.config.tickets && is_original_server,
        };
        call(authenticator, &now)
    }
}
