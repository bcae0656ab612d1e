//! The table of failures, row by row with the element: the message on the bus, and whether it is retried.
//!
//! Tested elsewhere: TLS in `auth/tls.rs`, redirects and locations in `element/pipelines.rs`, credentials in
//! `auth/authentication.rs`, responses of squid in `interop/proxies.rs`, invalid input in `element/pipelines.rs`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use gst::ResourceError as Code;
use gst::prelude::*;
use test_support::media;
use test_support::peer::{Connection, Peer, ours, relay, wms};
use test_support::pipeline::{Pushing, end, push_bytes, status, status_nick};
use wmhttp::Hresult;

/// Replaces the resolver of this process; the result depends on the name.
mod name_service {
    use std::ffi::{CStr, c_char, c_int};
    use std::time::Duration;

    #[expect(unsafe_code, reason = "replaces the C library's function, which the tests cannot make fail")]
    #[unsafe(no_mangle)]
    extern "C" fn getaddrinfo(
        node: *const c_char,
        _service: *const c_char,
        _hints: *const nix::libc::addrinfo,
        _result: *mut *mut nix::libc::addrinfo,
    ) -> c_int {
        // SAFETY: callers of this function pass a terminated string.
        match unsafe { CStr::from_ptr(node) }.to_bytes() {
            b"down.test" => nix::libc::EAI_AGAIN,
            b"silent.test" => {
                std::thread::sleep(Duration::from_secs(5));
                nix::libc::EAI_AGAIN
            }
            _ => nix::libc::EAI_NONAME,
        }
    }
}

struct Row {
    name: String,
    cause: Cause,
    code: Code,
    hresult: Hresult,
    /// `http-status-code`.
    status: Option<u16>,
    retried: bool,
}

