//! Sets the cfg flags that depend on both the features and the target system.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // MIT's library has this interface on Linux and the BSDs. Apple's has another structure layout, and Windows has none.
    println!("cargo::rustc-check-cfg=cfg(gssapi)");
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let vendor = std::env::var("CARGO_CFG_TARGET_VENDOR").unwrap_or_default();
    if is_set("CARGO_FEATURE_KERBEROS") && is_set("CARGO_CFG_UNIX") && vendor != "apple" {
        println!("cargo::rustc-cfg=gssapi");
    }
}
