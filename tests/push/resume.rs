//! C-15: scripted servers that keep sessions, that lose them, and that restart. The test checks what a player behind
//! them can decode after a lost connection.
//!
//! `crates/wmhttp/tests/lost_sessions.rs` tests longer times, in virtual time.

use std::collections::BTreeSet;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use asf::Header;
use test_support::media;
use test_support::peer::{Connection, Head, Peer, TEST_TIMEOUT, ours, wms};
use test_support::pipeline::{Pushing, end, push_bytes, pushing_to};
use test_support::server::{accept_on, listen, listen_again};
use wmhttp::packet::Packet;

const STEP: u32 = 40;
/// Number of packets before the connection is lost, which is between two key frames, and in total.
const BEFORE: u32 = 25;
const PACKETS: u32 = 60;
/// Number of packets between key frames: see [`media::packet`].
const KEY_INTERVAL: u32 = 10;

/// What a server does with a session whose connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// It keeps the session, and rejects an unknown id with 412, like this project's server.
    Keeps,
    /// It keeps the session, and responds to a PushSetup with this status meanwhile; for an unknown id it begins a new
    /// session.
    KeepsAndIsTaken(u16),
    /// It loses the session, gives every session the same id, and accepts any id.
    TakesAny,
    /// It loses the session, and begins a new one for an unknown id (S-10).
    BeginsAnother,
    /// It loses the session, and responds to an unknown id with this status. Its Server header is that of this
    /// project's server.
    Answers(u16),
    /// The same with another Server header.
    ImitationAnswers(u16),
    /// It loses the session, and responds with 401, an expired nonce and another id.
    AnswersAnotherId,
}

/// How the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// The connection is lost, and the server continues.
    Cut,
    /// The server's process ends, and another one starts after this time.
    Restart(Duration),
}

/// Decodes what the server has received.
#[derive(Default)]
struct Player {
    header: Option<Header>,
    /// The number of the packet after those that it could decode; `None` while it waits for a key frame.
    next: Option<u32>,
    decoded: Vec<u32>,
    /// Packets without a header, or without the packets on which they depend.
    undecodable: Vec<u32>,
    headers: u32,
}

impl Player {
    fn take(&mut self, packet: &Packet) {
        match packet {
            Packet::Header(bytes) | Packet::StreamChange(bytes) => {
                self.header = Some(Header::parse(bytes.clone()).unwrap());
                self.next = None;
                self.headers += 1;
            }
            Packet::Data(payload) => {
                let known = Header::parse(media::header()).unwrap();
                let number = media::number(&known, payload, STEP);
                let can = self.next == Some(number) || number.is_multiple_of(KEY_INTERVAL);
                if self.header.is_some() && can {
                    self.decoded.push(number);
                    self.next = Some(number + 1);
                } else {
                    self.undecodable.push(number);
                }
            }
            Packet::End(_) | Packet::Filler(_) => {}
        }
    }
}

struct Server {
    habit: Habit,
    digest: bool,
    addr: SocketAddr,
    /// The session's id.
    session: Option<String>,
    /// Number of sessions and processes so far.
    sessions: u32,
    processes: u32,
    player: Player,
    /// Requests after the loss: S for a PushSetup, D for a PushStart.
    requests: String,
}

impl Server {
    fn new(habit: Habit, digest: bool) -> (Self, TcpListener) {
        let listener = listen(16, None);
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let player = Player::default();
        let server =
            Self { habit, digest, addr, session: None, sessions: 0, processes: 1, player, requests: String::new() };
        (server, listener)
    }

    /// A response of this project's server, or of Windows Media Services.
    fn reply(&self, status: u16, push_id: &str, more: &str) -> String {
        let is_ours = matches!(self.habit, Habit::Keeps | Habit::Answers(_) | Habit::AnswersAnotherId);
        let reply = if is_ours { ours(status, push_id) } else { wms(status, push_id) };
        reply.replace("Pragma", &format!("{more}Pragma"))
    }

    /// The same without a cookie.
    fn refusal(&self, status: u16, more: &str) -> String {
        self.reply(status, "NONE", more).replace("Set-Cookie: push-id=NONE\r\n", "")
    }

    fn challenge(&self) -> String {
        let nonce = format!("of-process-{}", self.processes);
        format!("WWW-Authenticate: Digest realm=\"live\", nonce=\"{nonce}\", qop=\"auth\", stale=true\r\n")
    }

