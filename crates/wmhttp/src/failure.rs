//! Maps error responses and connection errors to failures, with one table row per condition.
//!
//! No Microsoft document maps HTTP statuses to HRESULTs. Each condition has the code whose Windows message describes it
//! best.

use std::fmt;
use std::time::Duration;

use http::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER, SERVER};

use crate::Hresult;
use crate::auth::Target;
use crate::headers::Product;
use crate::proxy;

/// Longest `Retry-After` that is honored; a longer one is shortened to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Why an attempt to push, or a push in progress, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The Windows result code.
    pub hresult: Hresult,
    /// The condition that occurred.
    pub condition: Condition,
    /// The error class for an application.
    pub class: Class,
    /// What the peer returned or did, in words for people.
    pub text: String,
    /// What the user can do about it.
    pub remedy: &'static str,
    /// Whether retrying without a change is useless.
    pub permanent: bool,
    /// How long the server asks the client to wait before it retries.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {} ({})", self.text, self.remedy, self.hresult)
    }
}

impl Failure {
    /// Returns the HTTP status if the failure is a response.
    pub fn status(&self) -> Option<u16> {
        match self.condition {
            Condition::Status(status) => Some(status),
            Condition::Incompatible
            | Condition::NoAnswer
            | Condition::Displaced
            | Condition::InvalidProxy
            | Condition::Lost(_) => None,
        }
    }

    fn new(condition: Condition, spec: FailureSpec, text: String) -> Self {
        let FailureSpec { hresult, class, remedy, permanent, .. } = spec;
        Self { hresult, condition, class, text, remedy, permanent, retry_after: None }
    }

    /// Creates the failure for an error `status`. If `by_proxy` is true, the request went through a proxy, which may
    /// have responded instead of the server.
    pub fn from_status(status: u16, headers: &HeaderMap, had_template: bool, by_proxy: bool) -> Self {
        let proxy = if by_proxy { proxy::responding_proxy(headers) } else { None };
        let spec = match &proxy {
            Some(_) => spec_for_proxy_status(status).unwrap_or_else(|| spec_for_status(status)),
            // The other statuses have a meaning that does not depend on the template.
            None if had_template && (400..500).contains(&status) && !matches!(status, 401 | 407 | 408 | 409) => {
                FailureSpec {
                    hresult: Hresult::INVALID_PUSH_TEMPLATE,
                    remedy: "check that template-url is a publishing point on this server, and that this encoder may use it",
                    ..spec_for_status(status)
                }
            }
            None => spec_for_status(status),
        };
        let other = headers.get(SERVER).filter(|_| proxy.is_none() && Product::from_headers(headers).is_none());
        let other = other.and_then(|value| value.to_str().ok());
        // A 400 of a server that does not identify itself as Windows Media most likely comes from an ordinary web
        // server.
        let spec = match (status, other) {
            (400, Some(_)) => FailureSpec {
                remedy: "check host and port in location: this does not seem to be a Windows Media server",
                ..spec
            },
            _ => spec,
        };
        let who = proxy
            .or_else(|| other.map(|name| format!("the server ({name})")))
            .unwrap_or_else(|| "the server".to_owned());
        let text = format!("{who} answered {status}: {}", spec.meaning);
        Self { retry_after: retry_after(headers), ..Self::new(Condition::Status(status), spec, text) }
    }

    /// The same failure for a request to the path `/`: a refusal most likely means that the publishing point's name is
    /// missing, since few servers have a publishing point there.
    #[must_use]
    pub(crate) fn without_name(self) -> Self {
        let refused = matches!(self.condition, Condition::Status(400 | 403 | 404 | 405 | 410 | 412 | 422 | 501));
        let remedy = "add the name of the publishing point to location: http://server:port/publishing-point";
        if refused { Self { remedy, ..self } } else { self }
    }

    /// Creates the failure for credentials that a server or proxy does not accept, or that are missing (C-5).
    pub fn unauthorized(target: Target, text: &str, remedy: &'static str) -> Self {
        let (who, status) = match target {
            Target::Server => ("server", 401),
            Target::Proxy => ("proxy", 407),
        };
        // The same credentials would be rejected again, and some servers lock the user out for that.
        let spec = FailureSpec { remedy, permanent: true, ..spec_for_status(status) };
        // Messages from libraries may contain control characters; a GStreamer message cannot carry NUL.
        let text = format!("the {who} answered {status}: {text}").replace(char::is_control, " ");
        Self::new(Condition::Status(status), spec, text)
    }

