//! A host process at its limits: no descriptor, thread or memory mapping is left. The element reports that, and the
//! process survives.
//!
//! Each limit is tested in a separate process, started from this program.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use gst::prelude::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use test_support::pipeline::{Pushing, until};

const CHILD: &str = "RESOURCE_LIMITS_CHILD";
/// A user who, unlike root, is subject to RLIMIT_NPROC.
const NOBODY: u32 = 65_534;

/// The output of a child process: one line for the start at the limit, and one for the start after it.
fn child(limit: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_at_its_limits_lives", "--nocapture"]).env(CHILD, limit);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), None, "{limit}: the process was killed: {said}");
    assert!(output.status.success(), "{limit}: {said}");
    assert!(!said.contains("panicked"), "{limit}: {said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.strip_prefix("start: ")).map(|line| format!("{line}\n")).collect()
}

/// Starts a push to a closed port, with `limit` in force meanwhile, and prints the result with the first ERROR or
/// WARNING of that push.
fn start(limit: Option<(Resource, u64)>) {
    let pushing = Pushing::bare("location=http://127.0.0.1:9/x");
    let before = limit.map(|(resource, soft)| {
        let (before, hard) = getrlimit(resource).unwrap();
        setrlimit(resource, soft, hard).unwrap();
        (resource, before, hard)
    });
    let outcome = pushing.pipeline.set_state(gst::State::Playing);
    // Read without waiting, because a bus without descriptors cannot wait.
    let bus = pushing.pipeline.bus().unwrap();
    let mut text = None;
    until("an ERROR or a WARNING", || {
        text = bus.pop().and_then(|message| {
            if let gst::MessageView::Error(error) = message.view() {
                return Some(format!("ERROR {}", error.error()));
            }
            let gst::MessageView::Warning(warning) = message.view() else { return None };
            Some(format!("WARNING {}", warning.error()))
        });
        text.is_some()
    });
    if let Some((resource, before, hard)) = before {
        setrlimit(resource, before, hard).unwrap();
    }
    println!("start: {} {}", if outcome.is_ok() { "ok" } else { "failed" }, text.unwrap());
    pushing.pipeline.set_state(gst::State::Null).unwrap();
}

fn at_limit(limit: &str) {
    test_support::pipeline::init();
    match limit.split_once(' ') {
        Some(("descriptors", free)) => {
            // Descriptors are allocated from the lowest free one, and the limit is one more than the highest.
            let highest = fs::read_dir("/proc/self/fd")
                .unwrap()
                .flatten()
                .filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
            let fill: Vec<fs::File> =
                (0..highest.max().unwrap_or(0)).map_while(|_| fs::File::open("/dev/null").ok()).collect();
            let used = fs::File::open("/dev/null").map(|file| std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
            start(Some((Resource::RLIMIT_NOFILE, u64::try_from(used).unwrap() + free.parse::<u64>().unwrap())));
            drop(fill);
        }
        Some(("address-space", _)) => {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
            let kib: u64 = size.trim().strip_suffix(" kB").unwrap().parse().unwrap();
            start(Some((Resource::RLIMIT_AS, (kib + 1024) * 1024)));
        }
        Some(("threads", _)) => {
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setuid(NOBODY.into()).unwrap();
            }
            start(Some((Resource::RLIMIT_NPROC, 1)));
        }
        _ => panic!("{limit}"),
    }
    start(None);
}

#[test]
fn a_process_at_its_limits_lives() {
    if let Ok(limit) = std::env::var(CHILD) {
        return at_limit(&limit);
    }
    let again = "ok WARNING dest_0 (http://127.0.0.1:9/x): the connection was refused";
    for limit in ["threads none", "address-space none", "descriptors 0", "descriptors 1"] {
        let found = child(limit);
        let (first, second) = found.split_once('\n').unwrap();
        assert!(first.starts_with("failed ERROR failed to start the I/O thread: "), "{limit}: {first}");
        assert!(second.starts_with(again), "{limit}: after it: {second}");
    }
    // The I/O thread can be started, but no connection can be made: this is reported and retried.
    for free in 2..8 {
        let found = child(&format!("descriptors {free}"));
        let (first, second) = found.split_once('\n').unwrap();
        assert!(
            first.starts_with("failed ERROR ") || first.starts_with("ok WARNING dest_0 (http://127.0.0.1:9/x): "),
            "{free} free: {first}"
        );
        assert!(!first.contains("refused: Too many"), "{free} free: {first}");
        assert!(second.starts_with(again), "{free} free, after it: {second}");
        println!("{free} descriptors: {first}");
    }
}
