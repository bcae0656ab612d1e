//! The README against the element: its tables are what GStreamer is told, its pipelines parse.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the README has failed")]

use std::sync::Once;

use gst::prelude::*;

const README: &str = include_str!("../README.md");

/// The element, with the plugin of this build.
fn element() -> gst::Element {
    static PLUGIN: Once = Once::new();
    PLUGIN.call_once(|| {
        gst::init().unwrap();
        gstasfpush::plugin_register_static().unwrap();
    });
    gst::ElementFactory::make("asfpushsink").build().unwrap()
}

/// The cells of the table between the markers `name`, without its two head lines and without back-ticks.
fn table(name: &str) -> Vec<Vec<String>> {
    let (_, after) = README.split_once(&format!("<!-- {name}: begin -->")).unwrap();
    let (table, _) = after.split_once(&format!("<!-- {name}: end -->")).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    table.trim().lines().skip(2).map(cells).collect()
}

/// Rows of a table as lines, so that a failure shows the first that differs.
fn lines(rows: impl Iterator<Item = Vec<String>>) -> String {
    rows.map(|row| row.join(" | ") + "\n").collect()
}

#[test]
fn the_table_of_properties_is_the_elements() {
    let element = element();
    let own = element.list_properties().to_vec().into_iter().filter(|spec| spec.owner_type() == element.type_());
    let is = lines(own.map(|spec| vec![spec.name().to_owned(), kind(&spec), default(&spec), changeable(&spec)]));
    let told = lines(table("properties").into_iter().map(|row| row.into_iter().take(4).collect()));
    assert_eq!(told, is, "the README's table (left) and the element's properties (right)");
}

#[test]
fn every_property_has_a_meaning() {
    for row in table("properties") {
        assert!(row.len() == 5 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

#[test]
fn the_table_of_statuses_is_the_elements() {
    element();
    let class = glib::EnumClass::with_type(glib::Type::from_name("GstAsfPushStatus").unwrap()).unwrap();
    let is = lines(class.values().iter().map(|value| vec![value.value().to_string(), value.nick().to_owned()]));
    let told = lines(table("statuses").into_iter().map(|row| row.into_iter().take(2).collect()));
    assert_eq!(told, is, "the README's table (left) and GstAsfPushStatus (right)");
}

#[test]
fn every_pipeline_parses() {
    element();
    let mut pipelines = 0;
    for block in README.split("```sh\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        for line in block.replace("\\\n", " ").lines() {
            let Some((_, pipeline)) = line.split_once("gst-launch-1.0 ") else { continue };
            let words = glib::shell_parse_argv(pipeline).unwrap();
            let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).skip_while(|w| *w == "-e").collect();
            let parsed = gst::parse::launchv(&words);
            assert!(parsed.is_ok(), "{pipeline}\n{}", parsed.unwrap_err());
            pipelines += 1;
        }
    }
    assert!(pipelines >= 4, "only {pipelines} pipelines were found in the README");
}

#[test]
fn one_version_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(include_str!("../meson.build").contains(&format!("version: '{version}'")), "meson.build");
    assert!(include_str!("../CHANGELOG.md").contains(&format!("## [{version}]")), "CHANGELOG.md");
}

fn kind(spec: &glib::ParamSpec) -> String {
    if let Some(class) = glib::EnumClass::with_type(spec.value_type()) {
        return class.values().iter().map(|value| value.nick()).collect::<Vec<_>>().join(", ");
    }
    if let Some(class) = glib::FlagsClass::with_type(spec.value_type()) {
        return class.values().iter().map(|value| value.nick()).collect::<Vec<_>>().join(", ");
    }
    match spec.value_type().name() {
        "gchararray" => "string",
        "gboolean" => "boolean",
        "gint" => "int",
        "guint" => "uint",
        "guint64" => "uint64",
        "GstStructure" => "structure",
        other => other,
    }
    .to_owned()
}

fn default(spec: &glib::ParamSpec) -> String {
    let value = spec.default_value();
    if let Some((_, value)) = glib::EnumValue::from_value(value) {
        return value.nick().to_owned();
    }
    if let Some((_, flags)) = glib::FlagsValue::from_value(value) {
        return flags.iter().map(|flag| flag.nick()).collect::<Vec<_>>().join("+");
    }
    if let Ok(text) = value.get::<Option<String>>() {
        return text.unwrap_or_else(|| "NULL".to_owned());
    }
    match value.get::<Option<gst::Structure>>() {
        Ok(None) => "NULL".to_owned(),
        _ => value.transform::<String>().unwrap().get::<String>().unwrap().to_lowercase(),
    }
}

/// GStreamer's words for it are in the flags; `PLAYING` includes the states below.
fn changeable(spec: &glib::ParamSpec) -> String {
    let flags = spec.flags();
    if !flags.contains(glib::ParamFlags::WRITABLE) {
        "read-only"
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) {
        "any time"
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_READY) {
        "NULL, READY"
    } else {
        "unstated"
    }
    .to_owned()
}
