//! The three messages of NTLM ([MS-NLMP] 2.2.1). All numbers are little-endian, all strings UTF-16.

/// The flags of all messages ([MS-NLMP] 2.2.2.5).
pub(crate) mod flags {
    pub(crate) const UNICODE: u32 = 0x0000_0001;
    pub(crate) const REQUEST_TARGET: u32 = 0x0000_0004;
    pub(crate) const SIGN: u32 = 0x0000_0010;
    pub(crate) const NTLM: u32 = 0x0000_0200;
    pub(crate) const ALWAYS_SIGN: u32 = 0x0000_8000;
    pub(crate) const EXTENDED_SESSION_SECURITY: u32 = 0x0008_0000;
    pub(crate) const TARGET_INFO: u32 = 0x0080_0000;
    pub(crate) const VERSION: u32 = 0x0200_0000;
    pub(crate) const KEYS_OF_128_BITS: u32 = 0x2000_0000;

    /// The flags that the client offers.
    pub(crate) const OFFER: u32 =
        UNICODE | REQUEST_TARGET | SIGN | NTLM | ALWAYS_SIGN | EXTENDED_SESSION_SECURITY | VERSION | KEYS_OF_128_BITS;
    /// The flags that the client's last message may repeat from the server's selection.
    pub(crate) const ANSWER: u32 = OFFER | TARGET_INFO;
    /// The flags that a signature requires.
    pub(crate) const SIGNATURE: u32 = SIGN | EXTENDED_SESSION_SECURITY;
}

/// The signature at the start of all messages.
pub(crate) const SIGNATURE: [u8; 8] = *b"NTLMSSP\0";
/// Windows 7, which also matches the User-Agent. Servers log this version, and some reject a first message without one.
const VERSION: [u8; 8] = [6, 1, 0xb0, 0x1d, 0, 0, 0, 15];

/// The identifiers of `AV_PAIR` ([MS-NLMP] 2.2.2.1).
mod pair {
    pub(super) const END: u16 = 0;
    pub(super) const FLAGS: u16 = 6;
    pub(super) const TIMESTAMP: u16 = 7;
    pub(super) const TARGET_NAME: u16 = 9;
    pub(super) const CHANNEL_BINDINGS: u16 = 10;
}

/// `MsvAvFlags`: the last message contains a MIC.
const HAS_MIC: u32 = 2;

/// Returns the `NEGOTIATE_MESSAGE`, which is the same for all servers. It contains no domain and no workstation, so
/// that nothing is disclosed to an unknown server.
pub(crate) fn negotiate() -> [u8; 40] {
    let mut message = [0; 40];
    let parts = SIGNATURE.into_iter().chain(1_u32.to_le_bytes()).chain(flags::OFFER.to_le_bytes());
    for (to, from) in message.iter_mut().zip(parts.chain([0; 16]).chain(VERSION)) {
        *to = from;
    }
    message
}

/// The parts of a `CHALLENGE_MESSAGE` that the client needs.
#[derive(Debug)]
pub(crate) struct Challenge {
    pub(crate) flags: u32,
    /// The server's challenge.
    pub(crate) nonce: [u8; 8],
    /// The `AV_PAIR`s without the terminator of their list.
    target_info: Vec<(u16, Vec<u8>)>,
}

