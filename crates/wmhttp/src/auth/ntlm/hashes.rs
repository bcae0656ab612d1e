//! The arithmetic of NTLM version 2 ([MS-NLMP] 3.3.2 and 3.4.4).
//!
//! MD4 and MD5 are broken as hashes; the protocol knows no others.

use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

/// A key, wiped when it is dropped.
pub(crate) type Key = Zeroizing<[u8; 16]>;

/// [MS-NLMP] 3.4.5.2, from the client to the server.
const SIGNING_KEY_MAGIC: &[u8] = b"session key to client-to-server signing key magic constant\0";

/// The answers to a challenge.
pub(crate) struct Response {
    /// LMv2, for servers that send no time.
    pub(crate) lm: [u8; 24],
    /// `NTProofStr` and what it covers.
    pub(crate) nt: Vec<u8>,
    /// The session's base key, which is its only one where keys are not exchanged.
    pub(crate) session_key: Key,
}

/// `NTOWFv2`: what the password becomes for this user ([MS-NLMP] 3.3.2).
pub(crate) fn response_key(user: &str, domain: &str, password: &str) -> Key {
    // No text has more UTF-16 units than UTF-8 bytes: the vector never grows, which would leave a copy behind.
    let mut wide = Zeroizing::new(Vec::with_capacity(2 * password.len()));
    wide.extend(password.encode_utf16().flat_map(u16::to_le_bytes));
    let hash: Key = Zeroizing::new(Md4::digest(&*wide).into());
    let name: Vec<u8> =
        user.encode_utf16().map(upper_case).chain(domain.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    hmac_md5(&hash, [name.as_slice()])
}

/// Windows has upper case for single units: what has none of its own length stays, such as ß.
fn upper_case(unit: u16) -> u16 {
    let Some(letter) = char::from_u32(unit.into()) else { return unit };
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper.try_into().unwrap_or(unit),
        _ => unit,
    }
}

/// `ComputeResponse` ([MS-NLMP] 3.3.2). `time` is a FILETIME, `target_info` a list of `AV_PAIR` with its end.
pub(crate) fn response(key: &Key, server: [u8; 8], client: [u8; 8], time: u64, target_info: &[u8]) -> Response {
    let version = [1, 1, 0, 0, 0, 0, 0, 0];
    let time = time.to_le_bytes();
    let temporary = [&version[..], &time, &client, &[0; 4], target_info, &[0; 4]].concat();
    let proof = hmac_md5(key, [&server[..], &temporary]);
    let lm_proof = hmac_md5(key, [server, client]);
    let mut lm = [0; 24];
    for (to, from) in lm.iter_mut().zip(lm_proof.iter().chain(&client)) {
        *to = *from;
    }
    Response { lm, session_key: hmac_md5(key, [&proof[..]]), nt: [&proof[..], &temporary].concat() }
}

/// The integrity of all three messages, the last with zeros in this one's place ([MS-NLMP] 3.1.5.1.2).
pub(crate) fn mic(session_key: &Key, messages: [&[u8]; 3]) -> [u8; 16] {
    *hmac_md5(session_key, messages)
}

/// The client's first signature, with extended session security and without an exchange of keys ([MS-NLMP] 3.4.4.2).
pub(crate) fn signature(session_key: &Key, message: &[u8]) -> [u8; 16] {
    let mut signing_key = Md5::new();
    signing_key.update(**session_key);
    signing_key.update(SIGNING_KEY_MAGIC);
    let signing_key: Key = Zeroizing::new(signing_key.finalize().into());
    let checksum = hmac_md5(&signing_key, [&[0; 4], message]);
    // Version 1, the checksum's first half, number 0.
    let mut signature = [0; 16];
    for (to, from) in signature.iter_mut().zip([1, 0, 0, 0].iter().chain(checksum.iter().take(8))) {
        *to = *from;
    }
    signature
}

fn hmac_md5<P: AsRef<[u8]>>(key: &Key, parts: impl IntoIterator<Item = P>) -> Key {
    // A key that is shorter than a block of the hash is padded by zeros (RFC 2104).
    let mut block = Zeroizing::new([0_u8; 64]);
    for (to, from) in block.iter_mut().zip(key.iter()) {
        *to = *from;
    }
    let mut mac = Hmac::<Md5>::new((&*block).into());
    for part in parts {
        mac.update(part.as_ref());
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MS-NLMP] 4.2.1 and 4.2.4: the specification's own example.
    #[test]
    fn the_specifications_example() {
        let key = response_key("User", "Domain", "Password");
        assert_eq!(*key, 0x0c86_8a40_3bfd_7a93_a300_1ef2_2ef0_2e3f_u128.to_be_bytes());
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let (domain, server) = (wide("Domain"), wide("Server"));
        let target_info = [&[2, 0, 12, 0][..], &domain, &[1, 0, 12, 0], &server, &[0; 4]].concat();
        let challenge = 0x0123_4567_89ab_cdef_u64.to_be_bytes();
        let response = response(&key, challenge, [0xaa; 8], 0, &target_info);
        assert_eq!(response.lm[..16], 0x86c3_5097_ac9c_ec10_2554_764a_57cc_cc19_u128.to_be_bytes());
        assert_eq!(response.lm[16..], [0xaa; 8]);
        assert_eq!(response.nt[..16], 0x68cd_0ab8_51e5_1c96_aabc_927b_ebef_6a1c_u128.to_be_bytes());
        assert_eq!(*response.session_key, 0x8de4_0cca_dbc1_4a82_f15c_b0ad_0de9_5ca3_u128.to_be_bytes());
    }

    /// The case of a user's name does not matter, that of its domain does, and what has no upper case stays.
    #[test]
    fn upper_case_of_names() {
        let key = |user, domain| *response_key(user, domain, "hush");
        assert_eq!(key("jürgen", "D"), key("JÜRGEN", "D"));
        assert_eq!(key("пётр", "D"), key("ПЁТР", "D"));
        assert_ne!(key("bob", "D"), key("bob", "d"));
        for (unit, upper) in [('ß', 'ß'), ('ﬁ', 'ﬁ'), ('ÿ', 'Ÿ'), ('µ', 'Μ'), ('\u{fffd}', '\u{fffd}')] {
            assert_eq!(u16::try_from(upper), Ok(upper_case(unit.try_into().unwrap())), "{unit}");
        }
        assert_eq!(upper_case(0xd801), 0xd801, "half of a letter");
    }
}
