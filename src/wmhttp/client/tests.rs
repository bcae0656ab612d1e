//! The session against a peer that the test plays by hand, in virtual time.

mod authentication;
mod proxy;

use http::header::{HeaderName, SERVER, VIA};
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::asf::fixture::HeaderBuilder;
use crate::wmhttp::Hresult;
use crate::wmhttp::headers::Directives;
use crate::wmhttp::packet::Decoder;
use crate::wmhttp::verdict::Condition;

const PACKET: u32 = 200;
const FRAMED: usize = FRAMING_LEN + PACKET as usize;

/// What a session did, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Did {
    Setup { push_id: String, connection: Connection, body: String },
    Start { push_id: String, connection: Connection, content_length: u64 },
    Packet(Packet),
    Data(u64),
    Close,
    Event(Event),
}

/// A session, the clock, and everything it has done.
struct Played {
    session: Session,
    now: Instant,
    did: Vec<Did>,
    /// Where each request went, and its Cookie header.
    asked: Vec<(String, String)>,
    /// What each request went through.
    proxies: Vec<Option<Proxy>>,
    /// Each request's Authorization and Proxy-Authorization.
    authorizations: Vec<[Option<String>; 2]>,
    /// Bytes of the body under way, as the server would count them.
    body: u64,
    content_length: u64,
    decoder: Decoder,
}

fn config() -> Config {
    Config::new(Url::parse("http://media:8080/concert").unwrap(), "WMEncoder/12.0.0.0 test/1", || [0xA5; 16])
}

fn header() -> Arc<asf::Header> {
    Arc::new(asf::Header::parse(HeaderBuilder::default().packet_size(PACKET).build()).unwrap())
}

