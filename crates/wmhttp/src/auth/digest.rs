//! Digest authentication (RFC 7616), also without qop as in RFC 2069, with MD5 and SHA-256 and their session variants.
//!
//! Once the nonce is known, each request carries its own response with a request counter.

use md5::Md5;
use sha2::Sha256;
use sha2::digest::Digest as Hash;

use super::{Challenge, Credentials, InitialState, Mechanism, RequestLine, Secret};

struct Algorithm {
    name: &'static str,
    hash: fn(&[&str]) -> Secret,
    /// Whether the hash of user and password also covers the nonce (`-sess`).
    session: bool,
}

/// The strongest algorithm comes first.
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm { name: "SHA-256", hash: hash::<Sha256>, session: false },
    Algorithm { name: "SHA-256-sess", hash: hash::<Sha256>, session: true },
    Algorithm { name: "MD5", hash: hash::<Md5>, session: false },
    Algorithm { name: "MD5-sess", hash: hash::<Md5>, session: true },
];

/// The algorithm of a challenge without `algorithm`.
const DEFAULT_ALGORITHM: &str = "MD5";

/// Returns the hash of the parts, joined by colons, as lower-case hexadecimal digits.
pub(crate) fn hash<H: Hash>(parts: &[&str]) -> Secret {
    let mut hash = H::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(":");
        }
        hash.update(part);
    }
    Secret::new(hexadecimal(&hash.finalize()))
}

/// Computes the `response` parameter for a challenge with this nonce. `secret` is the hash of user, realm and password,
/// and `request` that of method and target. `counted` holds the nonce count and the cnonce if the challenge has a qop,
/// which is `auth`.
pub(crate) fn response(
    hash: fn(&[&str]) -> Secret,
    secret: &str,
    nonce: &str,
    counted: Option<(&str, &str)>,
    request: &str,
) -> Secret {
    match counted {
        Some((count, cnonce)) => hash(&[secret, nonce, count, cnonce, "auth", request]),
        None => hash(&[secret, nonce, request]),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The strength of a challenge's algorithm as an index in [`ALGORITHMS`]; `None` if it is not supported.
fn rank(challenge: &Challenge) -> Option<usize> {
    let name = challenge.get("algorithm").unwrap_or(DEFAULT_ALGORITHM);
    ALGORITHMS.iter().position(|algorithm| algorithm.name.eq_ignore_ascii_case(name))
}

/// Whether a challenge has a nonce, and no qop other than those supported.
fn is_answerable(challenge: &Challenge) -> bool {
    challenge.get("nonce").is_some() && (challenge.get("qop").is_none() || has_qop_auth(challenge))
}

/// Whether qop `auth` is offered. `auth-int` would have to hash the whole body, which a PushStart does not have in
/// advance.
fn has_qop_auth(challenge: &Challenge) -> bool {
    challenge.get("qop").is_some_and(|qop| qop.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth")))
}

/// Returns the challenge with the strongest supported algorithm.
pub(super) fn strongest<'a>(challenges: &[&'a Challenge]) -> Option<&'a Challenge> {
    let answerable = challenges.iter().copied().filter(|challenge| is_answerable(challenge));
    let ranked = answerable.filter_map(|challenge| rank(challenge).map(|rank| (rank, challenge)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, challenge)| challenge)
}

pub(super) fn begin(initial: &InitialState<'_>) -> Result<Box<dyn Mechanism>, String> {
    if initial.credentials.user.chars().any(char::is_control) {
        return Err("a user name with control characters cannot be sent in HTTP".to_owned());
    }
    Ok(Box::new(Digest::new(initial.challenge, initial.credentials.clone(), initial.random)?))
}

#[derive(Debug)]
struct Digest {
    credentials: Credentials,
    random: fn() -> [u8; 16],
    nonce: Nonce,
}

/// The state that belongs to one nonce.
#[derive(Debug)]
struct Nonce {
    challenge: Challenge,
    /// Index in [`ALGORITHMS`].
    rank: usize,
    cnonce: String,
    /// Number of requests sent with this nonce.
    count: u32,
}

impl Digest {
    fn new(challenge: &Challenge, credentials: Credentials, random: fn() -> [u8; 16]) -> Result<Self, String> {
        Ok(Self { credentials, random, nonce: Nonce::new(challenge, random)? })
    }
}

