//! One element with several publishing points.

use asf::Header;
use gst::prelude::*;
use test_support::media;
use test_support::peer::{Connection, Peer, ours, wms};
use test_support::pipeline::{Pushing, end, push_bytes, pushing_to as pushing, status, status_nick, until};
use wmhttp::packet::Packet;

const STEP: u32 = 40;

/// Returns the numbers of the packets up to the end of the push, which is then confirmed.
fn to_the_end(connection: &mut Connection) -> Vec<u32> {
    let packets = connection.until_the_end();
    connection.answer(&wms(204, "one"));
    media::numbers_of_push(&packets, STEP)
}

#[test]
fn each_gets_everything() {
    let peers: Vec<Peer> = (0..4).map(|_| Peer::new()).collect();
    let (pushing, source) = pushing(&peers, "");
    push_bytes(&source, media::stream(300, STEP));
    end(&source);
    let readers: Vec<_> = peers
        .into_iter()
        .map(|peer| {
            std::thread::spawn(move || {
                let mut connection = peer.accept();
                connection.set_up(&wms(204, "one"));
                to_the_end(&mut connection)
            })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (0..300).collect::<Vec<_>>());
    }
    pushing.wait_for_eos();
    assert_eq!(pushing.sink.property::<u32>("num-destinations"), 4);
    for (index, stats) in pushing.all_stats().iter().enumerate() {
        assert_eq!(stats.get::<String>("name").unwrap(), format!("dest_{index}"));
        assert_eq!(stats.get::<u64>("packets-sent"), Ok(300));
    }
}

/// A server that rejects, one that never responds, and one that drops every push do not affect a working one.
#[test]
fn a_failing_destination_does_not_affect_others() {
    let peers: Vec<Peer> = (0..3).map(|_| Peer::new()).collect();
    let (pushing, source) = pushing(&peers, "eos-timeout=300 retry-delay=10 timeout=600000");
    let mut refusing = peers[0].accept();
    refusing.request();
    refusing.answer(&wms(403, "0"));
    push_bytes(&source, media::stream(300, STEP));
    let mut dropped = peers[1].accept();
    dropped.set_up(&wms(204, "one"));
    drop(dropped);
    let mut good = peers[2].accept();
    good.set_up(&wms(204, "one"));
    good.packet();
    good.data(300);
    push_bytes(&source, media::packets(300..400, STEP));
    end(&source);
    assert_eq!(good.data(100).len(), 100);
    good.until_the_end();
    good.answer(&wms(204, "one"));
    // Its failure is a WARNING, because two others are active.
    pushing.wait_for_eos();
    let states: Vec<String> = pushing.all_stats().iter().map(|stats| stats.get("state").unwrap()).collect();
    assert_eq!((states[0].as_str(), states[2].as_str()), ("failed", "closed"));
}

/// `on-error` decides whether the failure of one destination is an ERROR; the message names the destination.
#[test]
fn on_error_decides() {
    for (policy, error) in [("fail-any", true), ("fail-all", false), ("never", false)] {
        let peers: Vec<Peer> = (0..2).map(|_| Peer::new()).collect();
        let (pushing, _source) = pushing(&peers, &format!("on-error={policy}"));
        let mut refusing = peers[1].accept();
        refusing.request();
        refusing.answer(&wms(403, "0"));
        let (is_error, text, debug) = pushing.wait_for(|message| {
            if let gst::MessageView::Error(told) = message.view() {
                return Some((true, told.error().message().to_owned(), told.debug()?));
            }
            let gst::MessageView::Warning(told) = message.view() else { return None };
            Some((false, told.error().message().to_owned(), told.debug()?))
        });
        assert_eq!(is_error, error, "{policy}");
        let location = peers[1].location();
        assert!(text.starts_with(&format!("dest_1 ({location}): ")) && debug.contains(&location), "{text}\n{debug}");
    }
    let peers: Vec<Peer> = (0..2).map(|_| Peer::new()).collect();
    let (pushing, _source) = pushing(&peers, "");
    for peer in &peers {
        let mut refusing = peer.accept();
        refusing.request();
        refusing.answer(&wms(403, "0"));
    }
    pushing.wait_for_error();
}

/// A destination that fails immediately is not counted as all of them, although the others have only just started.
#[test]
fn an_immediate_failure_is_not_a_failure_of_all() {
    let refused = "http://127.0.0.1:9/concert".to_owned();
    let silent = Peer::new();
    let locations = [refused].into_iter().chain(std::iter::repeat_n(silent.location(), 300));
    let locations = locations.collect::<Vec<_>>().join(",");
    let (pushing, _source) =
        Pushing::with_feed_source(&format!("locations=\"{locations}\" sync=false dest_0::retries=0"));
    pushing.play();
    let failed = pushing.wait_for_status("error");
    assert_eq!(failed.get::<&str>("destination"), Ok("dest_0"));
    let message = pushing.wait_for(|message| {
        let told = [gst::MessageType::Error, gst::MessageType::Warning].contains(&message.type_());
        told.then(|| message.clone())
    });
    assert_eq!(message.type_(), gst::MessageType::Warning, "{message:?}");
}

