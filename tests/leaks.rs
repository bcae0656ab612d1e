//! Verifies that the leak check of all the element's tests (`test_support::leaks`) detects a leak.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use test_support::{leaks, pipeline};

const CHILD: &str = "LEAKS_CHILD";

/// Runs this test again in a separate process.
fn child(task: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_leak_is_found", "--nocapture"]).env(CHILD, task).env(leaks::TIMEOUT_VARIABLE, "1");
    command.output().unwrap()
}

#[test]
fn a_leak_is_found() {
    if let Ok(task) = std::env::var(CHILD) {
        pipeline::init();
        let element = gst::ElementFactory::make("asfpushsink").build().unwrap();
        if task == "leak" {
            std::mem::forget(element);
        }
        return;
    }
    let with_leak = child("leak");
    let output = String::from_utf8_lossy(&with_leak.stderr);
    assert_eq!(with_leak.status.code(), Some(101), "{output}");
    assert!(output.contains("leaked") && output.contains("AsfPushSink"), "{output}");
    let without_leak = child("tidy");
    assert!(without_leak.status.success(), "{}", String::from_utf8_lossy(&without_leak.stderr));
}
