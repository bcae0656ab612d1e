//! Compares the documentation with the element and the libraries: its tables must be correct, and its links must exist.
//! `tests/interop/docs_commands.rs` runs its commands.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Once;

use gst::prelude::*;
use http::header::{HeaderMap, HeaderValue, SERVER};
use test_support::pages::pages;
use wmhttp::failure::{Cause, Failure};

/// If this variable is set, the generated pages are written.
const WRITE: &str = "WRITE_DOCS";

const ELEMENT: &str = include_str!("../../docs/element.md");
const MESSAGES: &str = include_str!("../../docs/messages.md");

/// Creates the element with the plugin of this build.
fn element() -> gst::Element {
    static PLUGIN: Once = Once::new();
    PLUGIN.call_once(|| {
        gst::init().unwrap();
        gstasfpush::plugin_register_static().unwrap();
    });
    gst::ElementFactory::make("asfpushsink").build().unwrap()
}

/// Returns the cells of the table between the markers `name`, without its two heading lines and without backticks.
fn table(page: &str, name: &str) -> Vec<Vec<String>> {
    let (_, after) = page.split_once(&format!("<!-- {name}: begin -->")).unwrap();
    let (table, _) = after.split_once(&format!("<!-- {name}: end -->")).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    table.trim().lines().skip(2).map(cells).collect()
}

/// Returns the rows of a table as lines, so that a failure shows the first difference.
fn lines(rows: impl Iterator<Item = Vec<String>>) -> String {
    rows.map(|row| row.join(" | ") + "\n").collect()
}

#[test]
fn the_table_of_properties_is_the_elements() {
    let element = element();
    let own = element.list_properties().to_vec().into_iter().filter(|spec| spec.owner_type() == element.type_());
    let is = lines(own.map(|spec| vec![spec.name().to_owned(), kind(&spec), default(&spec), changeable(&spec)]));
    let told = lines(table(ELEMENT, "properties").into_iter().map(|row| row.into_iter().take(4).collect()));
    assert_eq!(told, is, "the page's table (left) and the element's properties (right)");
}

#[test]
fn every_property_has_a_meaning() {
    for row in table(ELEMENT, "properties") {
        assert!(row.len() == 5 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

#[test]
fn the_table_of_statuses_is_the_elements() {
    element();
    let class = glib::EnumClass::with_type(glib::Type::from_name("GstAsfPushStatus").unwrap()).unwrap();
    let is = lines(class.values().iter().map(|value| vec![value.value().to_string(), value.nick().to_owned()]));
    let told = lines(table(MESSAGES, "statuses").into_iter().map(|row| row.into_iter().take(2).collect()));
    assert_eq!(told, is, "the page's table (left) and GstAsfPushStatus (right)");
}

/// The properties that only a destination has; those of the element are on another page.
#[test]
fn the_table_of_a_destinations_properties_is_complete() {
    element();
    let class = glib::object::ObjectClass::from_type(glib::Type::from_name("GstAsfPushDestination").unwrap()).unwrap();
    let of_element: Vec<String> = table(ELEMENT, "properties").into_iter().map(|mut row| row.remove(0)).collect();
    let properties = class.list_properties().to_vec().into_iter();
    let all: Vec<_> = properties.filter(|spec| spec.owner_type() == class.type_()).collect();
    let (shared, own): (Vec<_>, Vec<_>) = all.iter().partition(|spec| {
        let name = spec.name().to_owned();
        of_element.contains(&name) && !["location", "stats"].contains(&spec.name())
    });
    let is = lines(own.iter().map(|spec| vec![spec.name().to_owned(), kind(spec), changeable(spec)]));
    let rows = table(ELEMENT, "destination-properties").into_iter();
    assert_eq!(lines(rows.map(|row| row.into_iter().take(3).collect())), is);
    let several = include_str!("../../docs/several-publishing-points.md");
    assert!(shared.len() > 10);
    for spec in shared {
        assert!(several.contains(&format!("`{}`", spec.name())), "{} may be set for each", spec.name());
    }
}

#[test]
fn the_tables_of_signals_are_the_elements() {
    let element = element();
    let (_, signals) = ELEMENT.split_once("## Signals").unwrap();
    let told: BTreeSet<String> = signals
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|line| line.split('|').next().unwrap().split('`').step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(told.len() >= 12, "{told:?}");
    for name in &told {
        let signal = glib::subclass::SignalId::lookup(name, element.type_());
        assert!(signal.is_some_and(|signal| signal.query().type_() == element.type_()), "there is no signal {name}");
    }
    let mut inspect =
        include_str!("../snapshots/gst-inspect.txt").lines().skip_while(|line| *line != "Element Signals:");
    let is = inspect.by_ref().filter_map(|line| line.strip_prefix("  \"")?.split('"').next());
    let missing: Vec<&str> = is.filter(|name| !told.contains(*name)).collect();
    assert!(missing.is_empty(), "the page does not contain {missing:?}");
}

/// The meaning and remedy of each status, generated from the table in `crates/wmhttp/src/failure.rs`.
#[test]
fn the_page_of_failures_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/failures.md");
    let page = failures();
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, &page).unwrap();
    }
    let told = fs::read_to_string(&file).unwrap_or_default();
    let differs = page.lines().zip(told.lines().chain([""; 1000])).find(|(is, told)| is != told);
    assert!(
        told == page,
        "docs/failures.md is out of date; update it with: {WRITE}=1 cargo test --test meta docs\n{differs:?}"
    );
}