impl Nonce {
    fn new(challenge: &Challenge, random: fn() -> [u8; 16]) -> Result<Self, String> {
        let rank = rank(challenge).filter(|_| is_answerable(challenge));
        let rank = rank.ok_or_else(|| {
            "its Digest challenge has no nonce, or requires an unsupported algorithm or qop".to_owned()
        })?;
        Ok(Self { challenge: challenge.clone(), rank, cnonce: hexadecimal(&random()), count: 0 })
    }

    fn get(&self, name: &str) -> &str {
        self.challenge.get(name).unwrap_or_default()
    }
}

impl Mechanism for Digest {
    fn authorize(&mut self, line: RequestLine<'_>) -> Option<Secret> {
        let nonce = &mut self.nonce;
        nonce.count = nonce.count.saturating_add(1);
        let count = format!("{:08x}", nonce.count);
        let algorithm = ALGORITHMS.get(nonce.rank)?;
        let hash = algorithm.hash;
        let (user, password) = (self.credentials.user.as_str(), self.credentials.password.reveal());
        let (realm, server_nonce) = (nonce.get("realm"), nonce.get("nonce"));

        let mut secret = hash(&[user, realm, password]);
        if algorithm.session {
            secret = hash(&[secret.reveal(), server_nonce, &nonce.cnonce]);
        }
        let request = hash(&[line.method, line.target]);
        let qop = has_qop_auth(&nonce.challenge);
        let counted = qop.then_some((count.as_str(), nonce.cnonce.as_str()));
        let response = response(hash, secret.reveal(), server_nonce, counted, request.reveal());

        let mut value = String::from("Digest ");
        // The server announces whether it wants the user name hashed, and whether it decodes an extended one (RFC 7616
        // 3.3).
        if nonce.challenge.is_true("userhash") {
            value.push_str(&format!("username=\"{}\", userhash=true", hash(&[user, realm]).reveal()));
        } else if !user.is_ascii() && nonce.get("charset").eq_ignore_ascii_case("UTF-8") {
            value.push_str(&format!("username*=UTF-8''{}", percent_encoded(user)));
        } else {
            value.push_str(&format!("username={}", quoted(user)));
        }
        value.push_str(&format!(
            ", realm={}, nonce={}, uri={}, response=\"{}\"",
            quoted(realm),
            quoted(server_nonce),
            quoted(line.target),
            response.reveal()
        ));
        // Echoed only if it was sent: an RFC 2069 server may reject parameters that it does not know.
        if let Some(name) = nonce.challenge.get("algorithm") {
            value.push_str(&format!(", algorithm={name}"));
        }
        if let Some(opaque) = nonce.challenge.get("opaque") {
            value.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        if qop {
            value.push_str(&format!(", qop=auth, nc={count}, cnonce=\"{}\"", nonce.cnonce));
        } else if algorithm.session {
            value.push_str(&format!(", cnonce=\"{}\"", nonce.cnonce));
        }
        Some(Secret::new(value))
    }

    /// A challenge means rejection, unless it only replaces an expired nonce.
    fn challenged(&mut self, challenge: &Challenge) -> Result<bool, String> {
        if !challenge.is_true("stale") {
            return Ok(false);
        }
        self.nonce = Nonce::new(challenge, self.random)?;
        Ok(true)
    }
}

/// Encodes a quoted string (RFC 9110 5.6.4).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        if letter == '"' || letter == '\\' {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

/// Percent-encodes an extended parameter value (RFC 8187 3.2.1).
fn percent_encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

    use super::*;

    fn challenges(lines: &[&str]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Challenge::read(&headers, &WWW_AUTHENTICATE)
    }

    fn digest(line: &str, user: &str, password: &str) -> Digest {
        let challenge = challenges(&[line]).remove(0);
        Digest::new(&challenge, Credentials::new(user, password), || [0xA5; 16]).unwrap()
    }

    fn answer(digest: &mut Digest, method: &str, target: &str) -> Challenge {
        let value = digest.authorize(RequestLine { method, target }).unwrap();
        challenges(&[value.reveal()]).remove(0)
    }

