//! C-15: sessions that lose their connection, at servers of every known behavior, for outages of any length, in virtual
//! time. The test checks what a player behind them can decode. `tests/push/resume.rs` tests the same with the element,
//! for shorter outages.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use asf::Header;
use asf::test_util::HeaderBuilder;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;
use wmhttp::auth::{Credentials, Login};
use wmhttp::client::{Config, Event, Output, Request, ResponseHead, Session};
use wmhttp::failure::Cause;
use wmhttp::headers::Kind;

const PACKET: u32 = 300;
const FRAMED: u64 = PACKET as u64 + 4;
/// Number of packets before the connection is lost, and in total.
const BEFORE: u32 = 25;
const PACKETS: u32 = 60;
const KEY_INTERVAL: u32 = 10;
/// How long a server keeps a lost session.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

const OURS: &str = "Cougar/9.6.7600.16564 asf-publishing-point/0.1.0";
const WINDOWS: &str = "Cougar/9.6.7600.16564";
const IMITATION: &str = "Cougar/9.01.01.3814";

/// How a server reacts to an unknown push-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    Answers(u16),
    AnswersAnotherId,
    BeginsASession,
}

#[derive(Clone, Copy, Debug)]
struct Habit {
    server: &'static str,
    /// Whether it keeps a session whose connection was lost, and with which status it rejects a PushSetup meanwhile.
    keeps: Option<Option<u16>>,
    unknown: Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The connection is lost, and another can be established.
    Cut,
    /// The network is interrupted for this time.
    Network(Duration),
    /// The server's process is down for this time and loses its sessions.
    Restart(Duration),
    /// The same behind a proxy, which responds with 502 meanwhile.
    RestartBehindProxy(Duration),
}

/// A server, a player behind it, and an encoder.
struct World {
    habit: Habit,
    digest: bool,
    now: Instant,
    client: Session,
    /// When the connection was lost, and until when no request reaches the server.
    lost_at: Option<Instant>,
    back_at: Instant,
    loss: Loss,
    session: Option<String>,
    sessions: u32,
    has_header: bool,
    streaming: bool,
    nonce: u32,
    // The encoder's position, as kept by a destination.
    next: u32,
    in_body: u32,
    begins_anew: bool,
    attempts: u32,
    last: Option<Event>,
    // The player.
    following: Option<u32>,
    decoded: Vec<u32>,
    undecodable: Vec<u32>,
    headers: u32,
    ended: bool,
}

