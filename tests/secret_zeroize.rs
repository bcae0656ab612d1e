//! Verifies that the Rust code of the process frees no memory that contains a password.
//!
//! This test is in a separate file because it examines all memory that is freed. GLib's copies in property values
//! belong to the application.
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
use test_support::pipeline::{Pushing, end, push_bytes};

/// A string that occurs in no other text.
const PASSWORD: &str = "OPENSESAME";
/// The server's side of NTLM is gss-ntlmssp, which a build does not require.
const SCHEMES: &[&str] =
    if cfg!(feature = "interop") { &["Basic", "Digest", "NTLM", "Negotiate"] } else { &["Basic", "Digest"] };

/// The password in NTLM's encoding. It is static, because data on the stack may remain in the padding of values created
/// there later.
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
    /// Set while the allocator itself or the test allocates.
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
// SAFETY: the system's allocator does all the work; a block is examined before it is freed. Blocks are zeroed when they
// are allocated, so every byte is initialized.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is alive, and all of it is initialized.
        look(unsafe { std::slice::from_raw_parts(block, layout.size()) });
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Runs code of the test itself, whose freed memory is not examined.
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
    let (pushing, source) = Pushing::with_feed_source("sync=false auth-methods=basic+digest+ntlm+negotiate");
    if in_location {
        // The test's own copies are not freed.
        let login = unwatched(|| peer.location().replace("http://", &format!("http://bob:{PASSWORD}@")));
        pushing.sink.set_property("location", &*login);
        std::mem::forget(login);
    } else {
        pushing.sink.set_property("location", peer.location());
        pushing.sink.set_property("user-id", "bob");
        pushing.sink.set_property("user-pw", PASSWORD);
    }
    pushing.play();
    push_bytes(&source, media::stream(20, 40));
    end(&source);
    // The server's side runs in this process too.
    let mut connection = peer.accept();
    unwatched(|| auth_server::serve(&mut connection, scheme, PASSWORD, "one"));
    pushing.wait_for_eos();
    pushing.stop();
}

#[test]
fn passwords_are_wiped() {
    drop(format!("a text with {PASSWORD}"));
    assert_eq!(found().len(), 1, "the check detects freed memory");
    for scheme in SCHEMES {
        for in_location in [false, true] {
            push(scheme, in_location);
            let found = found();
            assert!(found.is_empty(), "{scheme}, {in_location}: {} times: {}", found.len(), found.join("\n\n"));
        }
    }
}
