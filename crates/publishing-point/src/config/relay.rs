//! Where a point relays its stream to, and how that is configured.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use url::Url;

use super::error::ConfigError;
use super::input::http_url;
use super::remote::{RedactedText, login, url_or_table};
use asfpush_client::publish::{self, backoff};
use asfpush_client::transport::{self, tls::Tls};
use wmhttp::auth::{Login, Methods, Secret};
use wmhttp::client::Config as Session;
use wmhttp::headers::Directives;
use wmhttp::via::Via;

/// Name of the relay in its requests. Servers accept pushes from clients that call themselves `WMEncoder`.
const USER_AGENT: &str = concat!("WMEncoder/12.0.0.0 asf-publishing-point/", env!("CARGO_PKG_VERSION"));
/// After a permanent refusal, the relay waits this many times the longest delay before it tries again, because some
/// servers block clients that often send wrong credentials.
const REFUSED_RETRY_FACTOR: u32 = 10;

/// A publishing point on another server that a point relays its stream to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// The publishing point, without credentials. If the path ends with `/`, the name of the local point is appended.
    pub url: Url,
    /// The credentials to use there.
    pub login: Login,
    /// The directives of PushSetup ([MS-WMHTTP] 2.2.2.1).
    pub directives: Directives,
    /// Maximum delay between two attempts.
    pub retry_delay_max: Duration,
}

impl RelayConfig {
    /// Returns a relay to the publishing point at `url`, with the credentials in the URL, if any.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn to(url: &str) -> Result<Self, &'static str> {
        let (url, login) = Login::split_from(url);
        let mut url = http_url(&url)?;
        // Requests do not contain the fragment; without it, two URLs are equal if their requests are.
        url.set_fragment(None);
        let retry_delay_max = backoff::Policy::default().delay_max;
        Ok(Self { url, login, directives: Directives::default(), retry_delay_max })
    }

    /// Returns the URL that the stream of the point `name` is relayed to.
    pub(crate) fn target(&self, name: &str) -> Url {
        with_name(&self.url, name)
    }

    /// Returns the publisher settings for relaying the point `name`; `via` lists the servers that its stream has
    /// passed.
    pub(crate) fn settings(&self, name: &str, via: Via) -> publish::Settings {
        let url = self.target(name);
        // Basic sends the password in clear text, so it is enabled only over TLS.
        let auth_methods = Methods { basic: url.scheme() == "https", ..Methods::default() };
        let retry = backoff::Policy {
            delay_max: self.retry_delay_max,
            after_refusal: Some(self.retry_delay_max * REFUSED_RETRY_FACTOR),
            ..backoff::Policy::default()
        };
        publish::Settings {
            session: Session {
                auth_methods,
                login: self.login.clone(),
                directives: self.directives.clone(),
                via,
                https: transport::tls::AVAILABLE,
                proxy: transport::proxy::from_environment(Login::default()),
                ..Session::new(url, USER_AGENT, rand::random, SystemTime::now)
            },
            transport: transport::Settings {
                connect_timeout: Duration::from_secs(10),
                stall_timeout: Duration::from_secs(10),
                local_address: None,
                dscp: None,
                tls: Tls::default(),
            },
            // The first delay must not be longer than the longest one, which the operator may have made short.
            retry: backoff::Policy { delay: retry.delay.min(retry.delay_max), ..retry },
            options: asfpush_client::packet_buffer::ReaderOptions::default(),
        }
    }
}

/// Returns the URL of the point `name` on another server: if the path ends with `/`, the name is appended to it.
pub(super) fn with_name(url: &Url, name: &str) -> Url {
    let mut url = url.clone();
    if url.path().ends_with('/')
        && let Ok(mut segments) = url.path_segments_mut()
    {
        segments.pop_if_empty().extend(name.split('/'));
    }
    url
}

/// A relay as written in the file: a URL, or a table with one. The URL is checked later, because the parser's message
/// would quote the line, which may contain a password.
#[derive(Clone, Debug)]
pub struct RawForward(ForwardTable);

/// One relay, or a list of them.
#[derive(Clone, Debug, Default)]
pub struct List(pub Vec<RawForward>);

/// The table of a relay.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "expected a URL, or a table with `url` in it")]
struct ForwardTable {
    url: Option<RedactedText>,
    user: Option<String>,
    password: Option<RedactedText>,
    password_file: Option<PathBuf>,
    template_url: Option<String>,
    #[serde(default)]
    auto_destroy: bool,
    #[serde(default, with = "humantime_serde")]
    retry_delay_max: Option<Duration>,
}

impl From<&str> for RawForward {
    fn from(url: &str) -> Self {
        Self(ForwardTable { url: Some(RedactedText(Secret::new(url))), ..ForwardTable::default() })
    }
}

impl From<RedactedText> for ForwardTable {
    fn from(url: RedactedText) -> Self {
        Self { url: Some(url), ..Self::default() }
    }
}