/// A response with the headers given, over a connection that is kept.
fn response(status: u16, headers: &[(&'static str, &str)]) -> ResponseHead {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    ResponseHead { status, headers: map, keep_alive: true }
}

/// What Windows Media Services answer.
fn wms(status: u16, push_id: &str) -> ResponseHead {
    response(
        status,
        &[
            ("server", "Cougar/9.6.7600.16564"),
            ("pragma", "no-cache, timeout=60000"),
            ("set-cookie", &format!("push-id={push_id}")),
            ("supported", "com.microsoft.wm.sswitch"),
        ],
    )
}

/// What a plain relay answers: no cookie, no Pragma.
fn relay(status: u16) -> ResponseHead {
    response(status, &[("server", "Cougar/9.0")])
}

impl Played {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        let session = Session::new(config);
        Self {
            session,
            now,
            did: Vec::new(),
            asked: Vec::new(),
            proxies: Vec::new(),
            authorizations: Vec::new(),
            body: 0,
            content_length: 0,
            decoder: Decoder::default(),
        }
    }

    /// A session set up with `answer`.
    fn ready(config: Config, answer: &ResponseHead) -> Self {
        let mut peer = Self::new(config);
        peer.session.connect(peer.now);
        peer.run();
        peer.respond(answer);
        peer.did.clear();
        peer
    }

    /// A session that streams with `header`.
    fn open(config: Config, answer: &ResponseHead, header: &Arc<asf::Header>) -> Self {
        let mut peer = Self::ready(config, answer);
        assert_eq!(peer.send(header, 1), 1);
        peer.did.clear();
        peer
    }

    fn run(&mut self) {
        while let Some(output) = self.session.poll() {
            self.note(output);
        }
    }

    fn note(&mut self, output: Output) {
        let did = match output {
            Output::Request(request) => {
                let headers = request.head.to_headers("host").unwrap();
                let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
                self.authorizations.push([text("authorization"), text("proxy-authorization")]);
                self.asked.push((request.url.to_string(), headers["cookie"].to_str().unwrap().to_owned()));
                self.proxies.push(request.proxy.as_deref().cloned());
                let push_id = request.head.cookies.push_id().as_str().to_owned();
                let connection = request.connection;
                match request.body {
                    Some(body) => {
                        assert_eq!(request.head.content_length, body.len() as u64, "C-2");
                        Did::Setup { push_id, connection, body: String::from_utf8(body.to_vec()).unwrap() }
                    }
                    None => {
                        self.body = 0;
                        self.content_length = request.head.content_length;
                        self.decoder = Decoder::default();
                        Did::Start { push_id, connection, content_length: self.content_length }
                    }
                }
            }
            Output::Send(bytes) => {
                self.count(bytes.len() as u64);
                self.decoder.push(bytes);
                let packet = self.decoder.next_packet().unwrap().unwrap();
                assert!(self.decoder.is_aligned());
                Did::Packet(packet)
            }
            Output::Close => Did::Close,
            Output::Event(event) => Did::Event(event),
        };
        self.did.push(did);
    }

    fn count(&mut self, bytes: u64) {
        self.body += bytes;
        assert!(self.body <= self.content_length, "C-9: {} of {}", self.body, self.content_length);
    }

    /// Offers packets of `header` until `count` went or none goes; how many went.
    fn send(&mut self, header: &Arc<asf::Header>, count: u64) -> u64 {
        let mut sent = 0;
        let mut idle = 0;
        while sent < count && idle < 3 {
            let granted = self.session.offer(header, FRAMED, self.now);
            if self.session.has_output() {
                self.run();
                self.session.handle_connected();
                continue;
            }
            let packets = (granted / FRAMED as u64).min(count - sent);
            if packets == 0 {
                idle += 1;
                continue;
            }
            let bytes = packets * FRAMED as u64;
            self.count(bytes);
            self.did.push(Did::Data(packets));
            self.session.sent(bytes);
            self.run();
            sent += packets;
        }
        sent
    }

    fn respond(&mut self, head: &ResponseHead) {
        self.session.handle_response(head, self.now);
        self.run();
    }

    fn lose(&mut self, cause: Cause) {
        self.session.handle_disconnect(cause, "", false, self.now);
        self.run();
    }

    fn end(&mut self) {
        self.session.end(self.now);
        self.run();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
        self.run();
    }

    fn events(&self) -> Vec<Event> {
        self.did.iter().filter_map(|did| if let Did::Event(event) = did { Some(event.clone()) } else { None }).collect()
    }

    fn failure(&self) -> Option<Failure> {
        self.events()
            .into_iter()
            .find_map(|event| if let Event::Failed(failure) = event { Some(failure) } else { None })
    }

    fn packets(&self) -> Vec<Packet> {
        self.did
            .iter()
            .filter_map(|did| if let Did::Packet(packet) = did { Some(packet.clone()) } else { None })
            .collect()
    }

    fn requests(&self) -> Vec<Did> {
        self.did.iter().filter(|did| matches!(did, Did::Setup { .. } | Did::Start { .. })).cloned().collect()
    }
}

fn setup(push_id: &str) -> Did {
    Did::Setup { push_id: push_id.to_owned(), connection: Connection::New, body: String::new() }
}

fn start(push_id: &str, connection: Connection) -> Did {
    Did::Start { push_id: push_id.to_owned(), connection, content_length: DEFAULT_CONTENT_LENGTH }
}

/// C-1, C-2: a session begins with push-id 0 and a PushSetup on a connection of its own.
#[test]
fn c1_c2_begins_with_a_setup() {
    let mut peer = Played::new(config());
    peer.session.connect(peer.now);
    peer.run();
    assert_eq!(peer.did, [setup("0")]);
    assert!(!peer.session.wants_data());
}

/// C-3, C-18: template and auto-destroy travel in the setup's body.
#[test]
fn c3_c18_directives_in_the_setup() {
    let directives = Directives { template: Some("/live".into()), auto_destroy: true };
    let mut peer = Played::new(Config { directives, ..config() });
    peer.session.connect(peer.now);
    peer.run();
    let body = "Template-URL: \"/live\"\r\nAutoDestroy: 1\r\n".to_owned();
    assert_eq!(peer.did, [Did::Setup { push_id: "0".into(), connection: Connection::New, body }]);
}

fn redirect(status: u16, location: &str) -> ResponseHead {
    response(status, &[("server", "nginx"), ("location", location)])
}

/// A session that was told `answers`, each to a PushSetup.
fn redirected(config: Config, answers: &[ResponseHead]) -> Played {
    let mut peer = Played::new(config);
    peer.session.connect(peer.now);
    peer.run();
    for answer in answers {
        peer.respond(answer);
    }
    peer
}

/// C-4: 300 to 304 lead elsewhere: a new PushSetup with push-id 0 on a new connection, and everything after it there.
#[test]
fn c4_follows_redirects() {
    for status in 300..=304 {
        for (location, url) in [
            ("http://other:81/live?a=b", "http://other:81/live?a=b"),
            ("http://bob:secret@other/live#part", "http://other/live"),
            ("/live", "http://media:8080/live"),
            ("live", "http://media:8080/live"),
            ("//other/live", "http://other/live"),
        ] {
            let mut peer = redirected(config(), &[redirect(status, location)]);
            assert_eq!(peer.did, [setup("0"), Did::Close, setup("0")], "{status}: no event");
            peer.respond(&wms(204, "abc"));
            peer.send(&header(), 1);
            assert_eq!(peer.requests()[2..], [start("abc", Connection::Same)]);
            let asked: Vec<&str> = peer.asked.iter().map(|(url, _)| url.as_str()).collect();
            assert_eq!(asked, ["http://media:8080/concert", url, url], "{status} {location}");
            assert_eq!(peer.session.url().as_str(), url);
        }
    }
}

/// C-4: cookies stay with the server that set them: another host or port sees none of them.
#[test]
fn c4_cookies_do_not_travel() {
    for (location, cookie) in [
        ("http://media:8080/other", "push-id=0; route=7"),
        ("http://media:81/concert", "push-id=0"),
        ("http://other:8080/concert", "push-id=0"),
    ] {
        let mut answer = redirect(302, location);
        for pair in ["push-id=abc", "route=7"] {
            answer.headers.append("set-cookie", HeaderValue::from_static(pair));
        }
        let peer = redirected(config(), &[answer]);
        assert_eq!(peer.asked[1].1, cookie, "{location}");
    }
}

/// C-4: what the server of the redirect has shown is not taken for what the next one shows.
#[test]
fn c4_another_server_is_another_peer() {
    let mut answer = redirect(302, "http://other/live");
    answer.headers.insert(VIA, HeaderValue::from_static("1.1 squid"));
    let peer = redirected(config(), &[answer]);
    assert_eq!(peer.session.peer(), &Peer::default());
}

/// C-4: eight hops are followed, a ninth and circles are not.
#[test]
fn c4_hops_are_bounded() {
    let hops: Vec<ResponseHead> = (0..9).map(|hop| redirect(302, &format!("http://other/{hop}"))).collect();
    let mut peer = redirected(config(), &hops[..8]);
    assert_eq!((peer.requests().len(), peer.failure()), (9, None));
    peer.respond(&wms(204, "a"));
    assert_eq!(peer.events(), [Event::Opened]);

    for answers in [
        &hops[..],
        &[redirect(302, "/concert")],
        &[redirect(302, "http://other/"), redirect(302, "http://media:8080/concert#x")],
    ] {
        let peer = redirected(config(), answers);
        let failure = peer.failure().unwrap();
        assert_eq!((failure.hresult, failure.permanent), (Hresult::TOO_MANY_HOPS, true), "{failure}");
        assert!(peer.session.is_down());
        assert_eq!(peer.requests().len(), answers.len());
    }
}

/// C-4: a redirect that leads nowhere is a failure that says so; https is somewhere only with TLS.
#[test]
fn c4_bad_locations() {
    for location in ["http://", "http://a:99999/", "ftp://other/live", "mailto:bob", "https://other/live"] {
        let failure = redirected(config(), &[redirect(301, location)]).failure().unwrap();
        assert_eq!((failure.hresult, failure.permanent), (Hresult::INVALID_REDIRECT, true), "{location}: {failure}");
        assert_eq!(failure.status(), Some(301));
    }
    let failure = redirected(config(), &[response(302, &[])]).failure().unwrap();
    assert_eq!(failure.hresult, Hresult::INVALID_REDIRECT);

    let peer = redirected(Config { https: true, ..config() }, &[redirect(301, "https://other/live")]);
    assert_eq!(peer.session.url().as_str(), "https://other/live");
}

/// C-4: what is not followed is a failure that names where it would lead.
#[test]
fn c4_refused_redirects() {
    let off = Config { automatic_redirect: false, ..config() };
    for status in [300, 302] {
        let peer = redirected(off.clone(), &[redirect(status, "http://bob:secret@other/live")]);
        let failure = peer.failure().unwrap();
        assert_eq!((failure.hresult, failure.permanent), (Hresult::REDIRECT, true), "{failure}");
        assert!(failure.text.contains("http://other/live") && !failure.text.contains("secret"));
        assert_eq!(peer.requests().len(), 1);
    }
}

/// C-4: a lost session is resumed where it was; a new one begins at the original URL, with nothing of the other server's.
#[test]
fn c4_a_new_session_begins_at_the_original() {
    let answers = [redirect(302, "http://other/live"), wms(204, "abc")];
    let mut peer = redirected(config(), &answers);
    let header = header();
    peer.send(&header, 1);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    peer.send(&header, 1);
    assert_eq!(peer.asked.last().unwrap(), &("http://other/live".to_owned(), "push-id=abc".to_owned()));
    let mut answer = wms(408, "abc");
    answer.headers.append("set-cookie", HeaderValue::from_static("route=7"));
    peer.respond(&answer);
    assert_eq!(peer.asked.last().unwrap(), &("http://media:8080/concert".to_owned(), "push-id=0".to_owned()));
    for answer in answers {
        peer.respond(&answer);
    }
    assert_eq!(peer.session.url().as_str(), "http://other/live");
    assert_eq!(peer.events().iter().filter(|event| **event == Event::Opened).count(), 2);
}

/// C-4 is about PushSetup: a PushStart that is redirected has failed.
#[test]
fn c4_a_redirected_start_fails() {
    let mut peer = Played::open(config(), &wms(204, "a"), &header());
    peer.respond(&redirect(302, "http://other/live"));
    assert_eq!(peer.failure().unwrap().hresult, Hresult::REDIRECT);
    assert_eq!(peer.requests(), []);
}

/// C-6, C-8: after a 2xx, `$H` follows PushStart's head on the same connection, without waiting for anything.
#[test]
fn c6_c8_first_start_sends_the_header_at_once() {
    for status in [200, 204] {
        let header = header();
        let mut peer = Played::ready(config(), &wms(status, "abc"));
        assert_eq!(peer.send(&header, 2), 2);
        assert_eq!(
            peer.did,
            [
                start("abc", Connection::Same),
                Did::Packet(Packet::Header(header.bytes().clone())),
                Did::Data(2),
                Did::Event(Event::Started),
            ]
        );
    }
}

/// H-5: a success of what is no Windows Media server is an error that is not tried again; `strict_server` decides.
#[test]
fn h5_refuses_other_servers() {
    for answer in [response(204, &[("server", "nginx/1.22")]), response(200, &[])] {
        let mut peer = Played::new(config());
        peer.session.connect(peer.now);
        peer.run();
        peer.respond(&answer);
        let failure = peer.failure().unwrap();
        assert_eq!((failure.hresult, failure.permanent), (Hresult::INCOMPATIBLE_PUSH_SERVER, true));
        assert!(peer.session.is_down());

        let mut peer = Played::ready(Config { strict_server: false, ..config() }, &answer);
        assert_eq!(peer.send(&header(), 1), 1);
    }
}

/// H-5 on the answer of a PushStart too (C-10).
#[test]
fn h5_c10_checks_the_start_answer() {
    let mut peer = Played::open(Config { content_length: Some(1), ..config() }, &wms(204, "a"), &header());
    let header = peer.session.announced.clone().unwrap();
    peer.send(&header, 100);
    peer.respond(&response(204, &[("server", "Apache")]));
    assert_eq!(peer.failure().unwrap().condition, Condition::Incompatible);
}

/// H-6: the id of the newest response is used, that of a refusal included.
#[test]
fn h6_newest_push_id() {
    let mut peer = Played::ready(config(), &wms(204, "first"));
    peer.respond(&wms(401, "second"));
    peer.send(&header(), 1);
    assert_eq!(peer.requests(), [start("second", Connection::Same)]);
}

/// H-7, C-7: a Via in the answer makes bodies of about 60 s, where the header tells a bit rate.
#[test]
fn h7_c7_body_through_a_proxy() {
    let mut builder = HeaderBuilder::default().packet_size(PACKET);
    builder.max_bitrate = 800_000;
    let header = Arc::new(asf::Header::parse(builder.build()).unwrap());
    let mut answer = wms(204, "a");
    answer.headers.insert(VIA, HeaderValue::from_static("1.1 squid"));
    let mut peer = Played::ready(config(), &answer);
    peer.send(&header, 1);
    assert!(peer.session.uses_proxy());
    assert_eq!(
        peer.requests(),
        [Did::Start { push_id: "a".into(), connection: Connection::Same, content_length: 6_000_000 }]
    );
}

/// C-7: a Content-Length is never less than three data packets and the header.
#[test]
fn c7_least_content_length() {
    let header = header();
    let mut peer = Played::ready(Config { content_length: Some(1), ..config() }, &wms(204, "a"));
    peer.send(&header, 1);
    let least = (3 * FRAMED + FRAMING_LEN + 4 + header.bytes().len()) as u64;
    assert!(peer.content_length >= least, "{} < {least}", peer.content_length);
    assert!(peer.content_length < 2 * least);
}

/// C-9, C-10, P-7: whatever the remainder, the body ends exactly at its Content-Length, with no empty
/// `$F`, and the next PushStart goes on with `$D` on the same connection.
#[test]
fn c9_c10_p7_roll_over_at_every_remainder() {
    let header = header();
    let least = 3 * FRAMED + FRAMING_LEN + 4 + header.bytes().len() + 50;
    for extra in 0..2 * FRAMED {
        let content_length = (least + extra) as u64;
        let mut peer = Played::ready(Config { content_length: Some(content_length), ..config() }, &wms(204, "a"));
        let first = peer.send(&header, 100);
        assert!((3..100).contains(&first));
        assert_eq!(peer.body, peer.content_length, "exact");
        let fillers = peer.packets().split_off(1);
        assert!(!fillers.is_empty());
        for filler in fillers {
            assert!(matches!(filler, Packet::Filler(1..=8192)), "{filler:?}");
        }
        assert!(!peer.session.wants_data(), "waits for the answer");
        peer.did.clear();
        peer.respond(&wms(204, "a"));
        assert_eq!(peer.send(&header, 1), 1);
        assert_eq!(
            peer.did,
            [
                Did::Event(Event::RolledOver),
                Did::Start { push_id: "a".into(), connection: Connection::Same, content_length },
                Did::Data(1),
            ]
        );
    }
}

/// C-9: fillers beyond 8,192 bytes are cut so that none is too small (receivers, Framing 1).
#[test]
fn c9_large_rests_are_filled_by_several() {
    let big = Arc::new(asf::Header::parse(HeaderBuilder::default().packet_size(60_000).build()).unwrap());
    for rest in (8190..8220).chain(16_380..16_410) {
        let mut peer = Played::ready(Config { content_length: Some(1), ..config() }, &wms(204, "a"));
        let granted = peer.session.offer(&big, 60_004, peer.now);
        assert!(granted > 0);
        peer.run();
        let State::Open { remaining, .. } = peer.session.state else { panic!() };
        peer.session.sent(remaining - rest);
        peer.body += remaining - rest;
        assert_eq!(peer.session.offer(&big, 60_004, peer.now), 0);
        peer.run();
        assert_eq!(peer.body, peer.content_length);
        for filler in peer.packets().split_off(1) {
            assert!(matches!(filler, Packet::Filler(1..=8192)), "{rest}: {filler:?}");
        }
    }
}

/// C-11: `$E`(0), then the connection closes, whether the server answers, closes or does neither.
#[test]
fn c11_end() {
    type Act = fn(&mut Played);
    let ways: [(Act, bool); 5] = [
        (|peer| peer.respond(&wms(204, "a")), true),
        (|peer| peer.respond(&relay(422)), true),
        (|peer| peer.lose(Cause::Closed), true),
        (|peer| peer.pass(Duration::from_secs(4)), true),
        (|peer| peer.pass(Duration::from_secs(6)), false),
    ];
    for (index, (act, clean)) in ways.into_iter().enumerate() {
        let mut peer = Played::open(config(), &wms(204, "a"), &header());
        peer.end();
        assert_eq!(peer.did, [Did::Packet(Packet::End(Hresult::OK))]);
        peer.did.clear();
        act(&mut peer);
        if index == 3 {
            assert_eq!(peer.did, [], "still waiting");
            continue;
        }
        assert_eq!(peer.did, [Did::Close, Did::Event(Event::Ended { clean })], "way {index}");
        assert!(peer.session.is_down());
    }
}

/// C-11: where fewer than 8 bytes remain, `$F` fills them and `$E` goes in a PushStart of its own.
#[test]
fn c11_end_that_does_not_fit() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "a"), &header);
    let State::Open { remaining, .. } = peer.session.state else { panic!() };
    peer.session.sent(remaining - 7);
    peer.body += remaining - 7;
    peer.end();
    assert_eq!(peer.did, [Did::Packet(Packet::Filler(3))]);
    peer.did.clear();
    peer.respond(&wms(204, "a"));
    assert_eq!(
        peer.did,
        [Did::Event(Event::RolledOver), start("a", Connection::Same), Did::Packet(Packet::End(Hresult::OK)),]
    );
}

