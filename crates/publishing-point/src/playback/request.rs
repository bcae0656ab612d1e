//! Classifies the requests of players ([MS-WMSP] 2.2.2). Parsing is lenient, because players deviate from the protocol.

use http::Method;
use http::header::{self, HeaderMap, HeaderName};
use url::form_urlencoded;

use super::stream::{OutputFormat, PlayRequest};
use super::stream_selection::StreamSelection;

/// The beginnings of the User-Agents of players with the pull protocol, in lower case.
const MMS_PLAYERS: [&str; 3] = ["nsplayer", "nsserver", "wmcacheproxy"];
/// The beginnings of the User-Agents of programs that play ASF over plain HTTP, in lower case.
const PLAIN_PLAYERS: [&str; 9] = ["vlc", "libvlc", "lavf", "mplayer", "mpv", "libmpv", "gstreamer", "libmms", "xine"];
/// The first major version of `NSPlayer` that is used only by Windows Media Player. Other programs, which stop at a
/// second header or decode the following packets with the first one, identify as `NSPlayer/4.1.0.3856` (ffmpeg,
/// MPlayer, libmms), `NSPlayer/7.0.0.1956` or `NSPlayer/7.10.0.3059` (VLC).
const WINDOWS_MAJOR: u32 = 9;

/// A player's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlayerRequest {
    /// Requests the header.
    Describe,
    /// Requests the stream.
    Play { play_request: PlayRequest, chunked: bool },
    /// Ends the stream.
    Stop,
    /// Keeps the session while it has no stream.
    KeepAlive,
    /// Asks for the supported methods; also keeps the connection alive.
    Options,
    /// Reports on the playback.
    Log { line: Option<String> },
    /// Selects other streams of the current one.
    Select(StreamSelection),
    /// Reports an event that the server ignores.
    Event,
    /// Requests a playlist.
    Asx,
    /// Invalid; contains the reason for the response.
    Invalid(&'static str),
    /// Uses a method that is not supported.
    UnsupportedMethod,
}

impl PlayerRequest {
    /// Classifies a request.
    pub(crate) fn of(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> Self {
        let pragma = joined(headers, &header::PRAGMA);
        let has = |token: &str| pragma.contains(token);
        match *method {
            Method::OPTIONS => Self::Options,
            Method::GET | Method::HEAD | Method::POST if has("xstopstrm=1") => Self::Stop,
            Method::POST => Self::of_post(headers, &pragma),
            Method::GET | Method::HEAD => Self::of_get(path, query, headers, &pragma),
            _ => Self::UnsupportedMethod,
        }
    }

    /// Classifies a POST.
    fn of_post(headers: &HeaderMap, pragma: &str) -> Self {
        let content_type = joined(headers, &header::CONTENT_TYPE);
        let selection = StreamSelection::read(pragma);
        let line = log_line(headers);
        // A log may contain the other tokens in its texts, so it is recognized first.
        if content_type.starts_with("application/x-wms-logstats") || line.is_some() {
            Self::Log { line }
        } else if pragma.contains("xkeepaliveinpause=1") {
            Self::KeepAlive
        } else if !selection.is_empty() {
            Self::Select(selection)
        } else if content_type.starts_with("application/x-wms-sendevent") {
            Self::Event
        } else {
            Self::Invalid("not a request of a player or an encoder\n")
        }
    }

    /// Classifies a GET or HEAD.
    fn of_get(path: &str, query: Option<&str>, headers: &HeaderMap, pragma: &str) -> Self {
        let has = |token: &str| pragma.contains(token);
        let agent = joined(headers, &header::USER_AGENT);
        let agent_begins_with = |names: &[&str]| names.iter().any(|name| agent.starts_with(name));
        // Players with unknown names are recognized by the headers that only this protocol has.
        let is_mms_player = agent_begins_with(&MMS_PLAYERS) || has("xclientguid=") || has("rate=");
        let plain = || Self::Play {
            play_request: PlayRequest { format: OutputFormat::Plain, ..PlayRequest::default() },
            chunked: false,
        };
        let format = query.and_then(|query| {
            form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "format").map(|(_, format)| format)
        });
        match format.as_deref() {
            Some("asf") => return plain(),
            Some("asx") => return Self::Asx,
            Some(_) => return Self::Invalid("unknown format; use format=asf or format=asx\n"),
            None => {}
        }
        let selection = StreamSelection::read(pragma);
        if has("xplaystrm=1") {
            let play_request = PlayRequest {
                format: OutputFormat::Framed,
                selection,
                accepts_header_changes: accepts_header_changes(&agent),
            };
            Self::Play { play_request, chunked: has("version11-enabled=1") }
        } else if has("xplaynextentry=1") || has("pipeline-request=1") || !selection.is_empty() {
            Self::Invalid("a live stream has no playlist entries to select\n")
        } else if is_mms_player {
            Self::Describe
        } else if agent_begins_with(&PLAIN_PLAYERS) && !is_asx(path) {
            plain()
        } else {
            Self::Asx
        }
    }
}

