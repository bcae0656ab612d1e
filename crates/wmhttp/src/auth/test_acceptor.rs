//! The server's side of NTLM and Negotiate, for tests: it knows one user's password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sspi::ntlm::NtlmConfig;
use sspi::{
    AuthIdentity, AuthIdentityBuffers, BufferType, CredentialsBuffers, DataRepresentation, Negotiate, NegotiateConfig,
    Ntlm, SecurityBuffer, ServerRequestFlags, Sspi, SspiImpl,
};

use super::Credentials;
use super::token_exchange::identity;

/// A server that authenticates one connection.
pub(crate) struct Acceptor {
    package: Package,
    identity: AuthIdentity,
}

enum Package {
    Ntlm(Box<Ntlm>),
    Negotiate(Box<Negotiate>),
}

impl Acceptor {
    pub(crate) fn new(scheme: &str, user: &str, password: &str) -> Self {
        let identity = identity(&Credentials::new(user, password)).unwrap();
        let package = if scheme == "NTLM" {
            Package::Ntlm(Box::new(Ntlm::new()))
        } else {
            let config = NegotiateConfig::new(Box::new(NtlmConfig::default()), Some("ntlm".into()), "media".into());
            Package::Negotiate(Box::new(Negotiate::new_server(config, vec![identity.clone()]).unwrap()))
        };
        Self { package, identity }
    }

    /// The token that answers the client's first.
    pub(crate) fn challenge(&mut self, token: &str) -> String {
        STANDARD.encode(self.accept(token).unwrap())
    }

    /// Whether the client's last token shows that it knows the password.
    pub(crate) fn accepts(&mut self, token: &str) -> bool {
        if self.accept(token).is_err() {
            return false;
        }
        match &mut self.package {
            Package::Ntlm(ntlm) => ntlm.complete_auth_token(&mut []).is_ok(),
            Package::Negotiate(negotiate) => negotiate.complete_auth_token(&mut []).is_ok(),
        }
    }

    fn accept(&mut self, token: &str) -> Result<Vec<u8>, sspi::Error> {
        let mut input = vec![SecurityBuffer::new(STANDARD.decode(token).unwrap(), BufferType::Token)];
        let mut output = vec![SecurityBuffer::new(Vec::new(), BufferType::Token)];
        let buffers: AuthIdentityBuffers = self.identity.clone().into();
        match &mut self.package {
            Package::Ntlm(ntlm) => step(ntlm.as_mut(), Some(buffers), &mut input, &mut output)?,
            Package::Negotiate(negotiate) => {
                step(negotiate.as_mut(), Some(CredentialsBuffers::AuthIdentity(buffers)), &mut input, &mut output)?;
            }
        }
        Ok(output.pop().unwrap().buffer)
    }
}

fn step<P: Sspi + SspiImpl>(
    package: &mut P,
    mut credentials: P::CredentialsHandle,
    input: &mut [SecurityBuffer],
    output: &mut [SecurityBuffer],
) -> Result<(), sspi::Error> {
    let builder = package
        .accept_security_context()
        .with_credentials_handle(&mut credentials)
        .with_context_requirements(ServerRequestFlags::ALLOCATE_MEMORY)
        .with_target_data_representation(DataRepresentation::Native)
        .with_input(input)
        .with_output(output);
    package.accept_security_context_impl(builder)?.resolve_to_result()?;
    Ok(())
}