/// C-11: ending before anything was sent closes and is no failure.
#[test]
fn c11_end_of_nothing() {
    let mut peer = Played::ready(config(), &wms(204, "a"));
    peer.end();
    assert_eq!(peer.did, [Did::Close, Did::Event(Event::Ended { clean: true })]);
}

/// C-12: a new header goes as `$E`(1) and `$C`, also one that is equal byte for byte, and data goes on.
#[test]
fn c12_header_change_in_the_session() {
    let first = header();
    let mut peer = Played::open(config(), &wms(204, "a"), &first);
    let second = header();
    assert_eq!(first.bytes(), second.bytes());
    assert_eq!(peer.send(&second, 1), 1);
    assert_eq!(
        peer.did,
        [
            Did::Packet(Packet::End(Hresult::FALSE)),
            Did::Packet(Packet::StreamChange(second.bytes().clone())),
            Did::Event(Event::HeaderChanged),
            Did::Data(1),
        ]
    );
}

/// C-12: whatever remains of the body, `$E`(1) and `$C` arrive in order, in this PushStart or the next.
#[test]
fn c12_header_change_at_every_remainder() {
    let first = header();
    let second = header();
    let change = FRAMING_LEN + 4 + second.bytes().len();
    for rest in LEAST_FILLER..(change + 40) as u64 {
        let mut peer = Played::open(config(), &wms(204, "a"), &first);
        let State::Open { remaining, .. } = peer.session.state else { panic!() };
        peer.session.sent(remaining - rest);
        peer.body += remaining - rest;
        let mut sent = peer.send(&second, 1);
        if sent == 0 {
            assert_eq!(peer.body, peer.content_length, "rest {rest}");
            peer.respond(&wms(204, "a"));
            sent = peer.send(&second, 1);
        }
        assert_eq!(sent, 1, "rest {rest}");
        let packets: Vec<u8> =
            peer.packets().iter().filter(|packet| !matches!(packet, Packet::Filler(_))).map(Packet::letter).collect();
        assert_eq!(packets, b"EC", "rest {rest}");
    }
}

