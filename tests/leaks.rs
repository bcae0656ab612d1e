//! Verifies that the leak check of all the element's tests (`test_support::leaks`) detects a leak.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use test_support::{leaks, pipeline};

const CHILD: &str = "LEAKS_CHILD";

/// Runs this test again in a separate process.
fn child(task: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_leak_is_found", "--nocapture"]).env(CHILD, task).env(leaks::PATIENCE, "1");
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
    let leaky = child("leak");
    let said = String::from_utf8_lossy(&leaky.stderr);
    assert_eq!(leaky.status.code(), Some(101), "{said}");
    assert!(said.contains("leaked") && said.contains("AsfPushSink"), "{said}");
    let tidy = child("tidy");
    assert!(tidy.status.success(), "{}", String::from_utf8_lossy(&tidy.stderr));
}
