//! Streams encoded by ffmpeg, at a leaf of a tree.

use std::path::Path;

use asfpush_client::packet_buffer::Limits;
use test_support::decoded::{assert_same_frames, ffmpeg_file, recordings};

use super::*;

fn recorded(directory: &Path) -> PointConfig {
    PointConfig { record: Some(directory.to_owned()), ..PointConfig::default() }
}

/// A stream ends and another begins: the relay follows, with a session for each.
#[test]
fn a_point_that_ends_and_starts_again() {
    let directory = TempDir::new().unwrap();
    let leaf = Server::spawn(config(&recorded(&directory.path().join("leaf")))).unwrap();
    let root = server([to(&url(&leaf))]);
    let sources = [25, 10].map(|rate| {
        let file = directory.path().join(format!("{rate}.wmv"));
        ffmpeg_file(&file, rate);
        file
    });
    for (source, count) in sources.iter().zip(1..) {
        let pushing = Pushing::launch(
            &format!("filesrc location={}", source.display()),
            &format!("sync=false location={}", url(&root)),
        );
        pushing.play();
        pushing.wait_for_eos();
        until("the leaf has all of it", || {
            let stats = leaf.stats("concert").unwrap();
            stats.sessions == count && !stats.pushing && stats.packets == packets(&root)
        });
    }
    leaf.stop();
    for (source, recording) in sources.iter().zip(recordings(&directory.path().join("leaf"))) {
        assert_same_frames(source, &recording, 0);
    }
}

/// C-12: a changed header in mid-push reaches the leaf in the same session.
#[test]
fn c12_a_header_change() {
    let directory = TempDir::new().unwrap();
    let leaf = Server::spawn(config(&recorded(&directory.path().join("leaf")))).unwrap();
    // Eight seconds of the stream arrive at once.
    let limits = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let root = Server::spawn(config(&PointConfig { limits, ..point([to(&url(&leaf))]) })).unwrap();
    let [first, second] = [25, 10].map(|rate| {
        let file = directory.path().join(format!("{rate}.wmv"));
        ffmpeg_file(&file, rate);
        file
    });
    let pushing = Pushing::launch(
        &format!(
            "concat name=c filesrc location={} ! c. filesrc location={} ! c. c.",
            first.display(),
            second.display()
        ),
        &format!("sync=false location={}", url(&root)),
    );
    pushing.play();
    pushing.wait_for_eos();
    until("the leaf has all of it", || packets(&leaf) == packets(&root));
    assert_eq!(leaf.stats("concert").unwrap().sessions, 1);
    root.stop();
    leaf.stop();
    let files = recordings(&directory.path().join("leaf"));
    assert_eq!(files.len(), 2);
    assert_same_frames(&first, &files[0], 0);
    assert_same_frames(&second, &files[1], 0);
}
