//! Parses `WWW-Authenticate` and `Proxy-Authenticate` (RFC 9110 11.6.1), and the malformed variants that servers send:
//! several challenges in one header or in several, values without quotes, any case, missing spaces (receivers, HTTP 5).

use http::header::{HeaderMap, HeaderName};

use super::Scheme;
use crate::headers::lenient_text;

/// Maximum number of challenges that are read from one response.
const MAX_CHALLENGES: usize = 16;
/// Maximum number of parameters that are kept per challenge.
const MAX_PARAMETERS: usize = 32;

/// One scheme offered by the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme's name as the peer wrote it.
    pub(super) name: String,
    /// The token after the scheme's name, for schemes that use a single token.
    pub(super) token: Option<String>,
    /// Parameter names in lower case, and values without quotes.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns all challenges of a response in their order.
    pub(super) fn read(headers: &HeaderMap, name: &HeaderName) -> Vec<Self> {
        let mut challenges = Vec::new();
        for value in headers.get_all(name) {
            challenges.extend(parse(&lenient_text(value)));
        }
        challenges.truncate(MAX_CHALLENGES);
        challenges
    }

    /// Parses an `Authorization` value, which has the same syntax; the first one if there are several.
    pub(crate) fn first(text: &str) -> Option<Self> {
        parse(text).into_iter().next()
    }

    pub(super) fn is(&self, scheme: Scheme) -> bool {
        self.name.eq_ignore_ascii_case(scheme.name())
    }

    /// Returns the parameter with this lower-case name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter has the value `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether a token may follow the scheme's name.
    fn takes_token(&self) -> bool {
        self.token.is_none() && (self.is(Scheme::Ntlm) || self.is(Scheme::Negotiate))
    }
}

/// Parses the challenges in one header value. Nothing is an error: what cannot be read is skipped.
fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start_matches(is_gap);
    while !rest.is_empty() {
        // A word is a parameter's name if `=` follows, and otherwise a scheme's name. A token is recognised only after
        // a scheme that uses one, because it looks like either.
        let (word, after) = word(rest);
        let spaced = after.trim_start_matches(is_blank);
        let current = challenges.last_mut();
        rest = if word.is_empty() {
            // Skip a stray character.
            let mut chars = rest.chars();
            chars.next();
            chars.as_str()
        } else if let Some((token, after)) = current.as_ref().filter(|c| c.takes_token()).and_then(|_| token(rest)) {
            if let Some(challenge) = current {
                challenge.token = Some(token.to_owned());
            }
            after
        } else if let Some(after) = spaced.strip_prefix('=') {
            let (value, after) = value(after.trim_start_matches(is_blank));
            if let Some(challenge) = current.filter(|challenge| challenge.parameters.len() < MAX_PARAMETERS) {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
            after
        } else if word.eq_ignore_ascii_case("auth") || word.eq_ignore_ascii_case("auth-int") {
            // The remainder of an unquoted `qop=auth,auth-int`.
            if let Some((_, value)) =
                current.and_then(|challenge| challenge.parameters.last_mut().filter(|(name, _)| name == "qop"))
            {
                value.push(',');
                value.push_str(word);
            }
            after
        } else {
            challenges.push(Challenge { name: word.to_owned(), ..Challenge::default() });
            after
        }
        .trim_start_matches(is_gap);
    }
    challenges
}

/// Whether a character separates the words of one challenge.
fn is_blank(letter: char) -> bool {
    letter == ' ' || letter == '\t'
}

/// Whether a character may separate challenges, or the parameters of one.
fn is_gap(letter: char) -> bool {
    is_blank(letter) || letter == ','
}

/// Splits off a name, up to the first character that ends one.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|letter| is_gap(letter) || letter == '=' || letter == '"').unwrap_or(text.len()))
}