    /// Creates the failure for a redirect that is not followed (C-4). `text` continues the sentence after "redirect".
    pub fn redirect(status: u16, hresult: Hresult, text: String, remedy: &'static str) -> Self {
        let text = format!("the server answered {status}: redirect {text}");
        Self::new(Condition::Status(status), FailureSpec { hresult, remedy, ..spec_for_status(status) }, text)
    }

    /// Creates the failure for a success response from a server that is not a Windows Media server (H-5).
    pub fn incompatible(server: Option<&str>) -> Self {
        let spec = spec_for_condition(Condition::Incompatible);
        let who = server.map_or_else(|| "no Server header".to_owned(), |server| format!("Server: {server}"));
        let text = format!("{} ({who})", spec.meaning);
        Self::new(Condition::Incompatible, spec, text)
    }

    /// Creates the failure for a request without a timely response (C-17).
    pub fn no_answer(timeout: Duration) -> Self {
        let spec = spec_for_condition(Condition::NoAnswer);
        let text = format!("{} within {} ms", spec.meaning, timeout.as_millis());
        Self::new(Condition::NoAnswer, spec, text)
    }

    /// Creates the failure for a success response before the end of the body. Known servers send it when another
    /// encoder has taken over the publishing point.
    pub fn displaced(status: u16) -> Self {
        let spec = spec_for_condition(Condition::Displaced);
        let text = format!("the server ended the push with {status} in mid-stream: {}", spec.meaning);
        Self::new(Condition::Displaced, spec, text)
    }

    /// Creates the failure for a proxy URL whose scheme is not supported.
    pub fn bad_proxy(scheme: &str) -> Self {
        let spec = spec_for_condition(Condition::InvalidProxy);
        let text = format!("{} {scheme}:", spec.meaning);
        Self::new(Condition::InvalidProxy, spec, text)
    }

    /// Creates the failure for a proxy setting that is not a proxy URL, for the reason `why`.
    pub fn unreadable_proxy(why: &str) -> Self {
        Self::new(Condition::InvalidProxy, spec_for_condition(Condition::InvalidProxy), why.to_owned())
    }

    /// Creates the failure for a connection that could not be established or was lost.
    pub fn lost(cause: Cause, detail: &str) -> Self {
        let spec = spec_for_condition(Condition::Lost(cause));
        let text = if detail.is_empty() { spec.meaning.to_owned() } else { format!("{}: {detail}", spec.meaning) };
        Self::new(Condition::Lost(cause), spec, text)
    }
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// An HTTP status other than success.
    Status(u16),
    /// The server is not a Windows Media server (H-5).
    Incompatible,
    /// No response in time (C-17).
    NoAnswer,
    /// A success response before the end of the body.
    Displaced,
    /// The configured proxy is not an HTTP proxy.
    InvalidProxy,
    /// The connection failed or was lost.
    Lost(Cause),
}

/// The error class of a failure: the codes of GStreamer's RESOURCE errors that a push uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The encoder is not permitted to push.
    NotAuthorized,
    /// The server or the publishing point does not exist.
    NotFound,
    /// Another encoder uses the publishing point, or the server is at its limit.
    Busy,
    /// A setting is invalid.
    Settings,
    /// The server cannot be reached.
    Open,
    /// A push in progress failed.
    Write,
}

/// How a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host name does not exist.
    NameNotFound,
    /// The name service did not answer.
    NameTimeout,
    /// The host refused the connection because no process listens on the port.
    Refused,
    /// There is no route to the host.
    Unreachable,
    /// The connection cannot be bound to the configured local address.
    LocalAddress,
    /// No TCP connection was established in time.
    ConnectTimeout,
    /// Like [`Cause::NameNotFound`], for the proxy.
    ProxyNameNotFound,
    /// Like [`Cause::NameTimeout`], for the proxy.
    ProxyNameTimeout,
    /// Like [`Cause::Refused`], for the proxy.
    ProxyRefused,
    /// No TCP connection to the proxy, or from it to the server, was established in time.
    ProxyConnectTimeout,
    /// The proxy requires other credentials for CONNECT.
    ProxyDenied,
    /// The proxy did not connect to the server.
    ProxyNoTunnel,
    /// Sent bytes were not acknowledged in time.
    Stalled,
    /// The connection was reset (RST).
    Reset,
    /// The connection was closed (FIN) before the response.
    Closed,
    /// The kept connection was already closed, so nothing of the request was sent.
    Stale,
    /// The response is not HTTP.
    NotHttp,
    /// The server's certificate is not trusted or is for another host.
    Untrusted,
    /// Another TLS error.
    Tls,
    /// The process has no file descriptor, thread or memory left for a connection.
    Resources,
    /// Any other error.
    Other,
}

