//! NTLM, version 2 ([MS-NLMP], in HTTP by [MS-NTHT]).

use sspi::{AuthIdentityBuffers, Ntlm};

use super::token_exchange::{Handshake, Package, identity, step};
use super::{InitialState, Mechanism, Scheme};

struct Messages {
    ntlm: Ntlm,
    credentials: Option<AuthIdentityBuffers>,
    /// The service's name, `HTTP/host`.
    service: String,
}

pub(super) fn begin(beginning: &InitialState<'_>) -> Result<Box<dyn Mechanism>, String> {
    let messages = Messages {
        ntlm: Ntlm::new(),
        credentials: Some(identity(beginning.credentials)?.into()),
        service: format!("HTTP/{}", beginning.host.unwrap_or_default()),
    };
    Ok(Box::new(Handshake::begin(Scheme::Ntlm, Box::new(messages))?))
}

impl Package for Messages {
    fn next(&mut self, received: Option<Vec<u8>>) -> Result<(Vec<u8>, bool), String> {
        step(&mut self.ntlm, &mut self.credentials, &self.service, received)
    }
}
