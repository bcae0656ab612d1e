//! Names what depends on both the features and the system.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // MIT's library as it is called on Linux and the BSDs. Apple's packs its structures otherwise, and Windows has none.
    println!("cargo::rustc-check-cfg=cfg(gssapi)");
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let vendor = std::env::var("CARGO_CFG_TARGET_VENDOR").unwrap_or_default();
    if is_set("CARGO_FEATURE_KERBEROS") && is_set("CARGO_CFG_UNIX") && vendor != "apple" {
        println!("cargo::rustc-cfg=gssapi");
    }
}