    fn is_authenticated(&self, head: &Head) -> bool {
        let nonce = format!("nonce=\"of-process-{}\"", self.processes);
        !self.digest || head.header("Authorization").is_some_and(|answer| answer.contains(&nonce))
    }

    /// Processes the connection's requests up to an accepted PushStart; returns whether there is one.
    fn take_requests(&mut self, connection: &mut Connection) -> bool {
        while let Some(head) = connection.try_request() {
            self.requests.push(if head.is_setup() { 'S' } else { 'D' });
            let knows = self.session.as_deref() == Some(head.push_id().split(';').next().unwrap());
            let close = "Connection: close\r\n";
            let reply = if head.is_setup() {
                if !self.is_authenticated(&head) {
                    self.refusal(401, &self.challenge())
                } else if let (Habit::KeepsAndIsTaken(status), Some(_)) = (self.habit, &self.session) {
                    self.refusal(status, "")
                } else {
                    self.begin_session();
                    self.reply(204, self.session.as_deref().unwrap(), "")
                }
            } else if !knows && matches!(self.habit, Habit::AnswersAnotherId) {
                let challenge = self.challenge();
                self.reply(401, "another", &format!("{close}{challenge}"))
            } else if !self.is_authenticated(&head) {
                self.refusal(401, &format!("{close}{}", self.challenge()))
            } else if knows {
                return true;
            } else {
                match self.habit {
                    Habit::Answers(status) | Habit::ImitationAnswers(status) => self.refusal(status, close),
                    Habit::Keeps => self.refusal(412, close),
                    Habit::KeepsAndIsTaken(_) | Habit::TakesAny | Habit::BeginsAnother | Habit::AnswersAnotherId => {
                        self.begin_session();
                        return true;
                    }
                }
            };
            // The encoder may have closed the connection.
            if connection.try_answer(&reply).is_err() {
                return false;
            }
            if reply.contains(close) {
                // Read what still arrives, because a reset could destroy the response.
                connection.close_writing();
                connection.drain();
                return false;
            }
        }
        false
    }

    /// A new session has no header yet.
    fn begin_session(&mut self) {
        self.sessions += 1;
        let id = if self.habit == Habit::TakesAny { "all".to_owned() } else { format!("session-{}", self.sessions) };
        self.session = Some(id);
        self.player.header = None;
    }

    fn lose_session(&mut self) {
        self.session = None;
        self.player.header = None;
    }

    /// Runs the server to the end of the push, and notifies `lost` when it has received everything before the loss.
    fn run(&mut self, mut listener: TcpListener, loss: Loss, lost: &Sender<()>) {
        let mut connection = accept_on(&listener);
        assert!(self.take_requests(&mut connection));
        let mut taken = 0;
        while taken < BEFORE {
            let packet = connection.packet().expect("the encoder stays");
            taken += u32::from(matches!(packet, Packet::Data(_)));
            self.player.take(&packet);
        }
        self.requests.clear();
        let keeps = matches!(self.habit, Habit::Keeps | Habit::KeepsAndIsTaken(_));
        match loss {
            Loss::Cut => {
                if !keeps {
                    self.lose_session();
                }
                drop(connection);
                lost.send(()).unwrap();
            }
            Loss::Restart(after) => {
                self.lose_session();
                self.processes += 1;
                drop((connection, listener));
                lost.send(()).unwrap();
                thread::sleep(after);
                listener = listen_again(self.addr);
            }
        }
        loop {
            let mut connection = accept_on(&listener);
            if !self.take_requests(&mut connection) {
                continue;
            }
            for packet in connection.until_the_end() {
                self.player.take(&packet);
                if matches!(packet, Packet::End(_)) {
                    let id = self.session.clone().unwrap();
                    let _ = connection.try_answer(&self.reply(204, &id, ""));
                    return;
                }
            }
        }
    }
}

/// Forwards connections until it is dropped, and responds with 502 if the server does not run.
struct Gateway {
    addr: SocketAddr,
    _stop: Sender<()>,
}

