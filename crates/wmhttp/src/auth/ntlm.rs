//! NTLM version 2 ([MS-NLMP], over HTTP by [MS-NTHT]).
//!
//! This implements only what a client needs to authenticate. Version 1 is never sent, and the only part of session
//! security is the signature that SPNEGO requires. No keys are exchanged and nothing is encrypted, so RC4 is not
//! needed.

pub(super) mod hashes;
pub(super) mod messages;

use std::time::{SystemTime, UNIX_EPOCH};

use hashes::Key;
use messages::{Authenticate, Challenge, flags};

use super::token_exchange::{Handshake, Step, TokenSource};
use super::{Credentials, InitialState, Mechanism, Scheme};

/// Time from 1601-01-01, the origin of FILETIME, to 1970-01-01, in steps of 100 ns.
const FILETIME_OF_UNIX_EPOCH: u128 = 116_444_736_000_000_000;

pub(super) fn begin(initial: &InitialState<'_>) -> Result<Box<dyn Mechanism>, String> {
    Ok(Box::new(Handshake::begin(Scheme::Ntlm, Box::new(Client::new(initial)))))
}

/// A client that authenticates one connection.
pub(super) struct Client {
    user: String,
    domain: String,
    /// Derived from the password, which is not kept.
    key: Key,
    /// The service principal name `HTTP/host`, if the host is known.
    service: Option<String>,
    random: fn() -> [u8; 16],
    wall_clock: fn() -> SystemTime,
}

/// The last message, with the data that SPNEGO needs.
pub(super) struct Answer {
    pub(super) message: Vec<u8>,
    session_key: Key,
    /// Whether both sides can sign.
    signs: bool,
}

impl Client {
    pub(super) fn new(initial: &InitialState<'_>) -> Self {
        let (domain, user) = domain_and_user(initial.credentials);
        Self {
            key: hashes::response_key(user, domain, initial.credentials.password.reveal()),
            user: user.to_owned(),
            domain: domain.to_owned(),
            service: initial.host.map(|host| format!("HTTP/{host}")),
            random: initial.random,
            wall_clock: initial.wall_clock,
        }
    }

    /// Processes the server's challenge.
    ///
    /// # Errors
    /// Why the challenge cannot be answered.
    pub(super) fn authenticate(&self, received: &[u8]) -> Result<Answer, String> {
        let challenge = Challenge::parse(received)?;
        // The client's challenge has 8 bytes ([MS-NLMP] 3.1.5.1.2).
        let [a, b, c, d, e, f, g, h, ..] = (self.random)();
        let client_challenge = [a, b, c, d, e, f, g, h];
        // A server that sends a timestamp can verify the integrity of the whole exchange, and ignores the LM response
        // ([MS-NLMP] 3.1.5.1.2).
        let has_mic = challenge.timestamp().is_some();
        let time = challenge.timestamp().unwrap_or_else(|| filetime((self.wall_clock)()));
        let target_info = challenge.answer_to_target_info(has_mic, self.service.as_deref())?;
        let response = hashes::response(&self.key, challenge.nonce, client_challenge, time, &target_info);
        let negotiated = challenge.flags & flags::ANSWER;
        let message = Authenticate {
            flags: negotiated,
            lm_response: if has_mic { [0; 24] } else { response.lm },
            nt_response: &response.nt,
            domain: &self.domain,
            user: &self.user,
        };
        let message = message.encode(|message| {
            has_mic.then(|| hashes::mic(&response.session_key, [&messages::negotiate(), received, message]))
        })?;
        Ok(Answer {
            message,
            session_key: response.session_key,
            signs: negotiated & flags::SIGNATURE == flags::SIGNATURE,
        })
    }
}

impl Answer {
    /// Returns the client's first signature with the keys of this exchange (`GSS_GetMIC`); `None` if signing was not
    /// negotiated.
    pub(super) fn sign(&self, message: &[u8]) -> Option<[u8; 16]> {
        self.signs.then(|| hashes::signature(&self.session_key, message))
    }
}

impl TokenSource for Client {
    fn first(&mut self) -> Vec<u8> {
        messages::negotiate().to_vec()
    }

    fn answer(&mut self, received: &[u8]) -> Result<Step, String> {
        Ok(Step::Last(self.authenticate(received)?.message))
    }
}

/// Splits `DOMAIN\user`. `user@REALM` is a complete user name, and a plain name has no domain.
fn domain_and_user(credentials: &Credentials) -> (&str, &str) {
    credentials.user.split_once('\\').unwrap_or(("", &credentials.user))
}

/// Converts to FILETIME: steps of 100 ns since 1601-01-01, UTC.
fn filetime(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() / 100;
    u64::try_from(since_epoch + FILETIME_OF_UNIX_EPOCH).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_of_users() {
        for (name, expected) in [
            ("bob", ("", "bob")),
            ("STUDIO\\bob", ("STUDIO", "bob")),
            ("STUDIO\\bob@x", ("STUDIO", "bob@x")),
            ("bob@studio.example", ("", "bob@studio.example")),
            ("a\\b\\c", ("a", "b\\c")),
            ("", ("", "")),
        ] {
            assert_eq!(domain_and_user(&Credentials::new(name, "")), expected, "{name}");
        }
    }

    #[test]
    fn times_count_from_1601() {
        assert_eq!(filetime(UNIX_EPOCH), 116_444_736_000_000_000);
        // 2026-01-01T00:00:00Z.
        assert_eq!(filetime(UNIX_EPOCH + Duration::from_secs(1_767_225_600)), 134_116_992_000_000_000);
        assert_eq!(filetime(UNIX_EPOCH - Duration::from_secs(1)), 116_444_736_000_000_000);
    }
}
