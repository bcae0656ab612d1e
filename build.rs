//! Tells the plugin its version, release date and repository state.

fn main() {
    gst_plugin_version_helper::info()
}