impl Challenge {
    /// Parses the message.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, String> {
        let fixed = || -> Option<(u32, [u8; 8])> {
            // Message type at offset 8, flags at 20, the server's challenge at 24, target info at 40 ([MS-NLMP]
            // 2.2.1.2).
            let is_challenge = message.starts_with(&SIGNATURE) && u32_at(message, 8)? == 2;
            is_challenge.then_some(())?;
            Some((u32_at(message, 20)?, message.get(24..32)?.try_into().ok()?))
        };
        let (flags, nonce) = fixed().ok_or("it is not an NTLM challenge")?;
        if flags & flags::UNICODE == 0 {
            return Err("the server's NTLM does not support Unicode".to_owned());
        }
        let target_info = match flags & flags::TARGET_INFO {
            0 => Vec::new(),
            _ => payload(message, 40).and_then(pairs).ok_or("the NTLM challenge is cut off")?,
        };
        Ok(Self { flags, nonce, target_info })
    }

    /// Returns the server's time, a FILETIME, if it was sent.
    pub(crate) fn timestamp(&self) -> Option<u64> {
        let (_, value) = self.target_info.iter().find(|(id, _)| *id == pair::TIMESTAMP)?;
        Some(u64::from_le_bytes(value.as_slice().try_into().ok()?))
    }

    /// Returns the server's target info with the client's additions for the response ([MS-NLMP] 3.1.5.1.2): whether
    /// there is a MIC, empty channel bindings, and the service principal name.
    ///
    /// # Errors
    /// The target info is too long for a message.
    pub(crate) fn answer_to_target_info(&self, has_mic: bool, service: Option<&str>) -> Result<Vec<u8>, String> {
        let of_client = [pair::FLAGS, pair::CHANNEL_BINDINGS, pair::TARGET_NAME];
        let is_flags = |(id, _): &&(u16, Vec<u8>)| *id == pair::FLAGS;
        let flags_of_server = self.target_info.iter().find(is_flags).and_then(|(_, value)| u32_at(value, 0));
        let flags = flags_of_server.unwrap_or_default() | if has_mic { HAS_MIC } else { 0 };
        let mut list = Vec::new();
        for (id, value) in self.target_info.iter().filter(|(id, _)| !of_client.contains(id)) {
            append_pair(&mut list, *id, value)?;
        }
        // A server that sends no target info is too old to understand these additions.
        if !self.target_info.is_empty() {
            if flags != 0 {
                append_pair(&mut list, pair::FLAGS, &flags.to_le_bytes())?;
            }
            append_pair(&mut list, pair::CHANNEL_BINDINGS, &[0; 16])?;
            if let Some(service) = service {
                append_pair(&mut list, pair::TARGET_NAME, &wide(service))?;
            }
        }
        append_pair(&mut list, pair::END, &[])?;
        Ok(list)
    }
}

/// The contents of an `AUTHENTICATE_MESSAGE`.
pub(crate) struct Authenticate<'a> {
    pub(crate) flags: u32,
    pub(crate) lm_response: [u8; 24],
    pub(crate) nt_response: &'a [u8],
    pub(crate) domain: &'a str,
    pub(crate) user: &'a str,
}

impl Authenticate<'_> {
    /// Offset of the MIC in the message.
    const MIC_OFFSET: usize = 72;
    const MIC_LEN: usize = 16;

    /// Encodes the message. `mic` receives it with zeros in place of the MIC, and returns the MIC if one is needed.
    ///
    /// # Errors
    /// A name is too long for a message.
    pub(crate) fn encode(&self, mic: impl FnOnce(&[u8]) -> Option<[u8; 16]>) -> Result<Vec<u8>, String> {
        let mut message = [&SIGNATURE[..], &3_u32.to_le_bytes()].concat();
        let mut payload: Vec<u8> = Vec::new();
        let (domain, user) = (wide(self.domain), wide(self.user));
        // The workstation name and the exchanged key are empty.
        for part in [&self.lm_response[..], self.nt_response, &domain, &user, &[], &[]] {
            let offset = Self::MIC_OFFSET + Self::MIC_LEN + payload.len();
            let len = u16::try_from(part.len()).map_err(|_| TOO_LONG)?.to_le_bytes();
            let offset = u32::try_from(offset).map_err(|_| TOO_LONG)?.to_le_bytes();
            // Length, allocated length, and offset of a field in the payload.
            message.extend([&len[..], &len, &offset].concat());
            payload.extend(part);
        }
        message.extend(self.flags.to_le_bytes());
        message.extend(VERSION);
        message.extend([0; Self::MIC_LEN]);
        message.extend(payload);
        if let Some(mic) = mic(&message) {
            for (to, from) in message.iter_mut().skip(Self::MIC_OFFSET).zip(mic) {
                *to = from;
            }
        }
        Ok(message)
    }
}

const TOO_LONG: &str = "the user name or the server's target info is too long for NTLM";

/// Encodes UTF-16, little-endian.
fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(message.get(at..)?.get(..2)?.try_into().ok()?))
}

fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(message.get(at..)?.get(..4)?.try_into().ok()?))
}

/// Returns the payload to which the length and offset fields at `at` refer.
fn payload(message: &[u8], at: usize) -> Option<&[u8]> {
    let (len, offset) = (u16_at(message, at)?, u32_at(message, at + 4)?);
    message.get(usize::try_from(offset).ok()?..)?.get(..usize::from(len))
}