#[test]
fn links_have_targets() {
    let all = pages();
    for page in &all {
        for target in page.links() {
            let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            let file = if file.is_empty() { page.path.clone() } else { page.folder().join(file) };
            let file = file.canonicalize().unwrap_or_else(|error| panic!("{}: {target}: {error}", page.path.display()));
            let Some(anchor) = anchor else { continue };
            let led_to = all.iter().find(|page| page.path == file).unwrap();
            assert!(led_to.anchors().contains(&anchor.to_owned()), "{}: {target}", page.path.display());
        }
    }
}

/// Files named in code must exist, so that moving a file requires an update of the pages.
#[test]
fn files_that_are_named_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src/", "crates/", "tests/", "docs/", "scripts/", "examples/", "benches/", "packaging/", "fuzz/"];
    let mut named = 0;
    for page in pages() {
        let codes = page.text.split('`').skip(1).step_by(2);
        let paths = codes.filter_map(|code| code.split([' ', ':']).next());
        for path in paths.filter(|path| folders.iter().any(|folder| path.starts_with(folder) && path != folder)) {
            assert!(root.join(path).exists(), "{}: {path}", page.name());
            named += 1;
        }
    }
    assert!(named > 100, "{named}");
}

#[test]
fn the_summary_names_every_page() {
    let all = pages();
    let summary = all.iter().find(|page| page.path.ends_with("docs/SUMMARY.md")).unwrap();
    let named: Vec<&str> = summary.links().collect();
    for page in all.iter().filter(|page| page.folder().ends_with("docs") && page.path != summary.path) {
        let name = page.path.file_name().unwrap().to_str().unwrap();
        assert!(named.contains(&name), "docs/SUMMARY.md lacks {name}");
    }
}

#[test]
fn one_version_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(include_str!("../../meson.build").contains(&format!("version: '{version}'")), "meson.build");
    assert!(include_str!("../../CHANGELOG.md").contains(&format!("## [{version}]")), "CHANGELOG.md");
    let debian = include_str!("../../packaging/debian-changelog");
    assert!(debian.starts_with(&format!("asfpush ({version}-")), "packaging/debian-changelog");
}

