//! Where a point pulls its stream from, and how that is configured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use url::Url;

use super::error::ConfigError;
use super::input::http_url;
use super::remote::{RedactedText, login, url_or_table};
use asfpush_client::publish::backoff;
use asfpush_client::transport::{self, proxy, tls, tls::Tls};
use wmhttp::auth::{Login, Methods};
use wmhttp::proxy::Proxy;
use wmhttp::pull;
use wmhttp::server::Policy;
use wmhttp::server::access::Scheme;
use wmhttp::via::Via;

/// Servers use the pull protocol only for players with this name. For this version they use its simplest form, without
/// metadata and bandwidth tests.
const USER_AGENT: &str = concat!("NSPlayer/4.1.0.3856 asf-publishing-point/", env!("CARGO_PKG_VERSION"));

/// The server that a point pulls its stream from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// The publishing point there, without credentials. If the path ends with `/`, the name of the local point is
    /// appended.
    pub url: Url,
    /// The credentials to use there.
    pub login: Login,
    /// Whether Basic is also used over plain HTTP, where others can read the password.
    pub basic_over_http: bool,
    /// Maximum delay between two attempts. After a permanent refusal, the delay is ten times as long.
    pub retry_delay_max: Duration,
    /// Pulls only while there are players, and for this time after the last player has left; `None` pulls always.
    pub on_demand: Option<Duration>,
    /// How long the stream may pause before the connection is considered lost.
    pub timeout: Duration,
    /// How long players keep their connections while the origin is unavailable.
    pub hold_time: Duration,
}

impl SourceConfig {
    /// The default of [`SourceConfig::timeout`].
    pub const TIMEOUT: Duration = Duration::from_secs(15);
    /// The default of [`SourceConfig::on_demand`] if a source is pulled on demand.
    pub const LINGER: Duration = Duration::from_secs(10);
    /// After a permanent refusal, the source waits this many times the longest delay before it tries again, because
    /// some servers block clients that often send wrong credentials.
    pub(crate) const REFUSED_RETRY_FACTOR: u32 = 10;
    /// Maximum time for the origin to respond and to send its header.
    const RESPONSE_TIMEOUT: Duration = Duration::from_secs(8);
    /// Maximum time for name lookup and TCP together.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Returns a source at `url`, with the credentials in the URL, if any. The scheme is `http:`, `https:`, or `mmsh:`
    /// or `mms:`, the names that players use for `http:`.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn at(url: &str) -> Result<Self, &'static str> {
        let (url, login) = Login::split_from(url);
        let is_mms = |(scheme, rest): (&str, &str)| {
            ["mmsh", "mms"].iter().any(|mms| scheme.eq_ignore_ascii_case(mms)).then(|| format!("http:{rest}"))
        };
        let as_http = url.split_once(':').and_then(is_mms);
        let mut url = http_url(as_http.as_deref().unwrap_or(&url))?;
        // Requests do not contain the fragment; without it, two URLs are equal if their requests are.
        url.set_fragment(None);
        Ok(Self {
            url,
            login,
            basic_over_http: false,
            retry_delay_max: backoff::Policy::default().delay_max,
            on_demand: None,
            timeout: Self::TIMEOUT,
            hold_time: Policy::default().idle_timeout,
        })
    }

    /// Returns the URL that the stream of the point `name` is pulled from.
    pub(crate) fn target(&self, name: &str) -> Url {
        super::relay::with_name(&self.url, name)
    }

    /// Returns the settings of a pull session of the point `name`. `pseudonym` is the server's name in the `Via`
    /// header, and `via` lists the servers that the request has passed.
    pub(crate) fn session(&self, name: &str, pseudonym: &str, via: Via) -> pull::Config {
        let url = self.target(name);
        // Basic sends the password in clear text, so over HTTP the operator must enable it.
        let basic = self.basic_over_http || url.scheme() == "https";
        pull::Config {
            url,
            user_agent: USER_AGENT.to_owned(),
            auth_methods: Methods { negotiate: false, ntlm: false, digest: true, basic },
            login: self.login.clone(),
            random: rand::random,
            via_pseudonym: pseudonym.to_owned(),
            via,
            https: tls::AVAILABLE,
            // A source with a short timeout must not wait longer for the header than for packets.
            response_timeout: Self::RESPONSE_TIMEOUT.min(self.timeout),
            stall_timeout: self.timeout,
        }
    }

    /// Returns the transport settings of connections to the origin.
    pub(crate) fn transport(&self) -> transport::Settings {
        transport::Settings {
            connect_timeout: Self::CONNECT_TIMEOUT,
            stall_timeout: self.timeout,
            local_address: None,
            dscp: None,
            tls: Tls::default(),
        }
    }

    /// Returns the proxy for `url` from the environment variables.
    ///
    /// # Errors
    /// If a variable does not name a valid proxy.
    pub(crate) fn proxy_for(&self, url: &Url) -> Result<Option<Arc<Proxy>>, String> {
        Ok(proxy::from_environment(Login::default()).proxy_for(url)?.map(Arc::new))
    }
}

