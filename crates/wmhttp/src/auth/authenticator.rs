//! One peer's challenges, and what becomes of the request that they refuse.

use std::time::SystemTime;

use http::HeaderValue;
use http::header::HeaderMap;
use url::Url;

use super::challenge::Challenge;
use super::kerberos::{Ticket, TicketRequest, names_realm};
use super::{Credentials, InitialState, Login, Mechanism, Methods, RequestLine, Row, Scheme, TABLE, Target};
use crate::failure::Failure;
use crate::headers::Kind;

/// Sets of credentials that one request is tried with; a bound on an application that always has another.
const MAX_SETS: usize = 5;
/// Further challenges that one exchange answers: NTLM has one, and a nonce may grow old.
const MAX_TURNS: u32 = 2;

/// The authentication to a server, or to a proxy.
#[derive(Debug)]
pub struct Authenticator {
    target: Target,
    exchange: Option<Exchange>,
    /// What the application has supplied for this peer.
    supplied: Option<Credentials>,
    /// The sets that were refused since the last success, or the last failure for good.
    refused: Vec<Credentials>,
    /// The challenge that credentials or a ticket were asked for.
    open: Option<PendingAuth>,
    /// What has come of Kerberos.
    tickets: Tickets,
}

#[derive(Debug, Default)]
struct Tickets {
    /// The peer has taken one.
    work: bool,
    /// There is none, or it was refused, since then.
    tried: bool,
    /// Why there is none.
    missing: Option<String>,
}

#[derive(Debug)]
struct Exchange {
    scheme: Scheme,
    mechanism: Box<dyn Mechanism>,
    /// None where it is the system's ticket.
    credentials: Option<Credentials>,
    by_ticket: bool,
    /// Further challenges that it has answered since the peer took a request.
    turns: u32,
    /// A request that it authenticated was taken.
    accepted: bool,
    /// Told already that the password can be read on the way.
    exposed: bool,
}

#[derive(Debug)]
struct PendingAuth {
    scheme: Scheme,
    challenge: Challenge,
    /// Its place in [`TABLE`].
    row: usize,
    /// What is known already.
    credentials: Option<Credentials>,
    /// A ticket is waited for, and not the application.
    for_ticket: bool,
}

/// What a request goes by.
#[derive(Clone, Copy, Debug)]
pub struct AuthContext<'a> {
    /// Setup or start.
    pub kind: Kind,
    /// Where the request goes.
    pub url: &'a Url,
    /// What may be used.
    pub methods: Methods,
    /// What is known of the user, at this peer.
    pub login: &'a Login,
    /// A source of random values.
    pub random: fn() -> [u8; 16],
    /// The time of day.
    pub wall_clock: fn() -> SystemTime,
    /// Whether the connection of the challenge goes on.
    pub kept: bool,
    /// Whether Kerberos tickets can be had for this peer.
    pub tickets: bool,
}

/// Asks the application for credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRequest {
    /// Who asks.
    pub target: Target,
    /// The realm, as the peer calls it.
    pub realm: Option<String>,
    /// Host and port that the request goes to.
    pub site: String,
    /// How the credentials would be used.
    pub scheme: Scheme,
    /// Whether who listens will be able to read the password.
    pub clear_text: bool,
    /// 1 for the first set of credentials, and so on.
    pub attempt: u32,
    /// The user's name that is set, or was refused.
    pub user: Option<String>,
}

/// What becomes of a request that was refused.
#[derive(Debug)]
pub enum AuthStep {
    /// It is sent again.
    Again,
    /// Credentials are needed first: [`Authenticator::supply`].
    Ask(CredentialRequest),
    /// A ticket is needed first, if there is one: [`Authenticator::ticket`].
    Ticket(TicketRequest),
    /// Only a PushSetup can be authenticated by what is offered (C-13).
    SetUp,
    /// It has failed.
    Refused(Failure),
}

impl Authenticator {
    /// Nothing is known of this peer yet.
    pub fn new(target: Target) -> Self {
        Self { target, exchange: None, supplied: None, refused: Vec::new(), open: None, tickets: Tickets::default() }
    }

    /// Another peer is asked next: it gets nothing of this one's.
    pub fn forget(&mut self) {
        *self = Self::new(self.target);
    }

    /// Whose challenges these are.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The scheme in use.
    pub fn scheme(&self) -> Option<Scheme> {
        self.exchange.as_ref().map(|exchange| exchange.scheme)
    }

    /// The next request goes on another connection.
    pub fn connection_changes(&mut self) {
        self.exchange.take_if(|exchange| !exchange.mechanism.survives_connection());
    }

    /// The answer header's value for the next request, marked sensitive; `None` before a challenge (C-5).
    pub fn authorize(&mut self, url: &Url) -> Option<HeaderValue> {
        self.authorize_request("POST", url)
    }