fn response(server: &str, status: u16, more: &[(&'static str, String)]) -> ResponseHead {
    let mut headers = HeaderMap::new();
    let known = [("server", server.to_owned()), ("pragma", "no-cache, timeout=60000".to_owned())];
    for (name, value) in known.iter().chain(more) {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    ResponseHead { status, headers, keep_alive: true }
}

impl World {
    fn new(habit: Habit, loss: Loss, digest: bool) -> Self {
        let now = Instant::now();
        let Credentials { user, password } = Credentials::new("bob", "hush");
        let config = Config {
            login: Login { user: Some(user), password: Some(password) },
            ..Config::new(
                Url::parse("http://media/concert").unwrap(),
                "WMEncoder/12.0.0.0",
                || [0; 16],
                || SystemTime::UNIX_EPOCH,
            )
        };
        Self {
            habit,
            digest,
            now,
            client: Session::new(config),
            lost_at: None,
            back_at: now,
            loss,
            session: None,
            sessions: 0,
            has_header: false,
            streaming: false,
            nonce: 1,
            next: 0,
            in_body: 0,
            begins_anew: false,
            attempts: 0,
            last: None,
            following: None,
            decoded: Vec::new(),
            undecodable: Vec::new(),
            headers: 0,
            ended: false,
        }
    }

    fn reply(&self, status: u16, more: &[(&'static str, String)]) -> ResponseHead {
        response(self.habit.server, status, more)
    }

    fn cookie(&self) -> (&'static str, String) {
        ("set-cookie", format!("push-id={}", self.session.as_deref().unwrap()))
    }

    fn challenge(&self) -> (&'static str, String) {
        ("www-authenticate", format!("Digest realm=\"live\", nonce=\"{}\", qop=\"auth\", stale=true", self.nonce))
    }

    fn begin(&mut self) {
        self.sessions += 1;
        self.session = Some(format!("session-{}", self.sessions));
        self.has_header = false;
    }

    fn forget(&mut self) {
        self.session = None;
        self.has_header = false;
    }

    /// The result of a request: a response, an accepted PushStart (`None`), or a failed connection.
    fn request(&mut self, request: &Request) -> Result<Option<ResponseHead>, Cause> {
        if self.now < self.back_at {
            return match self.loss {
                Loss::Cut => Ok(None),
                Loss::Network(_) => Err(Cause::ConnectTimeout),
                Loss::Restart(_) => Err(Cause::Refused),
                Loss::RestartBehindProxy(_) => {
                    self.client.handle_connected();
                    Ok(Some(response("nginx", 502, &[])))
                }
            };
        }
        if self.lost_at.is_some_and(|at| self.now >= at + IDLE_TIMEOUT) && !self.streaming {
            self.forget();
            self.lost_at = None;
        }
        let headers = request.head.to_headers("media").unwrap();
        let nonce = format!("nonce=\"{}\"", self.nonce);
        let known = headers.get("authorization").is_some_and(|value| value.to_str().unwrap().contains(&nonce));
        let authenticated = !self.digest || known;
        let id = request.head.cookies.push_id().as_str();
        let has_session = self.session.as_deref() == Some(id);
        if request.head.kind == Kind::Setup {
            return Ok(Some(match (authenticated, &self.session, self.habit.keeps) {
                (false, ..) => self.reply(401, &[self.challenge()]),
                (true, Some(_), Some(Some(taken))) => self.reply(taken, &[]),
                (true, ..) => {
                    self.begin();
                    self.reply(204, &[self.cookie()])
                }
            }));
        }
        self.client.handle_connected();
        if has_session && authenticated {
            self.streaming = true;
            return Ok(None);
        }
        Ok(match self.habit.unknown {
            Unknown::AnswersAnotherId if !has_session => {
                Some(self.reply(401, &[self.challenge(), ("set-cookie", "push-id=another".to_owned())]))
            }
            Unknown::Answers(status) if !has_session => Some(self.reply(status, &[])),
            _ if !authenticated => Some(self.reply(401, &[self.challenge()])),
            Unknown::Answers(_) | Unknown::AnswersAnotherId | Unknown::BeginsASession => {
                self.begin();
                self.streaming = true;
                None
            }
        })
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Request(request) => {
                    self.in_body = 0;
                    self.streaming = false;
                    match self.request(&request) {
                        Ok(Some(head)) => self.client.handle_response(&head, self.now),
                        Ok(None) => self.client.handle_connected(),
                        Err(cause) => self.client.handle_disconnect(cause, "", false, self.now),
                    }
                }
                Output::Send(bytes) if self.streaming => match bytes[1] {
                    b'H' => {
                        self.has_header = true;
                        self.following = None;
                        self.headers += 1;
                    }
                    b'E' => {
                        self.ended = true;
                        let head = self.reply(204, &[self.cookie()]);
                        self.client.handle_response(&head, self.now);
                    }
                    other => panic!("${}", char::from(other)),
                },
                Output::Send(_) | Output::Filler(_) => {}
                Output::Close => self.streaming = false,
                Output::CloseGracefully => {
                    self.streaming = false;
                    self.client.handle_closed(true, self.now);
                }
                Output::Event(event) => self.event(&event),
            }
        }
    }

    /// Reacts to an event like a destination.
    fn event(&mut self, event: &Event) {
        self.last = Some(event.clone());
        if *event == Event::Opened && std::mem::take(&mut self.begins_anew) {
            self.next -= self.next % KEY_INTERVAL;
        } else if let Event::Restarted { rewind, .. } = event {
            self.next -= u32::try_from(rewind / FRAMED).unwrap();
            self.begins_anew = true;
        } else if let Event::Failed(failure) = event {
            assert!(!failure.permanent, "{failure}");
            self.begins_anew = true;
        }
    }

    /// Sends packets up to the one before `to`, or until none is accepted.
    fn send(&mut self, header: &Arc<Header>, to: u32) {
        let mut idle = 0;
        while self.next < to && idle < 8 {
            let granted = self.client.offer(header, usize::try_from(FRAMED).unwrap(), self.now);
            if self.client.has_output() || granted < FRAMED {
                self.carry_out();
                idle += 1;
                continue;
            }
            idle = 0;
            let number = self.next;
            self.next += 1;
            self.client.sent(FRAMED);
            self.carry_out();
            if !self.streaming {
                continue;
            }
            if self.has_header && (self.following == Some(number) || number.is_multiple_of(KEY_INTERVAL)) {
                self.decoded.push(number);
                self.following = Some(number + 1);
            } else {
                self.undecodable.push(number);
            }
        }
    }

    /// Runs a complete push.
    fn play(&mut self) {
        let header = HeaderBuilder::default().packet_size(PACKET).build();
        let header = Arc::new(Header::parse(header).unwrap());
        self.client.connect(self.now);
        self.carry_out();
        self.send(&header, BEFORE);
        assert_eq!(self.decoded.len(), BEFORE as usize);

        self.lost_at = Some(self.now);
        self.streaming = false;
        let (away, ends) = match self.loss {
            Loss::Cut => (Duration::ZERO, false),
            Loss::Network(away) => (away, false),
            Loss::Restart(away) | Loss::RestartBehindProxy(away) => (away, true),
        };
        self.back_at = self.now + away;
        if ends || self.habit.keeps.is_none() {
            self.forget();
        }
        if ends {
            self.nonce += 1;
        }
        self.client.handle_disconnect(Cause::Closed, "", true, self.now);
        self.carry_out();
        while !self.ended {
            self.attempts += 1;
            assert!(
                self.attempts < 100,
                "no end: {:?} {:?} {} next {}: {:?}",
                self.habit,
                self.loss,
                self.digest,
                self.next,
                self.last
            );
            if self.client.is_down() {
                self.client.connect(self.now);
                self.carry_out();
            }
            self.send(&header, PACKETS);
            if self.next == PACKETS {
                self.client.end(self.now);
                self.carry_out();
            }
            self.now += Duration::from_secs(1);
        }
    }
}

fn habits() -> Vec<Habit> {
    let statuses = [400, 401, 403, 404, 408, 409, 410, 412, 422, 500, 503];
    let unknowns: Vec<Unknown> = statuses
        .map(Unknown::Answers)
        .into_iter()
        .chain([Unknown::AnswersAnotherId, Unknown::BeginsASession])
        .collect();
    let mut habits = vec![Habit { server: OURS, keeps: Some(None), unknown: Unknown::Answers(412) }];
    for unknown in unknowns {
        if unknown != Unknown::BeginsASession {
            // A server that claims to be ours but keeps no sessions.
            habits.push(Habit { server: OURS, keeps: None, unknown });
        }
        for server in [WINDOWS, IMITATION] {
            habits.push(Habit { server, keeps: None, unknown });
            habits.extend([404, 409].map(|taken| Habit { server, keeps: Some(Some(taken)), unknown }));
        }
    }
    habits
}

/// C-15, S-10, S-14: at every server and after every loss, players receive the header before the data, a key frame
/// first, and all packets. If the server keeps the session, players notice nothing while it lives.
#[test]
fn c15_s10_s14_players_can_decode_data_after_a_loss() {
    let [short, long] = [3, 70].map(Duration::from_secs);
    let losses = [
        Loss::Cut,
        Loss::Network(short),
        Loss::Network(long),
        Loss::Restart(short),
        Loss::Restart(long),
        Loss::RestartBehindProxy(short),
        Loss::RestartBehindProxy(long),
    ];
    for habit in habits() {
        for loss in losses {
            for digest in [false, true] {
                let mut world = World::new(habit, loss, digest);
                world.play();
                let case = format!("{habit:?} {loss:?} digest={digest}: {} attempts", world.attempts);
                assert_eq!(world.undecodable, [], "{case}");
                assert!((0..PACKETS).all(|number| world.decoded.contains(&number)), "{case}: {:?}", world.decoded);
                let lives = matches!(loss, Loss::Cut) || loss == Loss::Network(short);
                let goes_on = habit.keeps.is_some() && lives;
                assert_eq!(world.headers, if goes_on { 1 } else { 2 }, "{case}");
                let twice = world.decoded.len() - PACKETS as usize;
                assert_eq!(twice, if goes_on { 0 } else { 5 }, "{case}: {:?}", world.decoded);
                if loss == Loss::Cut {
                    assert_eq!(world.attempts, 1, "{case}");
                }
            }
        }
    }
}
