//! One far end's challenges, and what becomes of the request that they refuse.

use http::HeaderValue;
use http::header::HeaderMap;
use url::Url;

use super::challenge::Challenge;
use super::{Beginning, Credentials, Line, Login, Mechanism, Methods, Row, Scheme, TABLE, Target};
use crate::wmhttp::headers::Kind;
use crate::wmhttp::verdict::Failure;

/// Sets of credentials that one request is tried with; a bound on an application that always has another.
const MAX_SETS: usize = 5;
/// Further challenges that one exchange answers: NTLM has one, and a nonce may grow old.
const MAX_TURNS: u32 = 2;

/// The authentication to a server, or to a proxy.
#[derive(Debug)]
pub struct Authenticator {
    target: Target,
    exchange: Option<Exchange>,
    /// What the application has supplied for this far end.
    supplied: Option<Credentials>,
    /// The sets that were refused since the last success.
    refused: Vec<Credentials>,
    /// The challenge that credentials were asked for.
    open: Option<Open>,
}

#[derive(Debug)]
struct Exchange {
    scheme: Scheme,
    mechanism: Box<dyn Mechanism>,
    credentials: Credentials,
    /// Further challenges that it has answered since the far end took a request.
    turns: u32,
    /// A request that it authenticated was taken.
    accepted: bool,
    /// Told already that the password can be read on the way.
    exposed: bool,
}

#[derive(Debug)]
struct Open {
    scheme: Scheme,
    challenge: Challenge,
    /// Its place in [`TABLE`].
    row: usize,
}

/// What a request goes by.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Setup or start.
    pub kind: Kind,
    /// Where the request goes.
    pub url: &'a Url,
    /// What may be used.
    pub methods: Methods,
    /// What is known of the user, at this far end.
    pub login: &'a Login,
    /// A source of random values.
    pub random: fn() -> [u8; 16],
    /// Whether the connection of the challenge goes on.
    pub kept: bool,
}

/// Asks the application for credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub target: Target,
    /// The realm, as the far end calls it.
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
pub enum Turn {
    /// It is sent again.
    Again,
    /// Credentials are needed first: [`Authenticator::supply`].
    Ask(Question),
    /// Only a PushSetup can be authenticated by what is offered (C-13).
    SetUp,
    /// It has failed.
    Refused(Failure),
}

impl Authenticator {
    /// Nothing is known of this far end yet.
    pub fn new(target: Target) -> Self {
        Self { target, exchange: None, supplied: None, refused: Vec::new(), open: None }
    }

    /// Another far end is asked next: it gets nothing of this one's.
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
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let text = self.exchange.as_mut()?.mechanism.authorize(Line { method: "POST", target: &target })?;
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

    /// The far end has taken the request.
    pub fn accepted(&mut self) {
        self.refused.clear();
        if let Some(exchange) = &mut self.exchange {
            exchange.accepted = true;
            exchange.turns = 0;
        }
    }

