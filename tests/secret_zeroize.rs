//! No memory of the process's Rust side is given back with a password in it.
//!
//! A file of its own, since it looks at each piece of memory that is freed. GLib's copies, those in values of
//! properties, are the application's.
#![cfg(feature = "ntlm")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;

use gst::prelude::*;
use test_support::auth_server;
use test_support::media;
use test_support::peer::Peer;
use test_support::pipeline::{Pushing, end, feed};

/// What is never in any other text.
const PASSWORD: &str = "OPENSESAME";
/// The server's side of NTLM is gss-ntlmssp, which a build does not need.
const SCHEMES: &[&str] =
    if cfg!(feature = "interop") { &["Basic", "Digest", "NTLM", "Negotiate"] } else { &["Basic", "Digest"] };

/// As NTLM has it. A constant, since what stands on the stack gets into the gaps of what is made there later.
static WIDE: [u8; 2 * PASSWORD.len()] = {
    let mut wide = [0; 2 * PASSWORD.len()];
    let mut at = 0;
    while at < PASSWORD.len() {
        wide[2 * at] = PASSWORD.as_bytes()[at];
        at += 1;
    }
    wide
};

struct Watching;

#[global_allocator]
static ALLOCATOR: Watching = Watching;

static FOUND: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// What happens meanwhile is the watch's own.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

fn look(bytes: &[u8]) {
    let is_like = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let found = bytes.len() >= PASSWORD.len() && (is_like(PASSWORD.as_bytes()) || is_like(&WIDE));
    if found && LOOKS.with(|looks| !looks.replace(true)) {
        let place = Backtrace::force_capture().to_string();
        FOUND.lock().unwrap().push(format!("{} bytes\n{place}", bytes.len()));
        LOOKS.with(|looks| looks.set(false));
    }
}

#[expect(unsafe_code, reason = "the only way to see what is freed")]
// SAFETY: the system's allocator does all of it; a block is looked at before it is given back. What of it was never
// written is read as whatever it is.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is alive, and all of it is written, by zeros at least.
        look(unsafe { std::slice::from_raw_parts(block, layout.size()) });
        // SAFETY: as the caller's.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What this thread frees meanwhile is the test's own.
fn unwatched<R>(act: impl FnOnce() -> R) -> R {
    LOOKS.set(true);
    let result = act();
    LOOKS.set(false);
    result
}

fn found() -> Vec<String> {
    std::mem::take(&mut *FOUND.lock().unwrap())
}

/// One push, with the password in a property or in the location.
fn push(scheme: &str, in_location: bool) {
    let peer = Peer::new();
    let (pushing, source) = Pushing::by_hand("sync=false auth-methods=basic+digest+ntlm+negotiate");
    if in_location {
        // The test's own copies stay.
        let login = unwatched(|| peer.location().replace("http://", &format!("http://bob:{PASSWORD}@")));
        pushing.sink.set_property("location", &*login);
        std::mem::forget(login);
    } else {
        pushing.sink.set_property("location", peer.location());
        pushing.sink.set_property("user-id", "bob");
        pushing.sink.set_property("user-pw", PASSWORD);
    }
    pushing.play();
    feed(&source, media::stream(20, 40));
    end(&source);
    // The server's side is this process's too.
    let mut connection = peer.accept();
    unwatched(|| auth_server::serve(&mut connection, scheme, PASSWORD, "one"));
    pushing.wait_for_eos();
    pushing.stop();
}

#[test]
fn passwords_are_wiped() {
    drop(format!("a text with {PASSWORD}"));
    assert_eq!(found().len(), 1, "the watch sees what is freed");
    for scheme in SCHEMES {
        for in_location in [false, true] {
            push(scheme, in_location);
            let found = found();
            assert!(found.is_empty(), "{scheme}, {in_location}: {} times: {}", found.len(), found.join("\n\n"));
        }
    }
}
