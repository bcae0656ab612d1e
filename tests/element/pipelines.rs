//! The element in pipelines, against scripted servers: input, output and messages.

use std::sync::mpsc::channel;

use asf::Header;
use gst::prelude::*;
use test_support::media;
use test_support::peer::{Peer, wms};
use test_support::pipeline::{Pushing, end, init, push_bytes, pushing_to_one as pushing, status, status_nick, until};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

const STEP: u32 = 40;

fn wait_for_warning(pushing: &Pushing) -> String {
    pushing.wait_for(|message| {
        let gst::MessageView::Warning(warning) = message.view() else { return None };
        Some(warning.error().message().to_owned())
    })
}

/// Pushes what follows a flush: a segment, these bytes and EOS, without waiting for it.
fn push_after_flush<T: gst::format::FormattedValueIntrinsic>(
    pushing: &Pushing,
    segment: &gst::FormattedSegment<T>,
    bytes: Vec<u8>,
) {
    let pad = pushing.sink.static_pad("sink").unwrap();
    assert!(pad.send_event(gst::event::FlushStart::new()));
    assert!(pad.send_event(gst::event::FlushStop::new(true)));
    assert!(pad.send_event(gst::event::Segment::new(segment)));
    assert_eq!(pad.chain(gst::Buffer::from_slice(bytes)), Ok(gst::FlowSuccess::Ok));
    std::thread::spawn(move || pad.send_event(gst::event::Eos::new()));
}

