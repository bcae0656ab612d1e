//! The way through a proxy: whose rules name it, and what the library is told of it.

use std::error::Error;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

use wmhttp::auth::{Login, Secret};
use wmhttp::failure::Cause;
use wmhttp::proxy::{Proxy, ProxyConfig};

/// As the environment says now: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in either case.
/// `login` counts instead of the credentials there.
pub fn by_environment(login: Login) -> ProxyConfig {
    by(Matcher::from_env(), login)
}

fn by(matcher: Matcher, login: Login) -> ProxyConfig {
    ProxyConfig::Rule(std::sync::Arc::new(move |url| {
        let found = matcher.intercept(&url.as_str().parse::<Uri>().ok()?)?;
        let url = Url::parse(&found.uri().to_string()).ok()?;
        let login = if login.user.is_some() { login.clone() } else { login_of(&found).unwrap_or_default() };
        Some(Proxy { url, login })
    }))
}

/// The library keeps the credentials of a proxy's URL ready for the wire only.
fn login_of(found: &Intercept) -> Option<Login> {
    let basic = found.basic_auth()?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(basic).ok()?).ok()?;
    let (id, password) = text.split_once(':')?;
    Some(Login { user: Some(id.to_owned()), password: Some(Secret::new(password)) })
}

/// What the library is to do. It knows only Basic, and only at CONNECT is there no other way than its own;
/// plain requests carry what the session makes of a 407.
pub(super) fn apply(builder: reqwest::ClientBuilder, proxy: Option<&Proxy>, https: bool) -> reqwest::ClientBuilder {
    let Some(proxy) = proxy else { return builder.no_proxy() };
    // A URL that cannot be a proxy's never comes here.
    let Ok(mut rule) = reqwest::Proxy::all(proxy.url.clone()) else { return builder.no_proxy() };
    if let Some(login) = proxy.login.credentials().filter(|_| https) {
        rule = rule.basic_auth(&login.user, login.password.reveal());
    }
    builder.proxy(rule)
}

/// What a CONNECT that failed says; the library's type for it cannot be named, its text can.
pub(super) fn of_tunnel(error: &(dyn Error + 'static)) -> Option<Cause> {
    match error.to_string().strip_prefix("tunnel error: ")? {
        "proxy authorization required" => Some(Cause::ProxyDenied),
        // The cause is further down: the proxy was not reached.
        "failed to create underlying connection" => None,
        _ => Some(Cause::ProxyNoTunnel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules are the library's; the credentials come out of it as they went in.
    #[test]
    fn the_environment_names_a_proxy() {
        let matcher = || {
            Matcher::builder()
                .http("http://b%40b:p%3aw@proxy.example:3128")
                .https("tls.example:8080")
                .no("localhost, 10.0.0.0/8, .direct.example")
                .build()
        };
        let url = |text: &str| Url::parse(text).unwrap();
        let choice = by(matcher(), Login::default());
        let found = choice.proxy_for(&url("http://media.example/concert;x")).unwrap();
        assert_eq!(found.url.as_str(), "http://proxy.example:3128/");
        let login = found.login.credentials().unwrap();
        assert_eq!((login.user.as_str(), login.password.reveal()), ("b@b", "p:w"));
        let found = choice.proxy_for(&url("https://media.example/concert")).unwrap();
        assert_eq!((found.url.as_str(), found.login), ("http://tls.example:8080/", Login::default()));
        for direct in ["http://localhost/x", "http://10.1.2.3:80/x", "http://a.direct.example/x"] {
            assert_eq!(choice.proxy_for(&url(direct)), None, "{direct}");
        }
        let own = Login { user: Some("me".to_owned()), password: Some(Secret::new("mine")) };
        let found = by(matcher(), own.clone()).proxy_for(&url("http://media.example/")).unwrap();
        assert_eq!(found.login, own);
    }
}
