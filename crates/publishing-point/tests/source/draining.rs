//! Health checks, and the graceful stop of a server.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use asf_publishing_point::config::file::ConfigFile;
use nix::sys::signal::Signal;
use test_support::pipeline::until;
use test_support::server_fixture::{self, FFMPEG_PLAY};
use test_support::server_process::PointProgram;
use test_support::wire::{CONCERT, Wire};
use wmhttp::packet::Packet;

use crate::support::*;

#[test]
fn health_of_the_server_and_of_points() {
    let edge = server(None);
    for (path, status) in [("/healthz", 200), ("/healthz/", 200), ("/healthz/concert", 503), ("/healthz/none", 404)] {
        assert_eq!(get(edge.addr(), path).status, status, "{path}");
    }
    // The request that HAProxy sends.
    let mut wire = Wire::to(edge.addr());
    wire.send("OPTIONS /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(wire.response().status, 405);
    let _push = {
        let (mut wire, id) = Wire::set_up(edge.addr(), CONCERT);
        wire.start(CONCERT.id(&id), [Packet::Header(server_fixture::header())]);
        wire
    };
    until("the push arrives", || get(edge.addr(), "/healthz/Concert").status == 200);
}

/// SIGTERM: the health check fails first, then the players' streams end one after the other with a request to connect
/// again.
#[test]
fn a_stopping_server_moves_its_players_elsewhere() {
    let program = PointProgram::start(&["--point", "concert", "--drain-time", "3s"]);
    let (mut push, id) = Wire::set_up(program.address, CONCERT);
    let packets = (0..5).map(|n| Packet::Data(server_fixture::stripped(n)));
    push.start(CONCERT.id(&id), [Packet::Header(server_fixture::header())].into_iter().chain(packets));
    until("there is a stream", || get(program.address, "/healthz/concert").status == 200);
    let players: Vec<Wire> = (0..10)
        .map(|_| {
            let mut wire = Wire::to(program.address);
            wire.send(FFMPEG_PLAY);
            assert!(wire.head().contains(" 200 OK"));
            wire
        })
        .collect();
    program.signal(Signal::SIGTERM);
    until("health checks fail", || get(program.address, "/healthz").status == 503);
    assert_eq!(get(program.address, "/healthz/concert").status, 503);
    // Players that still connect are served.
    let mut late = Wire::to(program.address);
    late.send(FFMPEG_PLAY);
    assert!(late.head().contains(" 200 OK"));
    let left = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for mut wire in players.into_iter().chain([late]) {
            let left = &left;
            scope.spawn(move || {
                let rest = wire.rest();
                left.lock().unwrap().push(std::time::Instant::now());
                assert!(rest.ends_with(b"$E\x04\0\x01\0\0\0"), "the end requests to connect again");
            });
        }
    });
    let left = left.into_inner().unwrap();
    let (first, last) = (left.iter().min().unwrap(), left.iter().max().unwrap());
    assert!(*last - *first > Duration::from_millis(300), "the streams do not end all at once");
    let (out, log) = program.stop();
    assert!(out.contains("players=11"), "{out} {log}");
}

/// Returns the value of a key that occurs once in a YAML file.
fn value<'a>(yaml: &'a str, key: &str) -> &'a str {
    let mut values = yaml.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
    let found = values.next().unwrap_or_else(|| panic!("{key} is missing"));
    assert_eq!(values.next(), None, "{key} occurs twice");
    found
}

/// The configuration in the Kubernetes manifests is valid, and matches the other manifests.
#[test]
fn the_kubernetes_manifests_fit_the_server() {
    let yaml = fs::read_to_string(test_support::root().join("packaging/kubernetes/edges.yaml")).unwrap();
    let (_, rest) = yaml.split_once("  edge.toml: |\n").unwrap();
    let (toml, _) = rest.split_once("---").unwrap();
    let config = toml.parse::<ConfigFile>().unwrap().into_config().unwrap();
    let grace = Duration::from_secs(value(&yaml, "terminationGracePeriodSeconds").parse().unwrap());
    assert!(grace >= config.drain_time + Duration::from_secs(45), "{grace:?} {:?}", config.drain_time);
    assert_eq!(config.listen.port().to_string(), value(&yaml, "containerPort"));
    assert!(config.points["concert"].source.as_ref().unwrap().on_demand.is_some());
    let edge = server(None);
    assert_eq!(get(edge.addr(), value(&yaml, "path")).status, 200, "readiness");
}
