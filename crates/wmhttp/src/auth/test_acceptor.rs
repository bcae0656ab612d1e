//! The server's side of NTLM and Negotiate for one user, for tests. It parses messages with its own code. It shares the
//! hashes with the client; the specification's example and another implementation verify those elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ntlm::{hashes, messages};
use super::spnego;

/// A server that authenticates one connection.
pub(crate) struct Acceptor {
    is_wrapped: bool,
    user: String,
    password: String,
    /// The timestamp in its challenge, if any; old servers send none.
    time: Option<u64>,
    sent: Vec<u8>,
}

const NONCE: [u8; 8] = *b"CHALENGE";
/// Unicode, NTLM, extended session security and so on, with target info.
const FLAGS: u32 = messages::flags::ANSWER;

impl Acceptor {
    pub(crate) fn new(scheme: &str, user: &str, password: &str) -> Self {
        let is_wrapped = scheme == "Negotiate";
        Self { is_wrapped, user: user.to_owned(), password: password.to_owned(), time: Some(1), sent: Vec::new() }
    }

    /// A server older than Windows Vista: it sends no timestamp, and requires neither a MIC nor a signature.
    pub(crate) fn old(scheme: &str, user: &str, password: &str) -> Self {
        Self { time: None, ..Self::new(scheme, user, password) }
    }

    /// Returns the challenge that answers the client's first token.
    pub(crate) fn challenge(&mut self, token: &str) -> String {
        let token = STANDARD.decode(token).unwrap();
        let first = if self.is_wrapped {
            assert_eq!(token, spnego::initial(&messages::negotiate()));
            &token[token.len() - 40..]
        } else {
            &token[..]
        };
        assert_eq!((&first[..12], first.len()), (&b"NTLMSSP\0\x01\0\0\0"[..], 40));
        let mut description = b"\x02\0\x02\0D\0".to_vec();
        if let Some(time) = self.time {
            description.extend([&[7, 0, 8, 0][..], &time.to_le_bytes()].concat());
        }
        description.extend([0; 4]);
        let len = u16::try_from(description.len()).unwrap().to_le_bytes();
        self.sent = b"NTLMSSP\0\x02\0\0\0\0\0\0\0\x30\0\0\0".to_vec();
        self.sent.extend([&FLAGS.to_le_bytes()[..], &NONCE, &[0; 8]].concat());
        self.sent.extend([&len[..], &len, &48_u32.to_le_bytes(), &description].concat());
        let answer = match self.is_wrapped {
            true => spnego::response(&self.sent, None),
            false => self.sent.clone(),
        };
        STANDARD.encode(answer)
    }

    /// Returns whether the client's last token proves that it knows the password.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        let token = STANDARD.decode(token).unwrap();
        let at = token.windows(8).position(|window| window == messages::SIGNATURE).unwrap();
        let message = &token[at..];
        let (domain, user) = self.user.split_once('\\').unwrap_or(("", &self.user));
        assert_eq!((wide(part(message, 28)), wide(part(message, 36))), (domain.to_owned(), user.to_owned()));
        let response = part(message, 20);
        let (proof, covered) = response.split_at(16);
        let (time, client) = (&covered[8..16], covered[16..24].try_into().unwrap());
        let time = u64::from_le_bytes(time.try_into().unwrap());
        // 1970-01-01, the time of the test's clock.
        assert_eq!(time, self.time.unwrap_or(116_444_736_000_000_000));
        let description = &covered[28..covered.len() - 4];
        let key = hashes::response_key(user, domain, &self.password);
        let expected = hashes::response(&key, NONCE, client, time, description);
        if expected.nt[..16] != *proof {
            return false;
        }
        if self.time.is_none() {
            return part(message, 12) == expected.lm;
        }
        assert_eq!(part(message, 12), [0; 24]);
        // MsvAvFlags with the MIC bit, and the service principal name.
        let has = |bytes: &[u8]| description.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(b"\x06\0\x04\0\x02\0\0\0") && has(b"\x09\0\x14\0H\0T\0T\0P\0/\0m\0e\0d\0i\0a\0"));
        let mut without_mic = message[..part_end(message)].to_vec();
        without_mic[72..88].fill(0);
        let mic = hashes::mic(&expected.session_key, [&messages::negotiate(), &self.sent, &without_mic]);
        let signature = hashes::signature(&expected.session_key, &spnego::mechanisms());
        message[72..88] == mic && (!self.is_wrapped || token.ends_with(&signature))
    }
}

fn part(message: &[u8], at: usize) -> &[u8] {
    let len = u16::from_le_bytes(message[at..at + 2].try_into().unwrap()).into();
    let offset = u32::from_le_bytes(message[at + 4..at + 8].try_into().unwrap()) as usize;
    &message[offset..][..len]
}

/// The end of the message: its last part is the user name.
fn part_end(message: &[u8]) -> usize {
    u32::from_le_bytes(message[40..44].try_into().unwrap()) as usize + part(message, 36).len()
}

fn wide(text: &[u8]) -> String {
    String::from_utf16_lossy(&text.chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect::<Vec<_>>())
}