/// Parses a list of `AV_PAIR` up to its terminator.
fn pairs(mut list: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    let mut pairs = Vec::new();
    while !list.is_empty() {
        let (id, len) = (u16_at(list, 0)?, u16_at(list, 2)?);
        if id == pair::END {
            break;
        }
        let (value, rest) = list.get(4..)?.split_at_checked(len.into())?;
        pairs.push((id, value.to_vec()));
        list = rest;
    }
    Some(pairs)
}

/// Appends an `AV_PAIR`: id, length, value.
fn append_pair(list: &mut Vec<u8>, id: u16, value: &[u8]) -> Result<(), String> {
    let len = u16::try_from(value.len()).map_err(|_| TOO_LONG)?;
    list.extend(id.to_le_bytes());
    list.extend(len.to_le_bytes());
    list.extend(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A challenge message with this target info.
    fn challenge(flags: u32, target_info: &[u8]) -> Vec<u8> {
        let len = u16::try_from(target_info.len()).unwrap().to_le_bytes();
        let mut message = [&SIGNATURE[..], &[2, 0, 0, 0], &[0, 0, 0, 0, 56, 0, 0, 0], &flags.to_le_bytes()].concat();
        message.extend([[7; 8], [0; 8]].concat());
        message.extend([&len[..], &len, &56_u32.to_le_bytes(), &VERSION, target_info].concat());
        message
    }

    #[test]
    fn the_first_message() {
        let expected = b"NTLMSSP\0\x01\0\0\0\x15\x82\x08\x22\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x06\x01\xb0\x1d\0\0\0\x0f";
        assert_eq!(negotiate(), *expected);
    }

    #[test]
    fn the_response_repeats_the_servers_target_info_and_adds_ours() {
        let of_server = b"\x02\0\x02\0D\0\x07\0\x08\0\x01\0\0\0\0\0\0\0\x06\0\x04\0\x01\0\0\0\x09\0\x02\0x\0\0\0\0\0";
        let challenge = Challenge::parse(&challenge(flags::ANSWER, of_server)).unwrap();
        assert_eq!((challenge.nonce, challenge.timestamp()), ([7; 8], Some(1)));
        let ours = challenge.answer_to_target_info(true, Some("s")).unwrap();
        let expected: &[u8] = b"\x02\0\x02\0D\0\x07\0\x08\0\x01\0\0\0\0\0\0\0\x06\0\x04\0\x03\0\0\0\
            \x0a\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\0\x02\0s\0\0\0\0\0";
        assert_eq!(ours, expected);
    }

    /// Servers from before the year 2000 send no target info.
    #[test]
    fn a_challenge_without_target_info() {
        let mut message = challenge(flags::OFFER, b"");
        message.truncate(32);
        let challenge = Challenge::parse(&message).unwrap();
        assert_eq!(challenge.timestamp(), None);
        assert_eq!(challenge.answer_to_target_info(false, Some("s")).unwrap(), [0; 4]);
    }

    #[test]
    fn an_unanswerable_challenge_gives_a_reason() {
        let good = challenge(flags::ANSWER, b"\x02\0\x02\0D\0\0\0\0\0");
        assert!(Challenge::parse(&good).is_ok());
        for (message, why) in [
            (Vec::new(), "not an NTLM challenge"),
            (negotiate().to_vec(), "not an NTLM challenge"),
            (good[..31].to_vec(), "not an NTLM challenge"),
            (good[..good.len() - 1].to_vec(), "cut off"),
            (challenge(flags::ANSWER, b"\x02\0\x03\0D\0"), "cut off"),
            (challenge(flags::ANSWER & !flags::UNICODE, b""), "Unicode"),
        ] {
            let found = Challenge::parse(&message).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
        let long = "n".repeat(40_000);
        let message = Authenticate { flags: 0, lm_response: [0; 24], nt_response: b"", domain: "", user: &long };
        assert_eq!(message.encode(|_| None).unwrap_err(), TOO_LONG);
    }

    proptest! {
        /// The client answers any challenge, or returns why it cannot.
        #[test]
        fn any_challenge(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), is_like_one: bool) {
            if is_like_one {
                for (to, from) in bytes.iter_mut().zip(challenge(flags::ANSWER, b"")) {
                    *to = from;
                }
            }
            if let Ok(challenge) = Challenge::parse(&bytes) {
                let ours = challenge.answer_to_target_info(true, None).unwrap();
                prop_assert!(ours.ends_with(&[0; 4]));
            }
        }
    }
}