/// From the first byte to `$E`(0): the input arrives, and the bus reports each step in order.
#[test]
fn a_push_from_beginning_to_end() {
    let (peer, pushing, source) = pushing("");
    push_bytes(&source, media::stream(100, STEP));
    end(&source);

    let mut connection = peer.accept();
    let start = connection.set_up(&wms(204, "one"));
    assert_eq!(start.push_id(), "one");
    assert_eq!(start.header("Content-Length"), Some("2147483647"));
    let packets = connection.until_the_end();
    let Packet::Header(header) = &packets[0] else { panic!("C-8: {:?}", packets[0]) };
    assert!(Header::parse(header.clone()).unwrap().is_broadcast(), "live-header");
    assert_eq!(media::numbers_of_push(&packets, STEP), (0..100).collect::<Vec<_>>());
    assert_eq!(packets.last(), Some(&Packet::End(Hresult::OK)));
    assert!(
        pushing.messages().iter().all(|message| message.type_() != gst::MessageType::Eos),
        "EOS before the response"
    );
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

/// The order of the statuses, with their numbers and results, on the bus and in the signal.
#[test]
fn statuses_by_bus_and_signal() {
    let peer = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={} sync=false", peer.location()));
    let (sender, signals) = channel();
    pushing.sink.connect("status", false, move |values| {
        let number = glib::EnumValue::from_value(&values[2]).unwrap().1.value();
        let hresult = values[3].get::<u32>().unwrap();
        let destination = values[1].get::<gst::Object>().unwrap().name().to_string();
        sender.send((destination, number, hresult)).unwrap();
        None
    });
    pushing.play();
    push_bytes(&source, media::stream(3, STEP));
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

/// The push is the same whatever the size of the buffers.
#[test]
fn any_chunking() {
    let whole = media::stream(30, STEP);
    for size in [1, 7, 999, 1000, 4096, whole.len()] {
        let (peer, pushing, source) = pushing("");
        for chunk in whole.chunks(size) {
            push_bytes(&source, chunk.to_vec());
        }
        end(&source);
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        let packets = connection.until_the_end();
        assert_eq!(media::numbers_of_push(&packets, STEP), (0..30).collect::<Vec<_>>(), "chunks of {size}");
        connection.answer(&wms(204, "one"));
        pushing.wait_for_eos();
    }
}

/// The caps' `streamheader` is used if the bytes do not begin with a header.
#[test]
fn header_from_caps() {
    let peer = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={} sync=false", peer.location()));
    let header = gst::Buffer::from_slice(media::header());
    let caps = gst::Caps::builder("video/x-ms-asf").field("streamheader", gst::Array::new([header])).build();
    source.set_property("caps", caps);
    source.set_property_from_str("format", "time");
    pushing.play();
    for n in 10..15 {
        push_bytes(&source, media::packet(n, STEP));
    }
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let packets = connection.until_the_end();
    assert_eq!(media::numbers_of_push(&packets, STEP), (10..15).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
}

/// An invalid location is reported before connecting.
#[test]
fn invalid_locations() {
    for (properties, hresult) in [
        ("", Hresult::INVALID_ARG),
        ("location=rtsp://host/x", Hresult::INVALID_SCHEME),
        ("location=http://host:99999/x", Hresult::INVALID_PORT),
    ] {
        let (pushing, _source) = Pushing::with_feed_source(properties);
        assert!(pushing.pipeline.set_state(gst::State::Paused).is_err());
        let (error, details) = pushing.wait_for_error();
        assert!(error.matches(gst::ResourceError::Settings), "{error:?}");
        assert_eq!(details.get::<u32>("hresult"), Ok(hresult.0), "{properties}");
    }
}

/// An invalid property value is reported before connecting with the old one, until it is corrected.
#[test]
fn invalid_values() {
    let peer = Peer::new();
    for (property, value, better) in [
        ("bind-address", "localhost", "127.0.0.1"),
        ("user-agent", "Mozilla/5.0", "WMEncoder/9.0"),
        ("template-url", "concert", "/concert"),
        ("dest_0::template-url", "concert", "/concert"),
        ("dest_0::location", "rtsp://host/x", "http://127.0.0.1:9/x"),
    ] {
        let (pushing, _source) = Pushing::with_feed_source(&format!("location={} {property}={value}", peer.location()));
        assert!(pushing.pipeline.set_state(gst::State::Paused).is_err(), "{property}");
        let (error, details) = pushing.wait_for_error();
        assert!(error.matches(gst::ResourceError::Settings), "{error:?}");
        assert!(error.message().starts_with(&format!("invalid value for property {property}: ")), "{error:?}");
        assert_eq!(details.get::<u32>("hresult"), Ok(Hresult::INVALID_ARG.0), "{property}");
        pushing.stop();
        let children = pushing.sink.dynamic_cast_ref::<gst::ChildProxy>().unwrap();
        children.set_child_property(property, better.to_value());
        pushing.play();
    }
}

/// Credentials in a location appear nowhere.
#[test]
fn no_credentials_are_shown() {
    let peer = Peer::new();
    let location = peer.location().replace("http://", "http://bob:se-cret@");
    let (pushing, _source) = Pushing::with_feed_source(&format!("location={location} sync=false"));
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

/// A push-id appears in no message and no statistics.
#[test]
fn no_push_id_is_shown() {
    let (peer, pushing, source) = pushing("");
    push_bytes(&source, media::stream(5, STEP));
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

/// The URI interface, and the response to seeking queries.
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

/// Properties that can be changed in NULL and READY keep their value while the element runs; those that can be changed
/// in PLAYING change.
#[test]
fn mutability() {
    let peer = Peer::new();
    let (pushing, _source) = Pushing::with_feed_source(&format!("location={}", peer.location()));
    pushing.play();
    pushing.sink.set_property("location", "http://elsewhere/");
    assert_eq!(pushing.sink.property::<Option<String>>("location"), Some(peer.location()));
    let warning = wait_for_warning(&pushing);
    assert!(warning.contains("location") && warning.contains("READY"), "{warning}");
    pushing.child(0).set_property("location", "rtsp://elsewhere/");
    assert_eq!(pushing.child(0).property::<Option<String>>("location"), Some(peer.location()));
    let warning = wait_for_warning(&pushing);
    assert!(warning.contains("dest_0::location") && warning.contains("rtsp:"), "{warning}");
    pushing.sink.set_property("timeout", 1234_u32);
    assert_eq!(pushing.sink.property::<u32>("timeout"), 1234);
    pushing.stop();
    pushing.sink.set_property("user-agent", "Mozilla/5.0");
    assert!(pushing.sink.property::<String>("user-agent").starts_with("WMEncoder/12.0.0.0 asfpushsink/"));
}

/// Invalid input: one clear ERROR for each, nothing is sent, and nothing hangs.
#[test]
fn malformed_input_is_an_error() {
    let cases = test_support::malformed_asf::cases();
    assert!(cases.len() >= 24);
    for case in cases {
        let (_peer, pushing, source) = pushing("");
        let refused = case.name;
        if !case.input.is_empty() {
            push_bytes(&source, case.input);
        }
        end(&source);
        let (error, details) = pushing.wait_for_error();
        let right = error.matches(gst::StreamError::WrongType) || error.matches(gst::StreamError::Format);
        assert!(right, "{refused}: {error:?}");
        for part in case.says {
            assert!(error.message().contains(&part), "{refused}: {:?} does not contain {part:?}", error.message());
        }
        assert!(details.get::<u32>("hresult").unwrap() & 0x8000_0000 != 0, "{refused}");
        pushing.stop();
    }
}

/// A header without packets: EOS is posted after a WARNING.
#[test]
fn a_header_without_packets_causes_a_warning() {
    let (_peer, pushing, source) = pushing("eos-timeout=1");
    push_bytes(&source, media::header());
    end(&source);
    let warning = wait_for_warning(&pushing);
    assert!(warning.contains("first data packet") && warning.contains("nothing was pushed"), "{warning}");
    pushing.wait_for_eos();
}

/// After EOS, a flush prepares the element for another stream, which is pushed in a new session.
#[test]
fn a_flush_after_eos_starts_another_stream() {
    let (peer, pushing, source) = pushing("");
    for session in 0..2 {
        if session > 0 {
            push_after_flush(&pushing, &gst::FormattedSegment::<gst::format::Bytes>::new(), media::stream(7, STEP));
        } else {
            push_bytes(&source, media::stream(7, STEP));
            end(&source);
        }
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        let packets = connection.until_the_end();
        assert_eq!(media::numbers_of_push(&packets, STEP), (0..7).collect::<Vec<_>>(), "session {session}");
        connection.answer(&wms(204, "one"));
        pushing.wait_for_eos();
    }
}

/// Packets in the same buffer as invalid bytes are sent, as they would be from separate buffers.
#[test]
fn packets_before_a_fault_are_pushed() {
    let (peer, pushing, source) = pushing("");
    let nonsense = vec![0xFF; 8 * media::SIZE as usize];
    push_bytes(&source, [media::stream(30, STEP), nonsense].concat());
    let (error, _) = pushing.wait_for_error();
    assert!(error.matches(gst::StreamError::Format), "{error:?}");
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let Some(Packet::Header(header)) = connection.packet() else { panic!("C-8") };
    let header = Header::parse(header).unwrap();
    for (n, payload) in connection.data(30).iter().enumerate() {
        assert_eq!(media::number(&header, payload, STEP) as usize, n);
    }
}

/// A destination that is added while the push starts is pushed to.
#[test]
fn one_added_while_the_push_begins() {
    let peers = [Peer::new(), Peer::new()];
    let properties = format!("location={} tls-validation=false eos-timeout=30000", peers[0].location());
    let (pushing, source) = Pushing::with_feed_source(&properties);
    let (sink, second) = (pushing.sink.downgrade(), peers[1].location());
    pushing.pipeline.bus().unwrap().set_sync_handler(move |_, message| {
        // The element posts a warning about certificate validation.
        if let (gst::MessageView::Warning(_), Some(sink)) = (message.view(), sink.upgrade()) {
            sink.emit_by_name::<Option<gst::Object>>("add", &[&second, &None::<gst::Structure>]).unwrap();
        }
        gst::BusSyncReply::Pass
    });
    pushing.play();
    push_bytes(&source, media::stream(3, STEP));
    end(&source);
    for peer in &peers {
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        connection.until_the_end();
        connection.answer(&wms(204, "one"));
    }
    pushing.wait_for_eos();
}

/// The same if the header is only in the caps, which are not sent again.
#[test]
fn a_flush_after_eos_keeps_the_header_of_the_caps() {
    let peer = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={} sync=false", peer.location()));
    let header = gst::Buffer::from_slice(media::header());
    let caps = gst::Caps::builder("video/x-ms-asf").field("streamheader", gst::Array::new([header])).build();
    source.set_property("caps", caps);
    source.set_property_from_str("format", "time");
    pushing.play();
    for session in 0..2 {
        if session > 0 {
            push_after_flush(&pushing, &gst::FormattedSegment::<gst::ClockTime>::new(), media::packets(0..5, STEP));
        } else {
            push_bytes(&source, media::packets(0..5, STEP));
            end(&source);
        }
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        let packets = connection.until_the_end();
        assert_eq!(media::numbers_of_push(&packets, STEP), (0..5).collect::<Vec<_>>(), "session {session}");
        connection.answer(&wms(204, "one"));
        pushing.wait_for_eos();
    }
}

/// An element that is inserted before the sink in the middle of the stream sends the sticky events again; the stream is
/// the same.
#[test]
fn relinking_is_not_a_new_stream() {
    let peer = Peer::new();
    let properties = format!("location={} sync=false", peer.location());
    let pushing = Pushing::launch("feedsrc name=feed ! identity name=before", &properties);
    let source = pushing.pipeline.by_name("feed").unwrap();
    pushing.play();
    // The last packet is split.
    let whole = media::stream(20, STEP);
    let (first, second) = whole.split_at(whole.len() - 9500);
    push_bytes(&source, first.to_vec());
    let received = || pushing.sink.property::<gst::Structure>("stats").get::<u64>("packets-received").unwrap();
    until("the packets so far", || received() == 10);
    let before = pushing.pipeline.by_name("before").unwrap();
    before.unlink(&pushing.sink);
    let between = gst::ElementFactory::make("identity").build().unwrap();
    pushing.pipeline.add(&between).unwrap();
    gst::Element::link_many([&before, &between, &pushing.sink]).unwrap();
    between.sync_state_with_parent().unwrap();
    push_bytes(&source, second.to_vec());
    end(&source);
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let packets = connection.until_the_end();
    assert_eq!(media::numbers_of_push(&packets, STEP), (0..20).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    let stats = pushing.sink.property::<gst::Structure>("stats");
    assert_eq!(stats.get::<u64>("header-changes"), Ok(0));
}
