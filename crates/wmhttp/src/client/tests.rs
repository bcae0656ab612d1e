//! A session and a scripted peer, in virtual time.

mod authentication;
mod bodies;
mod broken;
mod proxy;
mod redirects;
mod resume;

use std::time::SystemTime;

use http::header::{HeaderName, SERVER, VIA};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::Hresult;
use crate::failure::Condition;
use crate::headers::Directives;
use crate::packet::Decoder;
use asf::test_util::HeaderBuilder;

const PACKET: u32 = 200;
const FRAMED: usize = FRAMING_LEN + PACKET as usize;

/// The session's actions, one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Did {
    Setup { push_id: String, connection: Connection, body: String },
    Start { push_id: String, connection: Connection, content_length: u64 },
    Packet(Packet),
    Data(u64),
    Close,
    CloseGracefully,
    Event(Event),
}

/// How long the session waits for a response to `$E` after it has arrived.
const GRACE: Duration = Duration::from_millis(100);

/// A session, the clock, and all actions so far.
struct Played {
    session: Session,
    now: Instant,
    did: Vec<Did>,
    /// The URL and the Cookie header of each request.
    asked: Vec<(String, String)>,
    /// The proxy of each request.
    proxies: Vec<Option<Proxy>>,
    /// The Authorization and Proxy-Authorization of each request.
    authorizations: Vec<[Option<String>; 2]>,
    /// Bytes of the current body as counted by the server.
    body: u64,
    content_length: u64,
    decoder: Decoder,
}

fn config() -> Config {
    Config::new(
        Url::parse("http://media:8080/concert").unwrap(),
        "WMEncoder/12.0.0.0 test/1",
        || [0xA5; 16],
        || SystemTime::UNIX_EPOCH,
    )
}

fn header() -> Arc<asf::Header> {
    Arc::new(asf::Header::parse(HeaderBuilder::default().packet_size(PACKET).build()).unwrap())
}