/// A child's own values override the element's, also on the command line.
#[test]
fn children_have_their_own_values() {
    let peers: Vec<Peer> = (0..2).map(|_| Peer::new()).collect();
    let (pushing, _source) =
        pushing(&peers, "dest_1::auto-destroy=true dest_1::template-url=/live content-length=5000000");
    let bodies: Vec<String> = peers.iter().map(|peer| peer.accept().request().body).collect();
    assert_eq!(bodies, ["", "Template-URL: \"/live\"\r\nAutoDestroy: 1\r\n"]);
    let proxy = pushing.sink.dynamic_cast_ref::<gst::ChildProxy>().unwrap();
    assert_eq!(proxy.children_count(), 2);
    let child = proxy.child_by_name("dest_1").unwrap();
    assert_eq!(child.property::<u64>("content-length"), 5_000_000, "the element's value, because the child has none");
    assert_eq!(child.property::<Option<String>>("location"), Some(peers[1].location()));
}

/// A destination added while playing starts at the most recent key frame; a removed one is closed without `$E`.
#[test]
fn add_and_remove_while_playing() {
    let peers: Vec<Peer> = (0..2).map(|_| Peer::new()).collect();
    let (pushing, source) = pushing(&peers[..1], "max-size-time=0");
    push_bytes(&source, media::stream(56, STEP));
    let mut first = peers[0].accept();
    first.set_up(&wms(204, "one"));
    first.packet();
    first.data(56);
    let options = gst::Structure::builder("options").field("auto-destroy", true).build();
    let added =
        pushing.sink.emit_by_name::<Option<gst::Object>>("add", &[&peers[1].location(), &Some(options)]).unwrap();
    assert_eq!(added.name(), "dest_1");
    let mut second = peers[1].accept();
    let setup = second.request();
    assert_eq!(setup.body, "AutoDestroy: 1\r\n");
    second.answer(&wms(204, "one"));
    second.request();
    let Some(Packet::Header(header)) = second.packet() else { panic!() };
    let header = Header::parse(header).unwrap();
    let numbers: Vec<u32> = second.data(6).iter().map(|payload| media::number(&header, payload, STEP)).collect();
    assert_eq!(numbers, (50..56).collect::<Vec<_>>());

    assert!(pushing.sink.emit_by_name::<bool>("remove", &[&peers[0].location(), &false]));
    assert!(!pushing.sink.emit_by_name::<bool>("remove", &[&peers[0].location(), &false]));
    assert!(first.is_closed());
    assert_eq!(pushing.sink.property::<u32>("num-destinations"), 1);
    push_bytes(&source, media::packets(56..60, STEP));
    end(&source);
    assert_eq!(second.data(4).len(), 4);
    second.until_the_end();
    second.answer(&wms(204, "one"));
    pushing.wait_for_eos();
}

/// `end-session` sends `$E`(0), `disconnect` sends nothing, and `reconnect` resumes a disconnected session.
#[test]
fn action_signals() {
    let peers: Vec<Peer> = (0..2).map(|_| Peer::new()).collect();
    let (pushing, source) = pushing(&peers, "max-size-time=0");
    push_bytes(&source, media::stream(20, STEP));
    let mut connections: Vec<Connection> = peers
        .iter()
        .map(|peer| {
            let mut connection = peer.accept();
            connection.set_up(&ours(204, "one"));
            connection.packet();
            connection.data(20);
            connection
        })
        .collect();
    assert!(pushing.sink.emit_by_name::<bool>("end-session", &[&"dest_0"]));
    assert_eq!(connections[0].until_the_end().len(), 1, "`$E` alone");
    connections[0].answer(&ours(204, "one"));
    assert!(pushing.sink.emit_by_name::<bool>("disconnect", &[&"dest_1"]));
    assert_eq!(connections[1].packet(), None);
    push_bytes(&source, media::packets(20..30, STEP));
    until("the end of the session", || pushing.all_stats()[0].get::<String>("state").unwrap() == "closed");
    assert!(pushing.sink.emit_by_name::<bool>("reconnect", &[&"dest_1"]));
    let mut again = peers[1].accept();
    let start = again.request();
    assert!(!start.is_setup());
    assert_eq!(start.push_id(), "one");
    assert_eq!(again.data(10).len(), 10);
    end(&source);
    again.until_the_end();
    again.answer(&ours(204, "one"));
    pushing.wait_for_eos();
    let one = pushing.sink.emit_by_name::<Option<gst::Structure>>("get-stats", &[&"dest_1"]).unwrap();
    assert_eq!(one.get::<u64>("packets-sent"), Ok(30));
    assert!(!pushing.sink.emit_by_name::<bool>("reconnect", &[&"dest_9"]));
}

/// Status messages contain the name of their destination.
#[test]
fn statuses_name_their_destination() {
    let peers: Vec<Peer> = (0..2).map(|_| Peer::new()).collect();
    let (pushing, _source) = pushing(&peers, "");
    for peer in &peers {
        let mut connection = peer.accept();
        connection.request();
        connection.answer(&wms(204, "one"));
    }
    let mut opened = Vec::new();
    pushing.wait_for(|message| {
        if let Some(status) = status(message).filter(|status| status_nick(status) == "opened") {
            opened.push((status.get::<String>("destination").unwrap(), status.get::<String>("location").unwrap()));
        }
        (opened.len() == 2).then_some(())
    });
    opened.sort();
    assert_eq!(opened, [("dest_0".into(), peers[0].location()), ("dest_1".into(), peers[1].location())]);
}