impl Cause {
    /// All causes, in the order of their declaration.
    pub const ALL: [Self; 21] = [
        Self::NameNotFound,
        Self::NameTimeout,
        Self::Refused,
        Self::Unreachable,
        Self::LocalAddress,
        Self::ConnectTimeout,
        Self::ProxyNameNotFound,
        Self::ProxyNameTimeout,
        Self::ProxyRefused,
        Self::ProxyConnectTimeout,
        Self::ProxyDenied,
        Self::ProxyNoTunnel,
        Self::Stalled,
        Self::Reset,
        Self::Closed,
        Self::Stale,
        Self::NotHttp,
        Self::Untrusted,
        Self::Tls,
        Self::Resources,
        Self::Other,
    ];

    /// Returns the corresponding cause for a connection to a proxy.
    #[must_use]
    pub fn at_proxy(self) -> Self {
        match self {
            Self::NameNotFound => Self::ProxyNameNotFound,
            Self::NameTimeout => Self::ProxyNameTimeout,
            Self::Refused | Self::Unreachable => Self::ProxyRefused,
            Self::ConnectTimeout => Self::ProxyConnectTimeout,
            Self::ProxyNameNotFound
            | Self::ProxyNameTimeout
            | Self::ProxyRefused
            | Self::ProxyConnectTimeout
            | Self::ProxyDenied
            | Self::ProxyNoTunnel
            | Self::LocalAddress
            | Self::Stalled
            | Self::Reset
            | Self::Closed
            | Self::Stale
            | Self::NotHttp
            | Self::Untrusted
            | Self::Tls
            | Self::Resources
            | Self::Other => self,
        }
    }
}

/// A row of the table: Windows code, GStreamer class, meaning and remedy.
struct FailureSpec {
    hresult: Hresult,
    class: Class,
    meaning: &'static str,
    remedy: &'static str,
    /// Whether retrying is useless until somebody changes something.
    permanent: bool,
}

/// A row for a failure that may pass, so that retrying makes sense.
const fn retried(hresult: Hresult, class: Class, meaning: &'static str, remedy: &'static str) -> FailureSpec {
    FailureSpec { hresult, class, meaning, remedy, permanent: false }
}

/// A row for a failure that stays until somebody changes something.
const fn permanent(hresult: Hresult, class: Class, meaning: &'static str, remedy: &'static str) -> FailureSpec {
    FailureSpec { hresult, class, meaning, remedy, permanent: true }
}

/// The row of an HTTP status that a server sent.
#[rustfmt::skip]
fn spec_for_status(status: u16) -> FailureSpec {
    match status {
        300..=399 => permanent(Hresult::REDIRECT, Class::Settings,
            "redirect", "set location to the URL in the server's Location header"),
        400 => permanent(Hresult::BAD_REQUEST, Class::Write,
            "bad request", "check the server's log for the reason"),
        401 => permanent(Hresult::SERVER_ACCESS_DENIED, Class::NotAuthorized,
            "authentication required", "set user-id and user-pw, or allow this encoder to push at the server"),
        403 => permanent(Hresult::REFUSED_BY_SERVER, Class::NotAuthorized,
            "forbidden", "grant this encoder the right to push to the publishing point"),
        404 => retried(Hresult::FILE_NOT_FOUND, Class::NotFound,
            "no such publishing point, or it is busy", "check the name in location, create the publishing point, or set template-url so that the server creates it"),
        405 | 501 => permanent(Hresult::INCOMPATIBLE_PUSH_SERVER, Class::Settings,
            "the server does not accept pushes", "check host and port: this may be an ordinary web server"),
        407 => permanent(Hresult::PROXY_ACCESS_DENIED, Class::NotAuthorized,
            "proxy authentication required", "set proxy-id and proxy-pw, or allow this encoder at the proxy"),
        408 => retried(Hresult::TIMEOUT, Class::Write,
            "the session was idle for too long", "check that the source sends data without long pauses; a new session begins"),
        409 => retried(Hresult::PUSH_DUPLICATE, Class::Busy,
            "another encoder pushes to the publishing point", "stop the other encoder, or choose another publishing point"),
        410 => permanent(Hresult::RESOURCE_GONE, Class::NotFound,
            "the publishing point no longer exists", "choose another publishing point, or create this one again"),
        411 | 413..=417 | 426 | 428 | 431 | 505 => permanent(Hresult::REFUSED_BY_SERVER, Class::Write,
            "the server cannot process this request", "check the server's log for the reason"),
        402 | 406 | 412 | 418..=425 | 427 | 429 | 430 | 432..=499 => retried(Hresult::REFUSED_BY_SERVER, Class::Write,
            "request refused", "check the server's log"),
        502 => retried(Hresult::ERROR_FROM_PROXY, Class::Write,
            "bad gateway", "check that the server behind the proxy is running"),
        503 => retried(Hresult::SERVER_UNAVAILABLE, Class::Busy,
            "service unavailable", "wait until the server has started, or raise its limits"),
        508 => permanent(Hresult::TOO_MANY_HOPS, Class::Settings,
            "relay loop, or too many relays", "remove one `forward` entry from the loop of publishing points"),
        504 => retried(Hresult::PROXY_TIMEOUT, Class::Write,
            "gateway timeout", "check that the server behind the proxy responds"),
        _ => retried(Hresult::INTERNAL_SERVER_ERROR, Class::Write,
            "internal error", "check the server's log"),
    }
}

