//! Negotiate with a Kerberos ticket inside. Whoever may wait for the realm's servers gets the ticket;
//! here it only takes its place in the header.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Challenge, Credentials, Mechanism, RequestLine, Scheme, Secret};

/// Asks for a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRequest {
    /// Whose service `HTTP` it is for.
    pub host: String,
    /// Whose it is; without them it is the one that the system has.
    pub credentials: Option<Credentials>,
}

/// One token, which serves once.
#[derive(Debug)]
pub(super) struct Ticket {
    value: Option<Secret>,
}

impl Ticket {
    pub(super) fn new(token: &[u8]) -> Self {
        Self { value: Some(Secret::new(format!("{} {}", Scheme::Negotiate.name(), STANDARD.encode(token)))) }
    }
}

impl Mechanism for Ticket {
    fn authorize(&mut self, _line: RequestLine<'_>) -> Option<Secret> {
        self.value.take()
    }

    fn challenged(&mut self, _challenge: &Challenge) -> Result<bool, String> {
        Ok(false)
    }

    fn survives_connection(&self) -> bool {
        self.value.is_some()
    }
}

/// Whether a user name names a Kerberos realm.
pub(super) fn names_realm(credentials: &Credentials) -> bool {
    !credentials.user.contains('\\') && credentials.user.rsplit_once('@').is_some_and(|(_, realm)| !realm.is_empty())
}
