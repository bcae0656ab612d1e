//! The status and the metrics, as read by curl and the parser of Prometheus.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::process::{Command, Stdio};

use asf_publishing_point::{Networks, ServerLimits};
use test_support::curl::get;

use super::*;

/// S-15: a user with the right may disconnect from any address; other users may not, and nobody may without users.
#[test]
fn s15_disconnect_by_a_user() {
    const DIGEST: [&str; 3] = ["--digest", "--user", "bob:secret"];
    const USERS: &str = "bob:push:0786f66609ee7d38256a25b55563aa64\neve:push:1e353811dc7ee6da20d7e55c9da5a0b4\n";
    let with_users = |change: fn(&mut Config)| {
        server_with(|config| {
            config.users = Some(AccessPolicy::new(USERS.parse().unwrap()));
            config.points.get_mut("concert").unwrap().operate = Principals::Only(["bob".to_owned()].into());
            config.points.get_mut("concert").unwrap().write = Principals::Everybody;
            config.bounds = ServerLimits { uncounted: Networks::default(), max_guesses: 3, ..ServerLimits::default() };
            change(config);
        })
    };
    let path = "api/v1/points/concert/disconnect";
    // The request appears to come from another machine. Returns the first response, and the status of the last.
    let ask = |address: SocketAddr, arguments: &[&str]| {
        let far: &[&str] = &["--request", "POST", "--header", "X-Forwarded-For: 192.0.2.1"];
        let answer =
            get(&format!("http://{address}/{path}"), &[far, &["--write-out", "\n%{http_code}"], arguments].concat());
        let last: u16 = answer.body.lines().last().unwrap().parse().unwrap();
        (answer, last)
    };
    let post = |address, arguments: &[&str]| ask(address, arguments).1;

    let server = with_users(|_| {});
    assert_eq!(post(server.addr(), &DIGEST), 409, "there is no push");
    for scheme in ["--digest", "--basic", "--anyauth"] {
        let encoder = push(&server, header("", ""));
        assert_eq!(post(server.addr(), &[scheme, "--user", "bob:secret"]), 204, "{scheme}");
        assert_eq!(encoder.termination_status(), 403);
        until("the end", || concert(&server)["state"] == "idle");
    }
    let _encoder = push(&server, header("", ""));
    let (unasked, status) = ask(server.addr(), &[]);
    assert_eq!(status, 401);
    assert!(unasked.header("WWW-Authenticate").unwrap().contains("realm=\"push\""));
    assert_eq!(post(server.addr(), &["--digest", "--user", "eve:secret"]), 403);
    assert_eq!(post(server.addr(), &[&DIGEST[..], &["--header", "Origin: http://evil.example"]].concat()), 403);
    let other = get(
        &format!("http://{}/{}", server.addr(), path.replace("concert", "template")),
        &["--request", "POST", "--header", "Via: 1.1 proxy", "--basic", "--user", "bob:secret"],
    );
    assert_eq!(other.status, 403, "the right is for one point");
    // Authentication does not give access to the status itself.
    let status = get(
        &format!("http://{}/api/v1/status", server.addr()),
        &["--header", "Via: 1.1 proxy", "--basic", "--user", "bob:secret"],
    );
    assert_eq!(status.status, 403);
    for _ in 0..3 {
        assert_eq!(post(server.addr(), &["--basic", "--user", "bob:wrong"]), 401);
    }
    let (locked_out, status) = ask(server.addr(), &["--basic", "--user", "bob:secret"]);
    assert_eq!(status, 429);
    assert!(locked_out.header("Retry-After").is_some());
    assert!(server.stats("concert").unwrap().pushing);

    let apart = with_users(|config| config.status_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
    let _encoder = Encoder::start(apart.addr(), "concert", AGENT, header("", ""));
    until("the push", || apart.stats("concert").unwrap().pushing);
    assert_eq!(post(apart.addr(), &DIGEST), 400, "it is not a request of a player");
    for _ in 0..3 {
        assert_eq!(post(apart.status_addr().unwrap(), &["--basic", "--user", "eve:wrong"]), 401);
    }
    assert_eq!(post(apart.status_addr().unwrap(), &["--basic", "--user", "bob:secret"]), 429);
    let closed = with_users(|config| config.status = StatusAccess::Off);
    assert_eq!(post(closed.addr(), &DIGEST), 403);
    // Without users, nobody has the right.
    let open = server_with(|config| config.points.get_mut("concert").unwrap().operate = Principals::Users);
    assert_eq!(post(open.addr(), &DIGEST), 403);
}

/// The parser of Prometheus reads the metrics.
#[test]
fn prometheus_reads_the_metrics() {
    let server = server_with(|config| {
        config.points.insert("a \"b\\c\nd".to_owned(), PointConfig::default());
    });
    let _encoder = push(&server, header("", ""));
    let _player = Player::start(server.addr(), "concert", "NSPlayer/9.0", false);
    until("a player", || concert(&server)["players"]["count"] == 1);
    until("packets", || server.stats("concert").unwrap().packets > 20);
    let answer = get(&format!("http://{}/metrics", server.addr()), &[]);
    assert!(answer.header("Content-Type").unwrap().starts_with("text/plain; version=0.0.4"), "{answer:?}");
    let families = parse_metrics(&answer.body);
    let value = |family: &str, sample: &str, point: &str| {
        let (_, help, samples) = families.get(family).unwrap_or_else(|| panic!("{family} in {}", answer.body));
        assert!(!help.is_empty(), "{family}");
        samples[&format!("{sample} {point}")]
    };
    // The parser names a counter without `_total`.
    assert_eq!(value("asf_point_sessions", "asf_point_sessions_total", "concert"), 1.0);
    assert!(value("asf_point_packets_received", "asf_point_packets_received_total", "concert") > 20.0);
    assert!(value("asf_point_received_bytes", "asf_point_received_bytes_total", "concert") > 1000.0);
    assert!(value("asf_point_sent_bytes", "asf_point_sent_bytes_total", "concert") > 1000.0);
    assert_eq!(value("asf_point_players_connected", "asf_point_players_connected", "concert"), 1.0);
    assert_eq!(value("asf_point_pushed", "asf_point_pushed", "concert"), 1.0);
    assert_eq!(value("asf_point_pushed", "asf_point_pushed", "a \"b\\c\nd"), 0.0);
    assert!(value("asf_server_uptime_seconds", "asf_server_uptime_seconds", "") > 0.0);
    for (name, (kind, ..)) in &families {
        let is_count = answer.body.contains(&format!("# TYPE {name}_total counter"));
        assert_eq!(kind == "counter", is_count, "{name}");
    }
    let documented: BTreeSet<_> = include_str!("../../../../../docs/status.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `asf_")?.split('`').next())
        .collect();
    let types = answer.body.lines().filter_map(|line| line.strip_prefix("# TYPE asf_")?.split(' ').next());
    assert_eq!(documented, types.collect(), "docs/status.md");
}

/// The type, the help and the samples by name and point, of each family.
type Families = HashMap<String, (String, String, HashMap<String, f64>)>;

fn parse_metrics(text: &str) -> Families {
    let script = "import json, sys\n\
                  from prometheus_client.parser import text_string_to_metric_families as parse\n\
                  print(json.dumps({f.name: (f.type, f.documentation, {s.name + ' ' + s.labels.get('point', ''): \
                  s.value for s in f.samples}) for f in parse(sys.stdin.read())}))";
    let mut parser = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}
