//! State changes with thousands of destinations cost the calling thread little, because the I/O thread creates sessions
//! and connections.
//!
//! A separate program, because its allocator counts the allocations of each thread. Unlike time, these do not depend on
//! the load of the machine.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gst::prelude::*;
use test_support::pipeline::Pushing;

/// Counts the allocations of the calling thread.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

#[derive(Clone, Copy, Debug, Default)]
struct Allocations {
    number: usize,
    bytes: usize,
}

thread_local! {
    static ALLOCATED: Cell<Allocations> = const { Cell::new(Allocations { number: 0, bytes: 0 }) };
}

impl Counting {
    fn count(bytes: usize) {
        // At the end of a thread the counter no longer exists.
        let _ = ALLOCATED.try_with(|allocated| {
            let Allocations { number, bytes: so_far } = allocated.get();
            allocated.set(Allocations { number: number + 1, bytes: so_far + bytes });
        });
    }
}

#[expect(unsafe_code, reason = "an allocator is")]
// SAFETY: all calls are forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller meets the same conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller meets the same conditions.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Self::count(new_size);
        // SAFETY: the caller meets the same conditions.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

/// Returns what this thread allocates during `work`.
fn allocated_by(work: impl FnOnce()) -> Allocations {
    let before = ALLOCATED.get();
    work();
    let after = ALLOCATED.get();
    Allocations { number: after.number - before.number, bytes: after.bytes - before.bytes }
}

/// Contract 1: state changes are quick with 10,000 destinations too. READY→PAUSED allocates only what the element itself
/// keeps of each destination; a session, an HTTP client and a task would be several times as much.
#[test]
fn contract_1_state_changes_with_10_000_destinations_are_cheap() {
    const DESTINATIONS: usize = 10_000;
    // Nothing listens on this port.
    let locations: Vec<_> = (0..DESTINATIONS).map(|number| format!("http://127.0.0.1:1/p{number}")).collect();
    let pushing = Pushing::bare("async=false retries=0 on-error=never");
    pushing.sink.set_property("locations", locations.join(","));
    let to = |state| {
        allocated_by(|| {
            pushing.pipeline.set_state(state).unwrap();
        })
    };
    to(gst::State::Ready);
    let start = to(gst::State::Paused);
    // Wait until the last destination reports its first status.
    pushing.wait_for(|message| {
        let status = message.structure().filter(|status| status.name() == "asfpushsink-status")?;
        (status.get::<&str>("destination").unwrap() == format!("dest_{}", DESTINATIONS - 1)).then_some(())
    });
    let play = to(gst::State::Playing);
    let pause = to(gst::State::Paused);
    let stop = to(gst::State::Ready);
    println!("READY→PAUSED {start:?}, PAUSED→PLAYING {play:?}, PLAYING→PAUSED {pause:?}, PAUSED→READY {stop:?}");
    assert!(start.number < 20 * DESTINATIONS, "{start:?}");
    assert!(start.bytes < 8 * 1024 * DESTINATIONS, "{start:?}");
    // These do not depend on the number of destinations.
    assert!(play.number + pause.number < 100, "{play:?} {pause:?}");
    // The statistics are kept after the push.
    assert!(stop.number < 8 * DESTINATIONS, "{stop:?}");
    assert!(stop.bytes < 2 * 1024 * DESTINATIONS, "{stop:?}");
    pushing.stop();
}
