//! Helpers of these tests: an origin with a push, edges that pull from it, and their status.

use std::net::SocketAddr;
use std::time::Duration;

use asf_publishing_point::{BlockingServer, Config, PointConfig, Server, SourceConfig};
use serde_json::Value;
use test_support::wire::{Response, Wire};

/// Returns a source at this server with a short retry delay.
pub fn source(server: SocketAddr) -> SourceConfig {
    source_at(&format!("http://{server}/concert"))
}

pub fn source_at(url: &str) -> SourceConfig {
    SourceConfig { retry_delay_max: Duration::from_millis(100), ..SourceConfig::at(url).unwrap() }
}

pub fn on_demand(source: SourceConfig) -> SourceConfig {
    SourceConfig { on_demand: Some(Duration::ZERO), ..source }
}

pub fn config(source: impl Into<Option<SourceConfig>>) -> Config {
    Config::with_points(["concert"], &PointConfig { source: source.into(), ..PointConfig::default() })
}

pub fn server(source: impl Into<Option<SourceConfig>>) -> BlockingServer {
    Server::spawn(config(source)).unwrap()
}

pub fn get(address: SocketAddr, path: &str) -> Response {
    let mut wire = Wire::to(address);
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: test\r\n\r\n"));
    wire.response()
}

/// Returns the point `concert` in the status API.
pub fn point(server: &BlockingServer) -> Value {
    let response = get(server.addr(), "/api/v1/points/concert");
    serde_json::from_slice(response.body.as_ref()).unwrap()
}

/// Returns its source.
pub fn status(server: &BlockingServer) -> Value {
    point(server)["source"].clone()
}

pub fn state(server: &BlockingServer) -> String {
    status(server)["state"].as_str().unwrap().to_owned()
}

/// Returns the number of failures of this kind.
pub fn failures(server: &BlockingServer, kind: &str) -> u64 {
    status(server)["failures"][kind].as_u64().unwrap()
}

pub fn last_error(server: &BlockingServer) -> String {
    status(server)["last_error"].as_str().unwrap_or_default().to_owned()
}
