//! The oldest GStreamer version that the plugin supports, verified with the libraries' descriptions (GIR).
//! `scripts/oldest-rust` does the same for Rust.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use test_support::pipeline::plugin_folder;

/// As in the features `v1_20` in Cargo.toml, and in the versions in meson.build.
const OLDEST: (u32, u32) = (1, 20);

/// Functions behind macros of the C headers, which exist since 1.0. The descriptions omit names that begin with `_`.
const OF_MACROS: [&str; 2] = ["_gst_debug_category_new", "_gst_debug_get_category"];

/// The description of a function.
#[derive(Clone, Debug, Default, PartialEq)]
struct Symbols {
    since: Option<(u32, u32)>,
    deprecated: bool,
}

/// Returns the functions by their C names.
fn functions(library: &str) -> BTreeMap<String, Symbols> {
    // Newer Debian versions install them with the libraries, whatever pkg-config returns.
    let folders = ["girdir", "libdir"].map(|variable| {
        let variable = format!("--variable={variable}");
        let output = Command::new("pkg-config").args([&variable, "gstreamer-1.0"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    let [girdir, libdir] = folders.map(PathBuf::from);
    let description = [girdir, libdir.join("gir-1.0")]
        .map(|folder| folder.join(format!("{library}-1.0.gir")))
        .into_iter()
        .find_map(|file| fs::read_to_string(file).ok())
        .unwrap_or_else(|| panic!("{library}-1.0.gir: scripts/install-deps test"));
    let mut reader = Reader::from_str(&description);
    let mut functions = BTreeMap::new();
    // The enclosing elements: a function is not older than the element that contains it.
    let mut around: Vec<Symbols> = Vec::new();
    let mut note = |element: &BytesStart<'_>, around: Option<&Symbols>| {
        let outside = around.cloned().unwrap_or_default();
        // In these elements the version has another meaning.
        let is_about_itself = !["repository", "namespace"].map(str::as_bytes).contains(&element.name().as_ref());
        let since = attribute(element, "version").filter(|_| is_about_itself);
        let told = Symbols {
            since: since.as_deref().map(version).max(outside.since),
            deprecated: outside.deprecated || attribute(element, "deprecated").as_deref() == Some("1"),
        };
        for name in ["c:identifier", "glib:get-type"] {
            if let Some(name) = attribute(element, name) {
                functions.insert(name, told.clone());
            }
        }
        told
    };
    loop {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is text")]
        match reader.read_event().unwrap() {
            Event::Start(element) => {
                let told = note(&element, around.last());
                around.push(told);
            }
            Event::Empty(element) => drop(note(&element, around.last())),
            Event::End(_) => drop(around.pop()),
            Event::Eof => break,
            _ => {}
        }
    }
    functions
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).unwrap()?;
    Some(String::from_utf8(attribute.value.into_owned()).unwrap())
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Returns the undefined symbols of the plugin.
fn wanted() -> Vec<String> {
    let plugin = plugin_folder().join("libgstasfpush.so");
    let nm = Command::new("nm").args(["--dynamic", "--undefined-only", "--format=just-symbols"]).arg(plugin).output();
    let nm = nm.unwrap();
    assert!(nm.status.success(), "{nm:?}");
    let names = String::from_utf8(nm.stdout).unwrap();
    names.lines().map(|name| name.split('@').next().unwrap().trim().to_owned()).collect()
}

#[test]
fn only_symbols_of_the_oldest_gstreamer_and_no_deprecated_ones() {
    let told: BTreeMap<_, _> = ["Gst", "GstBase"].into_iter().flat_map(functions).collect();
    // Check that the descriptions are parsed correctly, with functions from before, from later versions, and deprecated
    // ones.
    let of = |name: &str| told.get(name).unwrap_or_else(|| panic!("{name} has no description"));
    assert_eq!(*of("gst_element_get_static_pad"), Symbols::default());
    assert_eq!(of("gst_base_sink_get_stats").since, Some((1, 18)));
    assert_eq!(of("gst_child_proxy_get_child_by_name_recurse").since, Some((1, 22)));
    assert!(of("gst_element_get_request_pad").deprecated);

    let wanted = wanted();
    let gst: Vec<&str> =
        wanted.iter().map(String::as_str).filter(|name| name.trim_start_matches('_').starts_with("gst_")).collect();
    assert!(gst.len() > 50, "{gst:?}");
    for name in gst {
        if OF_MACROS.contains(&name) {
            continue;
        }
        let told = of(name);
        assert!(told.since <= Some(OLDEST), "{name} exists since {:?}", told.since);
        assert!(!told.deprecated, "{name} is deprecated");
    }
}
