//! The URLs of the server for encoders, players and operators, as shown in the log and the status.

use std::net::SocketAddr;

use nix::unistd::gethostname;
use url::Url;

use crate::config::{Config, PointConfig};
use crate::status::access::StatusAccess;

/// The listening addresses of the server, as hosts of URLs.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    /// Host and port of the listener without TLS.
    plain: String,
    /// Host and port of the TLS listener.
    tls: Option<String>,
    /// Host and port of the separate address of the status.
    status: Option<String>,
}

impl Urls {
    /// Returns the hosts of a server that listens on these addresses.
    pub(crate) fn new(plain: SocketAddr, tls: Option<SocketAddr>, status: Option<SocketAddr>) -> Self {
        Self { plain: host(plain), tls: tls.map(host), status: status.map(host) }
    }

    /// Logs the URL of the status page, unless it is switched off.
    pub(crate) fn log_status(&self, config: &Config) {
        if config.status != StatusAccess::Off {
            let page = format!("http://{}/status", self.status.as_ref().unwrap_or(&self.plain));
            tracing::info!(page, access = %config.status, "status page ready");
        }
    }

    /// Logs the URLs for pushing to a point and for playing from it. A point that pulls its stream accepts no push.
    pub(crate) fn log_point(&self, name: &str, config: &PointConfig) {
        let Some(push) = url("http", &self.plain, name) else { return };
        if let Some(target) = config.redirect.as_ref().or(config.proxy_redirect.as_ref()) {
            // The path of a redirect may be secret; its host is not.
            let to = target.host_str();
            tracing::info!(point = name, url = push, to, "publishing point ready: clients are redirected");
            return;
        }
        let push_tls = self.tls.as_ref().and_then(|host| url("https", host, name));
        let play_mms = url("mmsh", &self.plain, name);
        let play_http = play_http(&push);
        let [push, push_tls] = [Some(push), push_tls].map(|url| url.filter(|_| config.source.is_none()));
        tracing::info!(point = name, push, push_tls, play_mms, play_http, "publishing point ready");
    }

    /// Returns the URLs for pushing to the point `name`, the one without TLS first.
    pub(crate) fn push(&self, name: &str) -> Vec<String> {
        let tls = self.tls.as_ref().and_then(|host| url("https", host, name));
        url("http", &self.plain, name).into_iter().chain(tls).collect()
    }

    /// Returns the URLs for playing the point `name`.
    pub(crate) fn play(&self, name: &str) -> Vec<String> {
        let mms = url("mmsh", &self.plain, name);
        mms.into_iter().chain(self.push(name).iter().map(|push| play_http(push))).collect()
    }
}

/// Returns the URL for players with plain HTTP, from the URL for pushing.
fn play_http(push: &str) -> String {
    format!("{push}?format=asf")
}

/// Returns the URL of the point `name`, percent-encoded where necessary.
fn url(scheme: &str, host: &str, name: &str) -> Option<String> {
    // `Url` cannot change a scheme that it knows to one that it does not.
    let mut url = Url::parse(&format!("http://{host}/")).ok()?;
    url.set_path(name);
    Some(format!("{scheme}://{host}{}", url.path()))
}

/// Returns an address as the host of a URL. If the server listens on all addresses, it is the name of this machine.
fn host(address: SocketAddr) -> String {
    let name = address.ip().is_unspecified().then(gethostname).and_then(Result::ok);
    match name.and_then(|name| name.into_string().ok()) {
        Some(name) => format!("{name}:{}", address.port()),
        None => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        assert_eq!(url("mmsh", "[::1]:8080", "gr\u{fc}n x?").as_deref(), Some("mmsh://[::1]:8080/gr%C3%BCn%20x%3F"));
        assert_eq!(url("http", "media:80", "live/1").as_deref(), Some("http://media:80/live/1"));
    }

    #[test]
    fn each_point_has_its_urls() {
        let address = |text: &str| text.parse().unwrap();
        let urls = Urls::new(address("192.0.2.1:8080"), None, None);
        assert_eq!(urls.push("a b"), ["http://192.0.2.1:8080/a%20b"]);
        assert_eq!(urls.play("live"), ["mmsh://192.0.2.1:8080/live", "http://192.0.2.1:8080/live?format=asf"]);
        let urls = Urls::new(address("192.0.2.1:80"), Some(address("192.0.2.1:443")), None);
        assert_eq!(urls.push("live"), ["http://192.0.2.1:80/live", "https://192.0.2.1:443/live"]);
        assert_eq!(urls.play("live").last().unwrap(), "https://192.0.2.1:443/live?format=asf");
    }

    #[test]
    fn an_unspecified_address_becomes_the_machines_name() {
        assert_eq!(host("192.0.2.1:80".parse().unwrap()), "192.0.2.1:80");
        let name = gethostname().unwrap().into_string().unwrap();
        for any in ["0.0.0.0:80", "[::]:80"] {
            assert_eq!(host(any.parse().unwrap()), format!("{name}:80"));
        }
    }
}
