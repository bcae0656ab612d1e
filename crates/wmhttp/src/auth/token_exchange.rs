//! What NTLM and Negotiate have in common: base64 tokens that go back and forth on one connection,
//! made by the library `sspi`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sspi::{
    AuthIdentity, BufferType, ClientRequestFlags, DataRepresentation, SecurityBuffer, SecurityStatus, Sspi, SspiImpl,
    Username,
};
use tracing::subscriber::{NoSubscriber, with_default};

use super::{Challenge, Credentials, Mechanism, RequestLine, Scheme, Secret};

/// The library's part of a scheme.
pub(super) trait Package: Send {
    /// The next message for the far end, and whether it is the last.
    ///
    /// # Errors
    /// Why what was received cannot be answered.
    fn next(&mut self, received: Option<Vec<u8>>) -> Result<(Vec<u8>, bool), String>;
}

/// The exchange of tokens on one connection.
pub(super) struct Handshake {
    scheme: Scheme,
    package: Box<dyn Package>,
    stage: Stage,
    /// The last token was made.
    complete: bool,
}

#[derive(Debug)]
enum Stage {
    /// The first token, which can go on any connection.
    First(Secret),
    /// The answer to a token of the far end's, for its connection.
    Answer(Secret),
    /// All is sent.
    Sent,
}

impl Handshake {
    pub(super) fn begin(scheme: Scheme, mut package: Box<dyn Package>) -> Result<Self, String> {
        let (token, _) = package.next(None)?;
        Ok(Self { scheme, package, stage: Stage::First(value(scheme, &token)), complete: false })
    }
}

/// Shows how far it is, and nothing of the tokens.
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
        let received = STANDARD.decode(token).map_err(|_| "its token is no base64".to_owned())?;
        let (token, complete) = self.package.next(Some(received))?;
        if token.is_empty() {
            return Ok(false);
        }
        self.complete = complete;
        self.stage = Stage::Answer(value(self.scheme, &token));
        Ok(true)
    }

    fn survives_connection(&self) -> bool {
        matches!(self.stage, Stage::First(_))
    }
}

/// `DOMAIN\user`, `user@REALM` or a plain name, as the library wants it.
pub(super) fn identity(credentials: &Credentials) -> Result<AuthIdentity, String> {
    let username = Username::parse(&credentials.user)
        .map_err(|_| "the user name is neither user, DOMAIN\\user nor user@REALM".to_owned())?;
    Ok(AuthIdentity { username, password: credentials.password.reveal().to_owned().into() })
}

/// One step of a package's.
pub(super) fn step<P: Sspi + SspiImpl>(
    package: &mut P,
    credentials: &mut P::CredentialsHandle,
    target: &str,
    received: Option<Vec<u8>>,
) -> Result<(Vec<u8>, bool), String> {
    let mut input = vec![SecurityBuffer::new(received.unwrap_or_default(), BufferType::Token)];
    let mut output = vec![SecurityBuffer::new(Vec::new(), BufferType::Token)];
    let mut builder = package
        .initialize_security_context()
        .with_credentials_handle(credentials)
        // Without integrity SPNEGO's own check fails.
        .with_context_requirements(ClientRequestFlags::INTEGRITY | ClientRequestFlags::ALLOCATE_MEMORY)
        .with_target_data_representation(DataRepresentation::Native)
        .with_target_name(target)
        .with_input(&mut input)
        .with_output(&mut output);
    let unanswerable = |error: sspi::Error| format!("its token cannot be answered: {}", error.description);
    // The library traces its messages, which are the value of the header.
    let result = with_default(NoSubscriber::default(), || {
        package.initialize_security_context_impl(&mut builder).and_then(|mut context| context.resolve_to_result())
    })
    .map_err(unanswerable)?;
    let token = output.pop().map(|buffer| buffer.buffer).unwrap_or_default();
    Ok((token, result.status == SecurityStatus::Ok))
}
