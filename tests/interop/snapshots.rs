//! Snapshots of the element's interface as seen by applications: a change here is a change for them.

use std::fs;
use std::path::Path;
use std::process::Command;

use test_support::pipeline::plugin_folder;

/// If this variable is set, the snapshots are written.
const WRITE: &str = "WRITE_SNAPSHOTS";

/// Lines of gst-inspect's output that differ between builds.
const OF_THE_BUILD: [&str; 3] = ["  Filename ", "  Version ", "  Source release date "];

#[test]
fn the_output_of_gst_inspect_is_unchanged() {
    let text = output(Command::new("gst-inspect-1.0").args(["--no-colors", "asfpushsink"]));
    let of_the_build = |line: &&str| OF_THE_BUILD.iter().any(|start| line.starts_with(start));
    assert_eq!(text.lines().filter(of_the_build).count(), OF_THE_BUILD.len(), "{text}");
    let lasting = text.lines().filter(|line| !of_the_build(line)).map(|line| format!("{}\n", line.trim_end()));
    compare("tests/snapshots/gst-inspect.txt", &lasting.collect::<String>());
}

/// GStreamer's documentation is built from such a file, whose history is that of the interface.
#[test]
fn the_plugin_cache_is_unchanged() {
    compare("docs/plugins/gst_plugins_cache.json", &output(&mut Command::new("scripts/plugin-cache")));
}

/// Returns the output of a program that uses the plugin of this build.
fn output(command: &mut Command) -> String {
    let plugin = plugin_folder();
    let output = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("GST_PLUGIN_PATH", &plugin)
        .env("GST_REGISTRY", plugin.join("registry-of-snapshots.bin"))
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn compare(name: &str, is: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, is).unwrap();
    }
    let was = fs::read_to_string(&file).unwrap_or_default();
    let differs = is.lines().zip(was.lines().chain([""; 1000])).find(|(is, was)| is != was);
    assert!(
        was == is,
        "{name} differs from the snapshot; if that is intended, update it with: {WRITE}=1 cargo test --features interop --test interop snapshots\n{differs:?}"
    );
}
