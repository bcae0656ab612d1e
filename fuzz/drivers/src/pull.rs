//! The player side of the pull protocol with events in any order.

use std::time::{Duration, Instant};

use asf::test_util::HeaderBuilder;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;
use wmhttp::auth::{Login, Methods, Secret};
use wmhttp::failure::Cause;
use wmhttp::pull::{Config, Output, Session};
use wmhttp::via::Via;

use super::source::Source;

const NAMES: [HeaderName; 5] =
    [header::WWW_AUTHENTICATE, header::LOCATION, header::PRAGMA, header::VIA, header::CONTENT_TYPE];
const STATUSES: [u16; 12] = [200, 200, 200, 401, 302, 307, 404, 503, 508, 100, 407, 999];
const CAUSES: [Cause; 4] = [Cause::Reset, Cause::Closed, Cause::Stale, Cause::Refused];
/// Contains a byte that is not allowed in a header.
const PASSWORD: &str = "secret\u{1}";
/// Maximum number of outputs in response to one event. A chunk produces as many outputs as it has packets.
const MANY: usize = 100_000;

struct Run {
    session: Session,
    now: Instant,
    packet_size: usize,
    /// Whether a request waits for its response.
    asked: bool,
}

/// Each byte is an event; some events use the following bytes as data.
pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let config = Config {
        url: Url::parse("http://origin/concert").expect("a URL"),
        user_agent: "NSPlayer/4.1.0.3856".to_owned(),
        auth_methods: Methods { negotiate: false, ntlm: false, digest: true, basic: source.byte() % 2 == 1 },
        login: Login { user: Some("edge".to_owned()), password: Some(Secret::new(PASSWORD)) },
        random: || [7; 16],
        via_pseudonym: "me".to_owned(),
        via: Via::default(),
        https: source.byte().is_multiple_of(2),
        response_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(20),
    };
    let mut run = Run { session: Session::new(config), now: Instant::now(), packet_size: 0, asked: false };
    run.session.connect(run.now);
    run.carry_out();
    while !source.is_empty() {
        run.event(&mut source);
        run.carry_out();
    }
    // A time-out must end any pending operation.
    if let Some(deadline) = run.session.deadline() {
        run.now = run.now.max(deadline);
        run.session.handle_timeout(run.now);
        run.carry_out();
    }
    assert!(run.session.deadline().is_none(), "{:?}", run.session);
}

impl Run {
    fn event(&mut self, source: &mut Source<'_>) {
        let now = self.now;
        match source.byte() % 12 {
            0 => self.session.connect(now),
            1 | 2 => {
                let mut headers = HeaderMap::new();
                let status = source.of(&STATUSES);
                for _ in 0..source.byte() % 4 {
                    let name = source.of(&[0, 1, 2, 3, 4]);
                    if let Ok(value) = HeaderValue::from_bytes(source.piece()) {
                        headers.append(NAMES[name].clone(), value);
                    }
                }
                self.asked = false;
                self.session.handle_response(status, &headers, now);
            }
            3 => {
                self.asked = false;
                self.session.handle_response(200, &HeaderMap::new(), now);
            }
            4 => self.session.handle_body(Bytes::copy_from_slice(source.piece()), now),
            5 | 6 => {
                let size = 100 + u32::from(source.byte());
                let header = HeaderBuilder::default().packet_size(size).build();
                self.framed(b'H', source.byte(), &header);
            }
            7 | 8 => self.framed(b'D', 0, source.piece()),
            9 => {
                let packet = [&[b'$', source.of(b"CEMPTF"), 4, 0], &[source.byte() % 3, 0, 0, 0][..]].concat();
                self.session.handle_body(Bytes::from(packet), now);
            }
            10 => self.session.handle_body_end(),
            _ => match source.byte() % 4 {
                0 => self.session.handle_lost(source.of(&CAUSES), "detail"),
                1 => self.session.disconnect(),
                _ => {
                    self.now += Duration::from_secs(source.byte().into());
                    self.session.handle_timeout(self.now);
                }
            },
        }
    }

    fn framed(&mut self, letter: u8, flags: u8, payload: &[u8]) {
        let len = u16::try_from(payload.len() + 8).expect("short").to_le_bytes();
        let packet = [&[b'$', letter], &len[..], &[0, 0, 0, 0, 0, flags], &len[..], payload].concat();
        self.session.handle_body(Bytes::from(packet), self.now);
    }

    fn carry_out(&mut self) {
        for count in 0.. {
            assert!(count < MANY, "no end of outputs");
            let Some(output) = self.session.poll() else { return };
            match output {
                Output::Request(request) => {
                    self.packet_size = 0;
                    self.asked = true;
                    assert!(matches!(request.url.scheme(), "http" | "https"));
                    let text = format!("{request:?}");
                    assert!(!text.contains("secret"), "{text}");
                }
                Output::Started(via) => assert!(!via.contains("me")),
                Output::Header(header) => self.packet_size = header.packet_size(),
                Output::Data(bytes) => assert!((1..=self.packet_size).contains(&bytes.len())),
                Output::Plain(bytes) => assert!(!bytes.is_empty()),
                Output::Ended => assert!(self.session.deadline().is_none()),
                Output::Failed(failure) => {
                    let text = failure.to_string();
                    assert!(!text.contains("secret") && !failure.remedy.is_empty(), "{text}");
                }
            }
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        // Describe, Play, two packets, another header, the end.
        vec![0, 0, 3, 5, 100, 12, 3, 5, 100, 12, 7, 3, 1, 2, 3, 7, 2, 1, 2, 9, 0, 5, 120, 12, 7, 1, 9, 9, 1, 0],
        // A redirect, a challenge, a plain stream.
        [&[0, 0, 1, 4, 1, 1, 7][..], b"/other/", &[1, 3, 1, 0, 12], b"Basic realm=", &[3, 4, 4], b"0&\xb2u"].concat(),
        // Another entry.
        vec![1, 1, 3, 5, 100, 12, 3, 5, 100, 12, 9, 1, 1, 11, 2, 60],
    ]
}