impl<'de> Deserialize<'de> for RawForward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        url_or_table(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, a table with `url` in it, or a list of these")
            }

            fn visit_str<E: Error>(self, url: &str) -> Result<List, E> {
                Ok(List(vec![RawForward::from(url)]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<List, A::Error> {
                Ok(List(vec![RawForward::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<List, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(List)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl RawForward {
    /// Converts to the relay of the point `name`; reads its password file.
    ///
    /// # Errors
    /// If that file cannot be read or the URL is invalid.
    pub(super) fn into_forward(self, name: &str) -> Result<RelayConfig, ConfigError> {
        let bad = |cause| ConfigError::Forward { point: name.to_owned(), cause };
        let Self(table) = self;
        let Some(RedactedText(url)) = table.url else {
            return Err(bad("it has no `url`: add `url = \"http://server:8080/concert\"`"));
        };
        let mut forward = RelayConfig::to(url.reveal()).map_err(bad)?;
        let template = table.template_url.as_deref().map(Directives::template_path);
        forward.directives = Directives {
            template: template
                .map(|path| {
                    path.ok_or_else(|| {
                        bad("`template-url` is neither an absolute path nor a URL: write for example \"/template\"")
                    })
                })
                .transpose()?,
            auto_destroy: table.auto_destroy,
        };
        forward.login = login(forward.login, table.user, table.password, table.password_file.as_deref(), bad)?;
        if let Some(delay) = table.retry_delay_max {
            if delay.is_zero() {
                return Err(bad(
                    "`retry-delay-max` is 0, so that the relay would retry without a pause: write \"1s\" or more",
                ));
            }
            forward.retry_delay_max = delay;
        }
        Ok(forward)
    }
}

/// Converts the relays of the point `name`, which must have different targets.
///
/// # Errors
/// As [`RawForward::into_forward`], and if two relays have the same target.
pub(super) fn each(List(written): List, name: &str) -> Result<Vec<RelayConfig>, ConfigError> {
    let mut all: Vec<RelayConfig> = Vec::with_capacity(written.len());
    for written in written {
        let forward = written.into_forward(name)?;
        if all.iter().any(|known| known.target(name) == forward.target(name)) {
            let cause = "two entries have the same target: remove one of them";
            return Err(ConfigError::Forward { point: name.to_owned(), cause });
        }
        all.push(forward);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;

    use super::*;
    use crate::config::file::ConfigFile;

    fn relays(written: &str) -> Result<Vec<RelayConfig>, ConfigError> {
        let config = format!("[point.\"hall/2\"]\nforward = {written}\n").parse::<ConfigFile>()?.into_config()?;
        Ok(config.points["hall/2"].forward.clone())
    }

    #[test]
    fn a_url_or_a_table() {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(b"from file\n").unwrap();
        let all = relays(&format!(
            "['http://bob:se%40cret@b:8080/', {{ url = 'https://c/x', user = 'eve', password = 'hush', template-url = '/live', \
             auto-destroy = true, retry-delay-max = '5s' }}, {{ url = 'http://d/x', user = 'eve', password-file = '{}' }}]",
            file.path().display()
        ))
        .unwrap();
        let password = |forward: &RelayConfig| forward.login.password.as_ref().unwrap().reveal().to_owned();
        assert_eq!(all.iter().map(password).collect::<Vec<_>>(), ["se@cret", "hush", "from file"]);
        assert_eq!(all[0].target("hall/2").as_str(), "http://b:8080/hall/2");
        assert_eq!(all[1].target("hall/2").as_str(), "https://c/x");
        assert_eq!(all[1].directives, Directives { template: Some("/live".to_owned()), auto_destroy: true });
        let settings = all[1].settings("hall/2", Via::default());
        assert_eq!(settings.retry.delay_max, Duration::from_secs(5));
        assert_eq!(settings.retry.after_refusal, Some(Duration::from_secs(50)));
        assert!(settings.session.auth_methods.basic);
        let shown = format!("{all:?}");
        assert!(["se@cret", "hush", "from file"].iter().all(|secret| !shown.contains(secret)), "{shown}");
    }

    #[test]
    fn a_single_relay_needs_no_list() {
        assert_eq!(relays("'http://b/x'").unwrap(), relays("[{ url = 'http://b/x' }]").unwrap());
        assert_eq!(relays("{ url = 'http://b/x' }").unwrap().len(), 1);
    }

    #[test]
    fn errors_name_the_cause_and_no_password() {
        for (written, words) in [
            ("['ftp://bob:hush@x/']", &["`hall/2`", "neither with http: nor with https:"][..]),
            ("['bob:hush']", &["`hall/2`", "neither with http:"]),
            ("['hush']", &["`hall/2`", "http://server:8080/concert"]),
            ("5", &["line 2", "a URL, a table with `url` in it, or a list"]),
            ("{ url = 'http://x/', user = 'hush', password = 5 }", &["line 2", "in quotes"]),
            ("[{ url = 'http://bob:hush@x/', usr = 'x' }]", &["line 2", "unknown field `usr`"]),
            ("[{ user = 'x', password = 'hush' }]", &["`hall/2`", "no `url`"]),
            ("[{ url = 'http://x/', password = 'hush' }]", &["no user"]),
            ("[{ url = 'http://x/', user = 'x', password = 'hush', password-file = 'x' }]", &["remove one of them"]),
            ("[{ url = 'http://x/', user = 'x', password-file = '/nowhere' }]", &["/nowhere"]),
            ("[{ url = 'http://x/', retry-delay-max = '0s' }]", &["`hall/2`", "`retry-delay-max` is 0"]),
            ("['http://x/', 'http://hush@x/hall/2']", &["`hall/2`", "the same target"]),
        ] {
            let error = relays(written).unwrap_err();
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(!text.contains("hush"), "{written}: {text}");
            }
            for word in words {
                assert!(error.to_string().contains(word), "{written}: {error}");
            }
        }
    }
}
