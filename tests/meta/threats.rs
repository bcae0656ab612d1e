//! Verifies that the files and tests named in `docs/threats.md` exist.

use std::fs;
use std::path::{Path, PathBuf};

use test_support::sources::rust_files;

#[test]
fn each_threat_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let named: Vec<(&str, &str)> = text.split('`').filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 30, "the document names its tests otherwise now");
    let mut missing = Vec::new();
    for (file, name) in named {
        let source = fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
        if !source.contains(&format!("fn {name}(")) {
            missing.push(format!("{file}.rs::{name}"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// The lint forbids unsafe code elsewhere and requires a reason, and another lint requires a SAFETY comment for each
/// block.
#[test]
fn unsafe_code_is_where_the_document_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lints = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(lints.contains("unsafe_code = \"deny\"") && lints.contains("undocumented_unsafe_blocks = \"deny\""));
    let text = fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let (_, after) = text.split_once("`unsafe` is used in these files").unwrap();
    let (table, _) = after.split_once("\n## ").unwrap();
    let named: Vec<&str> = table.split('`').filter(|word| word.ends_with(".rs")).collect();
    let has_unsafe = |source: &str| source.lines().any(|line| line.contains("expect(unsafe_code"));
    let is_test = |file: &PathBuf| file.iter().any(|part| part == "tests" || part == "test-support");
    let files =
        ["src", "crates"].iter().flat_map(|folder| rust_files(&root.join(folder))).filter(|file| !is_test(file));
    let files: Vec<PathBuf> = files.collect();
    let found = files.iter().filter(|file| has_unsafe(&fs::read_to_string(file).unwrap()));
    let mut found: Vec<&str> = found.map(|file| file.strip_prefix(root).unwrap().to_str().unwrap()).collect();
    found.sort_unstable();
    let mut sorted = named.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, found);
}
