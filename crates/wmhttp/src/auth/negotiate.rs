//! Negotiate: SPNEGO (RFC 4178, in HTTP by RFC 4559) with NTLM inside.

use sspi::ntlm::NtlmConfig;
use sspi::{CredentialsBuffers, Negotiate, NegotiateConfig};

use super::token_exchange::{Handshake, Package, identity, step};
use super::{InitialState, Mechanism, Scheme};

/// The library would also do what needs a network.
const PACKAGES: &str = "ntlm,!kerberos,!pku2u";

struct Messages {
    negotiate: Negotiate,
    credentials: Option<CredentialsBuffers>,
    /// The service's name, `HTTP/host`.
    service: String,
}

pub(super) fn begin(beginning: &InitialState<'_>) -> Result<Box<dyn Mechanism>, String> {
    let config = NegotiateConfig::new(Box::new(NtlmConfig::default()), Some(PACKAGES.to_owned()), String::new());
    let messages = Messages {
        negotiate: Negotiate::new_client(config).map_err(|error| error.description)?,
        credentials: Some(CredentialsBuffers::AuthIdentity(identity(beginning.credentials)?.into())),
        service: format!("HTTP/{}", beginning.host.unwrap_or_default()),
    };
    Ok(Box::new(Handshake::begin(Scheme::Negotiate, Box::new(messages))?))
}

impl Package for Messages {
    fn next(&mut self, received: Option<Vec<u8>>) -> Result<(Vec<u8>, bool), String> {
        step(&mut self.negotiate, &mut self.credentials, &self.service, received)
    }
}
