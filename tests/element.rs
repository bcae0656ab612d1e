//! The element in pipelines, against servers that a test plays by hand.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use gst::prelude::*;
use gstasfpush::asf::Header;
use gstasfpush::wmhttp::Hresult;
use gstasfpush::wmhttp::packet::Packet;
use support::media;
use support::peer::{Peer, relay, wms};
use support::pipeline::{Pushing, end, feed, init, status, status_nick, until};

const STEP: u32 = 40;

fn numbers(header: &Bytes, packets: &[Packet]) -> Vec<u32> {
    let header = Header::parse(header.clone()).unwrap();
    packets
        .iter()
        .filter_map(|packet| match packet {
            Packet::Data(payload) => Some(media::number(&header, payload, STEP)),
            Packet::Header(_) | Packet::StreamChange(_) | Packet::End(_) | Packet::Filler(_) => None,
        })
        .collect()
}

/// A server, and a pipeline that pushes to it what the test feeds, as fast as that comes.
fn pushing(properties: &str) -> (Peer, Pushing, gst::Element) {
    let peer = Peer::new();
    let (pushing, source) = Pushing::by_hand(&format!("location={} sync=false {properties}", peer.location()));
    pushing.play();
    (peer, pushing, source)
}

/// From the first byte to `$E`(0): what goes in comes out, and the bus tells each step in order.
#[test]
fn a_push_from_beginning_to_end() {
    let (peer, pushing, source) = pushing("");
    feed(&source, media::stream(100, STEP));
    end(&source);

    let mut connection = peer.accept();
    let start = connection.set_up(&wms(204, "one"));
    assert_eq!(start.push_id(), "one");
    assert_eq!(start.header("Content-Length"), Some("2147483647"));
    let packets = connection.until_the_end();
    let Packet::Header(header) = &packets[0] else { panic!("C-8: {:?}", packets[0]) };
    assert!(Header::parse(header.clone()).unwrap().is_broadcast(), "live-header");
    assert_eq!(numbers(header, &packets), (0..100).collect::<Vec<_>>());
    assert_eq!(packets.last(), Some(&Packet::End(Hresult::OK)));
    assert!(pushing.messages().iter().all(|message| message.type_() != gst::MessageType::Eos), "EOS before the answer");
    connection.answer(&wms(204, "one"));

    let mut steps = Vec::new();
    pushing.wait_for(|message| {
        steps.extend(status(message).map(|status| status_nick(&status)));
        matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
    });
    assert!(["stopped", "closed"].iter().all(|step| steps.iter().any(|seen| seen == step)), "{steps:?}");
    assert!(connection.is_closed(), "C-11");
    let stats = pushing.destination_stats();
    assert_eq!(stats.get::<u64>("packets-sent"), Ok(100));
    assert_eq!(stats.get::<u64>("packets-dropped"), Ok(0));
    assert_eq!(stats.get::<&str>("state"), Ok("closed"));
}

/// The order of the statuses, with their numbers and results, on the bus and by the signal.
#[test]
fn statuses_by_bus_and_signal() {
    let peer = Peer::new();
    let (pushing, source) = Pushing::by_hand(&format!("location={} sync=false", peer.location()));
    let (sender, signals) = channel();
    pushing.sink.connect("status", false, move |values| {
        let number = glib::EnumValue::from_value(&values[2]).unwrap().1.value();
        let hresult = values[3].get::<u32>().unwrap();
        let destination = values[1].get::<gst::Object>().unwrap().name().to_string();
        sender.send((destination, number, hresult)).unwrap();
        None
    });
    pushing.play();
    feed(&source, media::stream(3, STEP));
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    connection.until_the_end();
    connection.answer(&wms(204, "one"));
    let mut steps = Vec::new();
    pushing.wait_for(|message| {
        if let Some(status) = status(message) {
            steps.push((status_nick(&status), status.get::<&str>("new-state").unwrap().to_owned()));
        }
        matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
    });
    let steps: Vec<(&str, &str)> = steps.iter().map(|(nick, state)| (nick.as_str(), state.as_str())).collect();
    assert_eq!(
        steps,
        [
            ("locating", "locating"),
            ("connecting", "connecting"),
            ("opened", "opened"),
            ("started", "streaming"),
            ("stopped", "ending"),
            ("closed", "closed"),
        ]
    );
    let signals: Vec<_> = signals.try_iter().collect();
    assert_eq!(signals, [7, 8, 1, 11, 12, 13].map(|number| ("dest_0".to_owned(), number, 0)));
}