/// C-12, receivers Framing 2: a server that has not shown the whole protocol gets a new session.
#[test]
fn c12_header_change_by_a_new_session() {
    let mut peer = Played::open(config(), &relay(204), &header());
    let second = header();
    assert_eq!(peer.send(&second, 1), 0);
    assert_eq!(peer.did, [Did::Packet(Packet::End(Hresult::OK))]);
    peer.did.clear();
    peer.respond(&relay(204));
    peer.respond(&relay(204));
    assert_eq!(peer.send(&second, 1), 1);
    assert_eq!(
        peer.did,
        [
            Did::Close,
            Did::Event(Event::Restarted { reason: Restart::HeaderChange, rewind: 0 }),
            setup("0"),
            Did::Event(Event::Opened),
            start("0", Connection::Same),
            Did::Packet(Packet::Header(second.bytes().clone())),
            Did::Data(1),
            Did::Event(Event::Started),
        ]
    );
}

/// Receivers Framing 2: a server that ends at `$E`(1) gets a new session at once, the data after `$C`
/// again, and a new session right away the next time.
#[test]
fn c12_server_that_ends_at_a_header_change() {
    type Act = fn(&mut Played);
    let ways: [Act; 2] = [|peer| peer.lose(Cause::Closed), |peer| peer.respond(&wms(204, "a"))];
    for act in ways {
        let mut peer = Played::open(config(), &wms(204, "a"), &header());
        let second = header();
        assert_eq!(peer.send(&second, 3), 3);
        peer.did.clear();
        act(&mut peer);
        let rewind = 3 * FRAMED as u64;
        let restarted = Did::Event(Event::Restarted { reason: Restart::HeaderChangeRefused, rewind });
        assert_eq!(peer.did, [Did::Close, restarted, setup("0")]);
        peer.respond(&wms(204, "b"));
        assert_eq!(peer.send(&second, 3), 3);
        peer.did.clear();
        assert_eq!(peer.send(&header(), 1), 0);
        assert_eq!(peer.packets(), [Packet::End(Hresult::OK)], "no second attempt");
    }
}

