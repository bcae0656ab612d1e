//! What an unwelcome answer or a broken connection means: one table each.
//!
//! No Microsoft document maps HTTP statuses to HRESULTs; the codes here are those
//! whose Windows message fits the condition best.

use std::fmt;
use std::time::Duration;

use http::header::{HeaderMap, RETRY_AFTER};

use super::Hresult;
use super::auth::Target;

/// Longest `Retry-After` that is honoured; a server that wants more gets asked again all the same.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Why an attempt to push failed, or a push broke off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The Windows code.
    pub hresult: Hresult,
    /// What happened.
    pub condition: Condition,
    /// What the far end said or did, for people.
    pub text: String,
    /// What to do about it, for people.
    pub remedy: &'static str,
    /// Whether trying again without a change is pointless.
    pub permanent: bool,
    /// How long the server asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {} ({})", self.text, self.remedy, self.hresult)
    }
}

impl Failure {
    /// The HTTP status, where the failure is an answer.
    pub fn status(&self) -> Option<u16> {
        match self.condition {
            Condition::Status(status) => Some(status),
            Condition::Incompatible | Condition::NoAnswer | Condition::Displaced | Condition::Lost(_) => None,
        }
    }

    /// The server answered with `status`, which is no success.
    pub fn from_status(status: u16, headers: &HeaderMap, had_template: bool) -> Self {
        let row = row_of(status);
        let hresult = if had_template && (400..500).contains(&status) && !matches!(status, 401 | 407 | 408 | 409) {
            Hresult::INVALID_PUSH_TEMPLATE
        } else {
            row.hresult
        };
        Self {
            hresult,
            condition: Condition::Status(status),
            text: format!("the server answered {status}: {}", row.meaning),
            remedy: row.remedy,
            permanent: row.permanent,
            retry_after: retry_after(headers),
        }
    }

    /// A server or proxy is not satisfied by the credentials there are (C-5).
    pub fn unauthorized(target: Target, text: &str, remedy: &'static str) -> Self {
        let (who, status) = match target {
            Target::Server => ("server", 401),
            Target::Proxy => ("proxy", 407),
        };
        Self {
            hresult: row_of(status).hresult,
            condition: Condition::Status(status),
            text: format!("the {who} answered {status}: {text}"),
            remedy,
            // The same credentials would be refused again, and some servers lock a user out for that.
            permanent: true,
            retry_after: None,
        }
    }

    /// The server redirects, and that is not followed (C-4); `text` goes on after "it redirects".
    pub fn redirect(status: u16, hresult: Hresult, text: String, remedy: &'static str) -> Self {
        Self {
            hresult,
            condition: Condition::Status(status),
            text: format!("the server answered {status}: it redirects {text}"),
            remedy,
            // Only a change at the server or of location leads elsewhere.
            permanent: true,
            retry_after: None,
        }
    }

    /// A success from what is no Windows Media server (H-5).
    pub fn incompatible(server: Option<&str>) -> Self {
        let who = server.map_or_else(|| "no Server header".to_owned(), |server| format!("Server: {server}"));
        Self {
            hresult: Hresult::INCOMPATIBLE_PUSH_SERVER,
            condition: Condition::Incompatible,
            text: format!("the far end is no Windows Media server ({who})"),
            remedy: "check host and port, or set strict-server=false if this server takes pushes all the same",
            permanent: true,
            retry_after: None,
        }
    }

    /// A request was not answered in time (C-17).
    pub fn no_answer(timeout: Duration) -> Self {
        Self {
            hresult: Hresult::TIMEOUT,
            condition: Condition::NoAnswer,
            text: format!("no answer within {} ms", timeout.as_millis()),
            remedy: "check that the server is alive, or raise timeout",
            permanent: false,
            retry_after: None,
        }
    }

    /// A success in mid-body: in the field, another encoder has taken the publishing point.
    pub fn displaced(status: u16) -> Self {
        Self {
            hresult: Hresult::PUSH_DUPLICATE,
            condition: Condition::Displaced,
            text: format!(
                "the server ended the push with {status} in mid-stream: another encoder may have taken the publishing point"
            ),
            remedy: "see that only one encoder pushes there",
            permanent: false,
            retry_after: None,
        }
    }

    /// The connection failed.
    pub fn lost(cause: Cause, detail: &str) -> Self {
        let (hresult, what, remedy) = match cause {
            Cause::NameNotFound => (
                Hresult::SERVER_NOT_FOUND,
                "the host name is unknown",
                "check the host in location, and the name service",
            ),
            Cause::NameTimeout => (
                Hresult::SERVER_DNS_TIMEOUT,
                "the name service did not answer",
                "check the name service, or raise connect-timeout",
            ),
            Cause::Refused => (
                Hresult::PUSH_CANNOT_CONNECT,
                "the connection was refused",
                "check that the server runs and listens on the port in location",
            ),
            Cause::ConnectTimeout => (
                Hresult::CONNECT_TIMEOUT,
                "the connection timed out",
                "check the network and firewalls, or raise connect-timeout",
            ),
            Cause::Stalled => (
                Hresult::CONNECTION_FAILURE,
                "the server took no byte for too long",
                "check the network's capacity against the stream's bit rate, or raise stall-timeout",
            ),
            Cause::Reset => (Hresult::RESET_CONNECTION, "the server reset the connection", "see the server's log"),
            Cause::Closed => (Hresult::NET_READ, "the server closed the connection", "see the server's log"),
            Cause::Stale => (Hresult::NET_READ, "the server had closed the idle connection", "none needed"),
            Cause::NotHttp => (
                Hresult::BAD_SYNTAX_IN_RESPONSE,
                "the answer is no HTTP",
                "check that the port in location is a web server's",
            ),
            Cause::Untrusted => (
                Hresult::NOT_TRUSTED,
                "the server's certificate is not trusted",
                "check the host in location, or name the authority that issued the certificate by tls-ca-file",
            ),
            Cause::Tls => (
                Hresult::TLS_FAILED,
                "no encrypted connection came about",
                "check that the port in location is one for https, and which client certificates the server takes",
            ),
            Cause::Other => (Hresult::CONNECTION_FAILURE, "the connection failed", "check the network"),
        };
        let text = if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") };
        // Who answers with the wrong certificate may be somebody else: that is for people to look at.
        let permanent = cause == Cause::Untrusted;
        Self { hresult, condition: Condition::Lost(cause), text, remedy, permanent, retry_after: None }
    }
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// An HTTP status that is no success.
    Status(u16),
    /// Not a Windows Media server (H-5).
    Incompatible,
    /// No answer in time (C-17).
    NoAnswer,
    /// A success in mid-body.
    Displaced,
    /// The connection failed.
    Lost(Cause),
}

