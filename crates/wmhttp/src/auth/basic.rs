//! Basic authentication (RFC 7617): user name and password, readable by anyone who sees the request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Challenge, InitialState, Mechanism, RequestLine, Secret};

#[derive(Debug)]
struct Basic {
    value: Secret,
}

pub(super) fn begin(initial: &InitialState<'_>) -> Result<Box<dyn Mechanism>, String> {
    let credentials = initial.credentials;
    // The first colon ends the user name (RFC 7617, 2).
    if credentials.user.contains(':') {
        return Err("Basic cannot carry a user name with a colon".to_owned());
    }
    // Concatenate in one allocation: a growing buffer would leave copies of the password in freed memory.
    let pair = Secret::new([&credentials.user, ":", credentials.password.reveal()].concat());
    let encoded = Secret::new(STANDARD.encode(pair.reveal()));
    Ok(Box::new(Basic { value: Secret::new(["Basic ", encoded.reveal()].concat()) }))
}

impl Mechanism for Basic {
    fn authorize(&mut self, _line: RequestLine<'_>) -> Option<Secret> {
        Some(self.value.clone())
    }

    /// A further challenge after Basic credentials always means rejection.
    fn challenged(&mut self, _challenge: &Challenge) -> Result<bool, String> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::auth::Credentials;

    /// RFC 7617 2 and 2.1.
    #[test]
    fn vectors() {
        for (user, password, value) in [
            ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test", "123£", "Basic dGVzdDoxMjPCow=="),
        ] {
            let credentials = Credentials::new(user, password);
            let challenge = Challenge::default();
            let initial = InitialState {
                challenge: &challenge,
                credentials: &credentials,
                random: || [0; 16],
                wall_clock: || SystemTime::UNIX_EPOCH,
                host: None,
            };
            let mut basic = begin(&initial).unwrap();
            let line = RequestLine { method: "POST", target: "/" };
            assert_eq!(basic.authorize(line).unwrap().reveal(), value);
            assert_eq!(basic.challenged(&challenge), Ok(false));
            let colon = Credentials::new("a:b", "c");
            assert!(begin(&InitialState { credentials: &colon, ..initial }).is_err());
        }
    }
}
