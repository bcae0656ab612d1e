//! What the element waits for, how long, and what interrupts the wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use asf::Header;
use gst::prelude::*;
use test_support::media;
use test_support::peer::{Peer, TEST_TIMEOUT, wms};
use test_support::pipeline::{Pushing, end, push_bytes, pushing_to_one as pushing, status, status_nick, until};
use wmhttp::Hresult;
use wmhttp::packet::Packet;

#[cfg(feature = "interop")]
mod interop;

const STEP: u32 = 40;

fn wait_for_notice(pushing: &Pushing, words: &str) -> gst::Structure {
    pushing.wait_for(|message| {
        let gst::MessageView::Warning(warning) = message.view() else { return None };
        let details = warning.details().filter(|details| details.name() == "asfpushsink-notice")?;
        details.get::<&str>("text").unwrap().contains(words).then(|| details.to_owned())
    })
}

/// If upstream is silent so long that the server will end the session (S-2), a WARNING is posted before.
#[test]
fn a_warning_precedes_the_idle_timeout() {
    let (peer, pushing, source) = pushing("");
    push_bytes(&source, media::stream(10, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one").replace("timeout=60000", "timeout=400"));
    connection.packet();
    connection.data(10);
    let notice = wait_for_notice(&pushing, "upstream has sent no data");
    assert_eq!(notice.get::<&str>("destination"), Ok("dest_0"));
    // Once per pause.
    push_bytes(&source, media::packet(10, STEP));
    connection.data(1);
    wait_for_notice(&pushing, "upstream has sent no data");
}

/// A very short Idle-Timeout does not cause a WARNING for each packet.
#[test]
fn silence_is_reported_at_most_once_per_second() {
    let begun = Instant::now();
    let (peer, pushing, source) = pushing("");
    push_bytes(&source, media::stream(1, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one").replace("timeout=60000", "timeout=1"));
    connection.packet();
    connection.data(1);
    for n in 1..30 {
        push_bytes(&source, media::packet(n, STEP));
        connection.data(1);
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = pushing.messages().iter().filter(|message| message.type_() == gst::MessageType::Warning).count();
    let seconds = begun.elapsed().as_secs();
    assert!(told >= 1 && told as u64 <= seconds + 1, "{told} in {seconds} s");
}

/// A WARNING is posted before the push to a server that stopped reading is aborted.
#[test]
fn a_warning_precedes_the_stall_timeout() {
    let peer = Peer::with_small_buffer();
    let (pushing, source) =
        Pushing::with_feed_source(&format!("location={} sync=false stall-timeout=1500", peer.location()));
    pushing.play();
    push_bytes(&source, media::stream(5000, STEP));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    wait_for_notice(&pushing, "accepted no data");
    pushing.wait_for_status("reconnect-start");
}

/// With an unreachable or silent server, EOS is posted after `eos-timeout` and not later.
#[test]
fn eos_is_bounded() {
    let silent = Peer::new();
    for location in [silent.location(), "http://127.0.0.1:9/concert".to_owned()] {
        let (pushing, source) = Pushing::with_feed_source(&format!("location={location} sync=false eos-timeout=200"));
        pushing.play();
        push_bytes(&source, media::stream(5, STEP));
        end(&source);
        let (error, _) = pushing.wait_for_error();
        assert!(error.matches(gst::ResourceError::OpenWrite), "{error}");
        let text = error.message();
        assert!(
            text.contains(&format!("({location})")) && text.contains("ended before any of it was pushed"),
            "{text}"
        );
    }
}

/// No PROGRESS step stays open in PAUSED: gst-launch-1.0 and other applications wait for its end before they go to
/// PLAYING, so that a server that never responds would delay the push to all others.
#[test]
fn an_unanswered_request_does_not_delay_playing() {
    let silent = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={} sync=false", silent.location()));
    pushing.pipeline.set_state(gst::State::Paused).unwrap();
    push_bytes(&source, media::stream(5, STEP));
    let mut connection = silent.accept();
    connection.request();
    let kind = |message: &gst::Message| {
        let gst::MessageView::Progress(progress) = message.view() else { return None };
        Some(progress.get().0)
    };
    let kinds: Vec<_> = pushing.messages().iter().filter_map(kind).collect();
    let pair = [gst::ProgressType::Start, gst::ProgressType::Complete];
    assert!(kinds.chunks(2).all(|step| step == pair), "{kinds:?}");
    pushing.play();
    assert_eq!(pushing.wait_for(kind), gst::ProgressType::Start);
}

/// After EOS was posted no connection is made, even if a retry was pending.
#[test]
fn nothing_connects_after_eos() {
    let refused = Peer::new();
    let location = refused.location();
    let address = location.trim_start_matches("http://").trim_end_matches("/concert").parse().unwrap();
    drop(refused);
    let (pushing, source) = Pushing::with_feed_source(&format!(
        "location={location} sync=false eos-timeout=100 retry-delay=200 on-error=never"
    ));
    pushing.play();
    push_bytes(&source, media::stream(5, STEP));
    end(&source);
    pushing.wait_for_eos();
    let late = Peer::on(address);
    assert!(late.accept_within(Duration::from_millis(900)).is_none(), "connected after EOS");
    assert_eq!(pushing.state_of(0), "closed");
}

/// C-11: three of six known servers neither respond to the end nor close the connection. When their TCP stack has
/// acknowledged the end, the push is over, long before `eos-timeout`, successfully and without a WARNING.
#[test]
fn c11_an_end_without_a_response_is_not_a_failure() {
    for by_action in [true, false] {
        let (peer, pushing, source) = pushing("eos-timeout=600000");
        push_bytes(&source, media::stream(5, STEP));
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        pushing.wait_for_status("started");
        if by_action {
            assert!(pushing.sink.emit_by_name::<bool>("end-session", &[&None::<&str>]));
        } else {
            end(&source);
        }
        for nick in ["stopped", "closed"] {
            let status = pushing.wait_for(|message| {
                assert!(!matches!(message.view(), gst::MessageView::Warning(_)), "{message:?}");
                status(message).filter(|status| status_nick(status) == nick)
            });
            assert_eq!(status.get::<u32>("hresult"), Ok(Hresult::OK.0), "{nick}");
        }
        if by_action {
            end(&source);
        }
        pushing.wait_for_eos();
        // It has read nothing until now, and sends nothing until the end.
        let packets = connection.until_the_end();
        assert_eq!(packets.last(), Some(&Packet::End(Hresult::OK)));
        assert_eq!(media::numbers(&packets, STEP), (0..5).collect::<Vec<_>>());
        assert!(connection.is_closed(), "gracefully, without a reset");
    }
}

/// C-12: a header change that needs a new session works with a silent server too, and `drop-policy=block` loses
/// nothing.
#[test]
fn c12_a_header_change_at_a_silent_server() {
    let (peer, pushing, source) = pushing("header-change=reconnect eos-timeout=600000");
    push_bytes(&source, media::stream(50, STEP));
    let mut first = peer.accept();
    first.set_up(&wms(204, "one"));
    push_bytes(&source, media::stream(50, STEP));
    let mut second = peer.accept();
    second.set_up(&wms(204, "two"));
    end(&source);
    pushing.wait_for_eos();
    for connection in [&mut first, &mut second] {
        assert_eq!(media::numbers(&connection.until_the_end(), STEP), (0..50).collect::<Vec<_>>());
    }
    assert_eq!(pushing.destination_stats().get::<u64>("packets-dropped"), Ok(0));
}

/// If the server does not accept the end, a WARNING is posted before EOS, even if the destination's own timeout is over
/// before the element's.
#[test]
fn an_undelivered_end_is_reported() {
    const PACKETS: u32 = 150;
    for first in [true, false] {
        let peer = Peer::with_small_buffer();
        let (pushing, source) =
            Pushing::with_feed_source(&format!("location={} sync=false eos-timeout=300", peer.location()));
        pushing.play();
        push_bytes(&source, media::stream(PACKETS, 1));
        let mut connection = peer.accept();
        connection.set_up(&wms(204, "one"));
        until("all sent", || pushing.destination_stats().get::<u64>("packets-sent") == Ok(PACKETS.into()));
        if first {
            assert!(pushing.sink.emit_by_name::<bool>("end-session", &[&None::<&str>]));
            let status = pushing.wait_for_status("stopped");
            assert_eq!(status.get::<u32>("hresult"), Ok(Hresult::TIMEOUT.0));
        }
        end(&source);
        let text = pushing.wait_for(|message| {
            assert!(!matches!(message.view(), gst::MessageView::Eos(_)), "EOS without a WARNING");
            let gst::MessageView::Warning(warning) = message.view() else { return None };
            Some(warning.error().message().to_owned())
        });
        assert!(text.contains("eos-timeout"), "{text}");
        pushing.wait_for_eos();
    }
}

/// A state change interrupts the wait at EOS and back-pressure.
#[test]
fn waits_can_be_interrupted() {
    let silent = Peer::new();
    let (pushing, source) =
        Pushing::with_feed_source(&format!("location={} sync=false eos-timeout=600000", silent.location()));
    pushing.play();
    push_bytes(&source, media::stream(5, STEP));
    end(&source);
    silent.accept();
    pushing.pipeline.set_state(gst::State::Paused).unwrap();
    pushing.stop();

    let (pushing, source) = Pushing::with_feed_source(&format!(
        "location={} sync=false max-size-buffers=10 timeout=600000",
        silent.location()
    ));
    pushing.play();
    for n in 0..100 {
        push_bytes(&source, if n == 0 { media::stream(1, STEP) } else { media::packet(n, STEP).to_vec() });
    }
    until("the buffer fills", || pushing.destination_stats().get::<u64>("packets-queued").unwrap_or(0) >= 10);
    pushing.pipeline.set_state(gst::State::Paused).unwrap();
    pushing.pipeline.set_state(gst::State::Playing).unwrap();
    pushing.stop();
}

/// Back-pressure: with a server that is slow to start, upstream waits and nothing is dropped.
#[test]
fn files_are_blocked_and_lose_nothing() {
    let (peer, pushing, source) = pushing("max-size-buffers=50");
    push_bytes(&source, media::header());
    for n in 0..2000 {
        push_bytes(&source, media::packet(n, STEP));
    }
    end(&source);
    let received = || pushing.sink.property::<gst::Structure>("stats").get::<u64>("packets-received").unwrap();
    let mut connection = peer.accept();
    until("the buffer fills", || received() >= 50);
    // Without back-pressure, more would have arrived within this time.
    std::thread::sleep(Duration::from_millis(200));
    assert!(received() <= 52, "{}", received());
    connection.set_up(&wms(204, "one"));
    let packets = connection.until_the_end();
    assert_eq!(media::numbers_of_push(&packets, STEP), (0..2000).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    assert_eq!(pushing.destination_stats().get::<u64>("packets-dropped"), Ok(0));
}

/// Contract 5: the same with a buffer that contains far more than may be queued.
#[test]
fn a_large_buffer_is_blocked_and_loses_nothing() {
    const PACKETS: u32 = 10_000;
    const LIMIT: u64 = 1_000_000;
    let (peer, pushing, source) = pushing(&format!("max-size-bytes={LIMIT} max-size-time=0 eos-timeout=30000"));
    push_bytes(&source, media::stream(PACKETS, STEP));
    end(&source);
    let mut connection = peer.accept();
    until("the buffer fills", || pushing.count(0, "bytes-queued") >= LIMIT);
    std::thread::sleep(Duration::from_millis(200));
    let queued = pushing.count(0, "bytes-queued");
    assert!(queued <= LIMIT + (1 << 20), "{queued}");
    connection.set_up(&wms(204, "one"));
    let packets = connection.until_the_end();
    assert_eq!(media::numbers_of_push(&packets, STEP), (0..PACKETS).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
    assert_eq!(pushing.count(0, "packets-dropped"), 0);
}

/// `drop-policy=keyframe`: a late server continues at the most recent key frame, and the gap is reported and counted.
#[test]
fn lagging_skips_to_a_key_frame() {
    let (peer, pushing, source) = pushing("max-size-buffers=25 drop-policy=keyframe");
    let mut connection = peer.accept();
    let setup = connection.request();
    assert!(setup.is_setup());
    push_bytes(&source, media::stream(1, STEP));
    for n in 1..1000 {
        push_bytes(&source, media::packet(n, STEP));
    }
    until("all received", || {
        pushing.sink.property::<gst::Structure>("stats").get::<u64>("packets-received") == Ok(1000)
    });
    connection.answer(&wms(204, "one"));
    connection.request();
    end(&source);
    let packets = connection.until_the_end();
    assert_eq!(media::numbers_of_push(&packets, STEP), (990..1000).collect::<Vec<_>>());
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

/// Pacing: packets of a file wait for their send times, here with a test clock.
#[test]
fn files_are_sent_in_real_time() {
    let peer = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={}", peer.location()));
    let clock = gst_check::TestClock::new();
    clock.set_time(gst::ClockTime::ZERO);
    pushing.pipeline.use_clock(Some(&clock));
    pushing.play();
    push_bytes(&source, media::stream(20, 1000));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    let Some(Packet::Header(header)) = connection.packet() else { panic!() };
    let header = Header::parse(header).unwrap();
    for n in 0..20 {
        let payload = connection.data(1).remove(0);
        assert_eq!(media::number(&header, &payload, 1000), n);
        if n < 19 {
            // The next packet waits for its second.
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

/// After a flush, which resets the running time, pacing starts again and does not repeat the earlier wait.
#[test]
fn pacing_restarts_after_a_flush() {
    const SECONDS: u32 = 20;
    let peer = Peer::new();
    let (pushing, source) = Pushing::with_feed_source(&format!("location={}", peer.location()));
    let clock = gst_check::TestClock::new();
    clock.set_time(gst::ClockTime::ZERO);
    pushing.pipeline.use_clock(Some(&clock));
    pushing.play();
    push_bytes(&source, media::stream(SECONDS, 1000));
    let mut connection = peer.accept();
    connection.set_up(&wms(204, "one"));
    for _ in 1..SECONDS {
        clock.wait_for_next_pending_id();
        assert!(clock.crank());
    }
    until("all packets", || pushing.count(0, "packets-sent") == u64::from(SECONDS));
    let pad = pushing.sink.static_pad("sink").unwrap();
    assert!(pad.send_event(gst::event::FlushStart::new()));
    assert!(pad.send_event(gst::event::FlushStop::new(true)));
    assert!(pad.send_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())));
    // Close to the next packet, so that the send time does not count as a splice.
    push_bytes(&source, media::packets(SECONDS..SECONDS + 2, 1000));
    let due = clock.wait_for_next_pending_id().time();
    assert_eq!(due, clock.time() + gst::ClockTime::SECOND);
    assert!(clock.crank());
    end(&source);
    let packets = connection.until_the_end();
    assert_eq!(media::numbers_of_push(&packets, 1000), (0..SECONDS + 2).collect::<Vec<_>>());
    connection.answer(&wms(204, "one"));
    pushing.wait_for_eos();
}

/// A push that failed permanently ends with its ERROR: EOS is not posted before it, however long an application takes
/// to handle the failure.
#[test]
fn eos_does_not_overtake_an_error() {
    let (peer, pushing, source) = pushing("retries=0");
    let (told, tell) = channel();
    pushing.sink.connect("status", false, move |values| {
        if glib::EnumValue::from_value(&values[2]).unwrap().1.nick() == "error" {
            told.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(500));
        }
        None
    });
    push_bytes(&source, media::stream(10, STEP));
    let mut connection = peer.accept();
    connection.request();
    connection.answer(&wms(404, "0"));
    tell.recv_timeout(TEST_TIMEOUT).unwrap();
    end(&source);
    pushing.wait_for_error();
    pushing.wait_for_eos();
}

/// A bin may be freed as soon as the element has stopped, while a message for it comes from the I/O thread: the element
/// waits for posts in progress, except for a post of its own thread.
#[test]
fn nothing_is_posted_after_the_stop() {
    for by_application in [true, false] {
        let silent = Peer::new();
        let (pushing, _source) = Pushing::with_feed_source(&format!("location={} sync=false", silent.location()));
        let (told, tell) = channel();
        let plays = Arc::new(OnceLock::new());
        let over = Arc::new(AtomicBool::new(false));
        let (sink, is_over, played) = (pushing.sink.downgrade(), Arc::clone(&over), Arc::clone(&plays));
        pushing.pipeline.bus().unwrap().set_sync_handler(move |_, message| {
            if status(message).is_some() && told.send(()).is_ok() {
                if by_application {
                    std::thread::sleep(Duration::from_millis(300));
                } else {
                    played.wait();
                    let sink = sink.upgrade().unwrap();
                    // Otherwise the pipeline, whose target state is PLAYING, would start it again.
                    sink.set_locked_state(true);
                    sink.set_state(gst::State::Ready).unwrap();
                }
                is_over.store(true, Ordering::Release);
            }
            gst::BusSyncReply::Drop
        });
        pushing.play();
        plays.set(()).unwrap();
        tell.recv_timeout(TEST_TIMEOUT).unwrap();
        if by_application {
            pushing.stop();
            assert!(over.load(Ordering::Acquire), "a message was in flight");
            while tell.try_recv().is_ok() {}
        } else {
            until("stopped by the posting thread", || over.load(Ordering::Acquire));
            pushing.sink.set_state(gst::State::Null).unwrap();
            pushing.stop();
        }
        assert!(tell.recv_timeout(Duration::from_millis(200)).is_err(), "a message was posted after the stop");
    }
}
