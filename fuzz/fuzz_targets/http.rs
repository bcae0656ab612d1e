#![no_main]
#![allow(dead_code, reason = "each target drives one layer")]

#[path = "../drivers/mod.rs"]
mod drivers;

use std::sync::LazyLock;

use gstasfpush::point::{Config, PointConfig, RunningServer, Server};

static SERVER: LazyLock<RunningServer> = LazyLock::new(|| {
    let config = Config::with_points(["concert"], &PointConfig::default());
    Server::spawn(config).expect("a server")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    drivers::http::attack(SERVER.addr(), data);
});
