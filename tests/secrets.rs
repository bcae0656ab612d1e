//! No password, no Authorization value and no push-id appears in any output.
//!
//! This test is in a separate file because it enables all logs of the process.
#![cfg(feature = "ntlm")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::Write;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use test_support::auth_server;
use test_support::media;
use test_support::peer::Peer;
use test_support::pipeline::{Pushing, end, push_bytes};

const PASSWORD: &str = "OPENSESAME";
/// The server's side of NTLM is gss-ntlmssp, which a build does not require.
const SCHEMES: &[&str] =
    if cfg!(feature = "interop") { &["Basic", "Digest", "NTLM", "Negotiate"] } else { &["Basic", "Digest"] };
const PUSH_ID: &str = "PUSHIDENTIFIER";

/// All output of the logs and messages.
#[derive(Clone, Default)]
struct LogCapture(Arc<Mutex<String>>);

impl LogCapture {
    fn add(&self, text: &str) {
        let mut said = self.0.lock().unwrap();
        said.push_str(text);
        said.push('\n');
    }
}

impl Write for LogCapture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.add(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Collects the log of GStreamer with GST_DEBUG=*:9, and of the libraries below.
fn listen() -> LogCapture {
    let said = LogCapture::default();
    test_support::pipeline::init();
    gst::log::remove_default_log_function();
    let logged = said.clone();
    gst::log::add_log_function(move |category, _level, _file, function, _line, object, message| {
        let object = object.map(|object| object.to_string()).unwrap_or_default();
        logged.add(&format!("{} {function} {object} {}", category.name(), message.get().unwrap_or_default()));
    });
    gst::log::set_threshold_from_string("*:9", true);
    let traced = said.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    subscriber.with_writer(move || traced.clone()).init();
    tracing::trace!("all logs are collected");
    said
}

#[test]
fn no_secret_is_shown() {
    let said = listen();
    // NTLM's messages begin with NTLMSSP; logs may show bytes in one of these forms.
    let messages = ["4E544C4D535350", "4e544c4d535350", "78, 84, 76, 77, 83, 83, 80", "NTLMSSP"];
    let mut secrets: Vec<String> =
        [PASSWORD, PUSH_ID, "REFUSED"].into_iter().chain(messages).map(str::to_owned).collect();
    for scheme in SCHEMES {
        let peer = Peer::new();
        let (pushing, source) = Pushing::with_feed_source("sync=false auth-methods=basic+digest+ntlm+negotiate");
        let watch = pushing.pipeline.add_property_deep_notify_watch(None, true);
        let login = format!("http://STUDIO%5Cbob:{PASSWORD}@");
        pushing.sink.set_property("location", peer.location().replace("http://", &login));
        pushing.sink.set_property("user-pw", PASSWORD);
        pushing.play();
        push_bytes(&source, media::stream(20, 40));
        end(&source);
        let mut connection = peer.accept();
        secrets.extend(auth_server::serve(&mut connection, scheme, PASSWORD, PUSH_ID));
        pushing.wait_for(|message| {
            said.add(&format!("{message:?} {:?}", message.structure()));
            matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
        });
        said.add(&pushing.pipeline.debug_to_dot_data(gst::DebugGraphDetails::all()));
        said.add(&format!("{:?}", pushing.sink.property::<gst::Structure>("stats")));
        pushing.pipeline.remove_property_notify_watch(watch);
        pushing.stop();
    }
    let said = said.0.lock().unwrap();
    for expected in
        ["asfpushsink-status", "auth-scheme", "digraph pipeline", "GstMessagePropertyNotify", "all logs are collected"]
    {
        assert!(said.contains(expected), "{expected} is not collected");
    }
    for secret in secrets {
        let shown: Vec<&str> = said.lines().filter(|line| line.contains(&secret)).collect();
        assert_eq!(shown, Vec::<&str>::new(), "{secret}");
    }
}
