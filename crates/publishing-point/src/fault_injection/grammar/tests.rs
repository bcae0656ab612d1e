use proptest::prelude::*;

use super::*;

fn fault(text: &str) -> Fault {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn faults_are_parsed() {
    let body = |progress| Trigger::Body(progress);
    for (text, kind, moment, turns) in [
        ("stall:10s", Kind::Stall(Duration::from_secs(10)), BEGINNING, Schedule::Each),
        (
            "stall:1m 30s@5s",
            Kind::Stall(Duration::from_secs(90)),
            body(Progress::Time(Duration::from_secs(5))),
            Schedule::Each,
        ),
        ("slow:64k", Kind::Slow(ByteSize(64_000)), BEGINNING, Schedule::Each),
        ("slow:64KiB@1MB", Kind::Slow(ByteSize(65_536)), body(Progress::Bytes(ByteSize(1_000_000))), Schedule::Each),
        ("reset", Kind::Reset, Trigger::Start, Schedule::Each),
        ("reset@100/once", Kind::Reset, body(Progress::Packets(100)), Schedule::Once),
        ("drop-after:100", Kind::Reset, body(Progress::Packets(100)), Schedule::Each),
        ("408@start", Kind::Status { status: 408, retry_after: None }, Trigger::Start, Schedule::Each),
        (
            "503:retry-after=5s/every:3",
            Kind::Status { status: 503, retry_after: Some(Duration::from_secs(5)) },
            Trigger::Setup,
            Schedule::Every(3),
        ),
        ("no-answer", Kind::NoAnswer, Trigger::End, Schedule::Each),
        ("late:250ms@setup", Kind::Late(Duration::from_millis(250)), Trigger::Setup, Schedule::Each),
        ("cookie:0", Kind::Cookie(PushId::new_session()), Trigger::Answers, Schedule::Each),
        (
            "no-pragma/chance:20%:7",
            Kind::Without(OmittedHeader::Pragma),
            Trigger::Answers,
            Schedule::Chance { percent: 20, seed: 7 },
        ),
        ("small-packets", Kind::SmallPackets(ByteSize(8192)), BEGINNING, Schedule::Each),
    ] {
        assert_eq!(fault(text), Fault { kind, moment, turns }, "{text}");
    }
}

#[test]
fn a_displayed_fault_parses_to_the_same_fault() {
    let values = [("TIME", "1m 3s 5ms"), ("BYTES", "12345"), ("PROGRESS", "77"), ("STATUS", "422"), ("ID", "a1")];
    let mut seen = 0;
    for row in kinds() {
        let form = values.iter().fold(row.form.to_owned(), |form, (name, value)| form.replace(name, value));
        for moment in ["", "@setup", "@start", "@end", "@100", "@64kB", "@5s"] {
            for turns in ["", "/once", "/every:3", "/chance:20%", "/chance:20%:7"] {
                let text = format!("{form}{moment}{turns}");
                match text.parse::<Fault>() {
                    Ok(fault) => {
                        assert_eq!(fault.to_string().parse(), Ok(fault), "{text}");
                        seen += 1;
                    }
                    Err(error) => assert!(matches!(error, FaultError::Moment { .. }), "{text}: {error}"),
                }
            }
        }
    }
    assert!(seen > kinds().len() * 5 * 2, "{seen}");
}

/// The parser accepts exactly the moments in the table, and the first of them is the default.
#[test]
fn the_table_lists_the_accepted_moments() {
    let values = [("TIME", "3s"), ("BYTES", "12345"), ("PROGRESS", "77"), ("STATUS", "422"), ("ID", "a1")];
    for row in kinds() {
        let form = values.iter().fold(row.form.to_owned(), |form, (name, value)| form.replace(name, value));
        let expected: Vec<&str> = row.moments.split(", ").collect();
        for (name, text) in [("setup", "setup"), ("start", "start"), ("end", "end"), ("PROGRESS", "5s")] {
            let taken = format!("{form}@{text}").parse::<Fault>().is_ok();
            assert_eq!(taken, expected.contains(&name), "{} at {name}", row.form);
        }
        let default = fault(&form).moment;
        match expected[0] {
            "setup" => assert_eq!(default, Trigger::Setup),
            "start" => assert_eq!(default, Trigger::Start),
            "end" => assert_eq!(default, Trigger::End),
            "all responses" => assert_eq!(default, Trigger::Answers),
            "PROGRESS" => assert_eq!(default, BEGINNING),
            none => assert_eq!(none, "none"),
        }
    }
}

#[test]
fn errors_name_cause_and_remedy() {
    for (text, parts) in [
        ("stal:10s", &["`stal`", "stall:TIME", "no-pragma"][..]),
        ("", &["``", "stall:TIME"]),
        ("stall", &["`stall` needs a value", "`stall:10s`"]),
        ("stall:ten", &["the value `ten`", "`stall:10s`"]),
        ("stall:3 years", &["the value `3 years`", "`stall:10s`"]),
        ("slow:0", &["the value `0`", "`slow:64k`"]),
        ("reset:5s", &["takes no value", "write `reset`"]),
        ("stall:5s@setup", &["`@setup`", "`stall`", "`64kB`"]),
        ("late:5s@100", &["`@100`", "`setup` or `end`"]),
        ("no-filler@start", &["`@start`", "leave `@` out"]),
        ("drop-after:5@end", &["`@end`", "leave `@` out"]),
        ("99", &["`99`", "from 200 to 599"]),
        ("503:later", &["the value `later`", "retry-after=TIME"]),
        ("reset/never", &["`/never`", "`/once`"]),
        ("reset/every:0", &["`/every:0`"]),
        ("reset/chance:101%", &["`/chance:101%`"]),
        ("cookie:a;b", &["the value `a;b`", "`cookie:0`"]),
    ] {
        let error = text.parse::<Fault>().unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

proptest! {
    /// Any text is accepted or rejected without a panic, and an accepted fault can be displayed and parsed again.
    #[test]
    fn any_text_is_accepted_or_rejected(
        name in "stall|slow|late|503|cookie|small-packets|drop-after|reset|no-answer|[a-z0-9-]{0,8}",
        value in "(:[0-9]{1,20}(s|ms|h|years|k|kB|MiB|EiB)?|:[ -~]{0,8}|)",
        moment in "(@(setup|start|end|[0-9]{1,20}(s|days|kB|EiB)?)|@[ -~]{0,8}|)",
        turns in "(/(once|every:[0-9]{1,20}|chance:[0-9]{1,3}%(:[0-9]{1,20})?)|/[ -~]{0,8}|)",
    ) {
        let text = format!("{name}{value}{moment}{turns}");
        match text.parse::<Fault>() {
            Ok(fault) => prop_assert_eq!(fault.to_string().parse(), Ok(fault), "{}", text),
            Err(error) => prop_assert!(error.to_string().contains('`')),
        }
    }
}