/// C-14, C-15: a lost connection is reported; within the Idle-Timeout a PushStart with the same id on a
/// new connection goes on with `$D`.
#[test]
fn c14_c15_resume() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    peer.lose(Cause::Reset);
    assert_eq!(peer.failure().unwrap().hresult, Hresult::RESET_CONNECTION);
    peer.did.clear();
    peer.now += Duration::from_secs(59);
    peer.session.connect(peer.now);
    assert_eq!(peer.send(&header, 1), 1);
    assert_eq!(peer.did, [start("abc", Connection::New), Did::Data(1), Did::Event(Event::Started)]);
}

/// C-15: a resume's data waits for its connection.
#[test]
fn c15_resume_waits_for_the_connection() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    peer.session.offer(&header, FRAMED, peer.now);
    peer.run();
    assert!(!peer.session.wants_data() && !peer.session.is_streaming());
    assert_eq!(peer.session.offer(&header, FRAMED, peer.now), 0);
    peer.session.handle_connected();
    assert!(peer.session.wants_data() && peer.session.is_streaming());
    assert!(peer.session.offer(&header, FRAMED, peer.now) > 0);
}

/// C-15: after the Idle-Timeout, or where the server gave no id, the session begins anew.
#[test]
fn c15_new_session() {
    let header = header();
    for (answer, wait) in [(wms(204, "abc"), 61), (relay(204), 0), (wms(204, "0"), 0)] {
        let mut peer = Played::open(config(), &answer, &header);
        peer.lose(Cause::Closed);
        peer.did.clear();
        peer.now += Duration::from_secs(wait);
        peer.session.connect(peer.now);
        peer.run();
        assert_eq!(peer.did, [setup("0")]);
    }
}