enum Cause {
    /// No server is involved: the element's properties.
    Properties(String),
    /// What the peer does with the PushSetup, and properties.
    Setup(Script, &'static str),
    /// What the peer does with the PushStart, and properties.
    Start(Script, &'static str),
    /// What the peer does as the proxy of another server.
    ByProxy(Script),
}

type Script = Box<dyn Fn(Connection) -> Option<Connection>>;

fn answers(text: String) -> Script {
    Box::new(move |mut connection| {
        connection.answer(&text);
        Some(connection)
    })
}

/// Causes the failure once, with `retries` permitted retries; returns the pipeline and the objects that must stay alive
/// meanwhile.
fn happen(cause: &Cause, retries: i32) -> (Pushing, Option<Peer>, Option<Connection>) {
    let common = format!("sync=false retries={retries} retry-delay=600000 retry-delay-max=600000");
    let begun = |properties: String| {
        let (pushing, source) = Pushing::with_feed_source(&properties);
        pushing.play();
        push_bytes(&source, media::stream(10, 40));
        pushing
    };
    match cause {
        Cause::Properties(properties) => (begun(format!("{common} {properties}")), None, None),
        Cause::Setup(script, properties) => {
            let peer = Peer::new();
            let pushing = begun(format!("{common} location={} {properties}", peer.location()));
            let mut connection = peer.accept();
            assert!(connection.request().is_setup());
            let left = script(connection);
            (pushing, Some(peer), left)
        }
        Cause::Start(script, properties) => {
            let peer = Peer::with_small_buffer();
            let pushing = begun(format!("{common} location={} {properties}", peer.location()));
            let mut connection = peer.accept();
            connection.set_up(&wms(204, "one"));
            connection.packet();
            connection.data(1);
            let left = script(connection);
            (pushing, Some(peer), left)
        }
        Cause::ByProxy(script) => {
            let peer = Peer::new();
            let pushing = begun(format!("{common} location=http://server.test/concert proxy=http://{}", peer.addr));
            let mut connection = peer.accept();
            assert!(connection.request().text.starts_with("POST http://server.test/concert HTTP/1.1\r\n"));
            let left = script(connection);
            (pushing, Some(peer), left)
        }
    }
}

fn check(row: &Row) {
    let Row { name, cause, code, hresult, status: http_status, retried } = row;
    let right = |details: &gst::StructureRef| {
        assert_eq!(details.get::<u32>("hresult"), Ok(hresult.0), "{name}: {details}");
        assert_eq!(details.get::<&str>("hresult-name").unwrap(), hresult.to_string(), "{name}");
        assert_eq!(details.get::<u32>("http-status-code").ok(), http_status.map(u32::from), "{name}: {details}");
        assert!(!details.get::<&str>("text").unwrap().is_empty(), "{name}");
        assert!(!details.get::<&str>("remedy").unwrap().is_empty(), "{name}");
    };

    // Without retries: an ERROR.
    let (pushing, _peer, _connection) = happen(cause, 0);
    let (error, details) = pushing.wait_for_error();
    assert!(error.matches(*code), "{name}: {error:?}");
    assert!(error.message().contains(details.get::<&str>("remedy").unwrap()), "{name}: {error:?}");
    right(&details);

    // With unlimited retries: a WARNING and another attempt, if the failure can be retried.
    let (pushing, _peer, _connection) = happen(cause, -1);
    let (again, details) = pushing.wait_for(|message| {
        if let gst::MessageView::Error(error) = message.view() {
            return Some((false, error.details()?.to_owned()));
        }
        let gst::MessageView::Warning(warning) = message.view() else { return None };
        let details = warning.details()?.to_owned();
        let again = details.has_name("asfpushsink-status") && status_nick(&details) == "reconnect-start";
        again.then_some((true, details))
    });
    assert_eq!(again, *retried, "{name}: {details}");
    assert_eq!(details.get::<u32>("retry-in").is_ok(), *retried, "{name}: {details}");
    right(&details);
}

fn answered(status: u16, code: Code, hresult: Hresult, retried: bool) -> Row {
    let cause = Cause::Setup(answers(wms(status, "0")), "");
    Row { name: format!("{status} to PushSetup"), cause, code, hresult, status: Some(status), retried }
}

/// HTTP statuses, as a response to PushSetup and in the middle of the stream.
#[test]
fn c16_responses() {
    const FATAL: bool = false;
    const RETRIED: bool = true;
    for row in [
        answered(400, Code::Write, Hresult::BAD_REQUEST, FATAL),
        answered(401, Code::NotAuthorized, Hresult::SERVER_ACCESS_DENIED, FATAL),
        answered(403, Code::NotAuthorized, Hresult::REFUSED_BY_SERVER, FATAL),
        answered(404, Code::NotFound, Hresult::FILE_NOT_FOUND, RETRIED),
        answered(405, Code::Settings, Hresult::INCOMPATIBLE_PUSH_SERVER, FATAL),
        answered(407, Code::NotAuthorized, Hresult::PROXY_ACCESS_DENIED, FATAL),
        answered(408, Code::Write, Hresult::TIMEOUT, RETRIED),
        answered(409, Code::Busy, Hresult::PUSH_DUPLICATE, RETRIED),
        answered(410, Code::NotFound, Hresult::RESOURCE_GONE, FATAL),
        answered(411, Code::Write, Hresult::REFUSED_BY_SERVER, FATAL),
        answered(422, Code::Write, Hresult::REFUSED_BY_SERVER, RETRIED),
        answered(500, Code::Write, Hresult::INTERNAL_SERVER_ERROR, RETRIED),
        answered(501, Code::Settings, Hresult::INCOMPATIBLE_PUSH_SERVER, FATAL),
        answered(502, Code::Write, Hresult::ERROR_FROM_PROXY, RETRIED),
        answered(503, Code::Busy, Hresult::SERVER_UNAVAILABLE, RETRIED),
        answered(504, Code::Write, Hresult::PROXY_TIMEOUT, RETRIED),
        answered(507, Code::Write, Hresult::INTERNAL_SERVER_ERROR, RETRIED),
        Row {
            name: "302 without a Location".to_owned(),
            ..answered(302, Code::Settings, Hresult::INVALID_REDIRECT, FATAL)
        },
        Row {
            name: "404 with a template".to_owned(),
            cause: Cause::Setup(answers(wms(404, "0")), "template-url=/live"),
            ..answered(404, Code::NotFound, Hresult::INVALID_PUSH_TEMPLATE, RETRIED)
        },
        Row {
            name: "an ordinary web server".to_owned(),
            cause: Cause::Setup(
                answers("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n".to_owned()),
                "",
            ),
            status: None,
            ..answered(200, Code::Settings, Hresult::INCOMPATIBLE_PUSH_SERVER, FATAL)
        },
        Row {
            name: "408 in mid-stream".to_owned(),
            cause: Cause::Start(answers(wms(408, "one")), ""),
            ..answered(408, Code::Write, Hresult::TIMEOUT, RETRIED)
        },
        Row {
            name: "404 in mid-stream".to_owned(),
            cause: Cause::Start(answers(wms(404, "one")), ""),
            ..answered(404, Code::NotFound, Hresult::FILE_NOT_FOUND, RETRIED)
        },
        Row {
            name: "200 in mid-stream".to_owned(),
            cause: Cause::Start(answers(relay(200)), ""),
            status: None,
            ..answered(200, Code::Busy, Hresult::PUSH_DUPLICATE, RETRIED)
        },
    ] {
        check(&row);
    }
}

/// Connections that cannot be established, and connections that are lost (C-14).
#[test]
fn c14_connections() {
    let closed = || -> Script { Box::new(|_connection| None) };
    let reset = || -> Script {
        Box::new(|connection| {
            connection.reset();
            None
        })
    };
    let silent = || -> Script { Box::new(Some) };
    let nobody = nobody();
    let hole = BlackHole::new();
    let at = |location: &str| Cause::Properties(format!("location=http://{location}/concert connect-timeout=300"));
    let rows = [
        ("no such name", at("unknown.test"), Code::NotFound, Hresult::SERVER_NOT_FOUND),
        ("the name service is down", at("down.test"), Code::OpenWrite, Hresult::SERVER_DNS_TIMEOUT),
        ("the name service is silent", at("silent.test"), Code::OpenWrite, Hresult::SERVER_DNS_TIMEOUT),
        ("the port is closed", at(&nobody.to_string()), Code::OpenWrite, Hresult::PUSH_CANNOT_CONNECT),
        ("the connection gets no response", at(&hole.addr.to_string()), Code::OpenWrite, Hresult::CONNECT_TIMEOUT),
        ("no answer", Cause::Setup(silent(), "timeout=100"), Code::OpenWrite, Hresult::TIMEOUT),
        ("closed before the response", Cause::Setup(closed(), ""), Code::Write, Hresult::NET_READ),
        ("reset before the response", Cause::Setup(reset(), ""), Code::Write, Hresult::RESET_CONNECTION),
        (
            "no HTTP",
            Cause::Setup(answers("220 mail.example ESMTP\r\n\r\n".to_owned()), ""),
            Code::OpenWrite,
            Hresult::BAD_SYNTAX_IN_RESPONSE,
        ),
        ("closed in mid-stream", Cause::Start(closed(), ""), Code::Write, Hresult::NET_READ),
        ("reset in mid-stream", Cause::Start(reset(), ""), Code::Write, Hresult::RESET_CONNECTION),
    ];
    for (name, cause, code, hresult) in rows {
        check(&Row { name: name.to_owned(), cause, code, hresult, status: None, retried: true });
    }
}

/// A server that stops reading: `stall-timeout`.
#[test]
fn c14_a_stall() {
    for retries in [0, -1] {
        let peer = Peer::with_small_buffer();
        let (pushing, source) = Pushing::with_feed_source(&format!(
            "location={} sync=false retries={retries} retry-delay=600000 stall-timeout=500",
            peer.location()
        ));
        pushing.play();
        push_bytes(&source, media::stream(7000, 40));
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        let details = if retries == 0 {
            let (error, details) = pushing.wait_for_error();
            assert!(error.matches(Code::Write), "{error:?}");
            details
        } else {
            pushing.wait_for_status("reconnect-start")
        };
        assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::CONNECTION_FAILURE.0));
        assert!(details.get::<&str>("remedy").unwrap().contains("stall-timeout"));
    }
}

