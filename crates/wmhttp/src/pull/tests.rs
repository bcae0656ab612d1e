use std::fmt::Write;

use asf::test_util::{HeaderBuilder, packets};
use http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use proptest::prelude::*;

use super::*;
use crate::auth::Secret;

fn config() -> Config {
    Config {
        url: Url::parse("http://origin:8080/concert").unwrap(),
        user_agent: "NSPlayer/4.1.0.3856".to_owned(),
        auth_methods: Methods { negotiate: false, ntlm: false, digest: true, basic: false },
        login: Login { user: Some("edge".to_owned()), password: Some(Secret::new("hush")) },
        random: || [7; 16],
        via_pseudonym: "me".to_owned(),
        via: Via::default(),
        https: true,
        response_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(20),
    }
}

fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
}

/// A `$H` or `$D` as sent by servers.
fn framed(letter: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 8).unwrap().to_le_bytes();
    [&[b'$', letter], &len[..], &[0, 0, 0, 0, 0, flags], &len[..], payload].concat()
}

fn header() -> Bytes {
    HeaderBuilder::default().packet_size(200).build()
}

struct Run {
    session: Session,
    now: Instant,
    /// The session's actions, one per line.
    log: String,
    requests: Vec<Request>,
}

impl Run {
    fn new(config: Config) -> Self {
        let mut run = Self { session: Session::new(config), now: Instant::now(), log: String::new(), requests: vec![] };
        run.session.connect(run.now);
        run.collect();
        run
    }

    fn collect(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Request(request) => {
                    let plays = request.headers.get_all(PRAGMA).iter().any(|value| value == "xPlayStrm=1");
                    writeln!(self.log, "{} {}", if plays { "play" } else { "describe" }, request.url).unwrap();
                    self.requests.push(request);
                }
                Output::Started(_) => self.log += "started\n",
                Output::Header(header) => writeln!(self.log, "header of {}", header.packet_size()).unwrap(),
                Output::Data(bytes) => writeln!(self.log, "data of {}", bytes.len()).unwrap(),
                Output::Plain(bytes) => writeln!(self.log, "plain {}", bytes.len()).unwrap(),
                Output::Ended => self.log += "ended\n",
                Output::Failed(failure) => writeln!(self.log, "{}: {failure}", failure.kind.name()).unwrap(),
            }
        }
    }

    fn respond(&mut self, status: u16, lines: &[(HeaderName, &str)]) -> &mut Self {
        self.session.handle_response(status, &headers(lines), self.now);
        self.collect();
        self
    }

    fn body(&mut self, bytes: &[u8]) -> &mut Self {
        self.session.handle_body(Bytes::copy_from_slice(bytes), self.now);
        self.collect();
        self
    }

    /// Advances a session to the stream.
    fn plays(config: Config) -> Self {
        let mut run = Self::new(config);
        run.respond(200, &[(PRAGMA, "no-cache,client-id=42,features=\"broadcast\"")]).body(&framed(
            b'H',
            0x0c,
            &header(),
        ));
        run.respond(200, &[]).body(&framed(b'H', 0x0c, &header()));
        assert!(run.log.ends_with("started\nheader of 200\n"), "{}", run.log);
        run.log.clear();
        run
    }

    fn pragmas(&self) -> Vec<&str> {
        let all = self.requests.last().unwrap().headers.get_all(PRAGMA);
        all.iter().map(|value| value.to_str().unwrap()).collect()
    }
}

#[test]
fn describe_and_play_as_players_do() {
    let mut run = Run::plays(config());
    let pragmas = run.pragmas();
    assert!(pragmas.contains(&"xPlayStrm=1") && pragmas.contains(&"client-id=42"), "{pragmas:?}");
    assert!(pragmas.contains(&"stream-switch-count=2") && pragmas.contains(&"stream-switch-entry=ffff:1:0 ffff:2:0"));
    let request = run.requests.last().unwrap();
    assert_eq!(request.headers.get(HOST).unwrap(), "origin:8080");
    assert_eq!(request.headers.get(VIA).unwrap(), "1.1 me");
    assert!(!request.headers.contains_key(AUTHORIZATION));
    run.body(&framed(b'D', 0, &[1; 200])).body(&framed(b'D', 1, &[1; 60])).body(b"$E\x04\0\0\0\0\0");
    assert_eq!(run.log, "data of 200\ndata of 60\nended\n");
    assert_eq!(run.session.deadline(), None);
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_stream(size in 1_usize..600) {
        let mut run = Run::new(config());
        run.respond(200, &[]);
        let describe = framed(b'H', 0x0c, &header());
        for chunk in describe.chunks(size) {
            run.body(chunk);
        }
        run.respond(200, &[]);
        let second = HeaderBuilder::default().packet_size(300).build();
        let stream = [
            &b"$M\x0a\0\0\0\0\0\0\x0c\x0a\0x\0"[..],
            &framed(b'H', 0x04, &header()[..50]), &framed(b'H', 0x08, &header()[50..]),
            &framed(b'D', 0, &[1; 200]), b"$C\x04\0\0\0\0\0", &framed(b'H', 0x0c, &second), &framed(b'D', 1, &[1; 300]),
        ].concat();
        run.log.clear();
        for chunk in stream.chunks(size) {
            run.body(chunk);
        }
        prop_assert_eq!(&run.log, "header of 200\ndata of 200\nheader of 300\ndata of 300\n");
    }

    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..400), plays in any::<bool>()) {
        let mut run = if plays { Run::plays(config()) } else { Run::new(config()) };
        run.respond(200, &[]).body(&bytes);
        run.session.handle_body_end();
        run.collect();
        prop_assert!(plays || run.session.deadline().is_none() || run.log.contains("play"));
    }
}