/// Splits off a token68, unless the text begins with another challenge or with a parameter.
fn token(text: &str) -> Option<(&str, &str)> {
    let (token, after) = text.split_at(text.find(is_gap).unwrap_or(text.len()));
    let body = token.trim_end_matches('=');
    let is_token = body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
    let another = [Scheme::Negotiate, Scheme::Ntlm, Scheme::Digest, Scheme::Basic];
    let is_name = another.iter().any(|scheme| body.eq_ignore_ascii_case(scheme.name()));
    (is_token && !is_name && !body.is_empty()).then_some((token, after))
}

/// Splits off a value with or without quotes.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_at(text.find(is_gap).unwrap_or(text.len()));
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(letter) = chars.next() {
        match letter {
            '"' => break,
            '\\' => value.extend(chars.next()),
            _ => value.push(letter),
        }
    }
    (value, chars.as_str())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::WWW_AUTHENTICATE;

    use super::*;

    /// Name, token and parameters of each challenge on one line.
    fn shown(lines: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let one = |challenge: &Challenge| {
            let mut text = challenge.name.clone();
            if let Some(token) = &challenge.token {
                text.push_str(&format!(" <{token}>"));
            }
            for (name, value) in &challenge.parameters {
                text.push_str(&format!(" {name}[{value}]"));
            }
            text
        };
        Challenge::read(&headers, &WWW_AUTHENTICATE).iter().map(one).collect()
    }

    #[test]
    fn one_header_or_several() {
        let three = ["Negotiate", "NTLM", "Digest realm[a, \"b\"] nonce[n] qop[auth]"];
        assert_eq!(shown(&["Negotiate", "NTLM", r#"Digest realm="a, \"b\"", nonce="n", qop="auth""#]), three);
        assert_eq!(shown(&[r#"Negotiate, NTLM, Digest realm="a, \"b\"", nonce="n", qop="auth""#]), three);
        assert_eq!(
            shown(&[r#"Digest realm="a",nonce="n",Basic realm="b""#]),
            ["Digest realm[a] nonce[n]", "Basic realm[b]"]
        );
        assert_eq!(shown(&[r#"Basic realm="b",NTLM,Negotiate"#]), ["Basic realm[b]", "NTLM", "Negotiate"]);
    }

    /// Receivers, HTTP 5.
    #[test]
    fn without_quotes_blanks_and_case() {
        assert_eq!(
            shown(&["Digest qop=auth,algorithm=MD5,realm=live,nonce=0a1b==,opaque=xyz"]),
            ["Digest qop[auth] algorithm[MD5] realm[live] nonce[0a1b==] opaque[xyz]"]
        );
        assert_eq!(
            shown(&["dIGEST Realm = \"x\" , NONCE= n,qop=auth,auth-int,stale=TRUE"]),
            ["dIGEST realm[x] nonce[n] qop[auth,auth-int] stale[TRUE]"]
        );
        assert_eq!(shown(&["basic realm=\"ü\""]), ["basic realm[ü]"]);
    }

    #[test]
    fn tokens() {
        assert_eq!(shown(&["NTLM TlRMTVNTUAACAA=="]), ["NTLM <TlRMTVNTUAACAA==>"]);
        assert_eq!(shown(&["negotiate oYG2/+x=, Basic realm=a"]), ["negotiate <oYG2/+x=>", "Basic realm[a]"]);
        assert_eq!(shown(&["NTLM Negotiate"]), ["NTLM", "Negotiate"]);
    }

    #[test]
    fn malformed_challenges_do_not_panic() {
        for text in
            ["", ",", "=", "\"", "\"\"\"", "Digest \"", "Digest realm=\"", "Digest =,=", "Digest realm=\"\\", "a=b"]
        {
            shown(&[text]);
        }
        assert_eq!(shown(&[&"Basic, ".repeat(100)]).len(), MAX_CHALLENGES);
        let long = format!("Digest {}", "a=b, ".repeat(100));
        assert_eq!(shown(&[&long])[0].matches("a[b]").count(), MAX_PARAMETERS);
        assert_eq!(Challenge::read(&HeaderMap::new(), &WWW_AUTHENTICATE), []);
    }
}
