//! The common part of NTLM and Negotiate: an exchange of base64 tokens on one connection.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Challenge, Mechanism, RequestLine, Scheme, Secret};

/// Makes the client's tokens.
pub(super) trait TokenSource: Send {
    /// Returns the client's first token.
    fn first(&mut self) -> Vec<u8>;

    /// Answers a token of the server.
    ///
    /// # Errors
    /// Why the token cannot be answered.
    fn answer(&mut self, received: &[u8]) -> Result<Step, String>;
}

/// How the exchange continues.
pub(super) enum Step {
    /// Send this token; the server then decides.
    Last(Vec<u8>),
    /// The server rejected the user.
    Refused,
}

/// The exchange of tokens on one connection.
pub(super) struct Handshake {
    scheme: Scheme,
    source: Box<dyn TokenSource>,
    stage: Stage,
    /// Whether the last token was created.
    complete: bool,
}

#[derive(Debug)]
enum Stage {
    /// The first token, which can be sent on any connection.
    First(Secret),
    /// The answer to the server's token, which must be sent on the same connection.
    Answer(Secret),
    /// Both tokens were sent.
    Sent,
}

impl Handshake {
    pub(super) fn begin(scheme: Scheme, mut source: Box<dyn TokenSource>) -> Self {
        let stage = Stage::First(value(scheme, &source.first()));
        Self { scheme, source, stage, complete: false }
    }
}

/// Shows the progress of the exchange, but not the tokens.
impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("scheme", &self.scheme).field("stage", &self.stage).finish_non_exhaustive()
    }
}

fn value(scheme: Scheme, token: &[u8]) -> Secret {
    Secret::new(format!("{} {}", scheme.name(), STANDARD.encode(token)))
}

impl Mechanism for Handshake {
    fn authorize(&mut self, _line: RequestLine<'_>) -> Option<Secret> {
        match std::mem::replace(&mut self.stage, Stage::Sent) {
            Stage::First(value) | Stage::Answer(value) => Some(value),
            Stage::Sent => None,
        }
    }

    fn challenged(&mut self, challenge: &Challenge) -> Result<bool, String> {
        let Some(token) = challenge.token.as_ref().filter(|_| !self.complete) else { return Ok(false) };
        let received = STANDARD.decode(token).map_err(|_| "its token is not base64".to_owned())?;
        match self.source.answer(&received) {
            Ok(Step::Last(token)) => {
                self.complete = true;
                self.stage = Stage::Answer(value(self.scheme, &token));
                Ok(true)
            }
            Ok(Step::Refused) => Ok(false),
            Err(why) => Err(format!("its token cannot be answered: {why}")),
        }
    }

    fn survives_connection(&self) -> bool {
        matches!(self.stage, Stage::First(_))
    }
}
