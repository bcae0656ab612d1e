//! Waits in pipelines with encoders and muxers: live sources, and the timestamps of libav's encoders.

use super::*;

/// PLAYING is reached and left with a server that refuses connections, is silent, or responds with garbage.
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

/// The 1000 hours that libav's Windows Media encoders add to timestamps cause no wait, with or without audio.
#[test]
fn an_offset_of_a_thousand_hours_causes_no_wait() {
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
