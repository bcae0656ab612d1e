//! docs/server-configuration.md lists every key and flag.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use asf_publishing_point::config::file::ConfigFile;

/// Returns the texts in backquotes from column `number` of a section's tables, in rows that begin with such a text.
fn column(section: &str, number: usize) -> Vec<String> {
    let text = fs::read_to_string(test_support::root().join("docs/server-configuration.md")).unwrap();
    let tables = text.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = tables.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(number).map(str::trim));
    cells.filter(|cell| !cell.is_empty()).map(|cell| cell.trim_matches('`').to_owned()).collect()
}

/// Returns the keys of a table, from the error message about an unknown key.
fn keys(table: &str) -> Vec<String> {
    let error = format!("{table}no-such-key = 1").parse::<ConfigFile>().unwrap_err().to_string();
    let (_, expected) = error.split_once("expected one of ").unwrap_or_else(|| panic!("{error}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_is_documented() {
    const TABLES: [&str; 4] = ["bounds", "tls", "defaults", "point"];
    let whole = keys("").into_iter().filter(|key| !TABLES.contains(&key.as_str()));
    let tls = keys("[tls]\n").into_iter().map(|key| format!("tls.{key}"));
    let there: BTreeSet<_> = whole.chain(tls).chain(keys("[defaults]\n")).collect();
    let documented = column("Configuration file", 1).into_iter().filter(|key| key != "bounds.…");
    assert_eq!(documented.collect::<BTreeSet<_>>(), there);
    let bounds: BTreeSet<_> = keys("[bounds]\n").into_iter().collect();
    assert_eq!(column("Limits", 1).into_iter().collect::<BTreeSet<_>>(), bounds);
}

#[test]
fn every_flag_is_documented() {
    let output = Command::new(env!("CARGO_BIN_EXE_asf-publishing-point")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let words = help.split_whitespace().filter(|word| word.starts_with("--"));
    let there: BTreeSet<_> = words.map(|word| word.trim_end_matches([',', ';', '.', ')']).to_owned()).collect();
    let named = column("Configuration file", 2)
        .into_iter()
        .chain(["--config", "--help", "--version", "--point"].map(str::to_owned));
    assert_eq!(named.collect::<BTreeSet<_>>(), there);
}