/// The same failures of a proxy are distinguished from the server's.
#[test]
fn proxies() {
    let nobody = nobody();
    let hole = BlackHole::new();
    let by = |proxy: &str| {
        Cause::Properties(format!("location=http://127.0.0.1:9/concert proxy=http://{proxy} connect-timeout=300"))
    };
    for (name, cause, code, hresult) in [
        ("no such proxy", by("unknown.test:3128"), Code::NotFound, Hresult::PROXY_NOT_FOUND),
        ("the name service is down", by("down.test:3128"), Code::OpenWrite, Hresult::PROXY_DNS_TIMEOUT),
        ("the name service is silent", by("silent.test:3128"), Code::OpenWrite, Hresult::PROXY_DNS_TIMEOUT),
        ("no proxy listens", by(&nobody.to_string()), Code::OpenWrite, Hresult::CANNOT_CONNECT_TO_PROXY),
        ("no proxy responds", by(&hole.addr.to_string()), Code::OpenWrite, Hresult::PROXY_CONNECT_TIMEOUT),
    ] {
        check(&Row { name: name.to_owned(), cause, code, hresult, status: None, retried: true });
    }
    let says = |status: u16, server: &str| {
        answers(format!("HTTP/1.1 {status} Said\r\nServer: {server}\r\nContent-Length: 0\r\n\r\n"))
    };
    for (status, server, code, hresult, retried) in [
        (400, "squid/5.7", Code::Write, Hresult::ERROR_FROM_PROXY, false),
        (403, "squid/5.7", Code::NotAuthorized, Hresult::PROXY_ACCESS_DENIED, false),
        (404, "tinyproxy/1.11", Code::NotFound, Hresult::SERVER_NOT_FOUND, true),
        (405, "tinyproxy/1.11", Code::NotAuthorized, Hresult::PROXY_ACCESS_DENIED, false),
        (500, "tinyproxy/1.11", Code::OpenWrite, Hresult::ERROR_FROM_PROXY, true),
        (502, "nginx", Code::OpenWrite, Hresult::ERROR_FROM_PROXY, true),
        (503, "squid/5.7", Code::OpenWrite, Hresult::ERROR_FROM_PROXY, true),
        (504, "squid/5.7", Code::OpenWrite, Hresult::PROXY_TIMEOUT, true),
        (403, "Cougar/9.6", Code::NotAuthorized, Hresult::REFUSED_BY_SERVER, false),
        (503, "Cougar/9.6", Code::Busy, Hresult::SERVER_UNAVAILABLE, true),
    ] {
        let cause = Cause::ByProxy(says(status, server));
        check(&Row { name: format!("{status} by {server}"), cause, code, hresult, status: Some(status), retried });
    }
}