/// The rows that differ if a proxy responded.
#[rustfmt::skip]
fn spec_for_proxy_status(status: u16) -> Option<FailureSpec> {
    Some(match status {
        400 | 411 | 413..=417 | 431 | 501 | 505 => permanent(Hresult::ERROR_FROM_PROXY, Class::Write,
            "the proxy refuses to forward this request", "check the proxy's log and limits, or set proxy to an empty string to bypass it"),
        403 => permanent(Hresult::PROXY_ACCESS_DENIED, Class::NotAuthorized,
            "forbidden", "allow this encoder, and the server's host and port, at the proxy"),
        404 => retried(Hresult::SERVER_NOT_FOUND, Class::NotFound,
            "the proxy cannot find the server", "check the host in location"),
        405 => permanent(Hresult::PROXY_ACCESS_DENIED, Class::NotAuthorized,
            "the proxy does not forward POST requests", "allow POST at the proxy"),
        500 | 502 | 503 => retried(Hresult::ERROR_FROM_PROXY, Class::Open,
            "the proxy cannot reach the server", "check that the server is running, and that the proxy may connect to it"),
        504 => retried(Hresult::PROXY_TIMEOUT, Class::Open,
            "the proxy got no response from the server", "check that the server behind the proxy responds"),
        _ => return None,
    })
}

/// The row of a condition.
#[rustfmt::skip]
fn spec_for_condition(condition: Condition) -> FailureSpec {
    match condition {
        Condition::Status(status) => spec_for_status(status),
        Condition::Incompatible => permanent(Hresult::INCOMPATIBLE_PUSH_SERVER, Class::Settings,
            "the server is not a Windows Media server", "check host and port, or set strict-server=false if this server accepts pushes"),
        Condition::NoAnswer => retried(Hresult::TIMEOUT, Class::Open,
            "the server did not answer", "check that the server is running and not overloaded, or raise timeout"),
        Condition::Displaced => retried(Hresult::PUSH_DUPLICATE, Class::Busy,
            "another encoder may have taken the publishing point", "make sure that only one encoder pushes there"),
        Condition::InvalidProxy => permanent(Hresult::PROXY_NOT_FOUND, Class::Settings,
            "only http: proxies are supported, not", "set proxy, or http_proxy or https_proxy in the environment, to an http: proxy, or set proxy to an empty string to use none"),
        Condition::Lost(cause) => spec_for_cause(cause),
    }
}