/// A plain HTTP server's stream is recognized by its first bytes, whatever its Content-Type.
#[test]
fn a_plain_stream_is_passed_on_unchanged() {
    let mut run = Run::new(config());
    let file = [&header()[..], &packets(200, 2).concat()].concat();
    run.respond(200, &[(CONTENT_TYPE, "video/x-ms-asf")]).body(&file[..3]).body(&file[3..]);
    run.session.handle_body_end();
    run.collect();
    assert_eq!(run.log, format!("describe http://origin:8080/concert\nstarted\nplain {}\nended\n", file.len()));
}

#[test]
fn another_entry_is_requested_again_up_to_a_limit() {
    let mut run = Run::plays(config());
    run.body(&framed(b'D', 0, &[1; 60])).body(b"$E\x04\0\x01\0\0\0");
    assert_eq!(run.log, "data of 60\ndescribe http://origin:8080/concert\n");
    for _ in 0..4 {
        run.respond(200, &[]).body(&framed(b'H', 0x0c, &header()));
        run.respond(200, &[]).body(&framed(b'H', 0x0c, &header())).body(&framed(b'D', 0, &[1; 60]));
        run.body(b"$E\x04\0\x01\0\0\0");
    }
    assert!(run.log.contains("malformed: the origin ended its stream 4 times within a few seconds"), "{}", run.log);
    // An origin that changes its header occasionally is not an error.
    let mut run = Run::plays(config());
    for _ in 0..10 {
        run.now += Duration::from_secs(10);
        run.body(b"$E\x04\0\x01\0\0\0").respond(200, &[]).body(&framed(b'H', 0x0c, &header()));
        run.respond(200, &[]).body(&framed(b'H', 0x0c, &header()));
    }
    assert!(run.log.ends_with("header of 200\n"), "{}", run.log);
}

/// A new header has streams that were not requested, so the server would not send them.
#[test]
fn a_header_with_other_streams_is_requested_again() {
    let mut run = Run::new(config());
    run.respond(200, &[]).body(&framed(b'H', 0x0c, &HeaderBuilder::default().audio_only().build())).respond(200, &[]);
    run.body(&framed(b'H', 0x0c, &header()));
    assert!(run.log.ends_with("started\ndescribe http://origin:8080/concert\n"), "{}", run.log);
}

#[test]
fn digest_is_answered_for_get_and_wrong_credentials_are_a_clear_failure() {
    let challenge = "Digest realm=\"push\", nonce=\"abc\", qop=\"auth\", algorithm=MD5";
    let mut run = Run::new(config());
    run.respond(401, &[(WWW_AUTHENTICATE, challenge)]);
    let answer = run.requests.last().unwrap().headers.get(AUTHORIZATION).unwrap();
    let text = answer.to_str().unwrap().to_owned();
    assert!(answer.is_sensitive() && text.starts_with("Digest username=\"edge\""), "{text}");
    // The response covers the method.
    let value =
        |key: &str| text.split_once(&format!("{key}=")).unwrap().1.split([',', ' ']).next().unwrap().trim_matches('"');
    let hash = |parts: &[&str]| crate::auth::digest::hash::<md5::Md5>(parts).reveal().to_owned();
    let (secret, request) = (hash(&["edge", "push", "hush"]), hash(&["GET", "/concert"]));
    assert_eq!(value("response"), hash(&[&secret, "abc", value("nc"), value("cnonce"), "auth", &request]));
    run.respond(401, &[(WWW_AUTHENTICATE, challenge)]);
    assert!(run.log.contains("unauthorized: ") && run.log.contains("Set `user` and `password-file`"), "{}", run.log);
    assert!(!run.log.contains("hush"));
}