/// Returns whether the player accepts another header in mid-stream ([MS-WMSP] 2.2.3), by its User-Agent in lower case.
fn accepts_header_changes(agent: &str) -> bool {
    match agent.strip_prefix("nsplayer/") {
        Some(version) => version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .is_some_and(|major: u32| major >= WINDOWS_MAJOR),
        None => agent.starts_with("nsserver/") || agent.starts_with("wmcacheproxy/"),
    }
}

/// Returns whether the path is that of a point followed by `.asx`.
pub(crate) fn is_asx(path: &str) -> bool {
    without_asx(path).is_some()
}

/// Returns the path of the point of an `.asx`.
pub(crate) fn without_asx(path: &str) -> Option<&str> {
    path.strip_suffix(".asx").or_else(|| path.strip_suffix(".ASX"))
}

/// Returns the client-id in a request; `None` if it is missing, invalid or 0.
pub(crate) fn client_id(headers: &HeaderMap) -> Option<u32> {
    let pragma = joined(headers, &header::PRAGMA);
    let (_, rest) = pragma.split_once("client-id=")?;
    let rest = rest.trim_start_matches('"');
    let digits = rest.split(|char: char| !char.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|id| *id != 0)
}

/// Returns the value of `log-line=`, unchanged.
fn log_line(headers: &HeaderMap) -> Option<String> {
    const NAME: &str = "log-line=";
    headers.get_all(header::PRAGMA).iter().find_map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        let at = text.to_ascii_lowercase().find(NAME)?;
        text.get(at + NAME.len()..).map(|line| line.trim_matches('"').to_owned())
    })
}

