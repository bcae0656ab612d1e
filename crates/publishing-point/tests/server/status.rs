//! The status API and the metrics: their contents, access to them, and the actions of the API.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use asf_publishing_point::config::{Config, PointConfig, Principals};
use asf_publishing_point::{BlockingServer, RelayConfig, Server, SourceConfig, StatusAccess};
use serde_json::Value;
use test_support::encoder::{Encoder, Player, STEP, header};
use test_support::media;
use test_support::peer::{Peer, ours};
use test_support::pipeline::until;
use test_support::web::{ask, get};
use test_support::wire::{CONCERT, Push, Wire};
use wmhttp::packet::Packet;
use wmhttp::server::access::AccessPolicy;

#[cfg(feature = "interop")]
mod interop;

const AGENT: &str = "WMEncoder/12.0.0.0 test/1";

fn server_with(change: impl FnOnce(&mut Config)) -> BlockingServer {
    let mut config = Config::with_points(["concert", "live/grün x", "template"], &PointConfig::default());
    change(&mut config);
    Server::spawn(config).unwrap()
}

/// Returns the JSON at a path, with the status of the response.
fn json(server: &BlockingServer, path: &str) -> (u16, Value) {
    let answer = get(&format!("http://{}{path}", server.addr()), &[]);
    (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
}

fn concert(server: &BlockingServer) -> Value {
    let (status, point) = json(server, "/api/v1/points/concert");
    assert_eq!(status, 200);
    point
}

/// Returns the value of a sample, named with its labels.
fn metric(server: &BlockingServer, sample: &str) -> Option<f64> {
    let metrics = get(&format!("http://{}/metrics", server.addr()), &[]).body;
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

/// The user Bob with the password `secret`.
fn bob() -> AccessPolicy {
    AccessPolicy::new("bob:push:0786f66609ee7d38256a25b55563aa64\n".parse().unwrap())
}

/// Header lines with Bob's credentials, right and wrong.
const BOB: &str = "Authorization: Basic Ym9iOnNlY3JldA==";
const NOT_BOB: &str = "Authorization: Basic Ym9iOmh1c2gtaHVzaA==";

fn push(server: &BlockingServer, header: bytes::Bytes) -> Encoder {
    let encoder = Encoder::start(server.addr(), "concert", AGENT, header);
    until("the push", || concert(server)["stream"].is_object());
    encoder
}

/// S-14: the encoder, its stream and the loss of its connection, as seen in the status.
#[test]
fn s14_the_status_of_a_push() {
    let folder = tempfile::tempdir().unwrap();
    let server = server_with(|config| {
        config.points.get_mut("concert").unwrap().record = Some(folder.path().to_owned());
    });
    let idle = concert(&server);
    assert_eq!((&idle["state"], &idle["pusher"], &idle["stream"]), (&"idle".into(), &Value::Null, &Value::Null));

    let encoder = push(&server, header("Käse ☂", "Käthe"));
    let player = Player::start(server.addr(), "concert", "NSPlayer/9.0 x", false);
    until("some seconds are known", || {
        let point = concert(&server);
        let seconds = |way: &str| point["history"][way].as_array().unwrap().iter().filter(|rate| **rate != 0).count();
        seconds("in") >= 3 && seconds("out") >= 2
    });
    let (status, all) = json(&server, "/api/v1/status");
    assert_eq!(status, 200);
    assert_eq!(
        (&all["product"], &all["sessions"], &all["players"]),
        (&"asf-publishing-point".into(), &1.into(), &1.into())
    );
    let names: Vec<_> = all["points"].as_array().unwrap().iter().map(|point| point["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["concert", "live/grün x", "template"]);
    assert_eq!(all["points"][1]["path"], "/live/gr%C3%BCn%20x");
    assert_eq!(json(&server, "/api/v1/points/live/gr%C3%BCn%20x").1["name"], "live/grün x");

    let point = &all["points"][0];
    assert_eq!(point["state"], "pushed");
    let stream = &point["stream"];
    assert_eq!((&stream["title"], &stream["author"]), (&"Käse ☂".into(), &"Käthe".into()));
    assert_eq!(stream["packet_size"], 1000);
    let (sound, picture) = (&stream["streams"][0], &stream["streams"][1]);
    assert_eq!((&sound["kind"], &sound["codec"]), (&"audio".into(), &"Windows Media Audio 2".into()));
    assert_eq!(
        (&sound["bit_rate"], &sound["sample_rate"], &sound["channels"]),
        (&64_000.into(), &44_100.into(), &2.into())
    );
    assert_eq!(
        (&picture["width"], &picture["height"], &picture["bit_rate"]),
        (&320.into(), &240.into(), &136_000.into())
    );

    let stats = server.stats("concert").unwrap();
    let pusher = &point["pusher"];
    assert_eq!(pusher["user_agent"], AGENT);
    assert!(pusher["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    let packets = pusher["packets"].as_u64().unwrap();
    assert!(packets > 50 && packets <= stats.packets, "{packets} of {}", stats.packets);
    let (since, now) = (pusher["since_ms"].as_u64().unwrap(), all["now_ms"].as_u64().unwrap());
    assert!(since >= all["started_ms"].as_u64().unwrap() && since <= now);
    // Packets of 1000 bytes, without their padding, up to 25 per second.
    let rate = point["bit_rate_in"].as_u64().unwrap();
    assert!((1000..=8 * 1000 * 30).contains(&rate), "{rate} bit/s");
    let listed = point["players"]["listed"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["user_agent"]), (1, &"NSPlayer/9.0 x".into()));
    assert!(listed[0]["bytes"].as_u64().unwrap() > 10_000);
    assert_eq!(listed[0]["packets_lost"], 0);

    assert_eq!(pusher["user"], Value::Null, "no authentication was required");
    assert_eq!((&pusher["waiting_since_ms"], &pusher["session_ends_ms"]), (&Value::Null, &Value::Null));
    let last = point["last_packet_ms"].as_u64().unwrap();
    assert!(last > since && last <= now, "{since} {last} {now}");
    assert_eq!(all["points"][1]["last_packet_ms"], Value::Null);
    assert_eq!(point["problems"], Value::Array(Vec::new()));

    let recordings = &point["recordings"]["listed"];
    let name = recordings[0]["name"].as_str().unwrap();
    assert!(name.starts_with("concert-") && !name.contains('/'), "a file name without a path: {name}");
    until("the recording's size is that of the file", || {
        let size = concert(&server)["recordings"]["listed"][0]["bytes"].as_u64();
        size.is_some_and(|size| size > 1000 && size <= folder.path().join(name).metadata().unwrap().len())
    });

    encoder.break_off();
    until("the loss is seen", || concert(&server)["state"] == "waiting");
    let point = concert(&server);
    assert_eq!((&point["totals"]["breaks"], &point["pusher"]["breaks"]), (&1.into(), &1.into()));
    assert!(point["errors"][0]["text"].as_str().unwrap().contains("connection was lost"), "{}", point["errors"]);
    let [gone, end] = ["waiting_since_ms", "session_ends_ms"].map(|field| point["pusher"][field].as_u64().unwrap());
    assert!(gone >= now, "since the loss: {gone} {now}");
    // The Idle-Timeout of the configuration.
    let timeout = Config::default().policy.idle_timeout;
    let wait = Duration::from_millis(end - gone);
    assert!(wait <= timeout && wait > timeout / 2, "{wait:?} of {timeout:?}");
    until("the metrics have the wait", || metric(&server, "asf_point_waiting_seconds{point=\"concert\"}") > Some(0.0));
    drop(player);
    until("the player has gone", || concert(&server)["players"]["count"] == 0);
    assert_eq!(concert(&server)["totals"]["players"], 1);
}

/// Packets that a player misses because it does not read are counted while it is connected and afterwards.
#[test]
fn losses_are_counted() {
    let server = server_with(|config| config.points.get_mut("concert").unwrap().limits.packets = 50);
    let encoder = Encoder::without_pauses(server.addr(), "concert", AGENT, header("", ""));
    until("the push", || concert(&server)["stream"].is_object());
    let _reads = Player::start(server.addr(), "concert", "reads", false);
    let stuck = Player::start(server.addr(), "concert", "stuck", true);
    let lost = |agent: &str| {
        let point = concert(&server);
        let players = point["players"]["listed"].as_array().unwrap();
        let lost = players.iter().find(|player| player["user_agent"] == agent).map(|player| &player["packets_lost"]);
        lost.and_then(Value::as_u64)
    };
    // The kernel's buffers are full by then.
    until("the player is overrun", || lost("stuck").is_some_and(|lost| lost > 0));
    let by_stuck = lost("stuck").unwrap();
    drop(stuck);
    until("the player is removed", || lost("stuck").is_none());
    drop(encoder);
    assert!(concert(&server)["totals"]["packets_lost"].as_u64().unwrap() >= by_stuck);
}

#[test]
fn the_list_of_players_is_bounded() {
    let server = server_with(|_| {});
    let _encoder = push(&server, header("", ""));
    let _players: Vec<_> = (0..105).map(|_| Player::start(server.addr(), "concert", "NSPlayer/9.0", false)).collect();
    until("all are there", || concert(&server)["players"]["count"] == 105);
    assert_eq!(concert(&server)["players"]["listed"].as_array().unwrap().len(), 100);
}

/// S-15: a disconnect ends the push with an error status at once. Only clients on this machine may do it, and no other
/// web site.
#[test]
fn s15_disconnect() {
    let server = server_with(|_| {});
    let url = format!("http://{}/api/v1/points/concert/disconnect", server.addr());
    let post = |headers: &[&str]| ask("POST", &url, headers).status;
    assert_eq!(post(&[]), 409, "there is no push");
    let encoder = push(&server, header("", ""));
    assert_eq!(get(&url, &[]).status, 404, "a GET has no effect");
    assert_eq!(post(&["Origin: http://evil.example"]), 403);
    assert_eq!(post(&["Origin: null"]), 403);
    assert_eq!(post(&["X-Forwarded-For: 192.0.2.1"]), 403);
    assert_eq!(post(&["Host: evil.example"]), 403);
    assert!(server.stats("concert").unwrap().pushing);
    assert_eq!(post(&[&format!("Origin: http://{}", server.addr())]), 204);
    assert_eq!(encoder.termination_status(), 403);
    until("the end", || concert(&server)["state"] == "idle");
    let errors = concert(&server)["errors"].to_string();
    assert!(errors.contains("ended by an operator"), "{errors}");
    let unknown = ask("POST", &url.replace("concert", "nowhere"), &[]);
    assert_eq!(unknown.status, 404);
    assert_eq!(ask("DELETE", &url.replace("/disconnect", ""), &[]).status, 405);
}

/// The challenges of the API have the header spelling that clients in the field require.
#[test]
fn the_challenge_of_the_api_has_the_usual_spelling() {
    for apart in [false, true] {
        let server = server_with(|config| {
            config.users = Some(bob());
            config.points.get_mut("concert").unwrap().operate = Principals::Users;
            config.status_listen = apart.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        });
        let mut wire = Wire::to(server.status_addr().unwrap_or(server.addr()));
        wire.send("POST /api/v1/points/concert/disconnect HTTP/1.1\r\nHost: far\r\nContent-Length: 0\r\n\r\n");
        let answer = wire.response();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.head.matches("\r\nWWW-Authenticate: ").count(), 2, "{}", answer.head);
    }
}

#[test]
fn urls_lead_to_the_point() {
    let server = server_with(|config| {
        let source = SourceConfig::at("http://127.0.0.1:9/origin").unwrap();
        config.points.insert("pulled".to_owned(), PointConfig { source: Some(source), ..PointConfig::default() });
    });
    let address = server.addr();
    let urls = json(&server, "/api/v1/points/live/gr%C3%BCn%20x").1["urls"].clone();
    let name = "live/gr%C3%BCn%20x";
    let play = [format!("mmsh://{address}/{name}"), format!("http://{address}/{name}?format=asf")];
    assert_eq!(urls["push"], serde_json::json!([format!("http://{address}/{name}")]));
    assert_eq!(urls["play"], serde_json::json!(play));
    let _encoder = Encoder::start(address, name, AGENT, header("", ""));
    until("the push", || json(&server, "/api/v1/points/live/gr%C3%BCn%20x").1["stream"].is_object());
    let pulled = json(&server, "/api/v1/points/pulled").1["urls"].clone();
    assert_eq!(pulled["push"], serde_json::json!([]), "nobody can push to a point with a source");
    assert_eq!(pulled["play"][0], format!("mmsh://{address}/pulled"));
}

/// The status shows the users of encoders and players, and failed logins, but no password.
#[test]
fn users_and_failed_logins_are_shown() {
    let server = server_with(|config| {
        config.users = Some(bob());
        let point = config.points.get_mut("concert").unwrap();
        (point.write, point.read) = (Principals::Users, Principals::Users);
    });
    let all = || json(&server, "/api/v1/status").1;
    assert_eq!(all()["failed_logins"], serde_json::json!({ "count": 0, "last": null }));
    assert_eq!(Wire::to(server.addr()).setup(CONCERT, "").status, 401);
    assert_eq!(all()["failed_logins"]["count"], 0, "a challenge is not a failed login");
    let before = all()["now_ms"].as_u64().unwrap();
    assert_eq!(Wire::to(server.addr()).setup(CONCERT.further(&format!("{NOT_BOB}\r\n")), "").status, 401);
    assert_eq!(get(&format!("http://{}/concert", server.addr()), &["Pragma: xPlayStrm=1", NOT_BOB]).status, 401);
    let logins = all()["failed_logins"].clone();
    assert_eq!((&logins["count"], &logins["last"]["user"]), (&2.into(), &"bob".into()));
    assert_eq!((&logins["last"]["address"], &logins["last"]["path"]), (&"127.0.0.1".into(), &"/concert".into()));
    assert!(logins["last"]["time_ms"].as_u64().unwrap() >= before);
    assert_eq!(metric(&server, "asf_server_failed_logins_total"), Some(2.0));

    let mut wire = Wire::to(server.addr());
    let basic = format!("{BOB}\r\n");
    let push = CONCERT.further(&basic);
    let id = wire.setup(push, "").push_id();
    assert_eq!(concert(&server)["pusher"]["user"], "bob");
    wire.start(push.id(&id), [Packet::Header(header("", ""))]);
    until("the stream", || concert(&server)["stream"].is_object());
    let mut player = Wire::to(server.addr());
    player.send(format!("GET /concert HTTP/1.0\r\nPragma: xPlayStrm=1\r\n{basic}\r\n"));
    until("the player", || concert(&server)["players"]["listed"][0]["user"] == "bob");
    assert!(!all().to_string().contains("hush"), "{}", all());
}

/// A connected encoder that sends nothing is shown as a problem.
#[test]
fn an_encoder_that_falls_silent_is_a_problem() {
    let server = server_with(|_| {});
    let (mut wire, id) = Wire::set_up(server.addr(), CONCERT);
    wire.start(CONCERT.id(&id), [Packet::Header(header("", ""))]);
    until("the stream", || concert(&server)["stream"].is_object());
    assert_eq!(concert(&server)["problems"], serde_json::json!([]));
    until("the encoder is silent for too long", || concert(&server)["problems"][0]["kind"] == "no-data");
    let point = concert(&server);
    let text = point["problems"][0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("no data from the encoder for 1") && text.ends_with("s. Check the encoder and the network"),
        "{text}"
    );
    assert_eq!(point["state"], "pushed");
    wire.packet(Packet::Data(media::packet(0, STEP)));
    until("the problem has ended", || concert(&server)["problems"] == serde_json::json!([]));
}

/// Received bytes are those that the player's kernel has acknowledged, not those that wait in the server.
#[test]
fn received_bytes_are_the_acknowledged_ones() {
    let server = server_with(|_| {});
    let encoder = Encoder::without_pauses(server.addr(), "concert", AGENT, header("", ""));
    until("the push", || concert(&server)["stream"].is_object());
    let _reads = Player::start(server.addr(), "concert", "reads", false);
    let _stuck = Player::start(server.addr(), "concert", "stuck", true);
    let received = |agent: &str| {
        let point = concert(&server);
        let player =
            point["players"]["listed"].as_array().unwrap().iter().find(|player| player["user_agent"] == agent)?;
        Some([player["bytes"].as_u64()?, player["bytes_acknowledged"].as_u64()?])
    };
    until("the player's kernel buffers are full", || {
        received("stuck").is_some_and(|[sent, acknowledged]| acknowledged > 0 && sent > acknowledged + 10_000)
    });
    // The stream pauses, so that all sent data arrives.
    encoder.break_off();
    until("all sent data is received", || {
        received("reads").is_some_and(|[sent, acknowledged]| sent > 10_000 && sent == acknowledged)
    });
    let [sent, acknowledged] = received("stuck").unwrap();
    assert!(sent > acknowledged, "{sent} {acknowledged}");
}

/// A disk error appears among the errors of the point, which continues without a recording. No path of the machine is shown.
#[test]
fn a_failed_recording_is_an_error_of_the_point() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("recordings");
    let server = server_with(|config| {
        config.points.get_mut("concert").unwrap().record = Some(directory.clone());
    });
    std::fs::remove_dir(&directory).unwrap();
    std::fs::write(&directory, "a file in place of the directory").unwrap();
    let _encoder = push(&server, header("", ""));
    let failed = || concert(&server)["errors"][0]["text"].as_str().unwrap_or_default().to_owned();
    until("the error", || {
        failed().starts_with("recording ended because of an error: not a directory; check that the directory exists")
    });
    assert!(!concert(&server).to_string().contains(&*folder.path().to_string_lossy()), "{}", failed());
    until("the stream continues", || server.stats("concert").unwrap().packets > 50);
}

/// Clients that may play a point may download its recordings, and no other file of the directory.
#[test]
fn recordings_need_the_right_to_play() {
    let folder = tempfile::tempdir().unwrap();
    let server = server_with(|config| {
        config.users = Some(bob());
        let point = config.points.get_mut("concert").unwrap();
        point.record = Some(folder.path().to_owned());
        point.write = Principals::Everybody;
        point.read = Principals::Only(["bob".to_owned()].into());
    });
    assert_eq!(json(&server, "/api/v1/points/template").1["recordings"]["free_bytes"], Value::Null);
    assert_eq!(metric(&server, "asf_point_recording_free_bytes{point=\"template\"}"), None);
    drop(push(&server, header("", "")));
    until("the end", || concert(&server)["state"] == "idle");
    let recordings = concert(&server)["recordings"].clone();
    assert!(recordings["free_bytes"].as_u64().unwrap() > 0, "{recordings}");
    assert!(metric(&server, "asf_point_recording_free_bytes{point=\"concert\"}") > Some(0.0));
    let [name, path] = ["name", "path"].map(|field| recordings["listed"][0][field].as_str().unwrap());
    assert_eq!(path, format!("/api/v1/points/concert/recordings/{name}"));

    let ask = |method: &str, path: &str, further: &[&str]| {
        let mut wire = Wire::to(server.addr());
        let lines: String = further.iter().map(|line| format!("{line}\r\n")).collect();
        wire.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"));
        wire.response()
    };
    let asked = ask("GET", path, &[]);
    assert!(asked.status == 401 && asked.head.contains("\r\nWWW-Authenticate: "), "{}", asked.head);
    assert_eq!(ask("GET", path, &[NOT_BOB]).status, 401);
    // The file is still being finished for a moment after the push.
    let is_finished = || ask("GET", path, &[BOB]).body == std::fs::read(folder.path().join(name)).unwrap();
    until("the finished file", is_finished);
    let file = ask("GET", path, &[BOB]);
    let bytes = std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(file.status, 200, "{}", file.head);
    assert!(file.body == bytes && bytes.len() > 1000, "{} of {} bytes", file.body.len(), bytes.len());
    assert_eq!(file.header("Content-Type"), Some("video/x-ms-asf"));
    assert_eq!(file.header("Content-Disposition"), Some(&*format!("attachment; filename=\"{name}\"")));
    let mut head = Wire::to(server.addr());
    head.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n{BOB}\r\n\r\n"));
    assert!(head.head().contains(&format!("\r\nContent-Length: {}\r\n", bytes.len())));
    assert_eq!(ask("GET", path, &[BOB, "Via: 1.1 proxy"]).status, 403, "a client that may not see the status");
    assert_eq!(ask("GET", path, &[BOB, "Host: evil.example"]).status, 400);

    std::fs::write(folder.path().join("secret.asf"), "secret").unwrap();
    std::fs::write(folder.path().join("concert-20200101T000000Z-0001.asf"), "older").unwrap();
    let others = ["secret.asf", "concert-20200101T000000Z-0001.asf", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", ""];
    for other in others {
        let answer = ask("GET", &format!("/api/v1/points/concert/recordings/{other}"), &[BOB]);
        assert_eq!(answer.status, 404, "{other}");
    }
    std::fs::remove_file(folder.path().join(name)).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.asf"), folder.path().join(name)).unwrap();
    assert_eq!(ask("GET", path, &[BOB]).status, 500, "the link is not the recorder's file");
}

/// S-8: the refusal of a second encoder appears in the status of the point.
#[test]
fn s8_refusals_are_shown() {
    let server = server_with(|_| {});
    let _encoder = push(&server, header("", ""));
    for _ in 0..3 {
        assert_eq!(Wire::to(server.addr()).setup(CONCERT, "").status, 409);
    }
    let errors = concert(&server)["errors"].clone();
    assert_eq!((errors.as_array().unwrap().len(), &errors[0]["count"]), (1, &3.into()), "{errors}");
    assert!(errors[0]["text"].as_str().unwrap().contains("409"), "{errors}");
}

#[test]
fn access_to_the_status_is_restricted() {
    let address = |server: &BlockingServer, path: &str| format!("http://{}{path}", server.addr());
    let paths = ["/", "/status/page.js", "/api/v1/status", "/api/v1/points/concert", "/metrics"];
    let server = server_with(|_| {});
    for path in paths {
        let answer = get(&address(&server, path), &[]);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        assert!(answer.header("Content-Security-Policy").unwrap().contains("default-src 'none'"));
        let far = get(&address(&server, path), &["Via: 1.1 proxy"]);
        assert_eq!(far.status, if path == "/" { 404 } else { 403 }, "{path}");
        let rebound = get(&address(&server, path), &["Host: evil.example"]);
        assert!(rebound.status >= 400 && !rebound.body.contains("concert"), "{path}");
    }
    let open = server_with(|config| config.status = StatusAccess::Everyone);
    let closed = server_with(|config| config.status = StatusAccess::Off);
    for path in paths {
        assert_eq!(get(&address(&open, path), &["Via: 1.1 proxy"]).status, 200, "{path}");
        assert!(get(&address(&closed, path), &[]).status >= 400, "{path}");
    }
}

#[test]
fn the_status_may_have_a_separate_address() {
    let server = server_with(|config| config.status_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
    let own = server.status_addr().unwrap();
    assert_eq!(get(&format!("http://{own}/api/v1/status"), &[]).status, 200);
    assert_eq!(get(&format!("http://{own}/"), &[]).status, 200);
    assert_eq!(get(&format!("http://{own}/concert"), &[]).status, 404, "points are not served there");
    for path in ["/", "/api/v1/status", "/metrics"] {
        assert_eq!(get(&format!("http://{}{path}", server.addr()), &[]).status, 404, "{path}");
    }
}

/// S-8: no point gets a reserved path, neither from the configuration nor from a template.
#[test]
fn s8_reserved_names() {
    for name in ["api", "Metrics", "status/x"] {
        let config = Config::with_points([name], &PointConfig::default());
        let error = Server::spawn(config).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("choose another"), "{error}");
    }
    let server = server_with(|_| {});
    let body = "Template-URL: \"/template\"\r\nAutoDestroy: 1\r\n";
    for (path, status) in [("API/x", 403), ("%73tatus", 403), ("tonight", 204)] {
        let answer = Wire::to(server.addr()).setup(Push::to(path).agent(AGENT), body);
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, status, "{path}: {text}");
        assert_eq!(text.contains("reserved for the server"), status == 403);
    }
}

/// Windows encoders also push to `/`. A point of this name receives such a push, and the status page is at `/status/`.
#[test]
fn the_root_may_be_a_point() {
    let server = Server::spawn(Config::with_points([""], &PointConfig::default())).unwrap();
    let url = format!("http://{}", server.addr());
    // A browser gets the playlist for a player.
    assert!(get(&format!("{url}/"), &[]).body.to_lowercase().contains("<asx"));
    let _encoder = Encoder::start(server.addr(), "", AGENT, header("", ""));
    assert!(get(&format!("{url}/status/"), &[]).body.contains("<!doctype html>"));
    let root = serde_json::from_str::<Value>(&get(&format!("{url}/api/v1/status"), &[]).body).unwrap();
    assert_eq!(root["points"][0]["path"], "/");
}

/// The status shows where a point is relayed to, without the password.
#[test]
fn relays_are_shown() {
    let further = server_with(|_| ());
    let server = server_with(|config| {
        let urls = [format!("http://bob:hush@{}/concert", further.addr()), "http://127.0.0.1:9/concert".to_owned()];
        let relays = urls.map(|url| RelayConfig::to(&url).unwrap());
        config.points.get_mut("concert").unwrap().forward = relays.into();
    });
    assert_eq!(concert(&server)["forwards"][0]["state"], "idle");
    let _encoder = push(&server, header("", ""));
    until("the stream is relayed", || concert(&server)["forwards"][0]["packets"].as_u64() > Some(20));
    until("a failure", || concert(&server)["forwards"][1]["failures"].as_u64() > Some(0));
    let point = concert(&server);
    let [flows, fails] = [0, 1].map(|index| &point["forwards"][index]);
    assert_eq!(flows["location"], format!("http://{}/concert", further.addr()));
    assert_eq!(
        (&flows["state"], &flows["failures"], &flows["last_error"]),
        (&"streaming".into(), &0.into(), &Value::Null)
    );
    assert!(flows["bytes"].as_u64() > Some(1000), "{flows}");
    assert!(fails["last_error"].as_str().unwrap().contains("refused"), "{fails}");
    let problems = point["problems"].as_array().unwrap();
    assert_eq!((problems.len(), &problems[0]["kind"]), (1, &"forward".into()), "{problems:?}");
    assert!(problems[0]["text"].as_str().unwrap().starts_with("relay to http://127.0.0.1:9/concert failed: "));
    let errors = point["errors"].to_string();
    assert!(errors.contains("relay to http://127.0.0.1:9/concert failed: "), "{errors}");
    assert_eq!(metric(&server, "asf_point_problems{point=\"concert\"}"), Some(1.0));
    let failures = |to: &str| {
        metric(&server, &format!("asf_forward_failures_in_a_row{{point=\"concert\",location=\"{to}\"}}")).unwrap()
    };
    assert_eq!(failures(&format!("http://{}/concert", further.addr())), 0.0);
    assert!(failures("http://127.0.0.1:9/concert") > 0.0);
    assert!(!point.to_string().contains("hush"), "{point}");
    let metrics = get(&format!("http://{}/metrics", server.addr()), &[]).body;
    let labels = format!("{{point=\"concert\",location=\"http://{}/concert\"}}", further.addr());
    assert!(metrics.contains(&format!("asf_forward_streaming{labels} 1")), "{metrics}");
    assert!(!metrics.contains("hush"));
}

/// C-15: a relay's server dies before it has read all packets: the status shows how many it may have missed.
#[test]
fn c15_uncertain_packets_of_a_relay_are_shown() {
    let peer = Peer::new();
    let server = server_with(|config| {
        config.points.get_mut("concert").unwrap().forward = vec![RelayConfig::to(&peer.location()).unwrap()];
    });
    let forward = || concert(&server)["forwards"][0].clone();
    let _encoder = push(&server, header("", ""));
    let mut connection = peer.accept();
    connection.set_up(&ours(204, "one"));
    connection.packet();
    connection.data(20);
    assert_eq!(forward()["packets_uncertain"], 0);
    // A body that ends within two seconds is sent again as a whole.
    thread::sleep(Duration::from_millis(2200));
    until("the server's kernel has received more", || connection.unread() > 1000);
    connection.reset();
    until("the break is reported", || forward()["failures"].as_u64() > Some(0));
    let [uncertain, sent] = ["packets_uncertain", "packets"].map(|field| forward()[field].as_u64().unwrap());
    assert!((1..=sent).contains(&uncertain), "{uncertain} of {sent}");
    let metrics = get(&format!("http://{}/metrics", server.addr()), &[]).body;
    let labels = format!("{{point=\"concert\",location=\"{}\"}}", peer.location());
    assert!(metrics.contains(&format!("asf_forward_packets_uncertain_total{labels} {uncertain}\n")), "{metrics}");
}