/// C-15: for a moment a resume may be refused unheard; a first push, or a new session, may not.
#[test]
fn c15_a_resume_is_unproven_at_first() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    assert!(!peer.session.resume_is_unproven(peer.now));
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    peer.send(&header, 1);
    assert!(peer.session.resume_is_unproven(peer.now + RESUME_VERDICT));
    assert!(!peer.session.resume_is_unproven(peer.now + RESUME_VERDICT * 2));
    peer.respond(&wms(400, "0"));
    assert!(!peer.session.resume_is_unproven(peer.now));
}

/// C-15: a server that does not know the session any more gets a new one at once, and the refused data again.
#[test]
fn c15_resume_refused() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    assert_eq!(peer.send(&header, 2), 2);
    peer.did.clear();
    peer.respond(&wms(400, "0"));
    let rewind = 2 * FRAMED as u64;
    assert_eq!(
        peer.did,
        [Did::Close, Did::Event(Event::Restarted { reason: Restart::SessionGone, rewind }), setup("0")]
    );
    peer.respond(&wms(204, "new"));
    peer.did.clear();
    assert_eq!(peer.send(&header, 2), 2);
    assert_eq!(peer.packets(), [Packet::Header(header.bytes().clone())]);
}

/// C-15: the same where the end is out by then.
#[test]
fn c15_resume_refused_at_its_end() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    assert_eq!(peer.send(&header, 2), 2);
    peer.session.end(peer.now);
    peer.run();
    peer.did.clear();
    peer.respond(&wms(400, "0"));
    let rewind = 2 * FRAMED as u64;
    assert_eq!(
        peer.did,
        [Did::Close, Did::Event(Event::Restarted { reason: Restart::SessionGone, rewind }), setup("0")]
    );
    peer.respond(&wms(204, "new"));
    assert_eq!(peer.send(&header, 2), 2);
    peer.session.end(peer.now);
    peer.run();
    peer.did.clear();
    peer.respond(&wms(422, "new"));
    assert_eq!(peer.did, [Did::Close, Did::Event(Event::Ended { clean: true })]);
}