/// How a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host name does not exist.
    NameNotFound,
    /// The name service did not answer.
    NameTimeout,
    /// Nobody listens, or no way leads there.
    Refused,
    /// No TCP connection in time.
    ConnectTimeout,
    /// Bytes were not acknowledged in time.
    Stalled,
    /// RST.
    Reset,
    /// FIN before the answer.
    Closed,
    /// The kept connection was gone before the request: nothing of it was sent.
    Stale,
    /// The answer is no HTTP.
    NotHttp,
    /// The server's certificate is not trusted, or is another host's.
    Untrusted,
    /// TLS failed otherwise.
    Tls,
    /// Anything else.
    Other,
}

struct Row {
    hresult: Hresult,
    meaning: &'static str,
    remedy: &'static str,
    permanent: bool,
}

fn row_of(status: u16) -> Row {
    let row = |hresult, meaning, remedy, permanent| Row { hresult, meaning, remedy, permanent };
    match status {
        300..=399 => row(Hresult::REDIRECT, "it redirects", "set location to the URL that the server names", true),
        400 => row(Hresult::BAD_REQUEST, "bad request", "see the server's log for what it refuses", true),
        401 => row(
            Hresult::SERVER_ACCESS_DENIED,
            "it asks for credentials",
            "allow this encoder to push at the server",
            true,
        ),
        403 => row(
            Hresult::REFUSED_BY_SERVER,
            "forbidden",
            "give this encoder the right to write at the publishing point",
            true,
        ),
        404 => row(
            Hresult::FILE_NOT_FOUND,
            "no such publishing point, or it is busy",
            "create the publishing point, or set template-url so that the server does",
            false,
        ),
        405 | 501 => row(
            Hresult::INCOMPATIBLE_PUSH_SERVER,
            "it takes no pushes",
            "check host and port: this may be an ordinary web server",
            true,
        ),
        407 => {
            row(Hresult::PROXY_ACCESS_DENIED, "the proxy asks for credentials", "allow this encoder at the proxy", true)
        }
        408 => row(
            Hresult::TIMEOUT,
            "the session was idle for too long",
            "keep data flowing; the push is set up anew",
            false,
        ),
        409 => row(
            Hresult::PUSH_DUPLICATE,
            "another encoder pushes to the publishing point",
            "stop the other encoder, or choose another publishing point",
            false,
        ),
        410 => row(Hresult::RESOURCE_GONE, "the publishing point is gone", "choose another publishing point", true),
        411 | 413..=417 | 426 | 428 | 431 | 505 => row(
            Hresult::REFUSED_BY_SERVER,
            "it cannot take such a request",
            "see the server's log for what it refuses",
            true,
        ),
        402 | 406 | 412 | 418..=425 | 427 | 429 | 430 | 432..=499 => {
            row(Hresult::REFUSED_BY_SERVER, "refused", "see the server's log", false)
        }
        502 => row(Hresult::ERROR_FROM_PROXY, "bad gateway", "see that the server behind the proxy runs", false),
        503 => row(Hresult::SERVER_UNAVAILABLE, "unavailable", "the server is busy or starting; see its limits", false),
        504 => row(Hresult::PROXY_TIMEOUT, "gateway timeout", "see that the server behind the proxy answers", false),
        _ => row(Hresult::INTERNAL_SERVER_ERROR, "internal error", "see the server's log", false),
    }
}

/// `Retry-After` in seconds; its date form is for documents, not for live streams.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn statuses_map_to_codes_and_patience() {
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
        ] {
            let failure = Failure::from_status(status, &HeaderMap::new(), false);
            assert_eq!((failure.hresult, failure.permanent), (hresult, permanent), "{status}");
            assert_eq!(failure.status(), Some(status));
            assert!(failure.text.contains(&status.to_string()) && !failure.remedy.is_empty());
        }
    }

    #[test]
    fn a_refused_template_says_so() {
        assert_eq!(Failure::from_status(404, &HeaderMap::new(), true).hresult, Hresult::INVALID_PUSH_TEMPLATE);
        assert_eq!(Failure::from_status(503, &HeaderMap::new(), true).hresult, Hresult::SERVER_UNAVAILABLE);
    }

    #[test]
    fn retry_after_is_read_and_bounded() {
        let with = |value| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            Failure::from_status(503, &headers, false).retry_after
        };
        assert_eq!(with("7"), Some(Duration::from_secs(7)));
        assert_eq!(with("99999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(with("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
