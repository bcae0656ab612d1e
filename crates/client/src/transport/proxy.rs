//! Proxies: those of the environment, and the configuration of the HTTP library.

use std::error::Error;
use std::ffi::OsString;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use wmhttp::auth::{Login, Secret};
use wmhttp::failure::Cause;
use wmhttp::proxy::{Proxy, ProxyConfig};

/// Returns the proxy configuration of the environment: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in
/// lower or upper case. `login` overrides the credentials in them. An invalid variable is an error for the URLs that it
/// applies to, because silently bypassing a proxy is never what the user wants.
pub fn from_environment(login: Login) -> ProxyConfig {
    // In a CGI program, the client controls HTTP_PROXY through its request header Proxy.
    if std::env::var_os("REQUEST_METHOD").is_some() {
        return ProxyConfig::Direct;
    }
    from_variables(Environment::read(|name| std::env::var_os(name)), login)
}

/// The rule that selects the proxy of a URL from the variables.
fn from_variables(environment: Environment, login: Login) -> ProxyConfig {
    ProxyConfig::Rule(std::sync::Arc::new(move |url| {
        let mut found = environment.proxy_for(url)?;
        if let Some(proxy) = found.as_mut().filter(|_| login.user.is_some()) {
            proxy.login = login.clone();
        }
        Ok(found)
    }))
}

/// Splits a proxy setting into a URL without credentials, and the credentials. `host:port` without a scheme is
/// accepted.
pub fn split_from(text: &str) -> (String, Login) {
    let scheme = if text.contains("://") { "" } else { "http://" };
    let text = Secret::new([scheme, text].concat());
    let (url, login) = Login::split_from(text.reveal());
    (url.into_owned(), login)
}

/// The values of the variables, or why one is invalid.
struct Environment {
    http: Result<Option<Proxy>, String>,
    https: Result<Option<Proxy>, String>,
    /// The rules of `no_proxy` in the form of the library; the proxy in them is a placeholder.
    intercepted: Result<Matcher, String>,
}