#[test]
fn one_maintainer_everywhere() {
    let (author, debian) = (env!("CARGO_PKG_AUTHORS"), include_str!("../../packaging/debian-changelog"));
    let signatures = debian.lines().filter_map(|line| line.strip_prefix(" -- ")?.split_once("  "));
    let signers: Vec<&str> = signatures.map(|(signer, _date)| signer).collect();
    assert!(!signers.is_empty() && signers.iter().all(|signer| *signer == author), "{signers:?}, {author}");
}

#[test]
fn every_script_is_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = fs::read_dir(root.join("scripts")).unwrap().map(|entry| entry.unwrap().file_name());
    let scripts: Vec<String> = scripts.map(|name| name.into_string().unwrap()).collect();
    assert!(scripts.len() > 5);
    for script in scripts {
        let row = format!("| `scripts/{script}");
        assert!(include_str!("../../CONTRIBUTING.md").contains(&row), "CONTRIBUTING.md: {script}");
    }
}

/// GStreamer's documentation is built from a comment of this form; its pipelines must be on the page, whose commands
/// are run.
#[test]
fn the_section_for_gstreamers_documentation_shows_the_pages_pipelines() {
    let (_, section) = include_str!("../../src/sink/mod.rs").split_once("SECTION:element-asfpushsink").unwrap();
    let (section, _) = section.split_once("*/").unwrap();
    let lines: Vec<&str> = section.lines().map(|line| line.trim_start_matches([' ', '*'])).collect();
    let shown: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("gst-launch-1.0 ")).collect();
    let page = pages().into_iter().find(|page| page.name() == "docs/element.md").unwrap();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let run: Vec<String> = page.blocks("sh").iter().map(|block| words(&block.replace("\\\n", " "))).collect();
    assert!(shown.len() >= 2 && shown.len() == lines.iter().filter(|line| **line == "|[").count(), "{shown:?}");
    for pipeline in shown {
        assert!(run.contains(&words(pipeline)), "docs/element.md does not have: {pipeline}");
    }
}