    /// As [`Authenticator::authorize`], for a request with another method.
    pub fn authorize_request(&mut self, method: &str, url: &Url) -> Option<HeaderValue> {
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let text = self.exchange.as_mut()?.mechanism.authorize(RequestLine { method, target: &target })?;
        let mut value = HeaderValue::from_bytes(text.reveal().as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether a password is about to go where it can be read; true once for each exchange.
    pub fn exposes(&mut self, url: &Url) -> bool {
        let clear = self.exchange.as_ref().is_some_and(|exchange| self.is_readable(exchange.scheme, url));
        let Some(exchange) = self.exchange.as_mut().filter(|_| clear) else { return false };
        !std::mem::replace(&mut exchange.exposed, true)
    }

    /// The peer has taken the request.
    pub fn accepted(&mut self) {
        self.refused.clear();
        if let Some(exchange) = &mut self.exchange {
            exchange.accepted = true;
            exchange.turns = 0;
            self.tickets = Tickets { work: exchange.by_ticket, ..Tickets::default() };
        }
    }

    /// The peer refuses the request until it is authenticated.
    pub fn challenged(&mut self, headers: &HeaderMap, now: &AuthContext<'_>) -> AuthStep {
        let challenges = Challenge::read(headers, &self.target.challenge_header());
        if let Some(mut exchange) = self.exchange.take() {
            let goes_on = match challenges.iter().find(|challenge| challenge.is(exchange.scheme)) {
                Some(challenge) if exchange.turns < MAX_TURNS => exchange.mechanism.challenged(challenge),
                Some(_) | None => Ok(false),
            };
            exchange.turns += 1;
            match goes_on {
                Ok(true) if !now.kept && !exchange.mechanism.survives_connection() => {
                    return self.refuse(
                        "it closed the connection that it authenticates",
                        "let the peer keep connections open, or set auth-methods=digest",
                    );
                }
                Ok(true) => {
                    self.exchange = Some(exchange);
                    return AuthStep::Again;
                }
                Err(text) => return self.refuse(&text, "see the peer's log, or set auth-methods to another scheme"),
                // What was taken once is taken again; only what belongs to it has grown old.
                Ok(false) if exchange.accepted => {}
                Ok(false) => {
                    self.tickets.tried |= exchange.by_ticket;
                    self.refused.extend(exchange.credentials);
                }
            }
        }
        if challenges.is_empty() {
            return self.refuse(
                "authentication required, but without a challenge",
                "configure an authentication scheme at the server or proxy",
            );
        }
        let known = [self.supplied.clone(), now.login.credentials()];
        let credentials = known.into_iter().flatten().find(|known| !self.refused.contains(known));
        let by_ticket = self.may_have_ticket(credentials.as_ref(), now);
        match choose(&challenges, now, by_ticket && self.tickets.work) {
            Ok((index, row, challenge)) => {
                let for_ticket = by_ticket && row.scheme == Scheme::Negotiate;
                let challenge = challenge.clone();
                self.open = Some(PendingAuth {
                    scheme: row.scheme,
                    challenge,
                    row: index,
                    credentials: credentials.clone(),
                    for_ticket,
                });
                if for_ticket {
                    let host = now.url.host_str().unwrap_or_default().to_owned();
                    return AuthStep::Ticket(TicketRequest { host, credentials });
                }
                self.proceed(credentials, now)
            }
            Err(None) => AuthStep::SetUp,
            Err(Some(offered)) => self.refuse(
                &format!("it takes {offered} only"),
                "add that scheme to auth-methods, or allow another one at the peer",
            ),
        }
    }

    /// The answer to [`AuthStep::Ticket`]: a SPNEGO token, or why there is none.
    pub fn ticket(&mut self, answer: Result<Vec<u8>, String>, now: &AuthContext<'_>) -> AuthStep {
        let Some(open) = self.open.take() else { return self.give_up() };
        match answer {
            Ok(token) => {
                self.exchange = Some(Exchange {
                    scheme: open.scheme,
                    mechanism: Box::new(Ticket::new(&token)),
                    credentials: open.credentials,
                    by_ticket: true,
                    turns: 0,
                    accepted: false,
                    exposed: false,
                });
                AuthStep::Again
            }
            Err(why) => {
                self.tickets = Tickets { tried: true, missing: Some(why), ..Tickets::default() };
                if now.kind == Kind::Start {
                    return AuthStep::SetUp;
                }
                let credentials = open.credentials.clone();
                self.open = Some(PendingAuth { for_ticket: false, ..open });
                self.proceed(credentials, now)
            }
        }
    }

    /// Kerberos is for those whose name names a realm, or who leave it to the system who they are.
    fn may_have_ticket(&self, credentials: Option<&Credentials>, now: &AuthContext<'_>) -> bool {
        let user_fits = match credentials {
            Some(credentials) => names_realm(credentials),
            None => self.refused.is_empty() && now.login.user.is_none(),
        };
        now.tickets && !self.tickets.tried && self.target == Target::Server && user_fits
    }

    /// The application's answer to [`AuthStep::Ask`].
    pub fn supply(&mut self, answer: Option<Credentials>, now: &AuthContext<'_>) -> AuthStep {
        let fresh = answer.filter(|answer| !self.refused.contains(answer));
        if fresh.is_none() {
            return self.give_up();
        }
        self.supplied.clone_from(&fresh);
        self.proceed(fresh, now)
    }

    /// No answer came in time.
    pub fn unanswered(&mut self) -> Failure {
        match self.open.take() {
            Some(open) if open.for_ticket => {
                self.fail("no Kerberos ticket came in time", "check that the realm's servers respond")
            }
            Some(_) | None => self.fail("no credentials were supplied in time", self.remedy()),
        }
    }

    fn proceed(&mut self, credentials: Option<Credentials>, now: &AuthContext<'_>) -> AuthStep {
        if self.refused.len() >= MAX_SETS {
            return self.give_up();
        }
        let Some(open) = &self.open else { return self.give_up() };
        let Some(credentials) = credentials else {
            return AuthStep::Ask(CredentialRequest {
                target: self.target,
                realm: open.challenge.get("realm").map(str::to_owned),
                site: site(now.url),
                scheme: open.scheme,
                clear_text: self.is_readable(open.scheme, now.url),
                attempt: u32::try_from(self.refused.len()).unwrap_or(u32::MAX).saturating_add(1),
                user: self.refused.last().map(|refused| refused.user.clone()).or_else(|| now.login.user.clone()),
            });
        };
        let begun = TABLE.get(open.row).map(|row| {
            (row.begin)(&InitialState {
                challenge: &open.challenge,
                credentials: &credentials,
                random: now.random,
                wall_clock: now.wall_clock,
                host: (self.target == Target::Server).then(|| now.url.host_str()).flatten(),
            })
        });
        let scheme = open.scheme;
        self.open = None;
        match begun {
            Some(Ok(mechanism)) => {
                self.exchange = Some(Exchange {
                    scheme,
                    mechanism,
                    credentials: Some(credentials),
                    by_ticket: false,
                    turns: 0,
                    accepted: false,
                    exposed: false,
                });
                AuthStep::Again
            }
            Some(Err(text)) => self.refuse(&text, "set other credentials, or auth-methods to another scheme"),
            None => self.give_up(),
        }
    }

    /// Whether the password of `scheme` can be read on its way. A proxy's is reached by plain http.
    fn is_readable(&self, scheme: Scheme, url: &Url) -> bool {
        scheme.is_clear_text() && (self.target == Target::Proxy || url.scheme() != "https")
    }

    fn give_up(&mut self) -> AuthStep {
        let open = self.open.take();
        let realm = open.as_ref().and_then(|open| open.challenge.get("realm"));
        let realm = realm.map(|realm| format!(" for \"{realm}\"")).unwrap_or_default();
        let text = match self.refused.last() {
            Some(refused) => format!("the credentials of {}{realm} are refused", refused.user),
            None if self.tickets.tried && self.tickets.missing.is_none() => "the Kerberos ticket is refused".to_owned(),
            None => format!("authentication required{realm}, but no credentials are configured"),
        };
        self.refuse(&text, self.remedy())
    }

    fn remedy(&self) -> &'static str {
        match self.target {
            Target::Server => {
                "set user-id and user-pw, or answer request-credentials; or set auth-methods to another scheme"
            }
            Target::Proxy => {
                "set proxy-id and proxy-pw, or answer request-credentials; or set auth-methods to another scheme"
            }
        }
    }

    fn refuse(&mut self, text: &str, remedy: &'static str) -> AuthStep {
        self.open = None;
        AuthStep::Refused(self.fail(text, remedy))
    }

    /// It has failed for good. Whoever connects again after that has mended something, and all counts as untried.
    fn fail(&mut self, text: &str, remedy: &'static str) -> Failure {
        // Why it came to other means than the first.
        let failure = match &self.tickets.missing {
            Some(why) => Failure::unauthorized(self.target, &format!("{text} (Kerberos: {why})"), remedy),
            None => Failure::unauthorized(self.target, text, remedy),
        };
        let Self { supplied, refused, tickets, .. } = self;
        // The application is asked anew.
        supplied.take_if(|supplied| refused.contains(supplied));
        refused.clear();
        *tickets = Tickets { work: tickets.work, ..Tickets::default() };
        failure
    }
}

/// The strongest scheme that both sides have, with its row in [`TABLE`]; `by_ticket` where Negotiate goes by
/// Kerberos, which can authenticate each request.
///
/// # Errors
/// What is offered in vain; `None` where some of it would do for a PushSetup.
fn choose<'a>(
    challenges: &'a [Challenge],
    now: &AuthContext<'_>,
    by_ticket: bool,
) -> Result<(usize, &'static Row, &'a Challenge), Option<String>> {
    let mut for_setup = false;
    for (index, row) in TABLE.iter().enumerate().filter(|(_, row)| now.methods.allow(row.scheme)) {
        let of_scheme: Vec<&Challenge> = challenges.iter().filter(|challenge| challenge.is(row.scheme)).collect();
        let Some(challenge) = (row.choose)(&of_scheme) else { continue };
        let is_for_setup = row.scheme.is_of_connection() && !(by_ticket && row.scheme == Scheme::Negotiate);
        if is_for_setup && now.kind == Kind::Start {
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

fn site(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
