//! The client side of the push protocol with events in any order.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use asf::Header;
use asf::test_util::HeaderBuilder;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;
use wmhttp::auth::{Credentials, Methods};
use wmhttp::client::{Config, Event, HeaderChange, Output, ResponseHead, Session};
use wmhttp::failure::Cause;
use wmhttp::headers::{Directives, Kind};

use super::source::Source;

const NAMES: [HeaderName; 7] = [
    header::WWW_AUTHENTICATE,
    header::PROXY_AUTHENTICATE,
    header::LOCATION,
    header::SET_COOKIE,
    header::PRAGMA,
    header::VIA,
    header::SERVER,
];
const STATUSES: [u16; 18] = [204, 200, 204, 401, 407, 302, 305, 307, 408, 404, 412, 409, 503, 500, 100, 304, 429, 999];
const CAUSES: [Cause; 4] = [Cause::Reset, Cause::Closed, Cause::Stale, Cause::Refused];
/// Contains a byte that a server cannot send in a header.
const PASSWORD: &str = "secret\u{1}";
/// Maximum number of outputs at one time; one event produces only a few.
const MANY: usize = 64;

static HEADERS: LazyLock<[Arc<Header>; 2]> = LazyLock::new(|| {
    [300, 9000]
        .map(|size| Arc::new(Header::parse(HeaderBuilder::default().packet_size(size).build()).expect("a header")))
});

struct Run {
    session: Session,
    now: Instant,
    /// Number of bytes that the current PushStart may still carry.
    room: Option<u64>,
    /// Whether a request waits for its response.
    asked: bool,
    /// The connection is being closed in order.
    closing: bool,
    ended: bool,
}

fn config(source: &mut Source<'_>) -> Config {
    Config {
        auth_methods: Methods { negotiate: false, ntlm: false, digest: true, basic: source.byte() % 2 == 1 },
        directives: Directives { template: None, auto_destroy: source.byte() % 2 == 1 },
        content_length: Some(u64::from(source.word())).filter(|length| *length > 0),
        strict_server: source.byte().is_multiple_of(2),
        automatic_redirect: source.byte() % 4 != 3,
        https: source.byte().is_multiple_of(2),
        header_change: source.of(&[HeaderChange::Auto, HeaderChange::StreamChange, HeaderChange::Reconnect]),
        ..Config::new(
            Url::parse("http://media/concert").expect("a URL"),
            "WMEncoder/12.0.0.0",
            || [7; 16],
            || SystemTime::UNIX_EPOCH,
        )
    }
}

/// The first eight bytes are settings. After that, each byte is an event; some events use the following bytes as data.
pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let config = config(&mut source);
    let session = Session::new(config);
    let mut run = Run { session, now: Instant::now(), room: None, asked: false, closing: false, ended: false };
    while !source.is_empty() {
        run.event(&mut source);
        run.carry_out();
    }
    run.finish();
}

impl Run {
    fn event(&mut self, source: &mut Source<'_>) {
        let now = self.now;
        match source.byte() % 16 {
            0 | 1 => self.session.connect(now),
            2..=4 => {
                let choice = source.byte();
                for _ in 0..=choice / 16 {
                    self.offer(usize::from(choice % 2));
                    self.carry_out();
                }
            }
            5 | 6 => self.session.handle_connected(),
            7 | 8 => self.response(source),
            9 => {
                self.session.handle_disconnect(source.of(&CAUSES), "", source.byte().is_multiple_of(2), now);
                self.asked = false;
                self.room = None;
            }
            10 => self.now += Duration::from_millis(100 * u64::from(source.byte())),
            11 => self.session.handle_timeout(now),
            12 => {
                let known = !source.byte().is_multiple_of(4);
                self.session.supply(known.then(|| Credentials::new("bob", PASSWORD)), now);
            }
            13 if source.byte() == 0 => self.session.end(now),
            14 if source.byte() == 0 => self.session.disconnect(now),
            15 if source.byte() == 0 => self.session.handle_acknowledged(Duration::from_millis(100), now),
            // Also where nothing is being closed.
            15 => self.session.handle_closed(source.byte().is_multiple_of(2), now),
            _ => self.now += Duration::from_millis(1),
        }
    }

    fn offer(&mut self, header: usize) {
        let header = &HEADERS[header];
        let size = header.packet_size() + 4;
        let granted = self.session.offer(header, size, self.now);
        // Pending outputs must be handled before the packet.
        if granted >= size as u64 && !self.session.has_output() {
            self.take(size);
            self.session.sent(size as u64);
        }
    }

