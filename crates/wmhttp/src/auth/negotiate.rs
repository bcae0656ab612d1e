//! Negotiate: SPNEGO (RFC 4178, over HTTP by RFC 4559) with NTLM inside.

use super::ntlm::{Client, messages};
use super::spnego::{self, NegState, NegTokenResp};
use super::token_exchange::{Handshake, Step, TokenSource};
use super::{InitialState, Mechanism, Scheme};

struct SpnegoNtlm {
    ntlm: Client,
}

pub(super) fn begin(initial: &InitialState<'_>) -> Result<Box<dyn Mechanism>, String> {
    Ok(Box::new(Handshake::begin(Scheme::Negotiate, Box::new(SpnegoNtlm { ntlm: Client::new(initial) }))))
}

impl TokenSource for SpnegoNtlm {
    fn first(&mut self) -> Vec<u8> {
        spnego::initial(&messages::negotiate())
    }

    fn answer(&mut self, received: &[u8]) -> Result<Step, String> {
        let received = NegTokenResp::parse(received).ok_or("it is not a SPNEGO token")?;
        if received.state == Some(NegState::Rejected) {
            return Ok(Step::Refused);
        }
        if received.mechanism.is_some_and(|mechanism| mechanism != spnego::NTLM) {
            return Err("it chose a mechanism other than NTLM, the only one offered".to_owned());
        }
        let answer = self.ntlm.authenticate(received.token.unwrap_or_default())?;
        // Windows and MIT Kerberos servers require a signature of the mechanism list if NTLM's last message has a MIC.
        let signature = answer.sign(&spnego::mechanisms());
        Ok(Step::Last(spnego::response(&answer.message, signature.as_ref().map(<[u8; 16]>::as_slice))))
    }
}
