//! Access to the status and to its actions.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

/// Who may see the status page, the status API and the metrics. They show the addresses of encoders and players, which
/// are personal data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusAccess {
    /// Clients on this machine: connections from a loopback address to a loopback name, without headers of a proxy.
    #[default]
    Loopback,
    /// Everybody.
    Everyone,
    /// Nobody.
    Off,
}

impl StatusAccess {
    /// All values.
    const ALL: [Self; 3] = [Self::Loopback, Self::Everyone, Self::Off];

    /// Returns the name in the configuration.
    fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Everyone => "everyone",
            Self::Off => "off",
        }
    }

    /// Returns whether a client at `peer` that sends these headers may see the status.
    pub(super) fn allows(self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        match self {
            Self::Loopback => is_local(peer, headers),
            Self::Everyone => true,
            Self::Off => false,
        }
    }
}

impl fmt::Display for StatusAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for StatusAccess {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let found = Self::ALL.into_iter().find(|access| access.name() == text);
        found.ok_or("write `loopback`, `everyone` or `off`")
    }
}

/// Headers that proxies add. Behind a proxy on this machine, all clients have a loopback address.
const PROXIES: [HeaderName; 4] =
    [header::VIA, header::FORWARDED, HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("x-real-ip")];

/// Returns whether a client on this machine sent the request. The Host header must be a loopback name too: a web site
/// may resolve its own name to this machine (DNS rebinding), and a browser here would then give it the response.
fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let by_proxy = PROXIES.iter().any(|name| headers.contains_key(name));
    let host = headers.get(header::HOST).is_none_or(|host| host.to_str().is_ok_and(is_loopback_host));
    peer.ip().to_canonical().is_loopback() && !by_proxy && host
}

/// Returns whether a Host, with or without a port, names this machine.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Returns whether the client may act without authentication: it is on this machine, and the request is not from a page
/// of another origin.
pub(super) fn may_act_locally(peer: SocketAddr, headers: &HeaderMap) -> bool {
    is_local(peer, headers) && is_same_origin(headers)
}

/// Returns whether the request is not from a page of another origin. A browser would send its known password with such
/// a request.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_same = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(_, origin)| host.is_some_and(|host| host.eq_ignore_ascii_case(origin)))
    };
    headers.get_all(header::ORIGIN).iter().all(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 50_000)
    }

    #[test]
    fn loopback_means_this_machine_without_a_proxy() {
        let allows = |address, lines: &[_]| StatusAccess::Loopback.allows(peer(address), &headers(lines));
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(allows(address, &[]), "{address}");
        }
        for address in ["192.0.2.1", "::", "fe80::1", "::ffff:192.0.2.1"] {
            assert!(!allows(address, &[]), "{address}");
        }
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]"] {
            assert!(allows("::1", &[("host", host)]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "192.0.2.1", ""] {
            assert!(!allows("::1", &[("host", host)]), "{host}");
        }
        for proxy in ["via", "forwarded", "x-forwarded-for", "x-real-ip"] {
            assert!(!allows("127.0.0.1", &[(proxy, "192.0.2.1")]), "{proxy}");
        }
    }

    #[test]
    fn everyone_and_off() {
        let far = peer("192.0.2.1");
        assert!(StatusAccess::Everyone.allows(far, &HeaderMap::new()));
        assert!(!StatusAccess::Off.allows(peer("127.0.0.1"), &HeaderMap::new()));
        for access in StatusAccess::ALL {
            assert_eq!(access.to_string().parse(), Ok(access));
        }
        assert!("Everybody".parse::<StatusAccess>().unwrap_err().contains("`everyone`"));
    }

    #[test]
    fn a_page_of_another_origin_may_not_act() {
        let may = |lines: &[_]| may_act_locally(peer("127.0.0.1"), &headers(lines));
        let host = ("host", "localhost:8080");
        assert!(may(&[host]));
        assert!(may(&[host, ("origin", "http://localhost:8080")]));
        for origin in ["http://evil.example", "http://localhost", "http://localhost:8081", "null", ""] {
            assert!(!may(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!may(&[("origin", "http://localhost:8080")]));
        assert!(!may_act_locally(peer("192.0.2.1"), &headers(&[host])));
    }
}
