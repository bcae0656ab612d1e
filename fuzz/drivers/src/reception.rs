//! The server side of the protocol with events in any order.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use wmhttp::Hresult;
use wmhttp::headers::{Cookies, Directives, Kind, PushId, RequestHead};
use wmhttp::packet::{MAX_DATA, Packet};
use wmhttp::server::{Output, PointLookup, Policy, ServerSession, accept};

use super::source::Source;

struct Run {
    reception: ServerSession,
    now: Instant,
    ended: bool,
    /// Whether a PushStart waits for its response.
    asked: bool,
}

fn head(kind: Kind, id: &str) -> RequestHead {
    let mut cookies = Cookies::default();
    let cookie = HeaderValue::from_str(&format!("push-id={id}")).expect("a cookie");
    cookies.update_from(&HeaderMap::from_iter([(SET_COOKIE, cookie)]), SystemTime::UNIX_EPOCH);
    RequestHead {
        kind,
        accept_authentication: Vec::new(),
        user_agent: "WMEncoder/12.0.0.0".to_owned(),
        content_length: 1 << 31,
        cookies,
        authorization: Vec::new(),
        via: Default::default(),
    }
}

/// Each byte is an event; some events use the following bytes as data.
pub fn run(data: &[u8]) {
    let now = Instant::now();
    let fresh = PushId::parse("abc").expect("an id");
    let directives = Directives { auto_destroy: data.first().is_some_and(|byte| byte % 2 == 1), template: None };
    let (reception, reply) =
        accept(&head(Kind::Setup, "0"), &directives, PointLookup::Exists, fresh, &Policy::default(), now);
    assert_eq!(reply.status, 204);
    let mut run = Run { reception: reception.expect("a session"), now, ended: false, asked: false };
    let mut source = Source(data);
    while !source.is_empty() {
        run.event(&mut source);
        run.carry_out();
    }
    // Every state has a time-out that ends the session.
    for _ in 0..4 {
        let Some(deadline) = run.reception.deadline() else { break };
        run.now = run.now.max(deadline);
        run.reception.timed_out(run.now);
        run.carry_out();
    }
    assert!(run.ended && run.reception.is_over(), "{:?}", run.reception);
}

impl Run {
    fn event(&mut self, source: &mut Source<'_>) {
        let now = self.now;
        match source.byte() % 16 {
            0 => self.start("abc"),
            1 => self.start("other"),
            2 => self.reception.body(Bytes::copy_from_slice(source.piece()), now),
            3 => self.packet(&Packet::Header(Bytes::copy_from_slice(source.piece()))),
            4 | 5 => self.packet(&Packet::Data(Bytes::copy_from_slice(source.piece()))),
            6 => self.packet(&Packet::StreamChange(Bytes::copy_from_slice(source.piece()))),
            7 => self.packet(&Packet::End(Hresult(u32::from(source.byte())))),
            8 => self.packet(&Packet::Filler(source.word().into())),
            9 => self.reception.body_end(now),
            10 => {
                self.reception.connection_lost(now);
                self.asked = false;
            }
            11 => self.now += Duration::from_secs(source.byte().into()),
            12 => self.reception.timed_out(now),
            13 => {
                let directives = Directives { template: None, auto_destroy: source.byte() % 2 == 1 };
                let streaming = self.reception.is_streaming();
                let reply = self.reception.set_up_again(&directives, now);
                let expected = if self.reception.is_over() {
                    412
                } else if streaming {
                    409
                } else {
                    204
                };
                assert_eq!(reply.status, expected);
            }
            14 if source.byte() == 0 => self.reception.terminate(503, now),
            _ => self.now += Duration::from_millis(1),
        }
    }

    fn start(&mut self, id: &str) {
        match self.reception.start(&head(Kind::Start, id), self.now) {
            Ok(()) => {
                assert!(!self.asked, "two PushStarts at a time");
                self.asked = true;
            }
            Err(reply) => assert!((400..600).contains(&reply.status)),
        }
    }

    fn packet(&mut self, packet: &Packet) {
        // An empty payload does not have a wire form.
        if let Ok(bytes) = packet.to_bytes() {
            self.reception.body(bytes, self.now);
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.reception.poll() {
            assert!(!self.ended, "{output:?} after the end");
            match output {
                Output::Data(payload) => assert!((1..=MAX_DATA).contains(&payload.len())),
                Output::Header(bytes) | Output::StreamChange(bytes) => assert!(!bytes.is_empty()),
                Output::EntryEnded | Output::Close => {}
                Output::Reply(_) => assert!(std::mem::take(&mut self.asked), "an answer that nobody waits for"),
                Output::Ended { .. } => self.ended = true,
            }
        }
        assert_eq!(self.ended, self.reception.is_over());
        assert_eq!(self.reception.deadline().is_none(), self.ended, "a state without a way out");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"\x00\x03\x04head\x04\x05media\x04\x05media\x08\x03\x00\x09\x00\x04\x05media\x07\x00".to_vec(),
        b"\x00\x03\x04head\x07\x01\x06\x04next\x04\x05media\x0a\x0b\x1e\x00\x04\x05media\x0b\x50\x0c".to_vec(),
        b"\x01\x0d\x01\x00\x00\x0d\x00\x02\x09$H\x05\x00headx\x0e\x00\x0c".to_vec(),
    ]
}