/// Every cut of the stream gives the same push.
#[test]
fn any_chunking() {
    let whole = media::stream(30, STEP);
    for size in [1, 7, 999, 1000, 4096, whole.len()] {
        let (peer, pushing, source) = pushing("");
        for chunk in whole.chunks(size) {
            feed(&source, chunk.to_vec());
        }
        end(&source);
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        let packets = connection.until_the_end();
        let Packet::Header(header) = &packets[0] else { panic!() };
        assert_eq!(numbers(header, &packets), (0..30).collect::<Vec<_>>(), "chunks of {size}");
        connection.answer(&wms(204, "one"));
        pushing.wait_for_eos();
    }
}

/// C-9, C-10: hundreds of roll-overs on one connection, nothing lost.
#[test]
fn c9_c10_roll_overs() {
    let (peer, pushing, source) = pushing("content-length=10000");
    feed(&source, media::stream(3000, STEP));
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let mut all = Vec::new();
    let mut bodies = 1;
    loop {
        all.extend(connection.until_the_end());
        connection.answer(&wms(204, "one"));
        if all.last() == Some(&Packet::End(Hresult::OK)) {
            break;
        }
        assert_eq!(connection.body_left, 0);
        let start = connection.request();
        assert!(!start.is_setup());
        bodies += 1;
    }
    pushing.wait_for_eos();
    let Packet::Header(header) = &all[0] else { panic!() };
    assert_eq!(numbers(header, &all), (0..3000).collect::<Vec<_>>());
    assert!(bodies > 100, "{bodies}");
    assert_eq!(pushing.destination_stats().get::<u64>("rollovers"), Ok(bodies - 1));
    assert!(peer.accept_within(Duration::ZERO).is_none(), "one connection");
}

/// C-15: a reset in mid-body: the push goes on with the same id on a new connection, and loses nothing.
#[test]
fn c15_a_reset_loses_nothing() {
    let (peer, pushing, source) = pushing("retry-delay=10");
    feed(&source, media::stream(500, STEP));
    let mut first = peer.accept();
    first.set_up(&wms(204, "one"));
    let Some(Packet::Header(header)) = first.packet() else { panic!() };
    let got = first.data(500);
    first.reset();
    feed(&source, (500..600).flat_map(|n| media::packet(n, STEP)).collect::<Vec<u8>>());
    end(&source);
    let mut second = peer.accept();
    let start = second.request();
    assert!(!start.is_setup());
    assert_eq!(start.push_id(), "one");
    let packets = second.until_the_end();
    second.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    let before: Vec<Packet> = got.into_iter().map(Packet::Data).collect();
    assert_eq!(numbers(&header, &before), (0..500).collect::<Vec<_>>());
    // What had come but was not acknowledged yet comes again: better twice than never.
    let after = numbers(&header, &packets);
    assert!(after[0] <= 500, "{}", after[0]);
    assert_eq!(after, (after[0]..600).collect::<Vec<_>>());
}

fn wait_for_notice(pushing: &Pushing, words: &str) -> gst::Structure {
    pushing.wait_for(|message| {
        let gst::MessageView::Warning(warning) = message.view() else { return None };
        let details = warning.details().filter(|details| details.name() == "asfpushsink-notice")?;
        details.get::<&str>("text").unwrap().contains(words).then(|| details.to_owned())
    })
}