/// Returns all values of a header as one text in lower case.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(",").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn parsed(method: Method, lines: &[(&'static str, &'static str)]) -> PlayerRequest {
        PlayerRequest::of(&method, "/concert", None, &headers(lines))
    }

    fn play(selection: &str, chunked: bool, accepts_header_changes: bool) -> PlayerRequest {
        PlayerRequest::Play {
            play_request: PlayRequest {
                format: OutputFormat::Framed,
                selection: StreamSelection::read(selection),
                accepts_header_changes,
            },
            chunked,
        }
    }

    fn plain() -> PlayerRequest {
        PlayerRequest::Play {
            play_request: PlayRequest { format: OutputFormat::Plain, ..PlayRequest::default() },
            chunked: false,
        }
    }

    #[test]
    fn requests_are_classified_by_tokens_anywhere() {
        assert_eq!(parsed(Method::GET, &[("pragma", "no-cache,rate=1.0")]), PlayerRequest::Describe);
        assert_eq!(parsed(Method::GET, &[("user-agent", "NSPlayer/4.1.0.3856")]), PlayerRequest::Describe);
        let ffmpeg = [
            ("pragma", "xPlayStrm=1"),
            ("pragma", "stream-switch-count=2"),
            ("pragma", "stream-switch-entry=ffff:1:0 ffff:2:0 "),
            ("pragma", "no-cache,rate=1.000000,stream-time=0Connection: Close"),
        ];
        let both = "stream-switch-entry=ffff:1:0 ffff:2:0";
        assert_eq!(parsed(Method::GET, &ffmpeg), play(both, false, false));
        let new = [("pragma", "XPLAYSTRM=1, version11-enabled=1")];
        assert_eq!(parsed(Method::GET, &new), play("", true, false));
        let vlc = [("pragma", "xPlayStrm=1"), ("user-agent", "NSPlayer/7.10.0.3059")];
        assert_eq!(parsed(Method::GET, &vlc), play("", false, false));
        for windows in ["NSPlayer/12.0.19041.1", "NSPlayer/9.0.0.2980", "NSServer/9.1.1.5001", "WMCacheProxy/9.0"] {
            assert_eq!(parsed(Method::GET, &[vlc[0], ("user-agent", windows)]), play("", false, true));
        }
        let log = [("content-type", "application/x-wms-LogStats;charset=UTF-8")];
        assert_eq!(parsed(Method::POST, &log), PlayerRequest::Log { line: None });
        let line = [("pragma", "Log-Line=0.0.0.0 2003-09-10 A")];
        assert_eq!(parsed(Method::POST, &line), PlayerRequest::Log { line: Some("0.0.0.0 2003-09-10 A".to_owned()) });
        assert_eq!(parsed(Method::POST, &[("pragma", "xKeepAliveInPause=1")]), PlayerRequest::KeepAlive);
        assert_eq!(parsed(Method::POST, &[("pragma", "xStopStrm=1")]), PlayerRequest::Stop);
        let select = [("pragma", "stream-switch-entry=1:2:0")];
        assert_eq!(
            parsed(Method::POST, &select),
            PlayerRequest::Select(StreamSelection::read("stream-switch-entry=1:2:0"))
        );
        assert_eq!(parsed(Method::OPTIONS, &[]), PlayerRequest::Options);
        assert!(matches!(parsed(Method::POST, &[]), PlayerRequest::Invalid(_)));
        assert!(matches!(parsed(Method::GET, &[("pragma", "xPlayNextEntry=1")]), PlayerRequest::Invalid(_)));
        assert_eq!(parsed(Method::PUT, &[]), PlayerRequest::UnsupportedMethod);
    }

    #[test]
    fn browsers_get_a_playlist_and_programs_the_stream() {
        assert_eq!(parsed(Method::GET, &[("user-agent", "Mozilla/5.0 (X11)")]), PlayerRequest::Asx);
        assert_eq!(parsed(Method::HEAD, &[]), PlayerRequest::Asx);
        for agent in
            ["VLC/3.0.24 LibVLC/3.0.24", "Lavf/59.27.100", "libmpv", "GStreamer souphttpsrc 1.22", "MPlayer 1.5"]
        {
            assert_eq!(parsed(Method::GET, &[("user-agent", agent)]), plain());
        }
        let of = |path, query| PlayerRequest::of(&Method::GET, path, query, &headers(&[("user-agent", "VLC/3.0.24")]));
        assert_eq!(of("/concert.asx", None), PlayerRequest::Asx);
        assert_eq!(of("/concert", Some("x=1&format=asx")), PlayerRequest::Asx);
        assert_eq!(of("/concert", Some("format=asf")), plain());
        assert!(matches!(of("/concert", Some("format=mov")), PlayerRequest::Invalid(_)));
    }

    #[test]
    fn client_ids_are_numbers_above_0() {
        for (pragma, id) in [
            ("no-cache,client-id=4294967295,x", Some(u32::MAX)),
            ("Client-Id=\"77\"", Some(77)),
            ("client-id=0", None),
            ("client-id=4294967296", None),
            ("client-id=x", None),
            ("no-cache", None),
        ] {
            assert_eq!(client_id(&headers(&[("pragma", pragma)])), id);
        }
    }
}