    /// The far end refuses the request until it is authenticated.
    pub fn challenged(&mut self, headers: &HeaderMap, now: &Circumstances<'_>) -> Turn {
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
                        "let the far end keep connections open, or set auth-methods=digest",
                    );
                }
                Ok(true) => {
                    self.exchange = Some(exchange);
                    return Turn::Again;
                }
                Err(text) => return self.refuse(&text, "see the far end's log, or set auth-methods to another scheme"),
                // What was taken once is taken again; only what belongs to it has grown old.
                Ok(false) if exchange.accepted => {}
                Ok(false) => self.refused.push(exchange.credentials),
            }
        }
        if challenges.is_empty() {
            return self.refuse("it asks for credentials without saying how", "correct the far end's settings");
        }
        match choose(&challenges, now) {
            Ok((index, row, challenge)) => {
                self.open = Some(Open { scheme: row.scheme, challenge: challenge.clone(), row: index });
                let known = [self.supplied.clone(), now.login.credentials()];
                let fresh = known.into_iter().flatten().find(|known| !self.refused.contains(known));
                self.proceed(fresh, now)
            }
            Err(None) => Turn::SetUp,
            Err(Some(offered)) => self.refuse(
                &format!("it takes {offered} only"),
                "add that scheme to auth-methods, or allow another one at the far end",
            ),
        }
    }

    /// The application's answer to [`Turn::Ask`].
    pub fn supply(&mut self, answer: Option<Credentials>, now: &Circumstances<'_>) -> Turn {
        let fresh = answer.filter(|answer| !self.refused.contains(answer));
        if fresh.is_none() {
            return self.give_up();
        }
        self.supplied.clone_from(&fresh);
        self.proceed(fresh, now)
    }

    /// No answer came in time.
    pub fn unanswered(&mut self) -> Failure {
        self.open = None;
        self.failure("no credentials were supplied in time", self.remedy())
    }

    fn proceed(&mut self, credentials: Option<Credentials>, now: &Circumstances<'_>) -> Turn {
        if self.refused.len() >= MAX_SETS {
            return self.give_up();
        }
        let Some(open) = &self.open else { return self.give_up() };
        let Some(credentials) = credentials else {
            return Turn::Ask(Question {
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
            (row.begin)(&Beginning {
                challenge: &open.challenge,
                credentials: &credentials,
                random: now.random,
                host: (self.target == Target::Server).then(|| now.url.host_str()).flatten(),
            })
        });
        let scheme = open.scheme;
        self.open = None;
        match begun {
            Some(Ok(mechanism)) => {
                self.exchange =
                    Some(Exchange { scheme, mechanism, credentials, turns: 0, accepted: false, exposed: false });
                Turn::Again
            }
            Some(Err(text)) => self.refuse(&text, "set other credentials, or auth-methods to another scheme"),
            None => self.give_up(),
        }
    }

    /// Whether the password of `scheme` can be read on its way. A proxy's is reached by plain http.
    fn is_readable(&self, scheme: Scheme, url: &Url) -> bool {
        scheme.is_clear_text() && (self.target == Target::Proxy || url.scheme() != "https")
    }

    fn give_up(&mut self) -> Turn {
        let open = self.open.take();
        let realm = open.as_ref().and_then(|open| open.challenge.get("realm"));
        let realm = realm.map(|realm| format!(" for \"{realm}\"")).unwrap_or_default();
        let text = match self.refused.last() {
            Some(refused) => format!("the credentials of {}{realm} are refused", refused.user),
            None => format!("it asks for credentials{realm}, and there are none"),
        };
        self.refuse(&text, self.remedy())
    }

    fn remedy(&self) -> &'static str {
        match self.target {
            Target::Server => "set user-id and user-pw, or answer request-credentials",
            Target::Proxy => "set proxy-id and proxy-pw, or answer request-credentials",
        }
    }

    fn refuse(&mut self, text: &str, remedy: &'static str) -> Turn {
        self.open = None;
        Turn::Refused(self.failure(text, remedy))
    }

    fn failure(&self, text: &str, remedy: &'static str) -> Failure {
        Failure::unauthorized(self.target, text, remedy)
    }
}

/// The strongest scheme that both sides have, with its row in [`TABLE`].
///
/// # Errors
/// What is offered in vain; `None` where some of it would do for a PushSetup.
fn choose<'a>(
    challenges: &'a [Challenge],
    now: &Circumstances<'_>,
) -> Result<(usize, &'static Row, &'a Challenge), Option<String>> {
    let mut for_setup = false;
    for (index, row) in TABLE.iter().enumerate().filter(|(_, row)| now.methods.allow(row.scheme)) {
        let of_scheme: Vec<&Challenge> = challenges.iter().filter(|challenge| challenge.is(row.scheme)).collect();
        let Some(challenge) = (row.choose)(&of_scheme) else { continue };
        if row.scheme.is_of_connection() && now.kind == Kind::Start {
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
