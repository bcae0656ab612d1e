//! Negotiate with a Kerberos ticket. Requesting a ticket can wait for the realm's servers, so the caller requests it;
//! this module only puts it into the header.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Challenge, Credentials, Mechanism, RequestLine, Scheme, Secret};

/// A request for a Kerberos ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRequest {
    /// The host whose `HTTP` service the ticket is for.
    pub host: String,
    /// The user's credentials; if absent, the ticket in the system's credential cache is used.
    pub credentials: Option<Credentials>,
}

/// A Negotiate token, which can be sent only once.
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

/// Whether the user name contains a Kerberos realm.
pub(super) fn names_realm(credentials: &Credentials) -> bool {
    !credentials.user.contains('\\') && credentials.user.rsplit_once('@').is_some_and(|(_, realm)| !realm.is_empty())
}
