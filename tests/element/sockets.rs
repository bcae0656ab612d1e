//! `bind-address` and `qos-dscp`, as seen by the kernel.

use asf_publishing_point::config::{Config, PointConfig};
use asf_publishing_point::{BlockingServer, Server};
use gst::prelude::*;
use test_support::pipeline::Pushing;

#[cfg(feature = "interop")]
mod interop;

fn server() -> BlockingServer {
    Server::spawn(Config::with_points(["concert"], &PointConfig::default())).unwrap()
}

/// An address that this machine does not have, and one of the other family.
#[test]
fn unusable_bind_addresses() {
    let server = server();
    for address in ["192.0.2.1", "::1"] {
        let location = server.addr();
        let (pushing, _source) =
            Pushing::with_feed_source(&format!("location=http://{location}/concert bind-address={address} retries=0"));
        pushing.play();
        let (error, _details) = pushing.wait_for_error();
        assert!(error.matches(gst::ResourceError::OpenWrite), "{address}: {error}");
        assert!(error.message().contains("bind-address"), "{address}: {error}");
    }
}

#[test]
fn an_invalid_address_is_rejected() {
    let pushing = Pushing::bare("bind-address=127.0.0.1");
    pushing.sink.set_property("bind-address", "eth0");
    assert_eq!(pushing.sink.property::<Option<String>>("bind-address").as_deref(), Some("127.0.0.1"));
    pushing.sink.set_property("bind-address", None::<String>);
    assert_eq!(pushing.sink.property::<Option<String>>("bind-address"), None);
}
