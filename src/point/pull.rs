//! The pull protocol's requests ([MS-WMSP] 2.2.2), as tolerant as players are careless.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use super::access::NoEntry;
use super::body::Body;
use super::frames;
use super::registry::{NoStream, Registry};
use crate::wmhttp::server::Lookup;
use crate::wmhttp::server::access::RequestLine;

/// A Windows encoder's own server: it owes players no `$M`, which those in the field do not take.
const SERVER: &str = "Rex/9.0.0.2980";
const DESCRIBE_TYPE: &str = "application/vnd.ms.wms-hdr.asfv1";
const PLAY_TYPE: &str = "application/x-mms-framed";
const PUBLIC: HeaderName = HeaderName::from_static("public");
const METHODS: &str = "OPTIONS, GET, POST";

/// Numbers given to players; they grant nothing.
static NEXT_CLIENT: AtomicU32 = AtomicU32::new(1);

/// What a player wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Describe,
    Play { chunked: bool },
    Stop,
    KeepAlive,
    Options,
    Log,
    Unknown,
}

impl Wish {
    fn of(method: &Method, headers: &HeaderMap) -> Self {
        let pragma = joined(headers, &header::PRAGMA);
        let has = |token: &str| pragma.contains(token);
        if method == Method::OPTIONS {
            Self::Options
        } else if has("xstopstrm=1") {
            Self::Stop
        } else if method == Method::POST {
            let content_type = joined(headers, &header::CONTENT_TYPE);
            if content_type.starts_with("application/x-wms-logstats") || has("log-line=") {
                Self::Log
            } else if has("xkeepaliveinpause=1") {
                Self::KeepAlive
            } else {
                Self::Unknown
            }
        } else if method != Method::GET || has("xplaynextentry=1") || has("pipeline-request=1") {
            Self::Unknown
        } else if has("xplaystrm=1") {
            Self::Play { chunked: has("version11-enabled=1") }
        } else {
            Self::Describe
        }
    }
}

/// Answers a request that is no push.
pub(super) fn answer(registry: &Arc<Registry>, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let wish = Wish::of(request.method(), request.headers());
    if let (Wish::Describe | Wish::Play { .. }, Some(Lookup::Moved(url))) = (wish, registry.redirect(path)) {
        return moved(&url);
    }
    let target = request.uri().to_string();
    let line = RequestLine { method: request.method().as_str(), target: &target };
    if let (false, Err(error)) = (wish == Wish::Options, registry.admit_player(request.headers(), line, path)) {
        return no_entry(error);
    }
    match wish {
        Wish::Describe => describe(registry, path),
        Wish::Play { chunked } => match registry.play(path) {
            Ok(play) => {
                let mut response = response(StatusCode::OK, Some(PLAY_TYPE), Body::Play(play));
                if chunked && request.version() == Version::HTTP_11 {
                    *response.version_mut() = Version::HTTP_11;
                }
                response
            }
            Err(error) => no_stream(error),
        },
        Wish::Stop | Wish::KeepAlive => response(StatusCode::OK, None, Body::empty()),
        Wish::Options => {
            let mut response = response(StatusCode::OK, None, Body::empty());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
            response.headers_mut().insert(PUBLIC, HeaderValue::from_static(METHODS));
            response
        }
        Wish::Log => response(StatusCode::NO_CONTENT, None, Body::empty()),
        Wish::Unknown if !METHODS.split(", ").any(|method| *request.method() == method) => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "players come by GET, encoders by POST\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
            response
        }
        Wish::Unknown => text(StatusCode::BAD_REQUEST, "no request of a player or an encoder\n"),
    }
}

fn describe(registry: &Registry, path: &str) -> Response<Body> {
    match registry.point(path).map(|point| point.header()) {
        Some(Some(header)) => response(StatusCode::OK, Some(DESCRIBE_TYPE), Body::full(frames::header(header.bytes()))),
        Some(None) => no_stream(NoStream::NotPushed),
        None => no_stream(NoStream::UnknownPoint),
    }
}

fn no_stream(error: NoStream) -> Response<Body> {
    match error {
        NoStream::UnknownPoint => text(StatusCode::NOT_FOUND, "no such publishing point\n"),
        NoStream::NotPushed => text(StatusCode::SERVICE_UNAVAILABLE, "nobody pushes to this publishing point\n"),
        NoStream::TooManyPlayers => text(StatusCode::SERVICE_UNAVAILABLE, "no room for another player\n"),
    }
}

fn no_entry(error: NoEntry) -> Response<Body> {
    match error {
        NoEntry::Unknown(challenges) => {
            let text = "who plays here must name a user and the right password\n";
            let mut response = self::text(StatusCode::UNAUTHORIZED, text);
            let challenges = challenges.iter().filter_map(|challenge| HeaderValue::from_str(challenge).ok());
            for challenge in challenges {
                response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
        NoEntry::NoRight => text(StatusCode::FORBIDDEN, "this user may not play here\n"),
        NoEntry::NoRandomness => text(StatusCode::INTERNAL_SERVER_ERROR, "no randomness for a challenge\n"),
    }
}

/// Sends a player where the pushers are sent.
fn moved(url: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::from_str(url) else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the redirect of this publishing point is no URL\n");
    };
    let mut response = response(StatusCode::FOUND, None, Body::empty());
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    response(status, Some("text/plain; charset=utf-8"), Body::full(text))
}

/// HTTP/1.0 throughout: players read until the server closes, and some take nothing chunked.
fn response(status: StatusCode, content_type: Option<&'static str>, body: Body) -> Response<Body> {
    let client = NEXT_CLIENT.fetch_add(1, Ordering::Relaxed).max(1);
    let pragma = format!("no-cache,client-id={client},features=\"broadcast\",timeout=60000");
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_10;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(pragma) = HeaderValue::from_str(&pragma) {
        headers.insert(header::PRAGMA, pragma);
    }
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// All values of a header as one text in lower case.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(",").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(method: Method, lines: &[(&'static str, &'static str)]) -> Wish {
        let headers = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Wish::of(&method, &headers)
    }

    #[test]
    fn requests_are_told_apart_by_tokens_anywhere() {
        assert_eq!(wish(Method::GET, &[("pragma", "no-cache,rate=1.0")]), Wish::Describe);
        let ffmpeg = [
            ("pragma", "xPlayStrm=1"),
            ("pragma", "stream-switch-count=2"),
            ("pragma", "no-cache,rate=1.000000,stream-time=0Connection: Close"),
        ];
        assert_eq!(wish(Method::GET, &ffmpeg), Wish::Play { chunked: false });
        let new = [("pragma", "XPLAYSTRM=1, version11-enabled=1")];
        assert_eq!(wish(Method::GET, &new), Wish::Play { chunked: true });
        assert_eq!(wish(Method::POST, &[("content-type", "application/x-wms-LogStats;charset=UTF-8")]), Wish::Log);
        assert_eq!(wish(Method::POST, &[("pragma", "xKeepAliveInPause=1")]), Wish::KeepAlive);
        assert_eq!(wish(Method::POST, &[("pragma", "xStopStrm=1")]), Wish::Stop);
        assert_eq!(wish(Method::OPTIONS, &[]), Wish::Options);
        assert_eq!(wish(Method::POST, &[]), Wish::Unknown);
        assert_eq!(wish(Method::PUT, &[]), Wish::Unknown);
    }
}
