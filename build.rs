//! Passes the version, release date and repository state to the plugin, and sets how it is linked.

use std::env;
use std::process::Command;

fn main() {
    gst_plugin_version_helper::info();
    if loads_packed_relocations() {
        // 200 KB less in the file, and as much less in the memory of each process that loads the plugin.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns whether the target's loader supports packed relocations: glibc does from 2.36 on. Linkers of that age support
/// them too.
fn loads_packed_relocations() -> bool {
    let variable = |name| env::var(name).unwrap_or_default();
    // The version of another system's glibc is unknown.
    if variable("CARGO_CFG_TARGET_ENV") != "gnu" || variable("HOST") != variable("TARGET") {
        return false;
    }
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().strip_prefix("glibc ").and_then(|version| version.split_once('.'));
    version.is_some_and(|(major, minor)| matches!((major.parse(), minor.parse()), (Ok(2_u32), Ok(36_u32..))))
}