/// The row of a connection error.
#[rustfmt::skip]
fn spec_for_cause(cause: Cause) -> FailureSpec {
    match cause {
        Cause::NameNotFound => retried(Hresult::SERVER_NOT_FOUND, Class::NotFound,
            "the host name is unknown", "check the host in location, and DNS"),
        Cause::NameTimeout => retried(Hresult::SERVER_DNS_TIMEOUT, Class::Open,
            "the name lookup timed out", "check DNS, or raise connect-timeout"),
        Cause::Refused => retried(Hresult::PUSH_CANNOT_CONNECT, Class::Open,
            "the connection was refused", "check that the server is running and listens on the port in location"),
        Cause::Unreachable => retried(Hresult::PUSH_CANNOT_CONNECT, Class::Open,
            "there is no network route to the server", "check the network, and the address in location"),
        Cause::LocalAddress => retried(Hresult::PUSH_CANNOT_CONNECT, Class::Open,
            "cannot bind to bind-address", "set bind-address to a local address of the server's address family, or unset it"),
        Cause::ConnectTimeout => retried(Hresult::CONNECT_TIMEOUT, Class::Open,
            "the connection timed out", "check the network and firewalls, or raise connect-timeout"),
        Cause::ProxyNameNotFound => retried(Hresult::PROXY_NOT_FOUND, Class::NotFound,
            "the proxy's host name is unknown", "check the host in proxy, and DNS"),
        Cause::ProxyNameTimeout => retried(Hresult::PROXY_DNS_TIMEOUT, Class::Open,
            "the name lookup of the proxy timed out", "check DNS, or raise connect-timeout"),
        Cause::ProxyRefused => retried(Hresult::CANNOT_CONNECT_TO_PROXY, Class::Open,
            "the connection to the proxy was refused", "check that the proxy is running and listens on the port in proxy"),
        Cause::ProxyConnectTimeout => retried(Hresult::PROXY_CONNECT_TIMEOUT, Class::Open,
            "the connection through the proxy timed out", "check the network to the proxy and beyond it, or raise connect-timeout"),
        Cause::ProxyDenied => permanent(Hresult::PROXY_ACCESS_DENIED, Class::NotAuthorized,
            "the proxy requires valid credentials", "set proxy-id and proxy-pw; for an https location the proxy must accept Basic"),
        Cause::ProxyNoTunnel => retried(Hresult::ERROR_FROM_PROXY, Class::Open,
            "the proxy did not connect to the server", "check that the server is running, and that the proxy allows CONNECT to its port"),
        Cause::Stalled => retried(Hresult::CONNECTION_FAILURE, Class::Write,
            "the server stopped reading (no data acknowledged within stall-timeout)", "check that the network carries the stream's bit rate, or raise stall-timeout"),
        Cause::Reset => retried(Hresult::RESET_CONNECTION, Class::Write,
            "the server reset the connection", "check the server's log"),
        Cause::Closed => retried(Hresult::NET_READ, Class::Write,
            "the server closed the connection", "check the server's log"),
        Cause::Stale => retried(Hresult::NET_READ, Class::Write,
            "the server had closed the idle connection", "no action needed; the element connects again"),
        Cause::NotHttp => retried(Hresult::BAD_SYNTAX_IN_RESPONSE, Class::Open,
            "the response is not valid HTTP", "check that the port in location belongs to an HTTP server"),
        // A wrong certificate may come from an attacker, so a person must check it. The user's permissions do not
        // matter here, so NOT_AUTHORIZED, which makes applications request them, would be wrong.
        Cause::Untrusted => permanent(Hresult::NOT_TRUSTED, Class::Open,
            "the server's certificate is not trusted", "check the host in location, or set tls-ca-file to the certificate of the issuing authority"),
        Cause::Tls => retried(Hresult::TLS_FAILED, Class::Open,
            "TLS handshake failed", "check that the port in location is for https, and which client certificates the server accepts"),
        Cause::Resources => retried(Hresult::OUT_OF_MEMORY, Class::Open,
            "this process has no file descriptor, thread or memory left for a connection", "raise the limits of file descriptors and threads (ulimit -n, ulimit -u), or push to fewer publishing points"),
        Cause::Other => retried(Hresult::CONNECTION_FAILURE, Class::Write,
            "the connection failed", "check the network and the server's log"),
    }
}

