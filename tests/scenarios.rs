//! The scenarios by which gst-validate, of which Debian has no package, treats any element.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::thread;
use std::time::Duration;

use gst::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::media;
use support::peer::PATIENCE;
use support::pipeline::{Pushing, until};
use support::witness::{Push, Witness};
use tempfile::TempDir;

const STEP: u32 = 10;

/// The state is reached, in whatever time it takes.
fn settle(pushing: &Pushing, state: gst::State) {
    let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos().try_into().unwrap());
    let (change, current, pending) = pushing.pipeline.state(patience);
    let change = change.unwrap();
    assert_ne!(change, gst::StateChangeSuccess::Async, "{state:?} is not reached: {current:?}, {pending:?}");
    assert_eq!((current, pending), (state, gst::State::VoidPending));
}

/// A file of the stream, and a server that writes down what comes of it.
struct File {
    directory: TempDir,
    witness: Witness,
    packets: u32,
}

impl File {
    fn new(packets: u32) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("stream.asf"), media::stream(packets, STEP)).unwrap();
        Self { directory, witness: Witness::new(STEP), packets }
    }

    fn source(&self) -> String {
        format!("filesrc blocksize=2000 location={}/stream.asf", self.directory.path().display())
    }

    /// The pipeline of this source and the element with these properties.
    fn pushing(&self, source: &str, properties: &str) -> Pushing {
        Pushing::launch(source, &format!("location={} eos-timeout=30000 {properties}", self.witness.server.location()))
    }

    /// The numbers of the packets that came, on all connections one after another.
    fn came(&self) -> Vec<u32> {
        self.witness.pushes().iter().flat_map(Push::numbers).collect()
    }

    /// The whole file.
    fn whole(&self) -> Vec<u32> {
        (0..self.packets).collect()
    }
}

/// PAUSED is reached from PLAYING at whatever moment of the wait for a packet's time, and nothing is lost or doubled.
#[test]
fn pauses_in_the_midst_of_a_wait() {
    let mut random = StdRng::seed_from_u64(1);
    let file = File::new(20_000);
    let pushing = file.pushing(&file.source(), "async=true sync=true");
    pushing.play();
    settle(&pushing, gst::State::Playing);
    until("some packets", || file.came().len() > 5);
    for _ in 0..200 {
        thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
        for state in [gst::State::Paused, gst::State::Playing] {
            pushing.pipeline.set_state(state).unwrap();
            settle(&pushing, state);
        }
    }
    let before = file.came().len();
    until("more packets", || file.came().len() > before + 5);
    let came = file.came();
    assert_eq!(came, &file.whole()[..came.len()]);
}