/// cargo-c must install the same files as meson, in the same folders.
#[test]
fn cargo_c_and_meson_install_the_same_plugin() {
    let cargo: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
    let capi = &cargo["package"]["metadata"]["capi"];
    let folder = capi["library"]["install_subdir"].as_str().unwrap();
    // Without a version in the file name, as GStreamer expects of plugins, and without a C header.
    assert!(!capi["library"]["versioning"].as_bool().unwrap());
    assert!(!capi["header"]["enabled"].as_bool().unwrap());
    let library = cargo["lib"]["name"].as_str().unwrap();
    let meson = include_str!("../../meson.build");
    assert!(meson.contains(&format!("output: ['lib{library}.so', ")), "{library}");
    assert!(meson.contains(&format!("install_dir: [get_option('libdir') / '{folder}', ")), "{folder}");
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

/// The flags contain GStreamer's values; `PLAYING` includes the states below.
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

/// Generates the page of failures from the library's table.
fn failures() -> String {
    let mut page = String::from(
        "# Failures\n\nThis page is for operators and developers who have a failure message of the element. It lists what each failure means and what to do.\n\
         The element posts a failure on the bus with this text, remedy and HRESULT ([Messages](messages.md)). If the column \"retried\" contains\n\
         \"yes\", the element retries as `auto-reconnect`, `retries` and `retry-delay` specify. If it contains \"no\", a retry would fail again.\n\n\
         `tests/meta/docs.rs` generates this page from the table in `crates/wmhttp/src/failure.rs`.\n",
    );
    let mut table = |title: &str, first: &str, rows: Vec<(String, Failure)>| {
        write!(page, "\n## {title}\n\n| {first} | what happened | what to do | HRESULT | GStreamer | retried |\n|---|---|---|---|---|---|\n")
            .unwrap();
        for (name, Failure { hresult, class, text, remedy, permanent, .. }) in rows {
            let text = text.rsplit_once(": ").map_or(text.as_str(), |(_, meaning)| meaning);
            let retried = if permanent { "no" } else { "yes" };
            writeln!(page, "| {name} | {text} | {remedy} | `{hresult}` | {class:?} | {retried} |").unwrap();
        }
    };
    table("The server answers with an error", "status", merged(|status| Some(of_status(status, None))));
    table(
        "A proxy answers with an error",
        "status",
        merged(|status| {
            let by_proxy = of_status(status, Some("proxy"));
            // If it means the same as a server's response, it has no row.
            (by_proxy.remedy != of_status(status, None).remedy).then_some(by_proxy)
        }),
    );
    let causes = Cause::ALL.iter().map(|cause| (format!("{cause:?}"), Failure::lost(*cause, "")));
    table("The connection fails", "cause", causes.collect());
    page.push_str(
        "\nThe column \"GStreamer\" contains the error code, a GstResourceError: NotAuthorized is NOT_AUTHORIZED, NotFound is NOT_FOUND, Busy is\n\
         BUSY, Settings is SETTINGS, Open is OPEN_WRITE, and Write is WRITE. With `template-url`, most 4xx statuses have the HRESULT\n\
         `NS_E_INVALID_PUSH_TEMPLATE`.\n",
    );
    page
}

/// Statuses from 300 with the same failure share a row.
fn merged(failure: impl Fn(u16) -> Option<Failure>) -> Vec<(String, Failure)> {
    let mut rows: Vec<(Vec<u16>, Failure)> = Vec::new();
    for (status, failure) in (300..600).filter_map(|status| Some((status, failure(status)?))) {
        let meaning = |failure: &Failure| failure.text.rsplit_once(": ").map(|(_, meaning)| meaning.to_owned());
        let same = |other: &Failure| (meaning(other), other.remedy) == (meaning(&failure), failure.remedy);
        match rows.iter_mut().find(|(_, other)| same(other)) {
            Some((statuses, _)) => statuses.push(status),
            None => rows.push((vec![status], failure)),
        }
    }
    let names = rows.into_iter().map(|(statuses, failure)| {
        let name = match statuses.as_slice() {
            [first, .., last] if statuses.len() > 30 => format!("{first} to {last}, if not in another row"),
            all => all.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
        };
        (name.replace("300 to 399, if not in another row", "3xx"), failure)
    });
    names.collect()
}

fn of_status(status: u16, speaker: Option<&'static str>) -> Failure {
    let headers: HeaderMap = speaker.map(|name| (SERVER, HeaderValue::from_static(name))).into_iter().collect();
    Failure::from_status(status, &headers, false, speaker.is_some())
}

/// Without this test a new cause would have no row on the page.
#[test]
fn every_cause_has_a_row() {
    let source = include_str!("../../crates/wmhttp/src/failure.rs");
    let (_, declared) = source.split_once("pub enum Cause {").unwrap();
    let (declared, _) = declared.split_once("\n}").unwrap();
    let declared = declared.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    let listed: Vec<String> = Cause::ALL.iter().map(|cause| format!("{cause:?},")).collect();
    assert_eq!(declared.collect::<Vec<_>>(), listed);
}

/// Each page and picture that a page of the server's package links to is in the package too.
#[test]
fn packaged_pages_lead_to_packaged_pages() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("crates/publishing-point/Cargo.toml")).unwrap();
    let packaged: Vec<&str> =
        manifest.split("\"../../docs/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(packaged.len() > 10, "the package lists its pages differently now");
    let mut missing = Vec::new();
    for page in packaged.iter().filter(|page| page.ends_with(".md")) {
        let text = fs::read_to_string(root.join("docs").join(page)).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let unknown = links.filter(|link| !link.is_empty() && !link.contains("://") && !packaged.contains(link));
        missing.extend(unknown.map(|link| format!("{page} links to {link}")));
    }
    assert_eq!(missing, Vec::<String>::new(), "add them to `assets` in crates/publishing-point/Cargo.toml");
}