    /// RFC 7616 3.9.1.
    #[test]
    fn rfc_7616_vectors() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let line = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let mut digest = digest(&line, "Mufasa", "Circle of Life");
            digest.nonce.cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ".to_owned();
            let answer = answer(&mut digest, "GET", "/dir/index.html");
            for (name, value) in [
                ("response", response),
                ("username", "Mufasa"),
                ("realm", "http-auth@example.org"),
                ("uri", "/dir/index.html"),
                ("algorithm", algorithm),
                ("nonce", "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"),
                ("nc", "00000001"),
                ("cnonce", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"),
                ("qop", "auth"),
                ("opaque", "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"),
            ] {
                assert_eq!(answer.get(name), Some(value), "{algorithm} {name}");
            }
        }
    }

    /// The expected values were computed with another implementation of MD5 and SHA-256.
    #[test]
    fn sessions_and_no_qop() {
        let line = |more: &str| format!("Digest realm=r, nonce=n{more}");
        for (more, response) in [
            ("", "04f84e74187b2a63bbd3db0ed9b7f559"),
            (", algorithm=md5, qop=auth", "c9b6911f9559a667dcff09da541372ee"),
            (", algorithm=MD5-sess, qop=\"auth\"", "114fda0db6b905e3a1ad47fe842f803f"),
            (", algorithm=SHA-256-sess, qop=auth", "5cdc18ff789b8bd4b714eb42bdd9dfdb5a3d371ceca0cfb8b6d6824310cced2a"),
        ] {
            let mut digest = digest(&line(more), "bob", "hush");
            let answer = answer(&mut digest, "POST", "/live;x?y=1");
            assert_eq!(answer.get("response"), Some(response), "{more}");
            assert_eq!(answer.get("nc").is_some(), more.contains("qop"), "{more}");
        }
    }

    #[test]
    fn counts_requests_and_takes_a_new_nonce() {
        let mut digest = digest("Digest realm=r, nonce=one, qop=auth", "bob", "hush");
        let mut seen = Vec::new();
        for _ in 0..2 {
            let answer = answer(&mut digest, "POST", "/");
            assert_eq!(answer.get("cnonce"), Some("a5".repeat(16).as_str()));
            seen.push((answer.get("nc").unwrap().to_owned(), answer.get("response").unwrap().to_owned()));
        }
        assert_eq!((seen[0].0.as_str(), seen[1].0.as_str()), ("00000001", "00000002"));
        assert_ne!(seen[0].1, seen[1].1);

        let fresh = challenges(&["Digest realm=r, nonce=two, qop=auth, stale=TRUE"]).remove(0);
        assert_eq!(digest.challenged(&fresh), Ok(true));
        let third = answer(&mut digest, "POST", "/");
        assert_eq!((third.get("nonce"), third.get("nc")), (Some("two"), Some("00000001")));

        let refusal = challenges(&["Digest realm=r, nonce=three, qop=auth, stale=false"]).remove(0);
        assert_eq!(digest.challenged(&refusal), Ok(false));
        let bad = challenges(&["Digest realm=r, qop=auth, stale=true"]).remove(0);
        assert!(digest.challenged(&bad).is_err());
    }

    #[test]
    fn the_strongest_that_can_be_answered() {
        for (lines, chosen) in [
            (&["Digest nonce=1, algorithm=MD5", "Digest nonce=2, algorithm=sha-256"][..], Some("2")),
            (&["Digest nonce=1, algorithm=SHA-512-256", "Digest nonce=2"], Some("2")),
            (&["Digest nonce=1, algorithm=SHA-256, qop=auth-int", "Digest nonce=2, algorithm=MD5-sess"], Some("2")),
            (&["Digest realm=r", "Digest nonce=1, algorithm=x"], None),
        ] {
            let read = challenges(lines);
            let chosen_one = strongest(&read.iter().collect::<Vec<_>>());
            assert_eq!(chosen_one.and_then(|challenge| challenge.get("nonce")), chosen, "{lines:?}");
        }
    }

    #[test]
    fn names_beyond_ascii_quotes_and_hashed_names() {
        let realm = "Digest realm=\"a \\\"b\\\"\", nonce=n, qop=auth";
        let mut plain = digest(realm, "D\\bob\"", "x");
        let value = plain.authorize(RequestLine { method: "POST", target: "/" }).unwrap();
        assert!(value.reveal().contains(r#"username="D\\bob\"", realm="a \"b\"""#), "{}", value.reveal());

        let mut utf8 = digest("Digest realm=r, nonce=n, charset=utf-8", "Jäsøn Doe", "x");
        let value = utf8.authorize(RequestLine { method: "POST", target: "/" }).unwrap();
        assert!(value.reveal().contains("username*=UTF-8''J%C3%A4s%C3%B8n%20Doe,"), "{}", value.reveal());

        let mut hashed = digest("Digest realm=r, nonce=n, userhash=true", "bob", "x");
        let answer = answer(&mut hashed, "POST", "/");
        assert_eq!(answer.get("username"), Some("80ef9c809180a110c2f718991000e7bf"));
        assert!(answer.is_true("userhash"));
    }
}
