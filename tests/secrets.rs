//! No password, no Authorization value and no push-id in anything that can be looked at.
//!
//! A file of its own, since it turns on all of the process's logs.
#![cfg(feature = "ntlm")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use support::acceptor::{Acceptor, Verdict};
use support::media;
use support::peer::{Connection, Head, Peer, unauthorized, wms};
use support::pipeline::{Pushing, end, feed};

const PASSWORD: &str = "OPENSESAME";
const PUSH_ID: &str = "PUSHIDENTIFIER";

/// All that was said, by whatever way.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<String>>);

impl Said {
    fn add(&self, text: &str) {
        let mut said = self.0.lock().unwrap();
        said.push_str(text);
        said.push('\n');
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.add(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What GStreamer logs, by GST_DEBUG=*:9, and what the libraries below do.
fn listen() -> Said {
    let said = Said::default();
    support::pipeline::init();
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
    tracing::trace!("all is heard");
    said
}

fn scheme_and_token(head: &Head) -> (String, String) {
    let (scheme, token) = head.header("Authorization").unwrap().split_once(' ').unwrap();
    (scheme.to_owned(), token.to_owned())
}

/// Takes a push that is to be authenticated by `scheme`; the secrets that went over the network.
fn serve(connection: &mut Connection, scheme: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    let challenge = match scheme {
        "Basic" => "Basic realm=\"live\"".to_owned(),
        "Digest" => "Digest realm=\"live\", nonce=\"SERVERNONCE\", qop=auth, opaque=\"OPAQUE\"".to_owned(),
        other => other.to_owned(),
    };
    connection.request();
    connection.answer(&unauthorized(&[&challenge]));
    let mut note = |head: &Head| {
        let (used, token) = scheme_and_token(head);
        assert_eq!(used, scheme);
        secrets.push(token.clone());
        token
    };
    if scheme == "NTLM" || scheme == "Negotiate" {
        let mut acceptor = Acceptor::new(scheme, "bob", PASSWORD);
        let Verdict::Continue(challenge) = acceptor.step(&note(&connection.request())) else { panic!() };
        connection.answer(&unauthorized(&[&format!("{scheme} {challenge}")]));
        let accepted = acceptor.step(&note(&connection.request()));
        assert!(matches!(accepted, Verdict::Accepted(_)), "{accepted:?}");
        connection.answer(&wms(204, PUSH_ID));
        connection.request();
    } else {
        note(&connection.request());
        connection.answer(&wms(204, PUSH_ID));
        note(&connection.request());
    }
    connection.until_the_end();
    connection.answer(&wms(204, PUSH_ID));
    if scheme == "Digest" {
        let response = secrets.iter().map(|value| value.split("response=\"").nth(1).unwrap()[..32].to_owned());
        secrets = response.collect();
    }
    secrets
}

#[test]
fn no_secret_is_shown() {
    let said = listen();
    // NTLM's messages begin with NTLMSSP; bytes are shown in one of these ways.
    let messages = ["4E544C4D535350", "4e544c4d535350", "78, 84, 76, 77, 83, 83, 80", "NTLMSSP"];
    let mut secrets: Vec<String> =
        [PASSWORD, PUSH_ID, "REFUSED"].into_iter().chain(messages).map(str::to_owned).collect();
    for scheme in ["Basic", "Digest", "NTLM", "Negotiate"] {
        let peer = Peer::new();
        let (pushing, source) = Pushing::by_hand("sync=false auth-methods=basic+digest+ntlm+negotiate");
        let watch = pushing.pipeline.add_property_deep_notify_watch(None, true);
        let login = format!("http://STUDIO%5Cbob:{PASSWORD}@");
        pushing.sink.set_property("location", peer.location().replace("http://", &login));
        pushing.sink.set_property("user-pw", PASSWORD);
        pushing.play();
        feed(&source, media::stream(20, 40));
        end(&source);
        let mut connection = peer.accept();
        secrets.extend(serve(&mut connection, scheme));
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
        ["asfpushsink-status", "auth-scheme", "digraph pipeline", "GstMessagePropertyNotify", "all is heard"]
    {
        assert!(said.contains(expected), "{expected} is not looked at");
    }
    for secret in secrets {
        let shown: Vec<&str> = said.lines().filter(|line| line.contains(&secret)).collect();
        assert_eq!(shown, Vec::<&str>::new(), "{secret}");
    }
}
