//! Answers one peer's challenges and decides what happens to the rejected request.

use std::time::SystemTime;

use http::HeaderValue;
use http::header::HeaderMap;
use url::{Position, Url};

use super::challenge::Challenge;
use super::kerberos::{Ticket, TicketRequest, names_realm};
use super::{Credentials, InitialState, Login, Mechanism, Methods, RequestLine, Row, Scheme, TABLE, Target};
use crate::failure::Failure;
use crate::headers::Kind;

/// Sets of credentials that are tried for one request: a bound in case the application always supplies another set.
const MAX_CREDENTIALS: usize = 5;
/// Further challenges that are answered in one exchange: NTLM sends one, and a nonce may expire.
const MAX_FURTHER_CHALLENGES: u32 = 2;

/// Authenticates to a server or to a proxy.
#[derive(Debug)]
pub struct Authenticator {
    target: Target,
    exchange: Option<Exchange>,
    /// The credentials that the application has supplied for this peer.
    supplied: Option<Credentials>,
    /// The credentials that were rejected since the last success or final failure.
    refused: Vec<Credentials>,
    /// The challenge for which credentials or a ticket were requested.
    pending: Option<PendingAuth>,
    /// State of Kerberos authentication with this peer.
    tickets: Tickets,
}

/// What is known about Kerberos tickets for this peer.
#[derive(Debug, Default)]
struct Tickets {
    /// Whether the peer has accepted a ticket.
    accepted: bool,
    /// Whether, since then, no ticket could be obtained, or the ticket was rejected.
    failed: bool,
    /// Why no ticket could be obtained.
    error: Option<String>,
}

/// One exchange of challenges and answers, with one scheme and one set of credentials.
#[derive(Debug)]
struct Exchange {
    scheme: Scheme,
    mechanism: Box<dyn Mechanism>,
    /// `None` if the ticket comes from the system's credential cache.
    credentials: Option<Credentials>,
    by_ticket: bool,
    /// Number of further challenges answered since the peer last accepted a request.
    further_challenges: u32,
    /// The peer has accepted a request that this exchange authenticated.
    accepted: bool,
    /// The caller was already warned that the password is readable in transit.
    exposed: bool,
}

/// A challenge that cannot be answered before the application, or the Kerberos library, has replied.
#[derive(Debug)]
struct PendingAuth {
    scheme: Scheme,
    challenge: Challenge,
    /// Index in [`TABLE`].
    row: usize,
    /// The credentials that are already known.
    credentials: Option<Credentials>,
    /// Whether a ticket is awaited, and not the application's credentials.
    for_ticket: bool,
}

/// The circumstances of the request to authenticate.
#[derive(Clone, Copy, Debug)]
pub struct AuthContext<'a> {
    /// Whether the request is a PushSetup or a PushStart.
    pub kind: Kind,
    /// The URL of the request.
    pub url: &'a Url,
    /// The schemes that may be used.
    pub methods: Methods,
    /// What is configured about the user at this peer.
    pub login: &'a Login,
    /// A source of random values.
    pub random: fn() -> [u8; 16],
    /// Returns the current time.
    pub wall_clock: fn() -> SystemTime,
    /// Whether the connection that received the challenge stays open.
    pub kept: bool,
    /// Whether Kerberos tickets may be requested for this peer.
    pub tickets: bool,
}

/// A request for credentials, to be answered by the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRequest {
    /// Whether the server or the proxy requires them.
    pub target: Target,
    /// The realm in the challenge.
    pub realm: Option<String>,
    /// Host and port of the request's URL.
    pub site: String,
    /// The scheme that would use the credentials.
    pub scheme: Scheme,
    /// Whether the password would be readable in transit.
    pub clear_text: bool,
    /// 1 for the first set of credentials, 2 for the second, and so on.
    pub attempt: u32,
    /// The user name that is configured or was rejected.
    pub user: Option<String>,
}

/// The next step for a request that was rejected.
#[derive(Debug)]
pub enum AuthStep {
    /// Send the request again.
    Resend,
    /// Credentials are needed first; call [`Authenticator::supply`].
    NeedCredentials(CredentialRequest),
    /// A Kerberos ticket is needed first; call [`Authenticator::ticket`].
    NeedTicket(TicketRequest),
    /// The offered schemes can authenticate only a PushSetup (C-13).
    RepeatSetup,
    /// Authentication failed.
    Refused(Failure),
}

