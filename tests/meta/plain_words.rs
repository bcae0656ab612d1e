//! Phrases of a private idiom that must not return to what users read: pages, messages, log lines, responses, `--help`,
//! the status page, and the output of scripts and examples.

use std::fs;
use std::path::{Path, PathBuf};

/// Matched as whole words, in any case.
const PHRASES: &[&str] = &[
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
    "is told",
    "are told",
    "be told",
    "see that the",
    "sees that",
    "goes on",
    "go on",
    "gone on",
    "so many",
    "for so long",
    "of its own",
    "of their own",
    "of your own",
    "by itself",
    "by themselves",
    "for good",
    "for want of",
    "in a circle",
    "in the midst",
    "in force",
    "shall",
    "wants to know",
    "forgive",
    "forgiven",
    "bears",
    "log-in",
    "log-ins",
    "where there is",
    "where there are",
    "what there is",
    "leave one of them out",
];
/// Words that may follow `is no` and `are no` in plain English. Without one of these, and without `there` before, the
/// phrase should be `is not a`.
const AFTER_NO: [&str; 3] = ["longer", "more", "one"];

/// Returns the phrases in a text.
fn phrases(text: &str) -> Vec<&'static str> {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-').filter(|word| !word.is_empty()).collect();
    let mut found: Vec<&str> = PHRASES
        .iter()
        .copied()
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

/// Returns the string literals of a Rust source before its tests, and the doc comments of a command line, which
/// `--help` prints.
fn literals(source: &str) -> Vec<String> {
    let mut rest = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let is_command_line = rest.contains("derive(Parser)");
    let (mut found, mut help) = (Vec::new(), String::new());
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (before, from) = rest.split_at(at);
        let len = if from.starts_with("//") {
            let line = from.lines().next().unwrap();
            if let Some(text) = line.strip_prefix("///").filter(|_| is_command_line) {
                help += text;
            }
            line.len()
        } else if from.starts_with('\'') {
            // A character, possibly escaped, or else a lifetime.
            let mut chars = from.char_indices().skip(1);
            match (chars.next(), chars.next()) {
                (Some((_, '\\')), Some((next, _))) => from[next + 1..].find('\'').map_or(1, |end| next + 1 + end + 1),
                (Some(_), Some((next, '\''))) => next + 1,
                _ => 1,
            }
        } else if let Some(string) = from.strip_prefix('"') {
            let opening = before.trim_end_matches('#');
            let hashes = &before[opening.len()..];
            let is_raw = [" r", "(r", "[r", "br", "&r"].iter().any(|raw| opening.ends_with(raw)) || opening == "r";
            let end = if is_raw { string.find(&format!("\"{hashes}")) } else { end_of_string(string) };
            let text = &string[..end.unwrap_or_else(|| panic!("no end of a string: {from:.60}"))];
            found.push(text.split("\\\n").map(str::trim_start).collect());
            text.len() + 2
        } else {
            1
        };
        rest = &from[len..];
    }
    found.push(help);
    found
}

/// Returns the position of the quote that ends a string.
fn end_of_string(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end.then_some(at)
    })
}

/// Returns the files below a folder, except those of tests and benchmarks. `extension` selects them; empty means all.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if !["tests", "test-support", "benches", "target", "__pycache__"].contains(&name.as_str()) {
                    walk(&path, extension, into);
                }
            } else if (extension.is_empty() || name.ends_with(extension)) && name != "tests.rs" {
                into.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), extension, &mut found);
    found
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn pages_are_in_plain_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)).into();
    pages.extend(files("docs", ".md"));
    pages.extend(files(".github", ".md"));
    // This page is generated from the names of rules and tests.
    pages.retain(|page| !page.ends_with("docs/rules.md"));
    assert!(pages.len() > 30, "{}", pages.len());
    for page in pages {
        let found = phrases(&prose(&read(&page)));
        assert!(found.is_empty(), "{}: {found:?}", page.display());
    }
}

#[test]
fn messages_are_in_plain_words() {
    let sources: Vec<PathBuf> = ["src", "crates", "examples"].iter().flat_map(|folder| files(folder, ".rs")).collect();
    assert!(sources.len() > 100, "{}", sources.len());
    let mut texts = 0;
    for file in sources {
        for literal in literals(&read(&file)) {
            texts += 1;
            let found = phrases(&literal);
            assert!(found.is_empty(), "{}: {found:?} in \"{literal}\"", file.display());
        }
    }
    assert!(texts > 2000, "{texts}");
}

/// Here comments are included, because users read them too: in configuration files, and in examples and scripts that
/// they change.
#[test]
fn scripts_and_the_status_page_are_in_plain_words() {
    let page = "crates/publishing-point/src/status/page";
    let mut all = [files("scripts", ""), files("packaging", ""), files(page, ".js"), files(page, ".html")].concat();
    all.extend(["c", "py"].iter().flat_map(|extension| files("examples", &format!(".{extension}"))));
    assert!(all.len() > 25, "{}", all.len());
    for file in all {
        let found = phrases(&read(&file));
        assert!(found.is_empty(), "{}: {found:?}", file.display());
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
        ("2 failed log-ins", &["log-ins"]),
    ] {
        assert_eq!(phrases(text), found, "{text}");
    }
    assert_eq!(prose("so `is no` ```sh\ngo on\n``` it"), "so  `   `  it");
}

#[test]
fn literals_are_found() {
    let found = |source| literals(source).into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    assert_eq!(found("f(\"go on\"); // \"x\n// \"y\"\n#[cfg(test)]\nmod tests { \"z\""), ["go on"]);
    assert_eq!(found("f(\"it goes \\\n   on\", \"\\\"b\\\\\")"), ["it goes on", "\\\"b\\\\"]);
    assert_eq!(found("('\"', '\\'', '\\u{1f}', \"a\", &'static str, b'\"', \"b\")"), ["a", "b"]);
    assert_eq!(found("r#\"a \"quoted\" word\"# r\"\\\" \"b\""), ["a \"quoted\" word", "\\", "b"]);
    assert_eq!(found("/// It goes\n/// on\n#[derive(Parser)]\nstruct A;"), [" It goes on"]);
    assert_eq!(found("/// It goes\n/// on\nstruct A;"), [""; 0]);
}