impl Environment {
    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let first = |names: [&'static str; 2]| {
            let (name, value) = names.into_iter().find_map(|name| Some((name, variable(name)?)))?;
            let value = value.into_string();
            Some((name, value.map_err(|_| format!("the environment variable {name} is not UTF-8"))))
        };
        let proxy = |names| {
            first(names).map_or(Ok(None), |(name, value)| match value?.trim() {
                "" => Ok(None),
                text => parse(name, text).map(Some),
            })
        };
        // The variable of a scheme takes precedence over the one for all schemes.
        let all = proxy(["ALL_PROXY", "all_proxy"]);
        let or_all = |own: Result<Option<Proxy>, String>| match own {
            Ok(None) => all.clone(),
            own => own,
        };
        let no = first(["NO_PROXY", "no_proxy"]).map_or(Ok(String::new()), |(_, value)| value);
        Self {
            http: or_all(proxy(["HTTP_PROXY", "http_proxy"])),
            https: or_all(proxy(["HTTPS_PROXY", "https_proxy"])),
            intercepted: no.map(|no| Matcher::builder().all("http://proxy.invalid").no(no).build()),
        }
    }

    /// The proxy for `url`, unless `no_proxy` exempts its host.
    fn proxy_for(&self, url: &Url) -> Result<Option<Proxy>, String> {
        let of_scheme = if url.scheme() == "https" { &self.https } else { &self.http };
        if let Ok(None) = of_scheme {
            return Ok(None);
        }
        let intercepted = self.intercepted.as_ref().map_err(Clone::clone)?;
        match url.as_str().parse::<Uri>() {
            Ok(uri) if intercepted.intercept(&uri).is_some() => of_scheme.clone(),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

/// Parses the proxy in the variable `name`. The error does not contain the value, because that may include a password.
fn parse(name: &str, text: &str) -> Result<Proxy, String> {
    let (url, login) = split_from(text);
    let unusable = |why: &dyn std::fmt::Display| format!("the environment variable {name} is not a proxy URL ({why})");
    let mut url = Url::parse(&url).map_err(|error| unusable(&error))?;
    if !url.has_host() {
        return Err(unusable(&url::ParseError::EmptyHost));
    }
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(Proxy { url, login })
}

/// Configures the library. It supports only Basic, so it is used only for CONNECT, where nothing else is possible; for
/// plain HTTP requests, the session handles a 407.
pub(super) fn apply(builder: reqwest::ClientBuilder, proxy: Option<&Proxy>, https: bool) -> reqwest::ClientBuilder {
    let Some(proxy) = proxy else { return builder.no_proxy() };
    // A URL that is not a valid proxy was rejected before.
    let Ok(mut rule) = reqwest::Proxy::all(proxy.url.clone()) else { return builder.no_proxy() };
    if let Some(login) = proxy.login.credentials().filter(|_| https) {
        rule = rule.basic_auth(&login.user, login.password.reveal());
    }
    builder.proxy(rule)
}

/// Returns the cause of a failed CONNECT. The library's error type is private, but its text is known.
pub(super) fn tunnel_cause(error: &(dyn Error + 'static)) -> Option<Cause> {
    match error.to_string().strip_prefix("tunnel error: ")? {
        "proxy authorization required" => Some(Cause::ProxyDenied),
        // The proxy itself was not reached; the cause is further down in the chain.
        "failed to create underlying connection" => None,
        _ => Some(Cause::ProxyNoTunnel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Environment::read(|name| found(name).map(|(_, value)| OsString::from(value)))
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn proxies_of_the_environment() {
        let variables = || {
            environment(&[
                ("http_proxy", "http://b%40b:p%3aw@proxy.example:3128"),
                ("HTTPS_PROXY", "tls.example:8080"),
                ("no_proxy", "localhost, 10.0.0.0/8, .direct.example"),
            ])
        };
        let choice = from_variables(variables(), Login::default());
        let found = choice.proxy_for(&url("http://media.example/concert;x")).unwrap().unwrap();
        assert_eq!(found.url.as_str(), "http://proxy.example:3128/");
        let login = found.login.credentials().unwrap();
        assert_eq!((login.user.as_str(), login.password.reveal()), ("b@b", "p:w"));
        let found = choice.proxy_for(&url("https://media.example/concert")).unwrap().unwrap();
        assert_eq!((found.url.as_str(), found.login), ("http://tls.example:8080/", Login::default()));
        for direct in ["http://localhost/x", "http://10.1.2.3:80/x", "http://a.direct.example/x"] {
            assert_eq!(choice.proxy_for(&url(direct)), Ok(None), "{direct}");
        }
        let own = Login { user: Some("me".to_owned()), password: Some(Secret::new("mine")) };
        let found = from_variables(variables(), own.clone()).proxy_for(&url("http://media.example/")).unwrap().unwrap();
        assert_eq!(found.login, own);
    }

    #[test]
    fn a_domain_user_of_the_environment_is_read() {
        let found = environment(&[("all_proxy", "CORP\\bob:hush@proxy:3128")]).proxy_for(&url("http://a/")).unwrap();
        let Proxy { url, login } = found.unwrap();
        assert_eq!((url.as_str(), login.user.as_deref()), ("http://proxy:3128/", Some("CORP\\bob")));
        assert_eq!(login.password.unwrap().reveal(), "hush");
    }

    #[test]
    fn an_invalid_variable_is_an_error_if_it_applies() {
        for text in ["http://127.0.0.1:99999", "http://[bad:3128", "http://bob:hush@", "a b", "http:///x y"] {
            let variables = environment(&[("http_proxy", text), ("no_proxy", "near")]);
            let error = variables.proxy_for(&url("http://far/")).unwrap_err();
            assert!(error.contains(" http_proxy ") && !error.contains("hush"), "{text}: {error}");
            assert_eq!(variables.proxy_for(&url("http://near/")), Ok(None), "no_proxy");
            assert_eq!(variables.proxy_for(&url("https://far/")), Ok(None), "it applies to http only");
        }
        assert_eq!(environment(&[("http_proxy", " ")]).proxy_for(&url("http://far/")), Ok(None));
    }

    #[cfg(unix)]
    #[test]
    fn non_utf8_bytes_are_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let unreadable = || OsString::from_vec(vec![b'a', 0xFF]);
        let proxy = Environment::read(|name| (name == "http_proxy").then(unreadable));
        assert!(proxy.proxy_for(&url("http://far/")).unwrap_err().contains(" http_proxy "));
        let exceptions = Environment::read(|name| match name {
            "no_proxy" => Some(unreadable()),
            "http_proxy" => Some("proxy:3128".into()),
            _ => None,
        });
        assert!(exceptions.proxy_for(&url("http://far/")).unwrap_err().contains(" no_proxy "));
        assert_eq!(exceptions.proxy_for(&url("https://far/")), Ok(None), "without a proxy there are no exceptions");
    }
}
