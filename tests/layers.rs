//! The picture in the crate docs, kept: no layer names one that it has no arrow to.
//!
//! The sources are read as text. Comments, literals and test code are left out; what
//! remains is searched for paths that begin at the crate's root, and for single words.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

#[path = "support/sources.rs"]
mod sources;

use std::fs;
use std::path::Path;

use sources::rust_files;

/// A folder of `src`, or a file there, and what it may not name.
struct Layer {
    name: &'static str,
    /// Modules of this crate that it has an arrow to.
    arrows: &'static [&'static str],
    /// Words that stay out: other crates, the clock, locks.
    never: &'static [&'static str],
}

const GSTREAMER: &[&str] = &["gst", "gst_base", "glib"];
const HTTP_LIBRARIES: &[&str] = &["reqwest", "hyper", "hyper_util", "tower", "rustls"];
const TOKIO: &[&str] = &["tokio"];
const CLOCK: &[&str] = &["Instant::now", "SystemTime"];
const LOCKS: &[&str] = &["Mutex", "RwLock", "Condvar"];

/// From the bottom to the top.
const LAYERS: &[(Layer, &[&[&str]])] = &[
    (layer("asf", &[]), &[GSTREAMER, HTTP_LIBRARIES, TOKIO, CLOCK, LOCKS]),
    (layer("wmhttp", &["asf"]), &[GSTREAMER, HTTP_LIBRARIES, TOKIO, CLOCK, LOCKS]),
    (layer("log", &["wmhttp", "asf", "sync"]), &[GSTREAMER, HTTP_LIBRARIES, TOKIO]),
    (layer("transport", &["wmhttp", "asf"]), &[GSTREAMER]),
    (layer("publish", &["transport", "log", "wmhttp", "asf"]), &[GSTREAMER, HTTP_LIBRARIES]),
    (
        Layer {
            never: &["Session", "Reception", "Client", "Body"],
            ..layer("sink", &["publish", "log", "transport", "wmhttp", "asf"])
        },
        &[HTTP_LIBRARIES, TOKIO],
    ),
    (layer("point", &["publish", "transport", "log", "wmhttp", "asf"]), &[GSTREAMER, &["reqwest"]]),
    (layer("bin", &["point", "log", "wmhttp", "asf"]), &[GSTREAMER, &["reqwest"]]),
];

const fn layer(name: &'static str, arrows: &'static [&'static str]) -> Layer {
    Layer { name, arrows, never: &[] }
}

#[test]
fn no_layer_names_one_above_it() {
    let mut faults = Vec::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in rust_files(&source) {
        let shown = file.strip_prefix(&source).unwrap();
        let module = shown.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if module == "lib" || shown.ends_with("tests.rs") {
            continue;
        }
        let Some((layer, never)) = LAYERS.iter().find(|(layer, _)| layer.name == module) else {
            faults.push(format!("{} belongs to no layer; give it a row in LAYERS", shown.display()));
            continue;
        };
        let never: Vec<&str> = layer.never.iter().chain(never.iter().copied().flatten()).copied().collect();
        for fault in faults_in(&fs::read_to_string(&file).unwrap(), layer, &never, depth(shown)) {
            faults.push(format!("src/{}:{fault}", shown.display()));
        }
    }
    assert!(faults.is_empty(), "names against the arrows of the picture in src/lib.rs:\n{}", faults.join("\n"));
}

#[test]
fn breaks_are_found() {
    let asf = layer("asf", &[]);
    let sink = layer("sink", &["asf"]);
    for (layer, text, fault) in [
        (&asf, "fn f() { crate::wmhttp::f() }", Some("1: names wmhttp")),
        (&asf, "use crate::{\n    asf::Unit,\n    log::{Log, Ring},\n};", Some("3: names log")),
        (&asf, "use super::super::publish;", Some("1: names the root by super")),
        (&asf, "let s = '\"';\nlet t = Instant::now();", Some("2: has Instant::now")),
        (&asf, "// crate::wmhttp\nlet s = \"crate::wmhttp \\\" Mutex\";", None),
        (&asf, "fn f<'a>(now: Instant) -> &'a gst_like {}", None),
        (&asf, "#[cfg(test)]\nmod tests {\n    use crate::wmhttp;\n}\n", None),
        (&asf, "#[cfg(test)]\nmod tests;\nuse std::sync::Mutex;", Some("3: has Mutex")),
        (&sink, "use crate::asf;\nuse gstasfpush::point::Point;", Some("2: names point")),
    ] {
        let found = faults_in(text, layer, &["Instant::now", "Mutex", "gst"], 2);
        assert_eq!(found.first().map(String::as_str), fault, "{text}");
        assert!(found.len() <= 1, "{found:?}");
    }
}

/// How many `super::` lead from a file's module to the root.
fn depth(file: &Path) -> usize {
    file.iter().count() - usize::from(file.ends_with("mod.rs"))
}

/// What `text` names though its layer may not, each with its line.
fn faults_in(text: &str, layer: &Layer, never: &[&str], depth: usize) -> Vec<String> {
    let tokens = tokens(&without_tests(text));
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let rest = tokens.get(at..).unwrap_or_default();
        if ["crate", "gstasfpush"].contains(&token.text.as_str()) {
            for name in first_names(rest) {
                if name.text != layer.name && !layer.arrows.contains(&name.text.as_str()) {
                    faults.push(format!("{}: names {}", name.line, name.text));
                }
            }
        }
        let ups = rest.chunks(2).take_while(|pair| pair.first().is_some_and(|token| token.text == "super")).count();
        if ups >= depth {
            faults.push(format!("{}: names the root by super", token.line));
        }
        for word in never {
            let mut parts = word.split("::");
            let is_word = parts.next() == Some(token.text.as_str())
                && parts.next().is_none_or(|second| rest.get(2).is_some_and(|token| token.text == second));
            if is_word {
                faults.push(format!("{}: has {word}", token.line));
            }
        }
    }
    faults
}

/// Blanks out the items under `#[cfg(test)]`: rustfmt closes them in the first column.
fn without_tests(text: &str) -> String {
    let mut in_test = false;
    let mut kept = String::new();
    for line in text.lines() {
        in_test |= line == "#[cfg(test)]";
        if !in_test {
            kept.push_str(line);
        }
        kept.push('\n');
        in_test &= !(line == "}" || (line.ends_with(';') && !line.starts_with(' ')));
    }
    kept
}

struct Token {
    text: String,
    line: usize,
}

/// Words, `::`, and single signs; no comments and no literals.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if first == '"' || is_char_literal(rest) {
            literal_length(rest, first)
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        if is_word(first) || first.is_ascii_punctuation() && !token.contains(['"', '\n']) && !token.starts_with("//") {
            tokens.push(Token { text: token.to_owned(), line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

/// `'x'` or `'\x'`, not a lifetime.
fn is_char_literal(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('\'') && (chars.next() == Some('\\') || chars.next() == Some('\''))
}

fn literal_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The names right after `crate::`, or in the braces after it.
fn first_names(tokens: &[Token]) -> Vec<&Token> {
    let mut after = tokens.iter().skip(1);
    if after.next().is_none_or(|token| token.text != "::") {
        return Vec::new();
    }
    let Some(first) = after.next() else { return Vec::new() };
    if first.text != "{" {
        return vec![first];
    }
    let mut names = Vec::new();
    let mut depth = 1;
    let mut at_start = true;
    for token in after {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," if depth == 1 => at_start = true,
            _ if at_start => {
                names.push(token);
                at_start = false;
            }
            _ => {}
        }
    }
    names
}
