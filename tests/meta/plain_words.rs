//! Phrases of a private idiom that must not return to what users read: pages, messages, log lines and responses.

use std::fs;
use std::path::{Path, PathBuf};

/// Matched as whole words, in any case.
const PHRASES: [&str; 21] = [
    "whoever",
    "whomever",
    "anew",
    "far end",
    "taken up again",
    "takes up again",
    "let in",
    "lets in",
    "lapped",
    "knocks",
    "verdict",
    "in vain",
    "befalls",
    "came about",
    "told of",
    "tells of",
    "see that the",
    "goes on",
    "go on",
    "gone on",
    "so many",
];
/// Words that may follow `is no` and `are no` in plain English. Without one of these, and without `there` before, the
/// phrase should be `is not a`.
const AFTER_NO: [&str; 3] = ["longer", "more", "one"];

/// Returns the phrases in a text.
fn phrases(text: &str) -> Vec<&'static str> {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty()).collect();
    let mut found: Vec<&str> = PHRASES
        .into_iter()
        .filter(|phrase| {
            let phrase: Vec<&str> = phrase.split(' ').collect();
            words.windows(phrase.len()).any(|window| window == phrase)
        })
        .collect();
    for (at, pair) in words.windows(2).enumerate() {
        let is_standard =
            at > 0 && words[at - 1] == "there" || words.get(at + 2).is_some_and(|word| AFTER_NO.contains(word));
        if (pair[0] == "is" || pair[0] == "are") && pair[1] == "no" && !is_standard {
            found.push("is no");
        }
    }
    found
}

/// Returns the prose of a page, without code.
fn prose(page: &str) -> String {
    let blocks = page.split("```").step_by(2);
    blocks.flat_map(|text| text.split('`').step_by(2)).collect::<Vec<_>>().join(" ` ")
}

/// Returns the string literals of a source file before its tests.
fn literals(source: &str) -> Vec<&str> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
}

fn files(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap();
            if name != "tests" && name != "test-support" && name != "benches" {
                files(&path, extension, into);
            }
        } else if path.extension().is_some_and(|found| found == extension) && !path.ends_with("tests.rs") {
            into.push(path);
        }
    }
}

#[test]
fn pages_are_in_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)).into();
    files(&root.join("docs"), "md", &mut pages);
    // This page is generated from the names of rules and tests.
    pages.retain(|page| !page.ends_with("docs/rules.md"));
    for page in pages {
        let found = phrases(&prose(&fs::read_to_string(&page).unwrap()));
        assert!(found.is_empty(), "{}: {found:?}", page.display());
    }
}

#[test]
fn messages_are_in_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    files(&root.join("src"), "rs", &mut sources);
    files(&root.join("crates"), "rs", &mut sources);
    assert!(sources.len() > 100, "{}", sources.len());
    for file in sources {
        let source = fs::read_to_string(&file).unwrap();
        for literal in literals(&source) {
            let found = phrases(literal);
            assert!(found.is_empty(), "{}: {found:?} in \"{literal}\"", file.display());
        }
    }
}

#[test]
fn phrases_are_found() {
    for (text, found) in [
        ("Whoever pushes", &["whoever"][..]),
        ("The push\ngoes on.", &["goes on"]),
        ("the answer is no HTTP", &["is no"]),
        ("There is no such point, and it is no longer needed.", &[]),
        ("renewed", &[]),
    ] {
        assert_eq!(phrases(text), found, "{text}");
    }
    assert_eq!(prose("so `is no` ```sh\ngo on\n``` it"), "so  `   `  it");
    assert_eq!(literals("f(\"go on\"); // \"x\n// \"y\"\n#[cfg(test)]\nmod tests { \"z\""), ["go on", "x"]);
}