#[test]
fn basic_over_plain_http_is_used_only_if_it_is_allowed() {
    let mut run = Run::new(config());
    run.respond(401, &[(WWW_AUTHENTICATE, "Basic realm=\"push\"")]);
    assert!(run.log.contains("unauthorized: ") && run.log.contains("auth = "), "{}", run.log);
    let allowed = Config { auth_methods: Methods { basic: true, ..config().auth_methods }, ..config() };
    let mut run = Run::new(allowed);
    run.respond(401, &[(WWW_AUTHENTICATE, "Basic realm=\"push\"")]);
    assert_eq!(run.requests.last().unwrap().headers.get(AUTHORIZATION).unwrap(), "Basic ZWRnZTpodXNo");
}

#[test]
fn redirects_are_followed_without_credentials_and_not_in_a_loop() {
    let mut run = Run::new(config());
    run.respond(401, &[(WWW_AUTHENTICATE, "Digest realm=\"push\", nonce=\"abc\"")]);
    run.respond(302, &[(LOCATION, "http://other/concert")]);
    assert_eq!(run.requests.last().unwrap().url.as_str(), "http://other/concert");
    assert!(!run.requests.last().unwrap().headers.contains_key(AUTHORIZATION));
    run.respond(401, &[(WWW_AUTHENTICATE, "Digest realm=\"push\", nonce=\"abc\"")]);
    assert!(run.log.contains("unauthorized: "), "another server received the password: {}", run.log);
    let mut run = Run::new(config());
    run.respond(302, &[(LOCATION, "/concert")]);
    assert!(run.log.contains("redirect: ") && run.log.contains("redirect loop"), "{}", run.log);
}

#[test]
fn a_stream_that_has_already_passed_this_point_is_rejected() {
    let mut run = Run::new(config());
    run.respond(200, &[(VIA, "1.1 me, 1.1 other")]);
    assert!(run.log.contains("loop: "), "{}", run.log);
    let mut run = Run::new(config());
    run.respond(508, &[]);
    assert!(run.log.contains("loop: "), "{}", run.log);
}

#[test]
fn every_wait_ends() {
    let late = |mut run: Run, seconds: u64| {
        run.now += Duration::from_secs(seconds);
        run.session.handle_timeout(run.now);
        run.collect();
        run.log
    };
    assert!(late(Run::new(config()), 10).contains("stalled: the origin did not answer within 10 s"));
    let mut run = Run::new(config());
    run.respond(200, &[]);
    assert!(late(run, 10).contains("stalled: the origin sent no header within 10 s"));
    let mut run = Run::plays(config());
    run.body(&framed(b'D', 0, &[1; 60]));
    let deadline = run.session.deadline().unwrap();
    assert_eq!(deadline, run.now + Duration::from_secs(20));
    // Bytes that are not a packet do not extend the deadline.
    run.now += Duration::from_secs(15);
    run.body(b"$D\xff");
    assert_eq!(run.session.deadline(), Some(deadline));
    assert!(late(run, 5).contains("stalled: the origin sent no packet for 20 s"));
}

#[test]
fn other_content_is_a_clear_failure() {
    for (kind, body, text) in [
        ("text/html", &b""[..], "answered with text/html, not a stream"),
        ("application/octet-stream", b"nonsense", "is not an ASF stream"),
        ("video/x-ms-asf", b"<asx version", "a playlist (ASX)"),
        ("application/x-mms-framed", b"$D\x09\0\0\0\0\0\0\0\x09\0x", "before the header"),
    ] {
        let mut run = Run::new(config());
        run.respond(200, &[(CONTENT_TYPE, kind)]).body(body);
        assert!(run.log.contains("malformed: ") && run.log.contains(text), "{}", run.log);
    }
    let mut run = Run::plays(config());
    run.body(&framed(b'D', 0, &[1; 201]));
    assert!(run.log.contains("a data packet of 201 bytes; the packet size in its header is 200"), "{}", run.log);
    let mut run = Run::plays(config());
    run.session.handle_body_end();
    run.collect();
    assert!(run.log.contains("lost: the origin closed the connection before the end"), "{}", run.log);
    for (status, kind, permanent) in
        [(404, Kind::NoStream, false), (503, Kind::NoStream, false), (403, Kind::Refused, true)]
    {
        let failure = Failure::from_status(status, &HeaderMap::new());
        assert_eq!((failure.kind, failure.permanent), (kind, permanent), "{status}");
    }
}

#[test]
fn a_guid_is_one() {
    assert_eq!(guid([0xff; 16]), "FFFFFFFF-FFFF-4FFF-BFFF-FFFFFFFFFFFF");
    assert_eq!(guid([0; 16]), "00000000-0000-4000-8000-000000000000");
}