/// Before an upstream that falls silent makes the server end the session (S-2), a WARNING tells.
#[test]
fn silence_is_told_in_time() {
    let (peer, pushing, source) = pushing("");
    feed(&source, media::stream(10, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one").replace("timeout=60000", "timeout=400"));
    connection.packet();
    connection.data(10);
    let notice = wait_for_notice(&pushing, "upstream has sent no packet");
    assert_eq!(notice.get::<&str>("destination"), Ok("dest_0"));
    // Once for each silence.
    feed(&source, media::packet(10, STEP));
    connection.data(1);
    wait_for_notice(&pushing, "upstream has sent no packet");
}

/// Before a server that takes nothing is given up, a WARNING tells.
#[test]
fn a_stall_is_told_in_time() {
    let peer = Peer::with_little_room();
    let (pushing, source) = Pushing::by_hand(&format!("location={} sync=false stall-timeout=1500", peer.location()));
    pushing.play();
    feed(&source, media::stream(5000, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    wait_for_notice(&pushing, "takes no more data");
    pushing.wait_for_status("reconnect-start");
}

/// C-16: who refuses a body has read none of it, whatever its system has acknowledged.
#[test]
fn c16_what_is_refused_comes_again() {
    for answer in [Some(wms(503, "0")), Some(wms(404, "0")), None] {
        let (peer, pushing, source) = pushing("retry-delay=10");
        feed(&source, media::stream(20, STEP));
        let mut refusing = peer.accept();
        refusing.set_up(&wms(204, "one"));
        until("all sent", || pushing.destination_stats().get::<u64>("packets-sent") == Ok(20));
        until("all acknowledged", || refusing.unread() > 20 * 900);
        match answer {
            Some(answer) => refusing.answer(&answer),
            None => refusing.reset(),
        }
        // After the end any answer would confirm it.
        pushing.wait_for_status("reconnect-start");
        end(&source);
        let mut again = peer.accept();
        if again.request().is_setup() {
            again.answer(&wms(204, "two"));
            again.request();
        }
        let packets = again.until_the_end();
        again.answer(&wms(204, "two"));
        assert_eq!(numbers(&media::header(), &packets), (0..20).collect::<Vec<_>>());
        pushing.wait_for_eos();
        assert_eq!(pushing.destination_stats().get::<u64>("packets-sent"), Ok(20));
    }
}

/// The server dies with bytes unread and is started anew: what its system had not acknowledged comes again.
#[test]
fn c15_what_was_on_its_way_is_repeated() {
    let peer = Peer::with_little_room();
    let (pushing, source) =
        Pushing::by_hand(&format!("location={} sync=false max-size-time=0 retry-delay=50", peer.location()));
    pushing.play();
    feed(&source, media::stream(7000, STEP));
    let mut first = peer.accept();
    first.set_up(&wms(204, "one"));
    first.packet();
    first.data(10);
    // Far more than the server's system takes is on its way.
    until("the pipe is full", || pushing.destination_stats().get::<u64>("packets-sent").unwrap() > 300);
    let came = 10 + first.unread() / 900;
    first.reset();
    end(&source);
    // The new process knows no session.
    let mut refused = peer.accept();
    refused.request();
    refused.answer("HTTP/1.1 412 No\r\nServer: Cougar/9.6\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let mut second = peer.accept();
    second.set_up(&wms(204, "two"));
    let packets = second.until_the_end();
    second.answer(&wms(204, "two"));
    pushing.wait_for_eos();
    let Packet::Header(header) = &packets[0] else { panic!() };
    let numbers = numbers(header, &packets);
    assert_eq!(numbers, (numbers[0]..7000).collect::<Vec<_>>());
    // Some may have come in between the look and the reset, but not what was still on this side.
    assert!((numbers[0] as usize) < came + 100, "{} after {came} had come", numbers[0]);
    assert_eq!(pushing.destination_stats().get::<u64>("packets-dropped"), Ok(0));
}

/// C-12: a second header in mid-stream, and the statistics of it.
#[test]
fn c12_header_change() {
    let (peer, pushing, source) = pushing("");
    feed(&source, media::stream(5, STEP));
    feed(&source, media::stream(5, STEP));
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let letters: Vec<u8> = connection.until_the_end().iter().map(Packet::letter).collect();
    assert_eq!(letters, b"HDDDDDECDDDDDE");
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    assert_eq!(pushing.destination_stats().get::<u64>("header-changes"), Ok(1));
}

/// Receivers Framing 2: a plain relay gets the new header in a new session.
#[test]
fn c12_header_change_at_a_relay() {
    let (peer, pushing, source) = pushing("");
    feed(&source, media::stream(5, STEP));
    feed(&source, media::stream(5, STEP));
    end(&source);
    for _ in 0..2 {
        let mut connection = peer.accept();
        connection.set_up(&relay(204));
        let letters: Vec<u8> = connection.until_the_end().iter().map(Packet::letter).collect();
        assert_eq!(letters, b"HDDDDDE");
        // It never answers, it closes.
    }
    pushing.wait_for_eos();
}

/// A caps `streamheader` serves where the bytes do not begin with a header.
#[test]
fn header_from_caps() {
    let peer = Peer::new();
    let (pushing, source) = Pushing::by_hand(&format!("location={} sync=false", peer.location()));
    let header = gst::Buffer::from_slice(media::header());
    let caps = gst::Caps::builder("video/x-ms-asf").field("streamheader", gst::Array::new([header])).build();
    source.set_property("caps", caps);
    source.set_property_from_str("format", "time");
    pushing.play();
    for n in 10..15 {
        feed(&source, media::packet(n, STEP));
    }
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let packets = connection.until_the_end();
    let Packet::Header(header) = &packets[0] else { panic!() };
    assert_eq!(numbers(header, &packets), (10..15).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
}

/// PLAYING is reached, and left, with a server that refuses, accepts and says nothing, or answers garbage.
#[test]
fn states_never_wait_for_the_network() {
    let refusing = Peer::new();
    let refused = refusing.location();
    drop(refusing);
    let silent = Peer::new();
    let garbage = Peer::new();
    let garbled = garbage.location();
    std::thread::spawn(move || {
        while let Some(mut connection) = garbage.accept_within(Duration::from_secs(20)) {
            connection.answer("\0\u{1}\u{2}garbage\r\n\r\n");
        }
    });
    for location in [refused, silent.location(), garbled] {
        let pushing = Pushing::launch(
            "videotestsrc is-live=true ! video/x-raw,width=64,height=48 ! avenc_wmv2 ! identity single-segment=true ! \
             asfmux streamable=true",
            &format!("location={location} timeout=600000 connect-timeout=600000 eos-timeout=600000"),
        );
        for _ in 0..3 {
            pushing.play();
            let (change, state, _) = pushing.pipeline.state(gst::ClockTime::from_seconds(20));
            change.unwrap();
            assert_eq!(state, gst::State::Playing, "{location}");
            pushing.stop();
        }
    }
}

/// EOS with a server that is down, or never answers, comes after `eos-timeout` and not later.
#[test]
fn eos_is_bounded() {
    let silent = Peer::new();
    for location in [silent.location(), "http://127.0.0.1:9/concert".to_owned()] {
        let (pushing, source) = Pushing::by_hand(&format!("location={location} sync=false eos-timeout=200"));
        pushing.play();
        feed(&source, media::stream(5, STEP));
        end(&source);
        pushing.wait_for_eos();
    }
}

/// An end that the server leaves unanswered is a WARNING before EOS, also where the destination's own time is
/// over before the element's.
#[test]
fn an_end_without_an_answer_is_told() {
    for first in [true, false] {
        let (peer, pushing, source) = pushing("eos-timeout=300");
        feed(&source, media::stream(5, STEP));
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        pushing.wait_for_status("started");
        if first {
            assert!(pushing.sink.emit_by_name::<bool>("end-session", &[&None::<&str>]));
            let status = pushing.wait_for_status("stopped");
            assert_eq!(status.get::<u32>("hresult"), Ok(Hresult::TIMEOUT.0));
        }
        end(&source);
        assert_eq!(connection.until_the_end().last(), Some(&Packet::End(Hresult::OK)));
        let text = pushing.wait_for(|message| {
            assert!(!matches!(message.view(), gst::MessageView::Eos(_)), "EOS without a WARNING");
            let gst::MessageView::Warning(warning) = message.view() else { return None };
            Some(warning.error().message().to_owned())
        });
        assert!(text.contains("did not confirm the end"), "{text}");
        pushing.wait_for_eos();
    }
}

/// A state change breaks into the wait at EOS and into back-pressure.
#[test]
fn waits_can_be_interrupted() {
    let silent = Peer::new();
    let (pushing, source) = Pushing::by_hand(&format!("location={} sync=false eos-timeout=600000", silent.location()));
    pushing.play();
    feed(&source, media::stream(5, STEP));
    end(&source);
    silent.accept();
    pushing.pipeline.set_state(gst::State::Paused).unwrap();
    pushing.stop();

    let (pushing, source) =
        Pushing::by_hand(&format!("location={} sync=false max-size-buffers=10 timeout=600000", silent.location()));
    pushing.play();
    for n in 0..100 {
        feed(&source, if n == 0 { media::stream(1, STEP) } else { media::packet(n, STEP).to_vec() });
    }
    until("the log fills", || pushing.destination_stats().get::<u64>("packets-queued").unwrap_or(0) >= 10);
    pushing.pipeline.set_state(gst::State::Paused).unwrap();
    pushing.pipeline.set_state(gst::State::Playing).unwrap();
    pushing.stop();
}

/// Back-pressure: with a server that is slow to begin, upstream waits and nothing is dropped.
#[test]
fn files_are_held_back_and_lose_nothing() {
    let (peer, pushing, source) = pushing("max-size-buffers=50");
    feed(&source, media::header());
    for n in 0..2000 {
        feed(&source, media::packet(n, STEP));
    }
    end(&source);
    let received = || pushing.sink.property::<gst::Structure>("stats").get::<u64>("packets-received").unwrap();
    let mut connection = peer.accept();
    until("the log fills", || received() >= 50);
    // What would have come all the same, had nobody held it back, has had its time now.
    std::thread::sleep(Duration::from_millis(200));
    assert!(received() <= 52, "{}", received());
    connection.set_up(&wms(204, "one"));
    let packets = connection.until_the_end();
    let Packet::Header(header) = &packets[0] else { panic!() };
    assert_eq!(numbers(header, &packets), (0..2000).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    assert_eq!(pushing.destination_stats().get::<u64>("packets-dropped"), Ok(0));
}

/// `drop-policy=keyframe`: a server that comes late gets the newest key frame, and the gap is told and counted.
#[test]
fn lagging_skips_to_a_key_frame() {
    let (peer, pushing, source) = pushing("max-size-buffers=25 drop-policy=keyframe");
    let mut connection = peer.accept();
    let setup = connection.request();
    assert!(setup.is_setup());
    feed(&source, media::stream(1, STEP));
    for n in 1..1000 {
        feed(&source, media::packet(n, STEP));
    }
    until("all received", || {
        pushing.sink.property::<gst::Structure>("stats").get::<u64>("packets-received") == Ok(1000)
    });
    connection.answer(&wms(204, "one"));
    connection.request();
    end(&source);
    let packets = connection.until_the_end();
    let Packet::Header(header) = &packets[0] else { panic!() };
    assert_eq!(numbers(header, &packets), (990..1000).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    let mut told = 0;
    pushing.wait_for(|message| {
        if let gst::MessageView::Warning(warning) = message.view()
            && let Some(details) = warning.details().filter(|details| details.name() == "asfpushsink-dropped")
        {
            told += details.get::<u64>("packets").unwrap();
        }
        matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
    });
    let stats = pushing.destination_stats();
    assert_eq!(stats.get::<u64>("packets-dropped"), Ok(990));
    assert_eq!(stats.get::<u64>("packets-sent"), Ok(10));
    assert_eq!(told, 990);
}

fn redirect(status: u16, location: &str) -> String {
    format!(
        "HTTP/1.1 {status} Said\r\nServer: nginx\r\nLocation: {location}\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    )
}

/// C-4: from one server to another: the whole stream arrives there, and the statistics say where that is.
#[test]
fn c4_a_redirected_push_arrives() {
    let (first, pushing, source) = pushing("");
    let second = Peer::new();
    feed(&source, media::stream(50, STEP));
    end(&source);
    let mut connection = first.accept();
    assert!(connection.request().is_setup());
    connection.answer(&redirect(302, &second.location().replace("concert", "elsewhere")));
    assert!(connection.is_closed());
    let mut connection = second.accept();
    let setup = connection.request();
    assert!(setup.is_setup() && setup.text.starts_with("POST /elsewhere HTTP/1.1\r\n"), "{}", setup.text);
    assert_eq!((setup.push_id(), setup.header("Host")), ("0", Some(second.addr.to_string().as_str())));
    connection.answer(&wms(204, "one"));
    assert_eq!(connection.request().push_id(), "one");
    let packets = connection.until_the_end();
    let Packet::Header(header) = &packets[0] else { panic!() };
    assert_eq!(numbers(header, &packets), (0..50).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    let stats = pushing.destination_stats();
    assert_eq!(stats.get::<&str>("location").unwrap(), first.location());
    assert_eq!(stats.get::<&str>("effective-location").unwrap(), second.location().replace("concert", "elsewhere"));
}

/// C-4: `automatic-redirect=false` leaves it to the user, who is told the new URL.
#[test]
fn c4_redirects_can_be_refused() {
    let (peer, pushing, _source) = pushing("automatic-redirect=false");
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&redirect(301, "http://elsewhere:81/live"));
    let (error, details) = pushing.wait_for_error();
    assert!(error.matches(gst::ResourceError::Settings), "{error:?}");
    assert!(error.message().contains("http://elsewhere:81/live"), "{error:?}");
    assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::REDIRECT.0));
    assert_eq!(details.get::<u32>("http-status-code"), Ok(301));
}

/// Failures that may pass are WARNINGs and tried again; `retries` bounds that.
#[test]
fn retries_are_counted() {
    let (peer, pushing, _source) = pushing("retries=2 retry-delay=1");
    for _ in 0..3 {
        let mut connection = peer.accept();
        connection.request();
        connection.answer(&wms(503, "0"));
    }
    let (error, details) = pushing.wait_for_error();
    assert!(error.matches(gst::ResourceError::Busy));
    assert_eq!(details.get::<u32>("http-status-code"), Ok(503));
    assert!(peer.accept_within(Duration::from_millis(200)).is_none(), "no attempt after the last");
}

/// What cannot be pushed to is said before anything is tried.
#[test]
fn locations_that_cannot_be() {
    for (properties, hresult) in [
        ("", Hresult::INVALID_ARG),
        ("location=rtsp://host/x", Hresult::INVALID_SCHEME),
        ("location=http://host:99999/x", Hresult::INVALID_PORT),
    ] {
        let (pushing, _source) = Pushing::by_hand(properties);
        assert!(pushing.pipeline.set_state(gst::State::Paused).is_err());
        let (error, details) = pushing.wait_for_error();
        assert!(error.matches(gst::ResourceError::Settings), "{error:?}");
        assert_eq!(details.get::<u32>("hresult"), Ok(hresult.0), "{properties}");
    }
}

/// Credentials in a location show nowhere.
#[test]
fn no_credentials_are_shown() {
    let peer = Peer::new();
    let location = peer.location().replace("http://", "http://bob:se-cret@");
    let (pushing, _source) = Pushing::by_hand(&format!("location={location} sync=false"));
    assert_eq!(pushing.sink.property::<Option<String>>("location"), Some(peer.location()));
    pushing.play();
    let mut connection = peer.accept();
    assert!(!connection.request().text.contains("cret"));
    connection.answer(&wms(503, "0"));
    let warned = pushing.wait_for_status("reconnect-start");
    assert!(!warned.to_string().contains("cret"));
    for message in pushing.messages() {
        assert!(!format!("{message:?}").contains("cret"));
    }
}

/// A push-id shows in no message and no statistics.
#[test]
fn no_push_id_is_shown() {
    let (peer, pushing, source) = pushing("");
    feed(&source, media::stream(5, STEP));
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "VERYSECRET"));
    connection.until_the_end();
    connection.answer(&wms(204, "VERYSECRET"));
    pushing.wait_for(|message| {
        assert!(!format!("{message:?}").contains("VERYSECRET"));
        matches!(message.view(), gst::MessageView::Eos(_)).then_some(())
    });
    assert!(!format!("{:?}", pushing.sink.property::<gst::Structure>("stats")).contains("VERYSECRET"));
}

/// The URI interface, and the answer to seekers.
#[test]
fn uri_handler_and_seeking() {
    init();
    let sink = gst::Element::make_from_uri(gst::URIType::Sink, "wmpush+http://host:81/a;b", None).unwrap();
    assert_eq!(sink.property::<Option<String>>("location").as_deref(), Some("http://host:81/a;b"));
    let handler = sink.clone().dynamic_cast::<gst::URIHandler>().unwrap();
    assert_eq!(handler.uri().as_deref(), Some("wmpush+http://host:81/a;b"));
    let mut query = gst::query::Seeking::new(gst::Format::Bytes);
    assert!(sink.static_pad("sink").unwrap().query(&mut query));
    assert!(!query.result().0);
}

/// Pacing: packets of a file wait for their send times, here by a clock that the test turns.
#[test]
fn files_go_out_in_real_time() {
    let peer = Peer::new();
    let (pushing, source) = Pushing::by_hand(&format!("location={}", peer.location()));
    let clock = gst_check::TestClock::new();
    clock.set_time(gst::ClockTime::ZERO);
    pushing.pipeline.use_clock(Some(&clock));
    pushing.play();
    feed(&source, media::stream(20, 1000));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let Some(Packet::Header(header)) = connection.packet() else { panic!() };
    let header = Header::parse(header).unwrap();
    for n in 0..20 {
        let payload = connection.data(1).remove(0);
        assert_eq!(media::number(&header, &payload, 1000), n);
        if n < 19 {
            // The next one waits for its second.
            let due = clock.wait_for_next_pending_id().time();
            assert_eq!(due, gst::ClockTime::from_seconds(u64::from(n) + 1));
            assert_eq!(pushing.destination_stats().get::<u64>("packets-sent"), Ok(u64::from(n) + 1));
            assert!(clock.crank());
        }
    }
    end(&source);
    connection.until_the_end();
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
}

/// Properties of NULL and READY keep their value while the element runs; those of PLAYING change.
#[test]
fn mutability() {
    let peer = Peer::new();
    let (pushing, _source) = Pushing::by_hand(&format!("location={}", peer.location()));
    pushing.play();
    pushing.sink.set_property("location", "http://elsewhere/");
    assert_eq!(pushing.sink.property::<Option<String>>("location"), Some(peer.location()));
    pushing.sink.set_property("timeout", 1234_u32);
    assert_eq!(pushing.sink.property::<u32>("timeout"), 1234);
    pushing.stop();
    pushing.sink.set_property("user-agent", "Mozilla/5.0");
    assert!(pushing.sink.property::<String>("user-agent").starts_with("WMEncoder/12.0.0.0 asfpushsink/"));
}

/// Input that is no stream: one clear ERROR each, nothing sent, no hang.
#[test]
fn malformed_input_is_an_error() {
    let cases = support::malformed::cases();
    assert!(cases.len() >= 24);
    for case in cases {
        let (_peer, pushing, source) = pushing("");
        let refused = case.name;
        if !case.input.is_empty() {
            feed(&source, case.input);
        }
        end(&source);
        let (error, details) = pushing.wait_for_error();
        let right = error.matches(gst::StreamError::WrongType) || error.matches(gst::StreamError::Format);
        assert!(right, "{refused}: {error:?}");
        for part in case.says {
            assert!(error.message().contains(&part), "{refused}: {:?} does not say {part:?}", error.message());
        }
        assert!(details.get::<u32>("hresult").unwrap() & 0x8000_0000 != 0, "{refused}");
        pushing.stop();
    }
}

/// A server that takes each push and drops it at once is tried again after `retry-delay`, not in a tight loop.
#[test]
fn dropped_at_once_is_no_success() {
    let (peer, pushing, source) = pushing("retry-delay=1000");
    feed(&source, media::stream(5, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    connection.packet();
    connection.reset();
    let broken = pushing.wait_for_status("reconnect-start");
    assert!(broken.get::<u32>("retry-in").unwrap() >= 800, "{broken}");
}

/// A resume that finds nobody there counts as a failed attempt each time: the delays grow.
#[test]
fn a_resume_that_is_refused_backs_off() {
    let (peer, pushing, source) = pushing("retry-delay=20 retry-delay-max=100000");
    feed(&source, media::stream(5, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    connection.packet();
    connection.data(5);
    pushing.wait_for_status("started");
    drop(peer);
    std::thread::sleep(Duration::from_millis(50));
    connection.reset();
    feed(&source, media::packet(5, STEP));
    let delays: Vec<u32> =
        (0..8).map(|_| pushing.wait_for_status("reconnect-start").get::<u32>("retry-in").unwrap()).collect();
    assert_eq!(delays[0], 0, "it had streamed: {delays:?}");
    assert!(delays[7] > 2 * delays[2], "{delays:?}");
    assert!(delays[1..].iter().all(|delay| *delay >= 16), "{delays:?}");
}

/// After EOS, a flush makes the element ready for another stream, which is pushed in a session of its own.
#[test]
fn a_flush_after_eos_begins_anew() {
    let (peer, pushing, source) = pushing("");
    for session in 0..2 {
        if session > 0 {
            let pad = pushing.sink.static_pad("sink").unwrap();
            assert!(pad.send_event(gst::event::FlushStart::new()));
            assert!(pad.send_event(gst::event::FlushStop::new(true)));
            assert!(pad.send_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new())));
            assert_eq!(pad.chain(gst::Buffer::from_slice(media::stream(7, STEP))), Ok(gst::FlowSuccess::Ok));
            std::thread::spawn(move || pad.send_event(gst::event::Eos::new()));
        } else {
            feed(&source, media::stream(7, STEP));
            end(&source);
        }
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        let packets = connection.until_the_end();
        let Packet::Header(header) = &packets[0] else { panic!() };
        assert_eq!(numbers(header, &packets), (0..7).collect::<Vec<_>>(), "session {session}");
        connection.answer(&wms(204, "one"));
        pushing.wait_for_eos();
    }
}

/// The 1000 hours that libav's Windows Media encoders add to timestamps make nobody wait, alone or beside sound.
#[test]
fn a_thousand_hours_are_not_waited_for() {
    for (sound, frames) in [("", 50), ("audiotestsrc num-buffers=80 ! avenc_wmav2 ! mux.", 50)] {
        let peer = Peer::new();
        let pushing = Pushing::launch(
            &format!(
                "videotestsrc num-buffers={frames} ! video/x-raw,width=64,height=48,framerate=25/1 ! avenc_wmv2 ! mux. {sound} \
                 asfmux name=mux streamable=true"
            ),
            &format!("location={} sync=true", peer.location()),
        );
        pushing.play();
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        let packets = connection.until_the_end();
        assert!(packets.len() > 2);
        connection.answer(&wms(204, "one"));
        pushing.wait_for_eos();
    }
}
