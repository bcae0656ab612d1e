#![no_main]

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use asf_publishing_point::{Config, PointConfig, BlockingServer, Server};

static SERVER: LazyLock<BlockingServer> = LazyLock::new(|| {
    // A program with a `main` of Rust's ignores it from its beginning.
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::new(AtomicBool::new(false))).expect("a handler");
    let config = Config::with_points(["concert"], &PointConfig::default());
    Server::spawn(config).expect("a server")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_drivers::http::attack(SERVER.addr(), data);
});