/// A source as written in the file: a URL, or a table with one.
#[derive(Clone, Debug)]
pub struct RawSource(SourceTable);

/// The table of a source.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "expected a URL, or a table with `url` in it")]
struct SourceTable {
    url: Option<RedactedText>,
    user: Option<String>,
    password: Option<RedactedText>,
    password_file: Option<PathBuf>,
    auth: Option<Vec<String>>,
    #[serde(default, with = "humantime_serde")]
    retry_delay_max: Option<Duration>,
}

/// The keys of a point that define how its source is pulled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SourceKeys {
    pub(super) on_demand: Option<bool>,
    pub(super) linger: Option<Duration>,
    pub(super) timeout: Option<Duration>,
}

impl From<RedactedText> for SourceTable {
    fn from(url: RedactedText) -> Self {
        Self { url: Some(url), ..Self::default() }
    }
}

impl From<&str> for RawSource {
    fn from(url: &str) -> Self {
        Self(SourceTable::from(RedactedText(wmhttp::auth::Secret::new(url))))
    }
}

impl<'de> Deserialize<'de> for RawSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        url_or_table(deserializer).map(Self)
    }
}

impl RawSource {
    /// Converts to the source of the point `name`; reads its password file.
    ///
    /// # Errors
    /// If that file cannot be read, or if the URL or a key is invalid.
    pub(super) fn into_source(self, name: &str, keys: SourceKeys) -> Result<SourceConfig, ConfigError> {
        let bad = |cause| ConfigError::Source { point: name.to_owned(), cause };
        let Self(table) = self;
        let Some(RedactedText(url)) = table.url else {
            return Err(bad("it has no `url`: add `url = \"http://server:8080/concert\"`"));
        };
        let mut source = SourceConfig::at(url.reveal()).map_err(bad)?;
        source.login = login(source.login, table.user, table.password, table.password_file.as_deref(), bad)?;
        if let Some(schemes) = table.auth {
            let schemes = schemes.iter().map(|scheme| scheme.parse::<Scheme>()).collect::<Result<Vec<_>, _>>();
            let schemes = schemes.map_err(|_| bad("`auth` contains a scheme other than \"digest\" and \"basic\""))?;
            source.basic_over_http = schemes.contains(&Scheme::Basic);
        }
        if let Some(delay) = table.retry_delay_max {
            if delay.is_zero() {
                return Err(bad(
                    "`retry-delay-max` is 0, so that the server would retry without a pause: write \"1s\" or more",
                ));
            }
            source.retry_delay_max = delay;
        }
        if keys.on_demand == Some(true) {
            source.on_demand = Some(keys.linger.unwrap_or(SourceConfig::LINGER));
        }
        if let Some(timeout) = keys.timeout {
            if timeout < Duration::from_secs(1) {
                return Err(bad(
                    "`source-timeout` is less than 1 s, so that each short pause would end the connection: raise it",
                ));
            }
            source.timeout = timeout;
        }
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;

    use super::*;
    use crate::config::file::ConfigFile;

    fn source(written: &str) -> Result<SourceConfig, ConfigError> {
        let config = format!("[point.\"hall/2\"]\n{written}\n").parse::<ConfigFile>()?.into_config()?;
        Ok(config.points["hall/2"].source.clone().unwrap())
    }

    #[test]
    fn a_url_or_a_table() {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(b"from file\n").unwrap();
        let one = source("source = 'mmsh://bob:se%40cret@b:8080/'").unwrap();
        assert_eq!(one.target("hall/2").as_str(), "http://b:8080/hall/2");
        assert_eq!((one.on_demand, one.timeout, one.hold_time), (None, SourceConfig::TIMEOUT, Duration::from_secs(60)));
        assert!(!one.session("hall/2", "me", Via::default()).auth_methods.basic);
        let other = source(&format!(
            "source = {{ url = 'http://c/x', user = 'eve', password-file = '{}', auth = ['digest', 'basic'], \
             retry-delay-max = '5s' }}\nsource-on-demand = true\nsource-linger = '3s'\nsource-timeout = '20s'",
            file.path().display()
        ))
        .unwrap();
        assert_eq!((other.on_demand, other.timeout), (Some(Duration::from_secs(3)), Duration::from_secs(20)));
        assert!(other.session("hall/2", "me", Via::default()).auth_methods.basic);
        let passwords = [&one, &other].map(|source| source.login.password.as_ref().unwrap().reveal().to_owned());
        assert_eq!(passwords, ["se@cret", "from file"]);
        let shown = format!("{one:?} {other:?}");
        assert!(!shown.contains("se@cret") && !shown.contains("from file"), "{shown}");
        assert!(source("source = 'https://b/x'").unwrap().session("x", "me", Via::default()).auth_methods.basic);
    }

    /// All points of an edge server have the same origin.
    #[test]
    fn defaults_apply_to_each_point() {
        let text = "idle-timeout = '30s'\n[defaults]\nsource = 'http://origin/'\nsource-on-demand = true\n[point.a]\n[point.b]\n";
        let config = text.parse::<ConfigFile>().unwrap().into_config().unwrap();
        for (name, point) in &config.points {
            let source = point.source.as_ref().unwrap();
            assert_eq!(source.target(name).as_str(), format!("http://origin/{name}"));
            assert_eq!((source.on_demand, source.hold_time), (Some(SourceConfig::LINGER), Duration::from_secs(30)));
        }
    }

    #[test]
    fn errors_name_the_cause_and_no_password() {
        for (written, words) in [
            ("source = 'ftp://bob:hush@x/'", &["`hall/2`", "neither with http: nor with https:"][..]),
            ("source = 5", &["line 2", "a URL, or a table"]),
            ("source = ['http://x/']", &["line 2", "a URL, or a table"]),
            ("source = { url = 'http://bob:hush@x/', usr = 'x' }", &["line 2", "unknown field `usr`"]),
            ("source = { user = 'x', password = 'hush' }", &["`hall/2`", "no `url`"]),
            ("source = { url = 'http://x/', password = 'hush' }", &["no user"]),
            ("source = { url = 'http://x/', auth = ['ntlm'] }", &["`auth`"]),
            ("source = { url = 'http://x/', retry-delay-max = '0s' }", &["`retry-delay-max` is 0"]),
            ("source = 'http://x/'\nsource-timeout = '1ms'", &["`source-timeout`"]),
            ("source = 'http://x/'\nredirect = 'http://y/'", &["`hall/2`", "`redirect`"]),
            ("source-on-demand = true", &["`hall/2`", "`source-on-demand`"]),
        ] {
            let error = source(written).unwrap_err();
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(!text.contains("hush"), "{written}: {text}");
            }
            for word in words {
                assert!(error.to_string().contains(word), "{written}: {error}");
            }
        }
    }
}