/// Parses `Retry-After`: seconds, or a date. A date is compared with the server's own `Date` header if there is one,
/// because the two clocks may differ.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?.trim()).ok();
            let now = headers.get(DATE).and_then(date)?;
            date(headers.get(RETRY_AFTER)?)?.duration_since(now).ok()?
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn statuses_map_to_codes_and_retry_policies() {
        for (status, hresult, permanent) in [
            (302, Hresult::REDIRECT, true),
            (400, Hresult::BAD_REQUEST, true),
            (401, Hresult::SERVER_ACCESS_DENIED, true),
            (403, Hresult::REFUSED_BY_SERVER, true),
            (404, Hresult::FILE_NOT_FOUND, false),
            (405, Hresult::INCOMPATIBLE_PUSH_SERVER, true),
            (407, Hresult::PROXY_ACCESS_DENIED, true),
            (408, Hresult::TIMEOUT, false),
            (409, Hresult::PUSH_DUPLICATE, false),
            (410, Hresult::RESOURCE_GONE, true),
            (422, Hresult::REFUSED_BY_SERVER, false),
            (500, Hresult::INTERNAL_SERVER_ERROR, false),
            (503, Hresult::SERVER_UNAVAILABLE, false),
            (508, Hresult::TOO_MANY_HOPS, true),
        ] {
            let failure = Failure::from_status(status, &HeaderMap::new(), false, false);
            assert_eq!((failure.hresult, failure.permanent), (hresult, permanent), "{status}");
            assert_eq!(failure.status(), Some(status));
            assert!(failure.text.contains(&status.to_string()) && !failure.remedy.is_empty());
        }
    }

    #[test]
    fn control_characters_from_libraries_become_spaces() {
        let failure = Failure::unauthorized(Target::Proxy, "no\0ticket\n", "none");
        assert_eq!(failure.text, "the proxy answered 407: no ticket ");
    }

    #[test]
    fn a_rejected_template_is_named_as_the_cause() {
        assert_eq!(Failure::from_status(404, &HeaderMap::new(), true, false).hresult, Hresult::INVALID_PUSH_TEMPLATE);
        assert_eq!(Failure::from_status(503, &HeaderMap::new(), true, false).hresult, Hresult::SERVER_UNAVAILABLE);
    }

    /// A date is compared with the server's own Date, because the two clocks may differ.
    #[test]
    fn retry_after_is_read_and_bounded() {
        let with = |lines: &[(http::HeaderName, &'static str)]| {
            let headers = lines
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
                .collect::<HeaderMap>();
            Failure::from_status(503, &headers, false, false).retry_after
        };
        assert_eq!(with(&[(RETRY_AFTER, "7")]), Some(Duration::from_secs(7)));
        assert_eq!(with(&[(RETRY_AFTER, "99999999")]), Some(MAX_RETRY_AFTER));
        let date = (DATE, "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(with(&[(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:09 GMT"), date.clone()]), Some(Duration::from_secs(9)));
        assert_eq!(with(&[(RETRY_AFTER, "Thu, 22 Oct 2026 07:28:09 GMT"), date.clone()]), Some(MAX_RETRY_AFTER));
        assert_eq!(with(&[(RETRY_AFTER, "Wed, 21 Oct 2026 07:27:00 GMT"), date.clone()]), None, "in the past");
        assert_eq!(with(&[(RETRY_AFTER, "soon"), date]), None);
        assert_eq!(with(&[(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:09 GMT")]), None, "without a Date to compare with");
    }

    /// A server that is not a Windows Media server is named by its Server header.
    #[test]
    fn other_servers_are_named() {
        let answer = |server: &'static str, status| {
            let headers = HeaderMap::from_iter([(SERVER, HeaderValue::from_static(server))]);
            Failure::from_status(status, &headers, false, false)
        };
        let icecast = answer("Icecast 2.4.4", 400);
        assert_eq!(icecast.text, "the server (Icecast 2.4.4) answered 400: bad request");
        assert!(icecast.remedy.contains("host and port") && icecast.permanent, "{icecast}");
        assert!(answer("nginx/1.22.1", 502).text.starts_with("the server (nginx/1.22.1) answered 502: "));
        let known = answer("Cougar/9.6.7600.16564", 400);
        assert_eq!(known.text, "the server answered 400: bad request");
        assert!(known.remedy.contains("log"), "{known}");
    }

    /// A proxy's response is not reported as the server's.
    #[test]
    fn answers_of_proxies() {
        let said_by = |server: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::SERVER, HeaderValue::from_static(server));
            headers
        };
        let squid = Failure::from_status(403, &said_by("squid/5.7"), true, true);
        assert_eq!((squid.hresult, squid.permanent), (Hresult::PROXY_ACCESS_DENIED, true));
        assert!(squid.text.starts_with("the proxy (squid/5.7) answered 403"), "{}", squid.text);
        assert_eq!(Failure::from_status(503, &said_by("squid/5.7"), false, true).hresult, Hresult::ERROR_FROM_PROXY);
        assert_eq!(Failure::from_status(503, &said_by("Cougar/9.6"), false, true).hresult, Hresult::SERVER_UNAVAILABLE);
        assert_eq!(Failure::from_status(503, &said_by("nginx"), false, false).hresult, Hresult::SERVER_UNAVAILABLE);
    }
}
