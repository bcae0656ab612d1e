//! One encoder, 256 publishing points.

use std::thread;
use std::time::Duration;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server};
use gst::prelude::*;
use test_support::media;
use test_support::pipeline::{Pushing, until};
use test_support::upstream::Upstream;

const SERVERS: usize = 8;
const POINTS: usize = 32;
/// 1,000 bytes every 27 ms are 300 kbit/s.
const STEP: u32 = 27;
const PACKETS: u32 = 150;

fn point(number: usize) -> String {
    format!("concert-{number}")
}

/// All receive everything. The test prints how long the streaming thread takes for all of them.
#[test]
fn two_hundred_and_fifty_six_publishing_points() {
    let names: Vec<String> = (0..POINTS).map(point).collect();
    let config = || Config::with_points(names.iter().map(String::as_str), &PointConfig::default());
    let servers: Vec<BlockingServer> = (0..SERVERS).map(|_| Server::spawn(config()).unwrap()).collect();
    let locations: Vec<String> = servers
        .iter()
        .flat_map(|server| (0..POINTS).map(|number| format!("http://{}/{}", server.addr(), point(number))))
        .collect();
    let pushing = Pushing::bare(&format!("locations=\"{}\" eos-timeout=60000", locations.join(",")));
    let upstream = Upstream::live(&pushing.sink);
    pushing.play();

    let mut times = Vec::new();
    for n in 0..PACKETS {
        let bytes = if n == 0 { media::stream(1, STEP) } else { media::packet(n, STEP).to_vec() };
        let (flow, took) = upstream.push(bytes);
        flow.unwrap();
        times.push(took);
        thread::sleep(Duration::from_millis(STEP.into()));
    }
    until("all stream", || pushing.sink.property::<u32>("num-connected") == u32::try_from(locations.len()).unwrap());
    upstream.end();
    pushing.wait_for_eos();

    // The first call waits for the preroll.
    times.remove(0);
    times.sort();
    println!("chain calls: median {:?}, longest {:?}", times[times.len() / 2], times[times.len() - 1]);
    for stats in pushing.all_stats() {
        let count = |field| stats.get::<u64>(field).unwrap();
        assert_eq!((count("packets-sent"), count("packets-dropped")), (PACKETS.into(), 0), "{stats}");
    }
    for server in &servers {
        for number in 0..POINTS {
            let stats = server.stats(&point(number)).unwrap();
            assert_eq!((stats.sessions, stats.headers, stats.packets), (1, 1, PACKETS.into()), "{}", point(number));
        }
    }
}