/// A response with these headers, on a connection that stays open.
fn response(status: u16, headers: &[(&'static str, &str)]) -> ResponseHead {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    ResponseHead { status, headers: map, keep_alive: true }
}

/// A response of Windows Media Services.
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

/// A response of this project's server.
fn ours(status: u16, push_id: &str) -> ResponseHead {
    let mut answer = wms(status, push_id);
    answer.headers.insert(SERVER, HeaderValue::from_static("Cougar/9.6.7600.16564 asf-publishing-point/0.1.0"));
    answer
}

/// A response of a simple relay: no cookie, no Pragma.
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

    /// A session after PushSetup was answered with `answer`.
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
            Output::Send(bytes) | Output::Filler(bytes) => {
                self.count(bytes.len() as u64);
                self.decoder.push(bytes);
                let packet = self.decoder.next_packet().unwrap().unwrap();
                assert!(self.decoder.is_aligned());
                Did::Packet(packet)
            }
            Output::Close => Did::Close,
            Output::CloseGracefully => Did::CloseGracefully,
            Output::Event(event) => Did::Event(event),
        };
        self.did.push(did);
    }

    fn count(&mut self, bytes: u64) {
        self.body += bytes;
        assert!(self.body <= self.content_length, "C-9: {} of {}", self.body, self.content_length);
    }

    /// Offers packets of `header` until `count` were sent or none is accepted; returns how many were sent.
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

    /// The peer's TCP stack acknowledges the whole body.
    fn acknowledge(&mut self) {
        self.session.handle_acknowledged(GRACE, self.now);
        self.run();
    }

    /// The connection was shut down gracefully.
    fn closed(&mut self, delivered: bool) {
        self.session.handle_closed(delivered, self.now);
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

fn redirect(status: u16, location: &str) -> ResponseHead {
    response(status, &[("server", "nginx"), ("location", location)])
}

/// A session that received `answers`, each to a PushSetup.
fn redirected(config: Config, answers: &[ResponseHead]) -> Played {
    let mut peer = Played::new(config);
    peer.session.connect(peer.now);
    peer.run();
    for answer in answers {
        peer.respond(answer);
    }
    peer
}

/// C-1, C-2: a session begins with push-id 0 and a PushSetup on its own connection.
#[test]
fn c1_c2_begins_with_a_setup() {
    let mut peer = Played::new(config());
    peer.session.connect(peer.now);
    peer.run();
    assert_eq!(peer.did, [setup("0")]);
    assert!(!peer.session.wants_data());
}

/// C-3, C-18: template and auto-destroy are sent in the body of PushSetup.
#[test]
fn c3_c18_directives_in_the_setup() {
    let directives = Directives { template: Some("/live".into()), auto_destroy: true };
    let mut peer = Played::new(Config { directives, ..config() });
    peer.session.connect(peer.now);
    peer.run();
    let body = "Template-URL: \"/live\"\r\nAutoDestroy: 1\r\n".to_owned();
    assert_eq!(peer.did, [Did::Setup { push_id: "0".into(), connection: Connection::New, body }]);
}

/// C-6, C-8: after a 2xx, PushStart's head and `$H` are sent on the same connection without waiting.
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

/// H-5: a success response from another server is an error that is not retried, if `strict_server` is set.
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

/// H-5: the response to a PushStart is checked too (C-10).
#[test]
fn h5_c10_checks_the_start_response() {
    let mut peer = Played::open(Config { content_length: Some(1), ..config() }, &wms(204, "a"), &header());
    let header = peer.session.entry.header.clone().unwrap();
    peer.send(&header, 100);
    peer.respond(&response(204, &[("server", "Apache")]));
    assert_eq!(peer.failure().unwrap().condition, Condition::Incompatible);
}

/// H-6: the latest id is used, even from an error response.
#[test]
fn h6_newest_push_id() {
    let mut peer = Played::ready(config(), &wms(204, "first"));
    peer.respond(&wms(401, "second"));
    peer.send(&header(), 1);
    assert_eq!(peer.requests(), [start("second", Connection::Same)]);
}

/// C-11: `$E`(0), then the connection closes, whether the server responds, closes or does neither.
#[test]
fn c11_end() {
    type Act = fn(&mut Played);
    let (graceful, end) = (Did::CloseGracefully, |clean| Did::Event(Event::Ended { clean }));
    let ways: [(Act, Vec<Did>); 9] = [
        (|peer| peer.respond(&wms(204, "a")), vec![graceful.clone()]),
        (|peer| peer.respond(&relay(422)), vec![graceful.clone()]),
        (|peer| peer.lose(Cause::Closed), vec![Did::Close, end(true)]),
        (|peer| peer.pass(Duration::from_secs(4)), vec![]),
        (|peer| peer.pass(Duration::from_secs(6)), vec![Did::Close, end(false)]),
        (Played::acknowledge, vec![]),
        (
            |peer| {
                peer.acknowledge();
                peer.pass(GRACE / 2);
                peer.acknowledge();
                peer.pass(GRACE / 2);
            },
            vec![Did::Event(Event::EndUnanswered), graceful.clone()],
        ),
        (
            |peer| {
                peer.acknowledge();
                peer.respond(&wms(204, "a"));
            },
            vec![graceful],
        ),
        // The wait for a response never exceeds the timeout of the whole end.
        (
            |peer| {
                peer.pass(Duration::from_secs(5) - GRACE / 2);
                peer.acknowledge();
                peer.pass(GRACE / 2);
            },
            vec![Did::Close, end(true)],
        ),
    ];
    for (index, (act, did)) in ways.into_iter().enumerate() {
        let mut peer = Played::open(config(), &wms(204, "a"), &header());
        peer.end();
        assert_eq!(peer.did, [Did::Packet(Packet::End(Hresult::OK))]);
        peer.did.clear();
        act(&mut peer);
        assert_eq!(peer.did, did, "way {index}");
    }
}

/// C-11: an end is confirmed by a response, or else by the acknowledgement of all bytes.
#[test]
fn c11_graceful_close() {
    type Act = fn(&mut Played);
    let ways: [(Act, bool); 4] = [
        (|peer| peer.closed(true), true),
        (|peer| peer.closed(false), false),
        (|peer| peer.lose(Cause::Reset), false),
        (|peer| peer.pass(Duration::from_secs(6)), false),
    ];
    for answered in [false, true] {
        for (index, (act, delivered)) in ways.into_iter().enumerate() {
            let mut peer = Played::open(config(), &wms(204, "a"), &header());
            peer.end();
            if answered {
                peer.respond(&wms(204, "a"));
            } else {
                peer.acknowledge();
                peer.pass(GRACE);
            }
            assert!(peer.session.close_by().is_some() && !peer.session.is_down());
            peer.did.clear();
            act(&mut peer);
            let clean = answered || delivered;
            assert_eq!(peer.did, [Did::Close, Did::Event(Event::Ended { clean })], "way {index}, answered: {answered}");
            assert!(peer.session.is_down());
        }
    }
}

/// C-12: a header change that needs a new session waits no longer than the end of a stream does.
#[test]
fn c12_new_session_at_a_silent_server() {
    let config = Config { header_change: HeaderChange::Reconnect, ..config() };
    let first = header();
    let mut peer = Played::open(config, &wms(204, "a"), &first);
    assert_eq!(peer.send(&header(), 1), 0);
    assert_eq!(peer.did, [Did::Packet(Packet::End(Hresult::OK))]);
    peer.did.clear();
    peer.acknowledge();
    peer.pass(GRACE);
    peer.closed(true);
    let restarted = Event::Restarted { reason: RestartReason::HeaderChange, rewind: 0 };
    let unanswered = Did::Event(Event::EndUnanswered);
    assert_eq!(peer.did, [unanswered, Did::CloseGracefully, Did::Close, Did::Event(restarted), setup("0")]);
}

/// C-11: if fewer than 8 bytes remain, `$F` fills them, and `$E` is sent in another PushStart.
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

/// C-11: ending before anything was sent closes the connection and is not a failure.
#[test]
fn c11_end_of_nothing() {
    let mut peer = Played::ready(config(), &wms(204, "a"));
    peer.end();
    assert_eq!(peer.did, [Did::Close, Did::Event(Event::Ended { clean: true })]);
}

/// [MS-WMHTTP] 4.8: the requests are byte for byte those of the document's example, without the authentication round
/// trips.
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
    // A build without the feature `ntlm` supports one of the three schemes.
    let schemes = if cfg!(feature = "ntlm") { "Negotiate, NTLM, Digest" } else { "Digest" };
    let schemes = format!("X-Accept-Authentication: {schemes}\r\n");
    assert_eq!(
        on_the_wire(&setup).replace(&schemes, "(schemes)"),
        "POST /pubPoint HTTP/1.1\r\n\
         Content-Type: application/x-wms-pushsetup\r\n\
         (schemes)\
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
        on_the_wire(&start).replace(&schemes, "(schemes)"),
        "POST /pubPoint HTTP/1.1\r\n\
         Content-Type: application/x-wms-pushstart\r\n\
         (schemes)\
         User-Agent: WMEncoder/11.0.5721.5145\r\n\
         Host: MediaServer\r\n\
         Content-Length: 2147483647\r\n\
         Cache-Control: no-cache\r\n\
         Cookie: push-id=4124758405\r\n\
         \r\n"
    );
}