    /// C-9: no bytes are sent beyond the Content-Length.
    fn take(&mut self, bytes: usize) {
        let room = self.room.as_mut().expect("a body to write into");
        *room = room.checked_sub(bytes as u64).expect("C-9: bytes beyond the Content-Length");
    }

    fn response(&mut self, source: &mut Source<'_>) {
        let status = source.of(&STATUSES);
        let mut headers = HeaderMap::new();
        if !source.byte().is_multiple_of(8) {
            headers.insert(header::SERVER, HeaderValue::from_static("Cougar/9.0"));
        }
        for _ in 0..source.byte() % 4 {
            let name = NAMES[usize::from(source.byte()) % NAMES.len()].clone();
            if let Ok(value) = HeaderValue::from_bytes(source.piece()) {
                headers.append(name, value);
            }
        }
        self.answer(status, headers, source.byte().is_multiple_of(2));
    }

    fn answer(&mut self, status: u16, headers: HeaderMap, keep_alive: bool) {
        if !std::mem::take(&mut self.asked) {
            return;
        }
        self.room = None;
        self.session.handle_response(&ResponseHead { status, headers, keep_alive }, self.now);
    }

    fn carry_out(&mut self) {
        for _ in 0..MANY {
            let Some(output) = self.session.poll() else { return };
            match output {
                Output::Request(request) => {
                    assert!(matches!(request.url.scheme(), "http" | "https"), "{}", request.url);
                    request.head.to_headers("media").expect("a head that can travel");
                    assert_eq!(request.body.is_some(), request.head.kind == Kind::Setup);
                    self.room = request.body.is_none().then_some(request.head.content_length);
                    self.asked = true;
                }
                Output::Send(bytes) | Output::Filler(bytes) => self.take(bytes.len()),
                Output::CloseGracefully => self.closing = true,
                Output::Close => {
                    self.closing = false;
                    self.asked = false;
                    self.room = None;
                }
                Output::Event(Event::Ended { .. }) => self.ended = true,
                Output::Event(event) => {
                    let shown = format!("{event:?}");
                    assert!(!shown.contains(PASSWORD) && !shown.contains(&PASSWORD.escape_debug().to_string()));
                }
            }
        }
        panic!("outputs without an end: {:?}", self.session);
    }

    /// Every session ends if the server responds and time passes: no state is a dead end.
    fn finish(&mut self) {
        for _ in 0..200 {
            if self.ended || self.session.is_closed() {
                return;
            }
            self.session.connect(self.now);
            self.carry_out();
            self.session.handle_connected();
            self.session.end(self.now);
            self.carry_out();
            if self.asked && self.room.is_none_or(|room| room == 0) {
                let server = HeaderValue::from_static("Cougar/9.0");
                self.answer(204, HeaderMap::from_iter([(header::SERVER, server)]), true);
            }
            self.carry_out();
            if std::mem::take(&mut self.closing) {
                self.session.handle_closed(true, self.now);
            }
            self.carry_out();
            if let Some(deadline) = self.session.deadline() {
                self.now = self.now.max(deadline);
                self.session.handle_timeout(self.now);
                self.carry_out();
            }
        }
        panic!("no way out: {:?}", self.session);
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let settings = [0, 0, 0, 0, 0, 0, 0, 0];
    let setup = b"\x00\x07\x00\x01\x01\x03\x09push-id=a\x00";
    let stream = b"\x02\x00\x05\x02\x00\x02\x00\x02\x00";
    vec![
        [&settings[..], setup, stream, b"\x02\x01\x02\x01\x0d\x00"].concat(),
        // Small bodies that are filled up, and continued in the next body.
        [&[0, 0, 0, 7, 0, 0, 0, 0], &setup[..], stream, b"\x02\x70\x07\x00\x01\x00\x00\x05\x02\x80\x02\x71\x07\x00"]
            .concat(),
        [&[1, 1, 0x40, 0x60, 0, 0, 0, 1], &setup[..], stream, &stream[..], b"\x09\x00\x00\x0a\x05\x00"].concat(),
        [&settings[..], b"\x00\x07\x03\x01\x01\x00\x1dDigest realm=\"x\", nonce=\"abc\"", b"\x00\x0c\x01"].concat(),
        [&settings[..], b"\x00\x07\x05\x01\x01\x02\x12http://other/a?b=c\x00\x00"].concat(),
    ]
}
