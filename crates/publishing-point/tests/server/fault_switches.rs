//! Fault injection: each kind acts as documented, against a minimal encoder and against the element.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use asf::{Header, Parser, Settings};
use asf_publishing_point::{BlockingServer, Config, PointConfig, Server, Tls, kinds};
use bytes::Bytes;
use tempfile::TempDir;
use test_support::authority::Authority;
use test_support::decoded::recordings;
use test_support::media;
use test_support::pipeline::{Pushing, end, push_bytes, until};
use test_support::server_process::PointProgram;
use test_support::wire::{CONCERT, END, Push, Wire, push_id};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

const DOCUMENT: &str = include_str!("../../../../docs/fault-injection.md");

// ---- a minimal encoder ----

fn config(faults: &str, record: Option<&Path>) -> Config {
    let faults = faults.parse().unwrap();
    Config::with_points(
        ["concert"],
        &PointConfig { faults, record: record.map(Path::to_owned), ..PointConfig::default() },
    )
}

fn server(faults: &str) -> BlockingServer {
    Server::spawn(config(faults, None)).unwrap()
}

/// Returns the packets that the point has received.
fn taken(server: &BlockingServer) -> u64 {
    server.stats("concert").unwrap().packets
}

/// Returns what the encoder receives at a fault's moment, and the packets that the point has received by then.
fn heard_at(fault: &str, moment: &str) -> (Option<String>, u64) {
    let server = server(&format!("{fault}@{moment}"));
    let mut stream;
    if moment == "setup" {
        stream = Wire::to(server.addr());
        stream.send(CONCERT.setup(0));
    } else {
        let (connected, id) = Wire::set_up(server.addr(), CONCERT);
        stream = connected;
        stream.start(CONCERT.id(&id), media::numbered(5).chain((moment == "end").then_some(END)));
    }
    let heard = stream.rest_or_reset();
    // Data of an incomplete body may still be on its way to the point.
    until("the push is over", || !server.stats("concert").unwrap().pushing);
    (heard, taken(&server))
}