impl Authenticator {
    /// Creates an authenticator that knows nothing about its peer.
    pub fn new(target: Target) -> Self {
        Self { target, exchange: None, supplied: None, refused: Vec::new(), pending: None, tickets: Tickets::default() }
    }

    /// Resets all state, because the next request goes to another peer.
    pub fn forget(&mut self) {
        *self = Self::new(self.target);
    }

    /// Returns whether this authenticates to the server or to the proxy.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Returns the scheme in use, if any.
    pub fn scheme(&self) -> Option<Scheme> {
        self.exchange.as_ref().map(|exchange| exchange.scheme)
    }

    /// Records that the next request uses another connection.
    pub fn connection_changes(&mut self) {
        self.exchange.take_if(|exchange| !exchange.mechanism.survives_connection());
    }

    /// Returns the value of the authentication header for the next request, marked sensitive; `None` before a challenge
    /// (C-5).
    pub fn authorize(&mut self, url: &Url) -> Option<HeaderValue> {
        self.authorize_request("POST", url)
    }

    /// Like [`Authenticator::authorize`], for a request with another method.
    ///
    /// Digest's `uri` is the target in the request line that the checking peer receives (RFC 7616 3.4.6). A proxy gets
    /// the whole URL. A server gets the path, also through a proxy, which removes the rest: curl sends the path, and
    /// lighttpd refuses a whole URL with 400. squid and Apache httpd accept both, as a proxy and as a server.
    pub fn authorize_request(&mut self, method: &str, url: &Url) -> Option<HeaderValue> {
        let to_proxy = self.target == Target::Proxy && url.scheme() == "http";
        let site = if to_proxy {
            format!("http://{}", &url[Position::BeforeHost..Position::AfterPort])
        } else {
            String::new()
        };
        let target = format!("{site}{}", &url[Position::BeforePath..Position::AfterQuery]);
        let text = self.exchange.as_mut()?.mechanism.authorize(RequestLine { method, target: &target })?;
        let mut value = HeaderValue::from_bytes(text.reveal().as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Returns whether the next request sends the password in readable form; true only once per exchange.
    pub fn exposes(&mut self, url: &Url) -> bool {
        let clear = self.exchange.as_ref().is_some_and(|exchange| self.is_readable(exchange.scheme, url));
        let Some(exchange) = self.exchange.as_mut().filter(|_| clear) else { return false };
        !std::mem::replace(&mut exchange.exposed, true)
    }

    /// Records that the peer accepted the request.
    pub fn accepted(&mut self) {
        self.refused.clear();
        if let Some(exchange) = &mut self.exchange {
            exchange.accepted = true;
            exchange.further_challenges = 0;
            self.tickets = Tickets { accepted: exchange.by_ticket, ..Tickets::default() };
        }
    }

    /// Processes a 401 or 407 response and returns the next step.
    pub fn challenged(&mut self, headers: &HeaderMap, context: &AuthContext<'_>) -> AuthStep {
        let challenges = Challenge::read(headers, &self.target.challenge_header());
        if let Some(mut exchange) = self.exchange.take() {
            let continues = match challenges.iter().find(|challenge| challenge.is(exchange.scheme)) {
                Some(challenge) if exchange.further_challenges < MAX_FURTHER_CHALLENGES => {
                    exchange.mechanism.challenged(challenge)
                }
                Some(_) | None => Ok(false),
            };
            exchange.further_challenges += 1;
            match continues {
                Ok(true) if !context.kept && !exchange.mechanism.survives_connection() => {
                    return self.refuse(
                        "it closed the connection during the login, which must stay on one connection",
                        "configure the server or proxy to keep connections open during a login, or set auth-methods=digest",
                    );
                }
                Ok(true) => {
                    self.exchange = Some(exchange);
                    return AuthStep::Resend;
                }
                Err(text) => {
                    return self
                        .refuse(&text, "check the log of the server or proxy, or set auth-methods to another scheme");
                }
                // The same credentials were accepted before, so only the nonce or the connection has expired. Begin
                // another exchange.
                Ok(false) if exchange.accepted => {}
                Ok(false) => {
                    self.tickets.failed |= exchange.by_ticket;
                    self.refused.extend(exchange.credentials);
                }
            }
        }
        if challenges.is_empty() {
            return self.refuse(
                "authentication required, but the response names no scheme",
                "configure an authentication scheme at the server or proxy",
            );
        }
        // Credentials from the application are newer than those in the settings.
        let known = [self.supplied.clone(), context.login.credentials()];
        let credentials = known.into_iter().flatten().find(|known| !self.refused.contains(known));
        let by_ticket = self.may_use_ticket(credentials.as_ref(), context);
        match choose(&challenges, context, by_ticket && self.tickets.accepted) {
            Ok((index, row, challenge)) => {
                let for_ticket = by_ticket && row.scheme == Scheme::Negotiate;
                let challenge = challenge.clone();
                self.pending = Some(PendingAuth {
                    scheme: row.scheme,
                    challenge,
                    row: index,
                    credentials: credentials.clone(),
                    for_ticket,
                });
                if for_ticket {
                    let host = context.url.host_str().unwrap_or_default().to_owned();
                    return AuthStep::NeedTicket(TicketRequest { host, credentials });
                }
                self.proceed(credentials, context)
            }
            Err(None) => AuthStep::RepeatSetup,
            Err(Some(offered)) => self.refuse(
                &format!("it accepts only {offered}"),
                "add that scheme to auth-methods, or enable another one at the server or proxy",
            ),
        }
    }

    /// Processes the answer to [`AuthStep::NeedTicket`]: a SPNEGO token, or why no ticket could be obtained.
    pub fn ticket(&mut self, answer: Result<Vec<u8>, String>, context: &AuthContext<'_>) -> AuthStep {
        let Some(pending) = self.pending.take() else { return self.give_up() };
        match answer {
            Ok(token) => {
                self.exchange = Some(Exchange {
                    scheme: pending.scheme,
                    mechanism: Box::new(Ticket::new(&token)),
                    credentials: pending.credentials,
                    by_ticket: true,
                    further_challenges: 0,
                    accepted: false,
                    exposed: false,
                });
                AuthStep::Resend
            }
            Err(why) => {
                self.tickets = Tickets { failed: true, error: Some(why), ..Tickets::default() };
                // Without a ticket, Negotiate is NTLM, which authenticates a connection and is therefore used for
                // PushSetup only (C-13).
                if context.kind == Kind::Start {
                    return AuthStep::RepeatSetup;
                }
                let credentials = pending.credentials.clone();
                self.pending = Some(PendingAuth { for_ticket: false, ..pending });
                self.proceed(credentials, context)
            }
        }
    }

    /// Kerberos is tried for user names that contain a realm, and for the system's own user if no name is configured.
    fn may_use_ticket(&self, credentials: Option<&Credentials>, context: &AuthContext<'_>) -> bool {
        let user_fits = match credentials {
            Some(credentials) => names_realm(credentials),
            None => self.refused.is_empty() && context.login.user.is_none(),
        };
        context.tickets && !self.tickets.failed && self.target == Target::Server && user_fits
    }

    /// Processes the application's answer to [`AuthStep::NeedCredentials`].
    pub fn supply(&mut self, answer: Option<Credentials>, context: &AuthContext<'_>) -> AuthStep {
        let fresh = answer.filter(|answer| !self.refused.contains(answer));
        if fresh.is_none() {
            return self.give_up();
        }
        self.supplied.clone_from(&fresh);
        self.proceed(fresh, context)
    }

    /// Returns the failure to report when no answer arrived in time.
    pub fn unanswered(&mut self) -> Failure {
        match self.pending.take() {
            Some(pending) if pending.for_ticket => {
                self.fail("no Kerberos ticket arrived in time", "check that the KDC of the Kerberos realm responds")
            }
            Some(_) | None => self.fail("no credentials were supplied in time", self.remedy()),
        }
    }

    /// Begins an exchange with `credentials` for the pending challenge, or requests credentials if there are none.
    fn proceed(&mut self, credentials: Option<Credentials>, context: &AuthContext<'_>) -> AuthStep {
        if self.refused.len() >= MAX_CREDENTIALS {
            return self.give_up();
        }
        let Some(pending) = &self.pending else { return self.give_up() };
        let Some(credentials) = credentials else {
            return AuthStep::NeedCredentials(CredentialRequest {
                target: self.target,
                realm: pending.challenge.get("realm").map(str::to_owned),
                site: site(context.url),
                scheme: pending.scheme,
                clear_text: self.is_readable(pending.scheme, context.url),
                attempt: u32::try_from(self.refused.len()).unwrap_or(u32::MAX).saturating_add(1),
                user: self.refused.last().map(|refused| refused.user.clone()).or_else(|| context.login.user.clone()),
            });
        };
        let mechanism = TABLE.get(pending.row).map(|row| {
            (row.begin)(&InitialState {
                challenge: &pending.challenge,
                credentials: &credentials,
                random: context.random,
                wall_clock: context.wall_clock,
                host: (self.target == Target::Server).then(|| context.url.host_str()).flatten(),
            })
        });
        let scheme = pending.scheme;
        self.pending = None;
        match mechanism {
            Some(Ok(mechanism)) => {
                self.exchange = Some(Exchange {
                    scheme,
                    mechanism,
                    credentials: Some(credentials),
                    by_ticket: false,
                    further_challenges: 0,
                    accepted: false,
                    exposed: false,
                });
                AuthStep::Resend
            }
            Some(Err(text)) => self.refuse(&text, "set other credentials, or set auth-methods to another scheme"),
            None => self.give_up(),
        }
    }

    /// Whether `scheme` sends the password in readable form to `url`. The connection to a proxy is always plain HTTP.
    fn is_readable(&self, scheme: Scheme, url: &Url) -> bool {
        scheme.is_clear_text() && (self.target == Target::Proxy || url.scheme() != "https")
    }

    /// Ends the attempt because no credentials are left.
    fn give_up(&mut self) -> AuthStep {
        let pending = self.pending.take();
        let realm = pending.as_ref().and_then(|pending| pending.challenge.get("realm"));
        let realm = realm.map(|realm| format!(" for \"{realm}\"")).unwrap_or_default();
        let text = match self.refused.last() {
            Some(refused) => format!("the credentials of {}{realm} were refused", refused.user),
            None if self.tickets.failed && self.tickets.error.is_none() => "the Kerberos ticket was refused".to_owned(),
            None => format!("authentication required{realm}, but no credentials are configured"),
        };
        self.refuse(&text, self.remedy())
    }

    /// The remedy for missing or rejected credentials.
    fn remedy(&self) -> &'static str {
        match self.target {
            Target::Server => {
                "set user-id and user-pw to valid credentials, or supply them in the signal request-credentials; or set \
                 auth-methods to another scheme"
            }
            Target::Proxy => {
                "set proxy-id and proxy-pw to valid credentials, or supply them in the signal request-credentials; or \
                 set auth-methods to another scheme"
            }
        }
    }

    /// Ends the attempt with a failure that says what the peer did.
    fn refuse(&mut self, text: &str, remedy: &'static str) -> AuthStep {
        self.pending = None;
        AuthStep::Refused(self.fail(text, remedy))
    }

    /// Ends the attempt. A later connection attempt may follow a corrected configuration, so it tries everything again.
    fn fail(&mut self, text: &str, remedy: &'static str) -> Failure {
        // The first choice was Kerberos; report why it was not used.
        let failure = match &self.tickets.error {
            Some(why) => Failure::unauthorized(self.target, &format!("{text} (Kerberos: {why})"), remedy),
            None => Failure::unauthorized(self.target, text, remedy),
        };
        let Self { supplied, refused, tickets, .. } = self;
        // Forget rejected credentials, so that the application is asked again.
        supplied.take_if(|supplied| refused.contains(supplied));
        refused.clear();
        *tickets = Tickets { accepted: tickets.accepted, ..Tickets::default() };
        failure
    }
}

/// Selects the strongest scheme that both sides support, with its row in [`TABLE`]. With `by_ticket`, Negotiate uses
/// Kerberos, which can authenticate each request.
///
/// # Errors
/// The schemes that the peer offers, if none can be used; `None` if one of them could authenticate a PushSetup.
fn choose<'a>(
    challenges: &'a [Challenge],
    context: &AuthContext<'_>,
    by_ticket: bool,
) -> Result<(usize, &'static Row, &'a Challenge), Option<String>> {
    let mut for_setup = false;
    for (index, row) in TABLE.iter().enumerate().filter(|(_, row)| context.methods.allow(row.scheme)) {
        let of_scheme: Vec<&Challenge> = challenges.iter().filter(|challenge| challenge.is(row.scheme)).collect();
        let Some(challenge) = (row.choose)(&of_scheme) else { continue };
        let is_for_setup = row.scheme.is_of_connection() && !(by_ticket && row.scheme == Scheme::Negotiate);
        if is_for_setup && context.kind == Kind::Start {
            for_setup = true;
            continue;
        }
        return Ok((index, row, challenge));
    }
    if for_setup {
        return Err(None);
    }
    let mut offered: Vec<&str> = challenges.iter().map(|challenge| challenge.name.as_str()).collect();
    offered.dedup();
    Err(Some(offered.join(", ")))
}

/// Host and port of a URL, for the dialog that asks for credentials.
fn site(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