impl Gateway {
    fn to(server: SocketAddr) -> Self {
        let listener = listen(16, None);
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (_stop, stopped) = channel::<()>();
        thread::spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let Ok((client, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                client.set_nonblocking(false).unwrap();
                thread::spawn(move || Self::pass(client, server));
            }
        });
        Self { addr, _stop }
    }

    fn pass(client: TcpStream, server: SocketAddr) {
        let Ok(server) = TcpStream::connect(server) else {
            client.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            let mut client = Connection::new(client, None);
            if client.try_request().is_some() {
                let _ = client.try_answer(
                    "HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
                client.close_writing();
                client.drain();
            }
            return;
        };
        let copy = |mut from: TcpStream, mut to: TcpStream| {
            // If one side closes the connection, the other side is closed too.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        };
        let (from_client, to_client) = (client.try_clone().unwrap(), client);
        let (from_server, to_server) = (server.try_clone().unwrap(), server);
        let up = thread::spawn(move || copy(from_client, to_server));
        copy(from_server, to_client);
        let _ = up.join();
    }
}

/// A push with one loss.
#[derive(Clone, Copy, Debug)]
struct Case {
    habit: Habit,
    loss: Loss,
    digest: bool,
    gateway: bool,
    resume: &'static str,
}

impl Case {
    /// Runs it, and returns the server at the end and the destination's statistics.
    fn play(self) -> (Server, gst::Structure) {
        let (mut server, listener) = Server::new(self.habit, self.digest);
        let gateway = self.gateway.then(|| Gateway::to(server.addr));
        let addr = gateway.as_ref().map_or(server.addr, |gateway| gateway.addr);
        let (pushing, source) = Pushing::with_feed_source(&format!(
            "location=http://{addr}/concert sync=false user-id=bob user-pw=hush resume={} retry-delay=20 retry-delay-max=100",
            self.resume
        ));
        let (sender, lost): (_, Receiver<()>) = channel();
        let playing = thread::spawn(move || {
            server.run(listener, self.loss, &sender);
            server
        });
        pushing.play();
        push_bytes(&source, media::stream(BEFORE, STEP));
        lost.recv_timeout(TEST_TIMEOUT).unwrap_or_else(|_| panic!("{self:?}: nothing arrived"));
        pushing.wait_for_status("reconnect-start");
        push_bytes(&source, media::packets(BEFORE..PACKETS, STEP));
        end(&source);
        pushing.wait_for_eos();
        let stats = pushing.destination_stats();
        (playing.join().unwrap_or_else(|_| panic!("{self:?}")), stats)
    }

    /// Runs it, and asserts that a player can decode everything, starting with a key frame and with the right header.
    fn assert_playable(self) -> Server {
        let (server, stats) = self.play();
        let Player { decoded, undecodable, headers, .. } = &server.player;
        println!(
            "{:<24} {:<15} digest={:<5} gateway={:<5} {:<6} requests {:<8} headers {headers} decoded {:>2} of {PACKETS}, twice {:>2}, undecodable {}",
            format!("{:?}", self.habit),
            format!("{:?}", self.loss),
            self.digest,
            self.gateway,
            self.resume,
            server.requests,
            decoded.iter().collect::<BTreeSet<_>>().len(),
            decoded.len() - decoded.iter().collect::<BTreeSet<_>>().len(),
            undecodable.len(),
        );
        assert!(undecodable.is_empty(), "{self:?}: {undecodable:?} cannot be decoded");
        let distinct: BTreeSet<u32> = decoded.iter().copied().collect();
        assert!(distinct.iter().copied().eq(0..PACKETS), "{self:?}: {decoded:?}");
        let keeps = matches!(self.habit, Habit::Keeps | Habit::KeepsAndIsTaken(_)) && self.loss == Loss::Cut;
        if keeps && self.resume != "never" {
            // Players notice nothing.
            assert_eq!((*headers, decoded.len() as u32), (1, PACKETS), "{self:?}: {decoded:?}");
        } else {
            assert_eq!(*headers, 2, "{self:?}");
        }
        let count = |name: &str| stats.get::<u64>(name).unwrap();
        assert_eq!((count("packets-sent"), count("packets-dropped")), (u64::from(PACKETS), 0), "{self:?}");
        server
    }
}

/// Runs all of them simultaneously.
fn assert_all_playable(cases: Vec<Case>) {
    let playing: Vec<_> = cases.into_iter().map(|case| thread::spawn(move || drop(case.assert_playable()))).collect();
    let failed = playing.into_iter().filter_map(|playing| playing.join().err()).count();
    assert_eq!(failed, 0);
}

const STATUSES: [u16; 11] = [400, 401, 403, 404, 408, 409, 410, 412, 422, 500, 503];

fn habits() -> Vec<Habit> {
    let named = [
        Habit::Keeps,
        Habit::KeepsAndIsTaken(404),
        Habit::KeepsAndIsTaken(409),
        Habit::TakesAny,
        Habit::BeginsAnother,
        Habit::AnswersAnotherId,
    ];
    let answers = STATUSES.into_iter().flat_map(|status| [Habit::Answers(status), Habit::ImitationAnswers(status)]);
    named.into_iter().chain(answers).collect()
}

fn all(loss: Loss, gateway: bool) -> Vec<Case> {
    let cases = |habit| [false, true].map(|digest| Case { habit, loss, digest, gateway, resume: "auto" });
    habits().into_iter().flat_map(cases).collect()
}

/// C-15, S-14: the connection is lost: a server that keeps the session continues it, and at any other a new one begins.
#[test]
fn c15_s14_a_connection_is_cut() {
    assert_all_playable(all(Loss::Cut, false));
}

/// C-15, S-10: the server's process ends and another one starts: whatever it responds, a new session begins.
#[test]
fn c15_s10_a_server_is_restarted() {
    assert_all_playable(all(Loss::Restart(Duration::from_secs(3)), false));
}

/// C-15: the same behind a gateway, which accepts connections even if the server does not run.
#[test]
fn c15_a_gateway_in_between() {
    assert_all_playable(all(Loss::Cut, true));
    assert_all_playable(all(Loss::Restart(Duration::from_secs(3)), true));
}

/// C-15: a rejected resume ends within the same attempt, with one PushStart and one PushSetup.
#[test]
fn c15_a_refused_resume_takes_one_attempt() {
    for status in STATUSES {
        let case =
            Case { habit: Habit::Answers(status), loss: Loss::Cut, digest: false, gateway: false, resume: "auto" };
        assert_eq!(case.assert_playable().requests, "DSD", "{status}");
    }
    // The second PushSetup uses the new nonce.
    let case = Case { habit: Habit::AnswersAnotherId, loss: Loss::Cut, digest: true, gateway: false, resume: "auto" };
    let requests = case.assert_playable().requests;
    assert!(matches!(requests.as_str(), "DSD" | "DSSD"), "{requests}");
}

/// `resume=always` resumes at any server, which works only if the server keeps sessions; `resume=never` never resumes.
#[test]
fn c15_resume_can_be_forced() {
    let case = |habit, resume| Case { habit, loss: Loss::Cut, digest: false, gateway: false, resume };
    assert_eq!(case(Habit::KeepsAndIsTaken(409), "always").assert_playable().requests, "D");
    assert_eq!(case(Habit::Keeps, "never").assert_playable().requests, "SD");
    assert_eq!(case(Habit::ImitationAnswers(404), "always").assert_playable().requests, "DSD");
    // The default prevents this for users of such servers.
    let (server, _) = case(Habit::TakesAny, "always").play();
    assert_eq!(server.player.undecodable, (BEFORE..PACKETS).collect::<Vec<_>>());
}

/// C-15: bytes that are not HTTP in the middle of a body are not a response of the session's server: a new session
/// begins, with the header, and all packets arrive.
#[test]
fn c15_bytes_that_are_not_http_begin_a_new_session() {
    let peer = Peer::new();
    let (pushing, source) = pushing_to(std::slice::from_ref(&peer), "retry-delay=10");
    push_bytes(&source, media::stream(BEFORE, STEP));
    let mut first = peer.accept();
    first.set_up(&ours(204, "one"));
    let mut player = Player::default();
    for _ in 0..=BEFORE {
        player.take(&first.packet().unwrap());
    }
    first.answer("\0\u{1}\u{2}garbage\r\n\r\n");
    let mut second = peer.accept();
    let head = second.request();
    assert!(head.is_setup() && head.push_id() == "0", "{}", head.text);
    second.answer(&ours(204, "two"));
    assert_eq!(second.request().push_id(), "two");
    push_bytes(&source, media::packets(BEFORE..PACKETS, STEP));
    end(&source);
    second.until_the_end().iter().for_each(|packet| player.take(packet));
    second.answer(&ours(204, "two"));
    pushing.wait_for_eos();
    assert_eq!((player.headers, player.undecodable.len()), (2, 0));
    let distinct: BTreeSet<u32> = player.decoded.iter().copied().collect();
    assert!(distinct.iter().copied().eq(0..PACKETS), "{:?}", player.decoded);
}