/// The moments at which a response can fail, and the packets that the point receives before each; `5013` bytes are the
/// header and some packets.
fn moments() -> [(&'static str, u64); 6] {
    let header = Packet::Header(media::header()).wire_len() as u64;
    let packet = Packet::Data(media::packet(0, 40)).wire_len() as u64;
    [("setup", 0), ("start", 0), ("3", 3), ("2999B", (2999 - header) / packet), ("300ms", 5), ("end", 5)]
}

// ---- each kind ----

#[test]
fn reset_at_each_moment() {
    for (moment, packets) in moments() {
        assert_eq!(heard_at("reset", moment), (None, packets), "{moment}");
    }
    let server = server("drop-after:2");
    let (mut stream, id) = Wire::set_up(server.addr(), CONCERT);
    stream.start(CONCERT.id(&id), media::numbered(5));
    assert_eq!(stream.rest_or_reset(), None);
    until("the packets", || taken(&server) == 2);
}

#[test]
fn close_at_each_moment() {
    for (moment, packets) in moments() {
        assert_eq!(heard_at("close", moment), (Some(String::new()), packets), "{moment}");
    }
}

#[test]
fn garbage_at_each_moment() {
    for (moment, packets) in moments() {
        let (heard, taken) = heard_at("garbage", moment);
        assert!(
            heard.as_ref().is_some_and(|heard| heard.starts_with("\0\u{1}\u{2}garbage\r\n")),
            "{moment}: {heard:?}"
        );
        assert_eq!(taken, packets, "{moment}");
    }
}

#[test]
fn a_status_at_each_moment() {
    for (moment, packets) in moments() {
        let (heard, taken) = heard_at("503:retry-after=5s", moment);
        let heard = heard.unwrap();
        assert!(heard.starts_with("HTTP/1.1 503 ") && heard.contains("\r\nRetry-After: 5\r\n"), "{moment}: {heard}");
        assert_eq!(taken, packets, "{moment}");
    }
    for status in ["401", "404", "408", "422", "500", "599"] {
        for moment in ["3", "end"] {
            let heard = heard_at(status, moment).0.unwrap();
            assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
            assert_eq!(heard.contains("Www-Authenticate: Basic"), status == "401", "{heard}");
        }
    }
}

#[test]
fn no_answer_at_setup_and_at_the_end() {
    for moment in ["setup", "end"] {
        let server = server(&format!("no-answer@{moment}"));
        let mut stream = Wire::to(server.addr());
        if moment == "setup" {
            stream.send(CONCERT.setup(0));
        } else {
            let (connected, id) = Wire::set_up(server.addr(), CONCERT);
            stream = connected;
            stream.start(CONCERT.id(&id), media::numbered(1));
            stream.packet(END);
        }
        stream.0.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let error = stream.0.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{moment}: the connection stays open");
    }
}

#[test]
fn late_answers() {
    let server = server("late:1s");
    let begun = Instant::now();
    let (mut stream, id) = Wire::set_up(server.addr(), CONCERT);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let begun = Instant::now();
    stream.start(CONCERT.id(&id), media::numbered(1));
    stream.packet(END);
    assert!(stream.rest_or_reset().unwrap().starts_with("HTTP/1.1 204"));
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

/// H-5, H-6, H-8: headers that servers in the field leave out.
#[test]
fn omitted_headers() {
    for (fault, header) in [
        ("no-server-header", "Server"),
        ("no-pragma", "Pragma"),
        ("no-supported", "Supported"),
        ("no-cookie", "Set-Cookie"),
    ] {
        for (moment, at_setup, at_end) in [("", true, true), ("@setup", true, false), ("@end", false, true)] {
            let server = server(&format!("{fault}{moment}"));
            let mut stream = Wire::to(server.addr());
            stream.send(CONCERT.setup(0));
            let first = stream.head();
            let has = |head: &str| head.contains(&format!("\r\n{header}: "));
            assert_eq!(has(&first), !at_setup, "{fault}{moment}: {first}");
            // An encoder that received no id pushes with 0.
            let id = if has(&first) || header != "Set-Cookie" { push_id(&first).to_owned() } else { "0".to_owned() };
            // The body is complete, so that its response has all headers.
            let data = media::body(3);
            let body = &data[..data.len() - 8];
            stream.send(CONCERT.id(&id).start(body.len() as u64));
            stream.send(body);
            let last = stream.head();
            assert!(last.starts_with("HTTP/1.1 204"), "{last}");
            assert_eq!(has(&last), !at_end, "{fault}{moment}: {last}");
            assert_eq!(taken(&server), 3);
        }
    }
}

#[test]
fn a_constant_cookie() {
    let server = server("cookie:0");
    let (mut stream, id) = Wire::set_up(server.addr(), CONCERT);
    assert_eq!(id, "0");
    stream.start(CONCERT.id("0"), media::numbered(3));
    stream.packet(END);
    assert!(stream.rest_or_reset().unwrap().starts_with("HTTP/1.1 204"));
    assert_eq!(taken(&server), 3);
}

#[test]
fn http_1_0() {
    let server = server("http-1.0");
    let mut stream = Wire::to(server.addr());
    stream.send(CONCERT.setup(0));
    let heard = stream.rest_or_reset().unwrap();
    assert!(heard.starts_with("HTTP/1.0 204 "), "{heard}");
    let mut stream = Wire::to(server.addr());
    stream.start(CONCERT.id(push_id(&heard)), media::numbered(3));
    stream.packet(END);
    assert!(stream.rest_or_reset().unwrap().starts_with("HTTP/1.0 204 "));
    assert_eq!(taken(&server), 3);
}

#[test]
fn a_response_in_two_pieces() {
    let server = server("split-answer@setup");
    // A slow reader receives both pieces at once.
    let first = (0..20).find_map(|_| {
        let mut stream = Wire::to(server.addr());
        stream.send(CONCERT.setup(0));
        let mut piece = [0; 1000];
        let read = stream.0.read(&mut piece).unwrap();
        let piece = String::from_utf8(piece[..read].to_vec()).unwrap();
        let rest = if read < 100 { stream.head() } else { String::new() };
        let whole = format!("{piece}{rest}");
        assert!(whole.starts_with("HTTP/1.1 ") && whole.ends_with("\r\n\r\n"), "{whole}");
        (read < 100).then_some(piece)
    });
    assert_eq!(first.as_deref(), Some("HTTP/1."));
}

#[test]
fn an_unsolicited_continue() {
    let server = server("extra-100-continue");
    let mut stream = Wire::to(server.addr());
    stream.send(CONCERT.setup(0));
    assert_eq!(stream.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    let id = push_id(&stream.head()).to_owned();
    stream.start(CONCERT.id(&id), media::numbered(3));
    stream.packet(END);
    let heard = stream.rest_or_reset().unwrap();
    assert!(heard.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 "), "{heard}");
}

#[test]
fn the_connection_closes_after_setup() {
    let closing = server("close-after-setup:300ms");
    let (mut stream, id) = Wire::set_up(closing.addr(), CONCERT);
    assert_eq!(stream.rest_or_reset().as_deref(), Some(""));
    let mut stream = Wire::to(closing.addr());
    stream.start(CONCERT.id(&id), media::numbered(3));
    until("the packets", || taken(&closing) == 3);
    // An encoder that continues in time is not affected.
    let patient = server("close-after-setup:2s");
    let (mut stream, id) = Wire::set_up(patient.addr(), CONCERT);
    stream.start(CONCERT.id(&id), media::numbered(3));
    thread::sleep(Duration::from_secs(3));
    stream.packet(END);
    assert!(stream.rest_or_reset().unwrap().starts_with("HTTP/1.1 204"));
}

#[test]
fn the_connection_closes_on_directives() {
    let server = server("no-directives");
    let mut stream = Wire::to(server.addr());
    stream.send(CONCERT.setup(16));
    let _ = stream.try_send(b"AutoDestroy: 1\r\n");
    assert_eq!(stream.rest_or_reset().unwrap_or_default(), "");
    Wire::set_up(server.addr(), CONCERT);
}

/// Sends a packet after the first three; returns whether the connection closes before the packet reaches the point.
fn closes_on(fault: &str, packet: Packet) -> bool {
    let server = server(fault);
    let (mut stream, id) = Wire::set_up(server.addr(), CONCERT);
    stream.start(CONCERT.id(&id), media::numbered(3).chain([packet, END]));
    let heard = stream.rest_or_reset().unwrap();
    until("the packets", || taken(&server) >= 3);
    assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 204"), "{heard}");
    heard.is_empty()
}

#[test]
fn the_connection_closes_on_certain_packets() {
    let data = |len| Packet::Data(Bytes::from(vec![0; len]));
    assert!(closes_on("small-packets:1000", data(1001)));
    assert!(!closes_on("small-packets:1000", data(1000)));
    assert!(closes_on("small-packets", data(8193)));
    assert!(closes_on("no-filler", Packet::Filler(5)));
    assert!(!closes_on("no-filler", data(500)));
    assert!(closes_on("no-stream-change", Packet::End(Hresult::FALSE)));
    assert!(!closes_on("no-stream-change", Packet::Filler(5)));
}

#[test]
fn a_stall_delays_the_encoder() {
    let server = server("stall:6s@100");
    // More than the kernel buffers on both sides, so that the write blocks.
    let more: Vec<u8> = (100..20_000).flat_map(|n| Packet::Data(media::packet(n, 1)).to_bytes().unwrap()).collect();
    let (mut stream, id) = Wire::set_up(server.addr(), CONCERT);
    stream.start(CONCERT.id(&id), media::numbered(100));
    until("the packets before", || taken(&server) == 100);
    let begun = Instant::now();
    let writer = thread::spawn(move || {
        stream.send(&more);
        (stream, begun.elapsed())
    });
    let held = Duration::from_secs(3);
    while begun.elapsed() < held {
        assert_eq!(taken(&server), 100);
        thread::sleep(Duration::from_millis(100));
    }
    let (mut stream, took) = writer.join().unwrap();
    assert!(took > held, "{took:?}");
    stream.packet(END);
    assert!(stream.rest_or_reset().unwrap().starts_with("HTTP/1.1 204"));
    assert_eq!(taken(&server), 20_000);
}

/// A fault that delays encoders reduces the kernel's receive buffer for its own point only, as `ss` shows.
#[cfg(feature = "interop")]
#[test]
fn a_slow_point_does_not_affect_other_points() {
    let mut config = config("slow:50kB", None);
    config.points.insert("good".to_owned(), PointConfig::default());
    let server = Server::spawn(config).unwrap();
    // Returns the size of the kernel's receive buffer for the server's side of this connection.
    let recv_buffer = |stream: &Wire| -> usize {
        let ports = (server.addr().port(), stream.0.local_addr().unwrap().port());
        let filter = format!("( sport = :{} and dport = :{} )", ports.0, ports.1);
        let output = Command::new("ss").args(["-tmnH", &filter]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let size = text.split(",rb").nth(1).and_then(|rest| rest.split(',').next());
        size.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    };
    let pushing = |point| {
        let (mut stream, id) = Wire::set_up(server.addr(), Push::to(point));
        stream.start(Push::to(point).id(&id), media::numbered(5));
        stream
    };
    let (slow, good) = (pushing("concert"), pushing("good"));
    until("the small buffer", || recv_buffer(&slow) <= 64 * 1024);
    assert!(recv_buffer(&good) > 100_000, "{}", recv_buffer(&good));
}

#[test]
fn a_slow_reader_limits_the_byte_rate() {
    let server = server("slow:50kB");
    let (mut stream, id) = Wire::set_up(server.addr(), CONCERT);
    let begun = Instant::now();
    stream.start(CONCERT.id(&id), media::numbered(150));
    stream.packet(END);
    assert!(stream.rest_or_reset().unwrap().starts_with("HTTP/1.1 204"));
    // There is no wait after the last piece.
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_eq!(taken(&server), 150);
}

/// Returns which of ten PushSetups a fault affects.
fn faulted_setups(fault: &str) -> Vec<usize> {
    let server = server(fault);
    let answered = |_: &usize| {
        let mut stream = Wire::to(server.addr());
        stream.send(CONCERT.setup(0));
        stream.head().contains(" 503 ")
    };
    (1..=10).filter(answered).collect()
}

#[test]
fn turns_select_the_requests() {
    assert_eq!(faulted_setups("503/once"), [1]);
    assert_eq!(faulted_setups("503/every:3"), [3, 6, 9]);
    let chance = faulted_setups("503/chance:50%:7");
    assert!((1..10).contains(&chance.len()), "{chance:?}");
    assert_eq!(faulted_setups("503/chance:50%:7"), chance);
    // Each of the two faults has its own turns, and the first one that is due sets the response.
    assert_eq!(faulted_setups("503/every:4,503/once"), [1, 4, 8]);
}

/// Faults of one point do not affect a point without faults, nor the players of the faulty point.
#[test]
fn other_points_and_players_are_not_affected() {
    let mut config = config("reset@setup", None);
    config.points.insert("good".to_owned(), PointConfig::default());
    let server = Server::spawn(config).unwrap();
    let mut stream = Wire::to(server.addr());
    stream.send(Push::to("good").setup(0));
    assert!(stream.head().contains(" 204 "));
    let mut player = Wire::to(server.addr());
    player.send("GET /concert HTTP/1.0\r\nUser-Agent: NSPlayer/9.0\r\n\r\n");
    assert!(player.rest_or_reset().unwrap().starts_with("HTTP/1.0 503"));
}

// ---- the program ----

/// Flags and configuration file have the same effect, and a fault is logged when it acts.
#[test]
fn a_fault_is_logged_when_it_acts() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("point.toml");
    std::fs::write(&file, "[point.concert]\nfaults = ['503@setup/once', 'reset@2']\n").unwrap();
    for arguments in [["--fault", "concert=503@setup/once,reset@2"], ["--config", file.to_str().unwrap()]] {
        let point = PointProgram::start(&arguments);
        let address = point.address;
        let lines_with = |words: &str| {
            let log = point.log();
            log.lines().filter(|line| line.contains("WARN") && line.contains(words)).count()
        };
        let mut stream = Wire::to(address);
        stream.send(CONCERT.setup(0));
        assert!(stream.head().contains(" 503 "));
        until("the first", || lines_with("fault injected") == 1 && lines_with("fault=503") == 1);
        let (mut stream, id) = Wire::set_up(address, CONCERT);
        stream.start(CONCERT.id(&id), media::numbered(3));
        assert_eq!(stream.rest_or_reset(), None);
        until("the second", || lines_with("fault injected") == 2 && lines_with("fault=reset@2") == 1);
        assert_eq!(lines_with("concert"), 2);
    }
}

#[test]
fn an_invalid_fault_is_rejected() {
    for (fault, words) in
        [("concert=stall", "`stall:10s`"), ("concert=reset@never", "`64kB`"), ("503", "expected POINT=VALUE")]
    {
        let output =
            Command::new(env!("CARGO_BIN_EXE_asf-publishing-point")).args(["--fault", fault]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(words), "{text}");
    }
}

// ---- the element ----

const PACKETS: u32 = 200;
const STEP: u32 = 10;

/// Returns the numbers of the packets in recordings.
fn recorded(directory: &Path) -> Vec<u32> {
    let mut numbers = Vec::new();
    for file in recordings(directory) {
        let mut parser = Parser::new(Settings::default());
        parser.push(std::fs::read(file).unwrap().into());
        while let Some(unit) = parser.next_packet().unwrap() {
            let header: &Header = &unit.header;
            numbers.push(media::number(header, &unit.packet.slices().concat().into(), STEP));
        }
    }
    numbers
}

/// The result of pushing a live stream to a point with a fault.
struct Outcome {
    /// Numbers of the packets that the point recorded.
    recorded: Vec<u32>,
    /// Packets that the element reports as dropped, and as uncertain.
    dropped: u64,
    uncertain: u64,
}

/// Pushes a live stream to a point with a fault, over TLS if `tls` is set. If a break in the body is expected, the last
/// quarter is sent after the element has noticed it, because a break after the last packet looks like the end of the
/// push.
fn pushed_past(faults: &str, properties: &str, breaks: usize, tls: Option<Tls>) -> Outcome {
    let directory = TempDir::new().unwrap();
    let server = Server::spawn(Config { tls, ..config(faults, Some(directory.path())) }).unwrap();
    let (scheme, address) = server.tls_addr().map_or(("http", server.addr()), |address| ("https", address));
    let (pushing, source) = Pushing::with_feed_source(&format!(
        "sync=false location={scheme}://{address}/concert retry-delay=100 retry-delay-max=200 timeout=3000 {properties}"
    ));
    pushing.play();
    push_bytes(&source, media::stream(1, STEP));
    let has_lost = || pushing.count(0, "packets-uncertain") > 0;
    until(faults, || has_lost() || server.stats("concert").unwrap().packets > 0);
    for n in 1..PACKETS {
        thread::sleep(Duration::from_millis(STEP.into()));
        if n == PACKETS * 3 / 4 && breaks > 0 && faults.ends_with("/once") {
            // If all earlier packets are uncertain, the element reconnects when more packets arrive.
            until(faults, || has_lost() || pushing.count(0, "reconnects") > 0);
        }
        push_bytes(&source, media::packet(n, STEP));
    }
    end(&source);
    pushing.wait_for_eos();
    let stats = pushing.destination_stats();
    let count = |field: &str| stats.get::<u64>(field).unwrap();
    assert_eq!(
        count("packets-sent") + count("packets-dropped") + count("packets-queued"),
        u64::from(PACKETS),
        "{stats}"
    );
    let (dropped, uncertain) = (count("packets-dropped"), count("packets-uncertain"));
    pushing.stop();
    server.stop();
    Outcome { recorded: recorded(directory.path()), dropped, uncertain }
}

impl Outcome {
    /// Without a break in the body no packet is missing. With breaks, only packets that the server's kernel had
    /// acknowledged and the server did not read are missing: one run of packets per break. A body that is reset at its
    /// beginning is sent again as a whole.
    fn assert_good(self, faults: &str, breaks: usize) {
        let Self { recorded: mut numbers, dropped, uncertain } = self;
        assert_eq!(dropped, 0, "{faults}");
        if breaks > 0 {
            numbers.sort_unstable();
            numbers.dedup();
        }
        assert!(numbers.is_sorted_by(|one, next| one < next), "{faults}: packets are in order and unique: {numbers:?}");
        assert!(holes(&numbers) <= breaks, "{faults}: {numbers:?}");
        let missing = u64::from(PACKETS) - numbers.len() as u64;
        assert!(missing <= uncertain, "{faults}: {missing} packets are missing, but only {uncertain} uncertain");
        assert!(breaks > 0 || uncertain == 0, "{faults}: {uncertain} packets are uncertain without a break");
    }
}

/// Returns the number of gaps in the numbers.
fn holes(numbers: &[u32]) -> usize {
    let expected = [0].into_iter().chain(numbers.iter().map(|number| number + 1));
    let is = numbers.iter().copied().chain([PACKETS]);
    expected.zip(is).filter(|(expected, is)| expected != is).count()
}

/// The element recovers from these faults.
#[test]
fn the_element_recovers() {
    let cases = [
        ("503:retry-after=1s/once", "", 0),
        ("reset@setup/once", "", 0),
        ("garbage@setup/once", "", 0),
        ("stall:1s@20", "", 0),
        ("slow:90k", "", 0),
        ("late:500ms", "", 0),
        ("no-cookie", "", 0),
        ("cookie:0", "", 0),
        ("no-pragma,no-supported", "", 0),
        ("no-server-header", "strict-server=false", 0),
        ("http-1.0", "", 0),
        ("split-answer", "", 0),
        ("extra-100-continue", "", 0),
        // The first packet may have been sent when the connection is closed.
        ("close-after-setup", "", 1),
        ("no-filler,no-stream-change,no-directives,small-packets", "", 0),
        ("422@end", "", 0),
        ("no-answer@end", "eos-timeout=600000", 0),
        ("close@end", "", 0),
        ("401@start/once", "user-id=bob user-pw=secret auth-methods=basic", 0),
        ("reset@20/once", "", 1),
        ("close@20/once", "", 1),
        ("drop-after:50/once", "", 1),
        ("garbage@50/once", "", 1),
        ("408@300ms/once", "", 1),
        ("503:retry-after=1s@20kB/once", "", 1),
        ("reset@60/every:2,503/every:3", "", 3),
    ];
    thread::scope(|scope| {
        let runs: Vec<_> = cases
            .iter()
            .map(|(faults, properties, breaks)| {
                (faults, breaks, scope.spawn(move || pushed_past(faults, properties, *breaks, None)))
            })
            .collect();
        for (faults, breaks, run) in runs {
            run.join().unwrap_or_else(|_| panic!("{faults}")).assert_good(faults, *breaks);
        }
    });
}

/// Faults apply to pushes over https too.
#[test]
fn the_element_recovers_over_tls() {
    let authority = Authority::new();
    let [certificate, key] = authority.signed_files("127.0.0.1", "server");
    let tls = Tls::read(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &certificate, &key).unwrap();
    let cases = [
        ("503:retry-after=1s/once", 0),
        ("garbage@setup/once", 0),
        ("reset@setup/once", 0),
        ("split-answer,late:300ms,http-1.0", 0),
        ("close-after-setup,slow:90k", 1),
        ("no-answer@setup/once", 0),
        ("reset@20/once", 1),
        ("close@300ms/once", 1),
        ("408@20kB/once", 1),
    ];
    thread::scope(|scope| {
        for (faults, breaks) in cases {
            let (tls, trusted) = (tls.clone(), authority.trusted());
            scope.spawn(move || pushed_past(faults, &trusted, breaks, Some(tls)).assert_good(faults, breaks));
        }
    });
}

/// H-5: the element refuses a server without a Server header.
#[test]
fn the_element_refuses_a_web_server() {
    let server = server("no-server-header");
    let (pushing, source) =
        Pushing::with_feed_source(&format!("sync=false retries=0 location=http://{}/concert", server.addr()));
    pushing.play();
    push_bytes(&source, media::stream(1, STEP));
    let (error, _) = pushing.wait_for_error();
    assert!(error.to_string().contains("Server"), "{error}");
}

// ---- the documentation ----

/// The table in the page equals the one in the code.
#[test]
fn the_table_of_faults_is_current() {
    let (_, after) = DOCUMENT.split_once("<!-- faults: begin -->\n").unwrap();
    let (table, _) = after.split_once("<!-- faults: end -->").unwrap();
    let rows = kinds().iter().map(|row| format!("| `{}` | {} | {} |\n", row.form, row.moments, row.meaning));
    let expected: String = ["| kind | moments | what happens |\n".to_owned(), "|---|---|---|\n".to_owned()]
        .into_iter()
        .chain(rows)
        .collect();
    assert_eq!(table, expected, "docs/fault-injection.md (left) differs from the table in the code (right)");
}