/// An unusable proxy setting is reported before connecting; one in the environment when the proxy is selected.
#[test]
fn unusable_proxies() {
    for proxy in ["socks5://proxy.test:1080", "https://proxy.test", "http://"] {
        let (pushing, _source) = Pushing::with_feed_source(&format!("location=http://127.0.0.1:9/ proxy={proxy}"));
        assert!(pushing.pipeline.set_state(gst::State::Paused).is_err());
        let (error, details) = pushing.wait_for_error();
        assert!(error.matches(Code::Settings), "{error:?}");
        assert!(error.message().contains("write http://host:port"), "{error:?}");
        assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::PROXY_NOT_FOUND.0));
    }
}

/// `Retry-After` in seconds and as a date delays the next attempt, by no more than ten minutes.
#[test]
fn retry_after() {
    let later = |value: &str| {
        format!(
            "HTTP/1.1 503 Busy\r\nServer: Cougar/9.6\r\nDate: Wed, 21 Oct 2026 07:28:00 GMT\r\nRetry-After: {value}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    for (value, wait) in [
        ("77", 77_000),
        ("Wed, 21 Oct 2026 07:28:33 GMT", 33_000),
        ("86400", 600_000),
        ("Thu, 22 Oct 2026 07:28:00 GMT", 600_000),
    ] {
        let peer = Peer::new();
        let (pushing, _source) = Pushing::with_feed_source(&format!("location={} retry-delay=1", peer.location()));
        pushing.play();
        let mut connection = peer.accept();
        connection.request();
        connection.answer(&later(value));
        assert_eq!(pushing.wait_for_status("reconnect-start").get::<u32>("retry-in"), Ok(wait), "{value}");
        assert!(peer.accept_within(Duration::from_millis(300)).is_none(), "{value}");
    }

    let peer = Peer::new();
    let (pushing, _source) = Pushing::with_feed_source(&format!("location={} retry-delay=1", peer.location()));
    pushing.play();
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&later("1"));
    assert!(peer.accept().request().is_setup(), "then the next attempt follows");
}