/// C-15: attempts that do not get through do not prolong the Idle-Timeout.
#[test]
fn c15_refused_connections_do_not_prolong() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "abc"), &header);
    peer.lose(Cause::Reset);
    for _ in 0..6 {
        peer.now += Duration::from_secs(10);
        peer.session.connect(peer.now);
        peer.send(&header, 1);
        peer.lose(Cause::Refused);
    }
    peer.did.clear();
    peer.now += Duration::from_secs(1);
    peer.session.connect(peer.now);
    peer.run();
    assert_eq!(peer.did, [setup("0")]);
}

/// C-16: any status in mid-body ends the request; the session is not resumed.
#[test]
fn c16_early_answers() {
    for (status, hresult) in [
        (200, Hresult::PUSH_DUPLICATE),
        (400, Hresult::BAD_REQUEST),
        (401, Hresult::SERVER_ACCESS_DENIED),
        (404, Hresult::FILE_NOT_FOUND),
        (408, Hresult::TIMEOUT),
        (422, Hresult::REFUSED_BY_SERVER),
        (503, Hresult::SERVER_UNAVAILABLE),
    ] {
        let mut peer = Played::open(config(), &wms(204, "a"), &header());
        peer.respond(&wms(status, "a"));
        assert_eq!(peer.did.first(), Some(&Did::Close));
        assert_eq!(peer.failure().unwrap().hresult, hresult, "{status}");
        peer.did.clear();
        peer.session.connect(peer.now);
        peer.run();
        assert_eq!(peer.did, [setup("0")], "{status}");
    }
}

/// C-17: a response that never comes: a failed setup; at a body's end a new session (receivers, HTTP 7).
#[test]
fn c17_no_answer() {
    let mut peer = Played::new(config());
    peer.session.connect(peer.now);
    peer.run();
    peer.did.clear();
    peer.pass(Duration::from_secs(14));
    assert_eq!(peer.did, []);
    peer.pass(Duration::from_secs(2));
    assert_eq!(peer.failure().unwrap().hresult, Hresult::TIMEOUT);

    let header = header();
    let mut peer = Played::open(Config { content_length: Some(1), ..config() }, &wms(204, "a"), &header);
    peer.send(&header, 100);
    peer.did.clear();
    peer.pass(Duration::from_secs(16));
    assert_eq!(
        peer.did,
        [Did::Close, Did::Event(Event::Restarted { reason: Restart::NoAnswer, rewind: 0 }), setup("0")]
    );
}

/// Receivers HTTP 2: a connection that was closed after the setup: the setup is repeated, once, and
/// the start then goes on a connection of its own.
#[test]
fn receivers_stale_connection() {
    let header = header();
    let mut peer = Played::open(config(), &relay(204), &header);
    peer.lose(Cause::Stale);
    let rewind = FRAMED as u64;
    assert_eq!(peer.did, [Did::Close, Did::Event(Event::Restarted { reason: Restart::Stale, rewind }), setup("0")]);
    peer.respond(&relay(204));
    peer.did.clear();
    // `open` has let data through already; the second loss is of a session without any.
    let mut peer = Played::ready(config(), &relay(204));
    peer.session.offer(&header, FRAMED, peer.now);
    peer.run();
    peer.lose(Cause::Stale);
    peer.respond(&relay(204));
    peer.session.offer(&header, FRAMED, peer.now);
    peer.run();
    peer.did.clear();
    peer.lose(Cause::Stale);
    assert_eq!(peer.send(&header, 1), 1);
    assert_eq!(
        peer.did,
        [
            Did::Close,
            Did::Event(Event::Restarted { reason: Restart::Stale, rewind: 0 }),
            start("0", Connection::New),
            Did::Packet(Packet::Header(header.bytes().clone())),
            Did::Data(1),
            Did::Event(Event::Started),
        ]
    );
}

