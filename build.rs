//! Passes the version, release date and repository state to the plugin.

fn main() {
    gst_plugin_version_helper::info()
}