/// C-15: if the server no longer knows the session, that is not a failure: a new one begins, with a WARNING.
#[test]
fn c15_session_not_found() {
    for status in [404, 408, 412] {
        let peer = Peer::new();
        let (pushing, source) =
            Pushing::with_feed_source(&format!("location={} sync=false retry-delay=10", peer.location()));
        pushing.play();
        push_bytes(&source, media::stream(10, 40));
        let mut connection = peer.accept();
        connection.set_up(&ours(204, "one"));
        connection.packet();
        connection.data(10);
        connection.reset();
        push_bytes(&source, media::packet(10, 40));
        let mut connection = peer.accept();
        assert_eq!(connection.request().push_id(), "one");
        connection.answer(&ours(status, "one"));
        let mut connection = peer.accept();
        assert_eq!(connection.set_up(&ours(204, "two")).push_id(), "two");
        end(&source);
        connection.until_the_end();
        connection.answer(&ours(204, "two"));
        let mut told = Vec::new();
        pushing.wait_for(|message| {
            if let gst::MessageView::Warning(warning) = message.view() {
                told.push(warning.error().message().to_owned());
            }
            assert!(status_of_failure(message).is_none(), "{message:?}");
            matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
        });
        assert!(told.iter().any(|text| text.contains("has lost the session")), "{told:?}");
    }
}

/// The ERROR of a destination names its URL, although a WARNING did before: gst-launch-1.0 shows the ERROR only.
#[test]
fn the_error_names_the_url() {
    let peer = Peer::new();
    let (pushing, _source) =
        Pushing::with_feed_source(&format!("location={} retries=1 retry-delay=1", peer.location()));
    pushing.play();
    for _ in 0..2 {
        let mut connection = peer.accept();
        connection.request();
        connection.answer(&wms(503, "0"));
    }
    let (error, _) = pushing.wait_for_error();
    assert!(error.message().starts_with(&format!("dest_0 ({}): ", peer.location())), "{error}");
}

/// Returns the status of a push that failed permanently.
fn status_of_failure(message: &gst::Message) -> Option<gst::Structure> {
    status(message).filter(|status| status_nick(status) == "error")
}

/// Returns an address on which no process listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address that does not respond to SYNs, because its connection queue is full.
struct BlackHole {
    addr: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let connect = || TcpStream::connect_timeout(&addr, Duration::from_millis(300)).ok();
        let queued = std::iter::from_fn(connect).collect();
        Self { addr, _listener: listener, _queued: queued }
    }
}
