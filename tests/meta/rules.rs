//! Generates `docs/rules.md`, which lists the rules of [MS-WMHTTP] and the tests that verify them.
//!
//! A test verifies a rule if the rule's id is at the start of its name (`c9_c10_roll_overs`) or in its doc comment
//! (`C-9`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use test_support::sources::rust_files;

/// If this variable is set, the table is written.
const WRITE: &str = "WRITE_RULES";

/// The ids in comments and tests, and the subjects of the rules.
const RULES: &[(&str, &[&str])] = &[
    (
        "C: the client (encoder)",
        &[
            "C-1 initial state",
            "C-2 PushSetup's method, length and headers",
            "C-3 PushSetup's body: template and AutoDestroy",
            "C-4 redirects, and 305 for a proxy",
            "C-5 401 and 407 responses to PushSetup",
            "C-6 the result of a successful PushSetup",
            "C-7 Content-Length of a PushStart, direct and through a proxy",
            "C-8 the first PushStart begins with the header",
            "C-9 a packet that does not fit is held back, and the body is filled",
            "C-10 the response to a full body",
            "C-11 the end of the stream",
            "C-12 header changes within a session",
            "C-13 401 and 407 responses to PushStart",
            "C-14 a lost connection is reported",
            "C-15 a lost session is resumed in time, or replaced by a new one",
            "C-16 a response before the body is complete ends the request",
            "C-17 HTTP/1.0, and a missing response",
            "C-18 removal of the publishing point with its session",
        ],
    ),
    (
        "H: headers",
        &[
            "H-1 Content-Type",
            "H-2 the push-id, and other cookies",
            "H-3 User-Agent",
            "H-4 X-Accept-Authentication",
            "H-5 the Server header of a Windows Media server",
            "H-6 every response may set the push-id",
            "H-7 Via indicates a proxy",
            "H-8 Cache-Control, and the Idle-Timeout in Pragma",
            "H-9 unknown headers are ignored",
        ],
    ),
    (
        "P: packets",
        &[
            "P-1 the framing header",
            "P-2 PacketLength",
            "P-3 `$H`",
            "P-4 `$C`",
            "P-5 `$D`",
            "P-6 `$E`",
            "P-7 `$F`",
            "P-8 the order of packets in a body",
        ],
    ),
    (
        "S: the server, publishing points",
        &[
            "S-1 the contents of a session",
            "S-2 Idle-Timeout",
            "S-3 Inactivity-Timeout",
            "S-4 clients that are not encoders",
            "S-5 redirects",
            "S-6 authentication",
            "S-7 unknown push-ids, and push-ids in use",
            "S-8 existing publishing points, and templates",
            "S-9 the response to a PushSetup",
            "S-10 the head of a PushStart",
            "S-11 the first packet is `$H`",
            "S-12 the response to a complete body",
            "S-13 the end of a session",
            "S-14 a lost connection ends no session",
            "S-15 termination of a push by the server",
        ],
    ),
];

/// The file and name of the tests that verify each rule.
type Proofs = BTreeMap<String, BTreeSet<(String, String)>>;

#[test]
fn every_rule_has_a_test() {
    let proofs = proofs();
    let rules = || RULES.iter().flat_map(|(_, rules)| rules.iter().copied().map(id));
    let unproved: Vec<&str> = rules().filter(|rule| !proofs.contains_key(*rule)).collect();
    assert!(unproved.is_empty(), "no test has these in its name or doc comment: {unproved:?}");
    let unknown: Vec<_> = proofs.iter().filter(|(rule, _)| !rules().any(|known| known == rule.as_str())).collect();
    assert!(unknown.is_empty(), "these tests name unknown rules: {unknown:?}");
}

#[test]
fn the_table_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules.md");
    let table = table(&proofs());
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, &table).unwrap();
    }
    let told = fs::read_to_string(&file).unwrap_or_default();
    let differs = table.lines().zip(told.lines().chain([""; 1000])).find(|(is, told)| is != told);
    assert!(
        told == table,
        "docs/rules.md is out of date; update it with: {WRITE}=1 cargo test --test meta rules\n{differs:?}"
    );
}

#[test]
fn tests_are_found() {
    let source = "/// C-3, and what S-4 says.\n#[test]\nfn p8_c12_both_h1() {\n}\n\n\
                  /// C-1: no test.\nfn c2_helper() {}\n#[test]\n#[cfg(x)]\n    fn h9() {}\n#[test]\nfn other_c5() {}\n";
    let found: Vec<(String, String)> = tests(source);
    let rule = |rule: &str, name: &str| (rule.to_owned(), name.to_owned());
    let both = "p8_c12_both_h1";
    let all = [rule("C-3", both), rule("S-4", both), rule("P-8", both), rule("C-12", both), rule("H-9", "h9")];
    assert_eq!(found, all);
}

fn id(rule: &str) -> &str {
    rule.split_once(' ').unwrap().0
}

fn proofs() -> Proofs {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut proofs = Proofs::new();
    for file in ["src", "tests", "crates"].iter().flat_map(|folder| rust_files(&root.join(folder))) {
        let shown = file.strip_prefix(root).unwrap().display().to_string();
        // Its own tests contain ids in examples.
        if shown == "tests/meta/rules.rs" {
            continue;
        }
        for (rule, name) in tests(&fs::read_to_string(&file).unwrap()) {
            proofs.entry(rule).or_default().insert((shown.clone(), name));
        }
    }
    proofs
}

/// Returns the test functions of a source file with the rules that they verify: (rule, name).
fn tests(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut comment = String::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
            comment.push('\n');
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]";
        } else {
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next()).filter(|_| is_test);
            if let Some(name) = name {
                let words = comment.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '-');
                let in_comment = words.filter(|word| word.split_once('-').is_some_and(is_rule)).map(str::to_owned);
                let parts = name.split('_').map_while(|part| part.split_at_checked(1).filter(|part| is_rule(*part)));
                let in_name = parts.map(|(letter, number)| format!("{}-{number}", letter.to_uppercase()));
                let rules: Vec<String> = in_comment.chain(in_name).collect();
                found.extend(rules.into_iter().map(|rule| (rule, name.to_owned())));
            }
            comment.clear();
            is_test = false;
        }
    }
    found
}

/// Returns whether a letter and a number form an id.
fn is_rule((letter, number): (&str, &str)) -> bool {
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    ["C", "H", "P", "S"].contains(&letter.to_uppercase().as_str()) && digits
}

fn table(proofs: &Proofs) -> String {
    let mut out = String::from(
        "# The rules of [MS-WMHTTP] and their tests\n\nThis page is for developers and reviewers. It lists the rules of the protocol that the project implements, and the tests that verify\n\
         each rule. `tests/meta/rules.rs` generates it: each of these tests has the id of its rule in its name or doc comment.\n",
    );
    for (group, rules) in RULES {
        write!(out, "\n## {group}\n\n| rule | about | tests |\n|---|---|---|\n").unwrap();
        for rule in *rules {
            let (id, about) = rule.split_once(' ').unwrap();
            let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for (file, name) in proofs.get(id).into_iter().flatten() {
                files.entry(file).or_default().push(format!("`{name}`"));
            }
            let cells: Vec<String> =
                files.into_iter().map(|(file, names)| format!("{file}: {}", names.join(", "))).collect();
            writeln!(out, "| {id} | {about} | {} |", cells.join("<br>")).unwrap();
        }
    }
    out
}
