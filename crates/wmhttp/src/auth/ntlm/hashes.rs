//! The cryptographic computations of NTLM version 2 ([MS-NLMP] 3.3.2 and 3.4.4).
//!
//! MD4 and MD5 are broken as hashes, but the protocol has no others.

use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

/// A key that is wiped from memory on drop.
pub(crate) type Key = Zeroizing<[u8; 16]>;

/// [MS-NLMP] 3.4.5.2, for the direction from the client to the server.
const SIGNING_KEY_MAGIC: &[u8] = b"session key to client-to-server signing key magic constant\0";

/// The responses to a challenge.
pub(crate) struct Response {
    /// LMv2, for servers that send no timestamp.
    pub(crate) lm: [u8; 24],
    /// `NTProofStr` and the data that it covers.
    pub(crate) nt: Vec<u8>,
    /// The session base key, which is also the session key because no keys are exchanged.
    pub(crate) session_key: Key,
}

/// `NTOWFv2`: derives the user's key from the password ([MS-NLMP] 3.3.2).
pub(crate) fn response_key(user: &str, domain: &str, password: &str) -> Key {
    // A string never has more UTF-16 units than UTF-8 bytes, so the vector does not reallocate and leaves no copy in
    // freed memory.
    let mut wide = Zeroizing::new(Vec::with_capacity(2 * password.len()));
    wide.extend(password.encode_utf16().flat_map(u16::to_le_bytes));
    let hash: Key = Zeroizing::new(Md4::digest(&*wide).into());
    let name: Vec<u8> =
        user.encode_utf16().map(upper_case).chain(domain.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    hmac_md5(&hash, [name.as_slice()])
}

/// Windows converts single UTF-16 units to upper case; a character whose upper case is longer, such as ß, stays as it
/// is.
fn upper_case(unit: u16) -> u16 {
    let Some(letter) = char::from_u32(unit.into()) else { return unit };
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper.try_into().unwrap_or(unit),
        _ => unit,
    }
}

/// `ComputeResponse` ([MS-NLMP] 3.3.2). `time` is a FILETIME, `target_info` a terminated list of `AV_PAIR`.
pub(crate) fn response(key: &Key, server: [u8; 8], client: [u8; 8], time: u64, target_info: &[u8]) -> Response {
    // `RespType`, `HiRespType`, and reserved bytes of `NTLMv2_CLIENT_CHALLENGE` ([MS-NLMP] 2.2.2.7).
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

/// The integrity code over all three messages, with zeros in its own place in the last ([MS-NLMP] 3.1.5.1.2).
pub(crate) fn mic(session_key: &Key, messages: [&[u8]; 3]) -> [u8; 16] {
    *hmac_md5(session_key, messages)
}

/// The client's first signature, with extended session security and without key exchange ([MS-NLMP] 3.4.4.2).
pub(crate) fn signature(session_key: &Key, message: &[u8]) -> [u8; 16] {
    let mut signing_key = Md5::new();
    signing_key.update(**session_key);
    signing_key.update(SIGNING_KEY_MAGIC);
    let signing_key: Key = Zeroizing::new(signing_key.finalize().into());
    let checksum = hmac_md5(&signing_key, [&[0; 4], message]);
    // Version 1, the first half of the checksum, sequence number 0.
    let mut signature = [0; 16];
    for (to, from) in signature.iter_mut().zip([1, 0, 0, 0].iter().chain(checksum.iter().take(8))) {
        *to = *from;
    }
    signature
}

fn hmac_md5<P: AsRef<[u8]>>(key: &Key, parts: impl IntoIterator<Item = P>) -> Key {
    // A key shorter than the hash's block is padded with zeros (RFC 2104).
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

    /// [MS-NLMP] 4.2.1 and 4.2.4: the example in the specification.
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

    /// The user name is case-insensitive, its domain is case-sensitive, and characters without upper case stay.
    #[test]
    fn upper_case_of_names() {
        let key = |user, domain| *response_key(user, domain, "hush");
        assert_eq!(key("jürgen", "D"), key("JÜRGEN", "D"));
        assert_eq!(key("пётр", "D"), key("ПЁТР", "D"));
        assert_ne!(key("bob", "D"), key("bob", "d"));
        for (unit, upper) in [('ß', 'ß'), ('ﬁ', 'ﬁ'), ('ÿ', 'Ÿ'), ('µ', 'Μ'), ('\u{fffd}', '\u{fffd}')] {
            assert_eq!(u16::try_from(upper), Ok(upper_case(unit.try_into().unwrap())), "{unit}");
        }
        assert_eq!(upper_case(0xd801), 0xd801, "half of a surrogate pair");
    }
}
