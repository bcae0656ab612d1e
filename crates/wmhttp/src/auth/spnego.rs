//! SPNEGO tokens (RFC 4178) in DER, for a client that offers only NTLM.

/// The object identifier of SPNEGO, 1.3.6.1.5.5.2, in DER.
const SPNEGO: &[u8] = b"\x06\x06\x2b\x06\x01\x05\x05\x02";
/// The object identifier of NTLM, 1.3.6.1.4.1.311.2.2.10, in DER.
pub(super) const NTLM: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";

/// The DER tags that occur in the tokens.
mod tag {
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const ENUMERATED: u8 = 0x0a;
    pub(super) const SEQUENCE: u8 = 0x30;
    /// `[APPLICATION 0]`: a GSS-API token (RFC 2743, 3.1).
    pub(super) const INITIAL_TOKEN: u8 = 0x60;
    /// `[n]`, explicit.
    pub(super) const fn context(number: u8) -> u8 {
        0xa0 | number
    }
}

/// `negState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NegState {
    Completed,
    Incomplete,
    Rejected,
    MicRequested,
}

/// A server's token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NegTokenResp<'a> {
    pub(super) state: Option<NegState>,
    /// The mechanism that the server chose, as an object identifier in DER.
    pub(super) mechanism: Option<&'a [u8]>,
    /// The mechanism's own token.
    pub(super) token: Option<&'a [u8]>,
}

/// The list of mechanisms that the client offers, in the form that its signature covers.
pub(super) fn mechanisms() -> Vec<u8> {
    element(tag::SEQUENCE, &[NTLM])
}

/// Returns the first token: `NegTokenInit` with an NTLM token.
pub(super) fn initial(token: &[u8]) -> Vec<u8> {
    let mechanisms = element(tag::context(0), &[&mechanisms()]);
    let token = element(tag::context(2), &[&element(tag::OCTET_STRING, &[token])]);
    let init = element(tag::context(0), &[&element(tag::SEQUENCE, &[&mechanisms, &token])]);
    element(tag::INITIAL_TOKEN, &[SPNEGO, &init])
}

/// Returns the client's last token: `NegTokenResp` with an NTLM token and the signature of [`mechanisms`].
pub(super) fn response(token: &[u8], signature: Option<&[u8]>) -> Vec<u8> {
    // `accept-incomplete`, because the server decides.
    let state = element(tag::context(0), &[&element(tag::ENUMERATED, &[&[1]])]);
    let token = element(tag::context(2), &[&element(tag::OCTET_STRING, &[token])]);
    let signature = signature.map(|signature| element(tag::context(3), &[&element(tag::OCTET_STRING, &[signature])]));
    let parts: [&[u8]; 3] = [&state, &token, signature.as_deref().unwrap_or_default()];
    element(tag::context(1), &[&element(tag::SEQUENCE, &parts)])
}

impl<'a> NegTokenResp<'a> {
    /// Parses a token; `None` if it is not a `NegTokenResp`.
    pub(super) fn parse(token: &'a [u8]) -> Option<Self> {
        let mut fields = whole(whole(token, tag::context(1))?, tag::SEQUENCE)?;
        let (mut state, mut mechanism, mut token) = (None, None, None);
        while !fields.is_empty() {
            let (found, contents, rest) = split(fields)?;
            if found == tag::context(0) {
                state = Some(match whole(contents, tag::ENUMERATED)? {
                    [0] => NegState::Completed,
                    [1] => NegState::Incomplete,
                    [2] => NegState::Rejected,
                    [3] => NegState::MicRequested,
                    _ => return None,
                });
            } else if found == tag::context(1) {
                mechanism = Some(contents);
            } else if found == tag::context(2) {
                token = Some(whole(contents, tag::OCTET_STRING)?);
            }
            fields = rest;
        }
        Some(Self { state, mechanism, token })
    }
}

/// Encodes a DER element: tag, length, contents.
fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let mut element = vec![tag];
    let len = contents.len().to_be_bytes();
    let digits = len.iter().copied().skip_while(|digit| *digit == 0).collect::<Vec<u8>>();
    match *digits.as_slice() {
        [] => element.push(0),
        [short @ 0..0x80] => element.push(short),
        // The length takes up to the number of bytes of a usize.
        _ => {
            element.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
            element.extend(digits);
        }
    }
    element.extend(contents);
    element
}

/// Splits off the first element: its tag, its contents, and the rest.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (len, rest) = match first {
        ..0x80 => (usize::from(first), rest),
        _ => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            // No token has 2^32 bytes or more. 0x80 alone means an indefinite length, which DER does not allow.
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            let len = digits.iter().fold(0_u32, |len, digit| (len << 8) | u32::from(*digit));
            (usize::try_from(len).ok()?, rest)
        }
    };
    let (contents, rest) = rest.split_at_checked(len)?;
    Some((tag, contents, rest))
}

/// Returns the contents if the bytes are exactly one element with this tag.
fn whole(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    split(bytes).filter(|(found, _, rest)| *found == tag && rest.is_empty()).map(|(_, contents, _)| contents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_token() {
        let expected =
            b"\x60\x25\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x1b\x30\x19\xa0\x0e\x30\x0c\x06\x0a\x2b\x06\x01\x04\
            \x01\x82\x37\x02\x02\x0a\xa2\x07\x04\x05hello";
        assert_eq!(initial(b"hello"), expected);
    }

    #[test]
    fn the_answer() {
        let expected = b"\xa1\x12\x30\x10\xa0\x03\x0a\x01\x01\xa2\x03\x04\x01a\xa3\x04\x04\x02bc";
        assert_eq!(response(b"a", Some(b"bc")), expected);
        assert_eq!(response(b"a", None), b"\xa1\x0c\x30\x0a\xa0\x03\x0a\x01\x01\xa2\x03\x04\x01a");
    }

    #[test]
    fn lengths() {
        for len in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let contents = vec![7; len];
            let made = element(tag::OCTET_STRING, &[&contents]);
            assert_eq!(whole(&made, tag::OCTET_STRING), Some(contents.as_slice()));
            assert_eq!(whole(&made[..made.len() - 1], tag::OCTET_STRING), None, "{len}");
        }
        assert_eq!(element(4, &[&[0; 200]])[..3], [4, 0x81, 200]);
        assert_eq!(element(4, &[&[0; 300]])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn a_servers_answer() {
        let answer = [&b"\xa1\x1a\x30\x18\xa0\x03\x0a\x01\x01\xa1\x0c"[..], NTLM, b"\xa2\x03\x04\x01x"].concat();
        let expected = NegTokenResp { state: Some(NegState::Incomplete), mechanism: Some(NTLM), token: Some(b"x") };
        assert_eq!(NegTokenResp::parse(&answer), Some(expected));
        for nonsense in
            [&b""[..], b"\xa1\x80", b"\xa1\x85\0\0\0\0\0", b"\xa1\x02\x30\x01", b"\xa1\x07\x30\x05\xa0\x03\x0a\x01\x04"]
        {
            assert_eq!(NegTokenResp::parse(nonsense), None, "{nonsense:?}");
        }
    }

    proptest! {
        #[test]
        fn any_answer(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = NegTokenResp::parse(&bytes);
            let wrapped = element(tag::context(1), &[&element(tag::SEQUENCE, &[&bytes])]);
            let _ = NegTokenResp::parse(&wrapped);
        }
    }
}