/// A request as encoded by the transport: Title-Case names in the order of the headers.
fn on_the_wire(request: &Request) -> String {
    let mut text = format!("POST {} HTTP/1.1\r\n", request.url.path());
    for (name, value) in &request.head.to_headers("MediaServer").unwrap() {
        let title: Vec<String> = name.as_str().split('-').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
        text += &format!("{}: {}\r\n", title.join("-"), value.to_str().unwrap());
    }
    text + "\r\n" + std::str::from_utf8(request.body.as_deref().unwrap_or_default()).unwrap()
}

/// A rejection of a location without a publishing point's name has a remedy, unless a proxy rejects it, or for another
/// reason.
#[test]
fn a_location_without_a_name_has_a_remedy() {
    let remedy = "add the name of the publishing point to location: http://server:port/publishing-point";
    for (path, status, headers, says) in [
        ("/", 400, &[("server", "Icecast 2.4.4")][..], true),
        ("/", 404, &[("server", "Cougar/9.6")], true),
        ("/concert", 404, &[("server", "Cougar/9.6")], false),
        ("/", 409, &[("server", "Cougar/9.6")], false),
        ("/", 500, &[("server", "Cougar/9.6")], false),
        ("/", 404, &[("server", "squid/5.7"), ("via", "1.1 proxy")], false),
    ] {
        let url = Url::parse("http://media:8080").unwrap().join(path).unwrap();
        let mut peer = Played::new(Config { url, ..config() });
        peer.session.connect(peer.now);
        peer.run();
        peer.respond(&response(status, headers));
        let failure = peer.failure().unwrap();
        assert_eq!(failure.remedy == remedy, says, "{status} {path}: {failure}");
    }
}