/// Receivers HTTP 2: a server that closes by `Connection: close` gets the start on a new connection.
#[test]
fn receivers_connection_closed_after_setup() {
    let answer = ResponseHead { keep_alive: false, ..wms(204, "a") };
    let mut peer = Played::ready(config(), &answer);
    peer.send(&header(), 1);
    assert_eq!(peer.requests(), [start("a", Connection::New)]);
}

/// A stale connection at a roll-over: the same PushStart again, no new session, the `$C` too.
#[test]
fn receivers_stale_connection_at_roll_over() {
    let first = header();
    let mut peer = Played::open(Config { content_length: Some(1), ..config() }, &wms(204, "a"), &first);
    peer.send(&first, 100);
    peer.respond(&wms(204, "a"));
    let second = header();
    assert_eq!(peer.send(&second, 1), 1);
    peer.did.clear();
    peer.lose(Cause::Stale);
    assert_eq!(peer.send(&second, 1), 1);
    assert!(matches!(peer.requests()[..], [Did::Start { connection: Connection::New, .. }]));
    assert_eq!(peer.packets().iter().map(Packet::letter).collect::<Vec<_>>(), b"EC");
}

/// An end that was on its way when the connection broke is not lost: the tail can be offered again.
#[test]
fn a_broken_end_is_resumed() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "a"), &header);
    peer.end();
    peer.did.clear();
    peer.lose(Cause::Reset);
    assert!(peer.failure().is_some());
    peer.session.connect(peer.now);
    assert_eq!(peer.send(&header, 1), 1);
    peer.end();
    assert_eq!(peer.packets(), [Packet::End(Hresult::OK)]);
    peer.session.handle_disconnect(Cause::Reset, "", true, peer.now);
    peer.run();
    assert_eq!(peer.did.last(), Some(&Did::Event(Event::Ended { clean: true })), "everything was delivered");
}

/// Giving up keeps the session for a resume.
#[test]
fn disconnect_keeps_the_session() {
    let header = header();
    let mut peer = Played::open(config(), &wms(204, "a"), &header);
    peer.session.disconnect(peer.now);
    peer.run();
    assert_eq!(peer.did, [Did::Close]);
    peer.session.connect(peer.now);
    peer.send(&header, 1);
    assert_eq!(peer.requests(), [start("a", Connection::New)]);
}

/// [MS-WMHTTP] 4.8: the requests of the document's example, byte for byte (without the
/// authentication round trips).
#[test]
fn example_of_section_4_8() {
    let config = Config {
        url: Url::parse("http://MediaServer/pubPoint").unwrap(),
        user_agent: "WMEncoder/11.0.5721.5145".to_owned(),
        directives: Directives { template: None, auto_destroy: true },
        ..config()
    };
    let mut session = Session::new(config);
    let now = Instant::now();
    session.connect(now);
    let Some(Output::Request(setup)) = session.poll() else { panic!() };
    assert_eq!(
        on_the_wire(&setup),
        "POST /pubPoint HTTP/1.1\r\n\
         Content-Type: application/x-wms-pushsetup\r\n\
         X-Accept-Authentication: Negotiate, NTLM, Digest\r\n\
         User-Agent: WMEncoder/11.0.5721.5145\r\n\
         Host: MediaServer\r\n\
         Content-Length: 16\r\n\
         Cache-Control: no-cache\r\n\
         Cookie: push-id=0\r\n\
         \r\n\
         AutoDestroy: 1\r\n"
    );
    let mut answer = wms(204, "4124758405");
    answer.headers.insert(SERVER, HeaderValue::from_static("Cougar/9.5.5732.6324"));
    session.handle_response(&answer, now);
    assert_eq!(session.poll(), Some(Output::Event(Event::Opened)));
    session.offer(&header(), FRAMED, now);
    let Some(Output::Request(start)) = session.poll() else { panic!() };
    assert_eq!(
        on_the_wire(&start),
        "POST /pubPoint HTTP/1.1\r\n\
         Content-Type: application/x-wms-pushstart\r\n\
         X-Accept-Authentication: Negotiate, NTLM, Digest\r\n\
         User-Agent: WMEncoder/11.0.5721.5145\r\n\
         Host: MediaServer\r\n\
         Content-Length: 2147483647\r\n\
         Cache-Control: no-cache\r\n\
         Cookie: push-id=4124758405\r\n\
         \r\n"
    );
}

/// A request as the transport writes it: Title-Case names in the order of the headers.
fn on_the_wire(request: &Request) -> String {
    let mut text = format!("POST {} HTTP/1.1\r\n", request.url.path());
    for (name, value) in &request.head.to_headers("MediaServer").unwrap() {
        let title: Vec<String> = name.as_str().split('-').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
        text += &format!("{}: {}\r\n", title.join("-"), value.to_str().unwrap());
    }
    text + "\r\n" + std::str::from_utf8(request.body.as_deref().unwrap_or_default()).unwrap()
}
