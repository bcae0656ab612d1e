//! The behavior contract under faults: each fault at each moment, with the faulty server alone and with two working
//! ones.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use test_support::faults::{FAULTS, Fault, MOMENTS, Moment, faulty_server, inapplicable_reason};
use test_support::peer::TEST_TIMEOUT;
use test_support::pipeline::{Pushing, status, status_nick};
use test_support::recording_server::RecordingServer;
use test_support::server::Server;
use test_support::upstream::Upstream;
use test_support::{media, netns_link};
use wmhttp::Hresult;

/// Time between the send times of packets in milliseconds.
const STEP: u32 = 4;
/// Number of packets per buffer: one buffer every 20 ms.
const PER_BUFFER: u32 = 5;
const BUFFER_TIME: Duration = Duration::from_millis((STEP * PER_BUFFER) as u64);

/// Duration of the stream in a test case: enough for each timeout and the retries after it.
const STREAM: Duration = Duration::from_millis(5000);
/// The same if the fault occurs at the end.
const STREAM_TO_EOS: Duration = Duration::from_millis(1000);

const RETRY_DELAY: Duration = Duration::from_millis(300);
const PROPERTIES: &str = "connect-timeout=1000 timeout=1500 stall-timeout=1500 retry-delay=300 retry-delay-max=300";
/// Shorter than the stream, so that blocking upstream for the faulty server would be detected.
const SHORT_LOG: &str = "dest_0::max-size-time=1000000000";
/// With a body of this size, a rollover occurs several times per second.
const SHORT_BODY: &str = "dest_0::content-length=40000";

/// Tolerance for operations that should return immediately, on a busy machine. A wait for the network would be longer,
/// because it ends at EOS.
const SLACK: Duration = Duration::from_millis(2000);
/// The same for the arrival of packets at working servers: shorter than every timeout.
const GAP_SLACK: Duration = Duration::from_millis(600);

/// Number of test cases that run simultaneously.
const AT_ONCE: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbours {
    Alone,
    BesideTwoGood,
}

/// A test case; `fault` is `None` for a run without a fault, with which the others are compared.
#[derive(Clone, Copy)]
struct TestCase {
    fault: Option<(Fault, Moment)>,
    neighbours: Neighbours,
}

impl fmt::Display for TestCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Some((fault, moment)) => write!(f, "{fault:?} {moment:?} {:?}", self.neighbours),
            None => write!(f, "no fault {:?}", self.neighbours),
        }
    }
}

/// The expected result of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// A WARNING with one of these codes, and another attempt after `retry-delay`, repeatedly.
    Retried(&'static [Hresult]),
    /// The destination fails: an ERROR if it is the only one, otherwise a WARNING.
    Failed(Hresult, gst::ResourceError),
    /// A WARNING, and a new session immediately.
    NewSession,
    /// The end is confirmed, or is considered confirmed.
    Ended,
    /// `eos-timeout` expires.
    EndUnconfirmed,
}

const LOST: &[Hresult] = &[Hresult::RESET_CONNECTION, Hresult::NET_READ];

fn course(fault: Fault, moment: Moment) -> Outcome {
    use Moment::{AtEos, AtRollOver, BeforeSetup, InSetup, InStart};
    use Outcome::{EndUnconfirmed, Ended, Failed, NewSession, Retried};
    match (fault, moment) {
        (Fault::Refused, BeforeSetup) => Retried(&[Hresult::PUSH_CANNOT_CONNECT]),
        (Fault::BlackHole, BeforeSetup) => Retried(&[Hresult::CONNECT_TIMEOUT]),

        // Everything has arrived, and the response would not mean more than that.
        (Fault::Refused | Fault::BlackHole | Fault::Reset | Fault::Garbage | Fault::Status(_), AtEos) => Ended,
        (Fault::Silent | Fault::Trickle | Fault::HalfOpen, AtEos) => EndUnconfirmed,

        (Fault::Silent | Fault::Trickle | Fault::NeverReads | Fault::HalfOpen, AtRollOver) => NewSession,
        (Fault::NeverReads | Fault::Trickle | Fault::HalfOpen, InStart) => Retried(&[Hresult::CONNECTION_FAILURE]),
        // Whether the TCP stack has accepted the request by then depends on timing.
        (Fault::HalfOpen, BeforeSetup) => Retried(&[Hresult::TIMEOUT, Hresult::CONNECTION_FAILURE]),
        (Fault::Silent | Fault::Trickle | Fault::NeverReads | Fault::HalfOpen, _) => Retried(&[Hresult::TIMEOUT]),

        // The HTTP library does not read what arrives before a request.
        (Fault::Garbage, BeforeSetup) => Retried(&[Hresult::CONNECTION_FAILURE, Hresult::BAD_SYNTAX_IN_RESPONSE]),
        (Fault::Garbage, _) => Retried(&[Hresult::BAD_SYNTAX_IN_RESPONSE]),
        (Fault::Refused | Fault::BlackHole | Fault::Reset, InSetup | InStart | AtRollOver) => {
            Retried(&[Hresult::RESET_CONNECTION])
        }
        (Fault::AcceptsAndCloses | Fault::Reset, _) => Retried(LOST),
        (Fault::Fin, _) => Retried(&[Hresult::NET_READ]),

        (Fault::Status(401), _) => Failed(Hresult::SERVER_ACCESS_DENIED, gst::ResourceError::NotAuthorized),
        (Fault::Status(403), _) => Failed(Hresult::REFUSED_BY_SERVER, gst::ResourceError::NotAuthorized),
        (Fault::Status(404), _) => Retried(&[Hresult::FILE_NOT_FOUND]),
        (Fault::Status(408), _) => Retried(&[Hresult::TIMEOUT]),
        (Fault::Status(503), _) => Retried(&[Hresult::SERVER_UNAVAILABLE]),
        (Fault::Status(_), _) => Retried(&[Hresult::INTERNAL_SERVER_ERROR]),
    }
}

impl TestCase {
    fn course(self) -> Option<Outcome> {
        self.fault.map(|(fault, moment)| course(fault, moment))
    }

    /// `eos-timeout` in milliseconds: it expires, unless the end must be in time even on a slow machine.
    fn eos_timeout(self) -> u32 {
        if self.course() == Some(Outcome::Ended) { 10_000 } else { 1500 }
    }
}

/// The measurements of a test case.
#[derive(Clone, Default)]
struct Measured {
    /// The longest state change.
    state_change: Duration,
    /// The longest call of the chain function.
    render: Duration,
    /// Time from EOS at the element's input to the EOS message, minus `eos-timeout`.
    eos_late: Duration,
    /// Time from the start to the first packet at a working server.
    start: Duration,
    /// The longest time between two packets at a working server.
    gap: Duration,
    /// When the stream started.
    begun: Option<Instant>,
    attempts: usize,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state_change, render, eos_late, start, gap, attempts, .. } = self;
        write!(
            f,
            "state change {state_change:.1?}, render {render:.1?}, EOS late {eos_late:.1?}, first packet after {start:.1?}, \
             gap {gap:.1?}, {attempts} attempts"
        )
    }
}

impl Measured {
    /// Returns whether working servers received their packets later than without faults.
    fn is_disturbed(&self, usual: &Self) -> bool {
        self.start > usual.start * 3 + GAP_SLACK || self.gap > usual.gap * 3 + GAP_SLACK
    }
}

/// One run of a test case.
struct Run {
    case: TestCase,
    pushing: Pushing,
    faulty_server: Option<Server>,
    recording_servers: Vec<RecordingServer>,
    /// Number of packets whose push has started, and whose push has returned.
    begun: AtomicU32,
    pushed: AtomicU32,
    /// Odd while the pipeline is paused, because the chain function may then wait.
    pauses: AtomicU32,
    enough: AtomicBool,
    messages: Mutex<Messages>,
    measured: Mutex<Measured>,
}

/// The messages that were on the bus.
#[derive(Default)]
struct Messages {
    /// The status messages of the first destination.
    statuses: Vec<gst::Structure>,
    warnings: Vec<(glib::Error, Option<gst::Structure>)>,
    error: Option<(glib::Error, Option<gst::Structure>)>,
    eos: bool,
}

impl Run {
    fn new(case: TestCase) -> Self {
        let faulty_server = case.fault.map(|(fault, moment)| faulty_server(fault, moment));
        let good = if case.neighbours == Neighbours::Alone { 0 } else { 2 };
        let recording_servers: Vec<RecordingServer> = (0..good).map(|_| RecordingServer::new(STEP)).collect();
        let servers =
            faulty_server.iter().chain(recording_servers.iter().map(|recording_server| &recording_server.server));
        let locations = servers.map(Server::location).collect::<Vec<_>>().join(",");
        let rolls_over = case.fault.is_some_and(|(_, moment)| moment == Moment::AtRollOver);
        let log = if case.fault.is_some() { SHORT_LOG } else { "" };
        let body = if rolls_over { SHORT_BODY } else { "" };
        let pushing = Pushing::bare(&format!(
            "locations=\"{locations}\" {PROPERTIES} {log} {body} eos-timeout={}",
            case.eos_timeout()
        ));
        Self {
            case,
            pushing,
            faulty_server,
            recording_servers,
            begun: AtomicU32::new(0),
            pushed: AtomicU32::new(0),
            pauses: AtomicU32::new(0),
            enough: AtomicBool::new(false),
            messages: Mutex::default(),
            measured: Mutex::default(),
        }
    }

    fn set_state(&self, state: gst::State) {
        let begun = Instant::now();
        self.pushing.pipeline.set_state(state).unwrap();
        let took = begun.elapsed();
        assert!(took < SLACK, "to {state:?} in {took:?}");
        let mut measured = self.measured.lock().unwrap();
        measured.state_change = measured.state_change.max(took);
    }

    /// Pushes the stream at the rate of its send times, and measures how long the chain function blocks.
    fn feed(&self, upstream: &Upstream, time: Duration) {
        let begun = Instant::now();
        for buffer in 0.. {
            if begun.elapsed() >= time || self.enough.load(Ordering::SeqCst) {
                break;
            }
            let first = buffer * PER_BUFFER;
            let mut bytes = if buffer == 0 { media::header().to_vec() } else { Vec::new() };
            for n in first..first + PER_BUFFER {
                bytes.extend_from_slice(&media::packet(n, STEP));
            }
            let pauses = self.pauses.load(Ordering::SeqCst);
            self.begun.store(first + PER_BUFFER, Ordering::SeqCst);
            let (flow, took) = upstream.push(bytes);
            if flow == Err(gst::FlowError::Flushing) {
                return;
            }
            flow.unwrap();
            self.pushed.store(first + PER_BUFFER, Ordering::SeqCst);
            // The first call waits for the preroll.
            if buffer > 0 && pauses.is_multiple_of(2) && self.pauses.load(Ordering::SeqCst) == pauses {
                assert!(took < SLACK, "the chain function took {took:?}");
                let mut measured = self.measured.lock().unwrap();
                measured.render = measured.render.max(took);
            }
            thread::sleep((begun + BUFFER_TIME * (buffer + 1)).saturating_duration_since(Instant::now()));
        }
    }

    /// Reads the bus and checks the counters until `done`.
    fn watch_until(&self, what: &str, mut done: impl FnMut(&Messages) -> bool) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let new = self.pushing.messages_within(Duration::from_millis(20));
            let mut messages = self.messages.lock().unwrap();
            for message in &new {
                messages.take(message);
            }
            if done(&messages) {
                return;
            }
            drop(messages);
            self.check_counters();
            assert!(Instant::now() < deadline, "{what} did not happen");
        }
    }

    /// At any moment, sent + dropped + queued = received for each destination.
    fn check_counters(&self) {
        let pushed = self.pushed.load(Ordering::SeqCst);
        let all = self.pushing.all_stats();
        let begun = self.begun.load(Ordering::SeqCst);
        for stats in all {
            let sum = accounted_for(&stats);
            assert!(
                (u64::from(pushed)..=begun.into()).contains(&sum),
                "{pushed} to {begun} packets were pushed: {stats}"
            );
        }
    }

    /// From NULL to EOS, or to the ERROR that the fault causes.
    fn first_life(&self) {
        let to_eos = self.case.fault.is_some_and(|(_, moment)| moment == Moment::AtEos);
        let time = if to_eos { STREAM_TO_EOS } else { STREAM };
        let fails =
            matches!(self.case.course(), Some(Outcome::Failed(..))) && self.case.neighbours == Neighbours::Alone;
        let upstream = Upstream::live(&self.pushing.sink);
        let begun = Instant::now();
        self.set_state(gst::State::Playing);
        let ended_at = Mutex::new(None);
        thread::scope(|scope| {
            let feeder = scope.spawn(|| {
                self.feed(&upstream, time);
                *ended_at.lock().unwrap() = Some(Instant::now());
                if !self.enough.load(Ordering::SeqCst) {
                    upstream.end();
                }
            });
            // After a failed assertion, the feeding thread must not wait for PLAYING.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let (change, state, _) =
                    self.pushing.pipeline.state(gst::ClockTime::from_seconds(TEST_TIMEOUT.as_secs()));
                // An ERROR before the end of the preroll also ends the state change.
                if !(fails && change.is_err()) {
                    change.unwrap();
                    assert_eq!(state, gst::State::Playing);
                }
                if self.case.neighbours == Neighbours::Alone && !to_eos && !fails {
                    self.watch_until("half of the time", |_| begun.elapsed() >= time / 2);
                    self.pause();
                }
                self.watch_until("ERROR or EOS", |messages| messages.eos || messages.error.is_some());
            }));
            self.enough.store(true, Ordering::SeqCst);
            if outcome.is_err() {
                let _ = self.pushing.pipeline.set_state(gst::State::Null);
            }
            feeder.join().unwrap();
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        let now = Instant::now();
        let ended_at = ended_at.lock().unwrap().unwrap();
        if self.messages.lock().unwrap().eos {
            let eos_timeout = Duration::from_millis(self.case.eos_timeout().into());
            let late = (now - ended_at).saturating_sub(eos_timeout);
            assert!(late < SLACK, "EOS came {late:?} after eos-timeout");
            self.measured.lock().unwrap().eos_late = late;
        }
        self.measured.lock().unwrap().begun = Some(begun);
    }

    fn pause(&self) {
        self.pauses.fetch_add(1, Ordering::SeqCst);
        self.set_state(gst::State::Paused);
        self.set_state(gst::State::Playing);
        let (change, state, _) = self.pushing.pipeline.state(gst::ClockTime::from_seconds(TEST_TIMEOUT.as_secs()));
        change.unwrap();
        assert_eq!(state, gst::State::Playing, "after a pause");
        self.pauses.fetch_add(1, Ordering::SeqCst);
    }

    /// From NULL to NULL, interrupting what the fault causes: connecting, waiting, draining.
    fn second_life(&self, time: Duration) {
        let upstream = Upstream::live(&self.pushing.sink);
        self.enough.store(false, Ordering::SeqCst);
        self.set_state(gst::State::Playing);
        thread::scope(|scope| {
            scope.spawn(|| {
                self.feed(&upstream, time);
                upstream.end();
            });
            thread::sleep(time * 2);
            self.set_state(gst::State::Paused);
            self.set_state(gst::State::Ready);
            self.set_state(gst::State::Null);
        });
    }

    fn run(mut self) -> Measured {
        self.first_life();
        // Before the stop, which closes connections that are still open.
        let faulty_server = self.pushing.state_of(0);
        for state in [gst::State::Paused, gst::State::Ready, gst::State::Null] {
            self.set_state(state);
        }
        self.check_the_books();
        self.check_the_good();
        if self.case.fault.is_some() {
            self.check_the_culprit(&faulty_server);
            self.second_life(Duration::from_millis(100));
        }
        self.measured.get_mut().unwrap().clone()
    }

    fn check_the_books(&self) {
        let received = self.pushing.sink.property::<gst::Structure>("stats").get::<u64>("packets-received").unwrap();
        let pushed = self.pushed.load(Ordering::SeqCst);
        assert_eq!(received, u64::from(pushed));
        for stats in self.pushing.all_stats() {
            assert_eq!(accounted_for(&stats), received, "{stats}");
        }
    }

    /// Each packet arrives once, in order, on one connection and without delay; delays are compared when all test cases
    /// have run. A connection whose end did not arrive within `eos-timeout`, or that was replaced, counts as disturbed
    /// in any case.
    fn check_the_good(&self) {
        let pushed = self.pushed.load(Ordering::SeqCst);
        for recording_server in &self.recording_servers {
            let first = || recording_server.pushes().into_iter().next().unwrap_or_default();
            let until = Instant::now() + SLACK;
            while !first().ended && Instant::now() < until {
                thread::sleep(Duration::from_millis(10));
            }
            let push = first();
            let mut measured = self.measured.lock().unwrap();
            if !push.ended || recording_server.server.accepted().len() != 1 {
                measured.gap = Duration::MAX;
                continue;
            }
            assert_eq!(push.numbers(), (0..pushed).collect::<Vec<_>>());
            let begun = measured.begun.unwrap();
            measured.start = measured.start.max(push.arrivals[0].0 - begun);
            measured.gap = measured.gap.max(push.longest_gap());
        }
    }

    /// `state` is the state of the destination at the end.
    fn check_the_culprit(&self, state: &str) {
        let messages = self.messages.lock().unwrap();
        let stats = self.pushing.destination_stats();
        let course = self.case.course().unwrap();
        let failure = messages
            .statuses
            .iter()
            .find(|status| status.has_field("remedy") && nick_is(status, &["reconnect-start", "error"]));
        let hresult = failure.map(|failure| Hresult(failure.get::<u32>("hresult").unwrap()));
        let steps: Vec<String> = messages.statuses.iter().map(status_nick).collect();
        let story = format!("{steps:?}, {failure:?}, {stats}");
        let (fault, moment) = self.case.fault.unwrap();
        if let (Fault::Status(status), Some(failure)) = (fault, failure) {
            assert_eq!(failure.get::<u32>("http-status-code"), Ok(status.into()), "{story}");
        }
        // Nothing is retried after EOS was posted. A push that reached no server by then is an ERROR.
        let is_alone = self.case.neighbours == Neighbours::Alone;
        let may_be_unreached = is_alone && steps.iter().all(|step| step != "started");
        let is_unreached = |error: &glib::Error| may_be_unreached && error.matches(gst::ResourceError::OpenWrite);
        let gone_on = state != "failed" && messages.error.as_ref().is_none_or(|(error, _)| is_unreached(error));
        match course {
            Outcome::Retried(codes) => {
                assert!(hresult.is_some_and(|hresult| codes.contains(&hresult)), "{story}");
                assert!(gone_on, "{story}");
                assert!(messages.warnings.iter().any(|(error, details)| {
                    error.matches(gst::ResourceError::Write) && details.as_ref().and_then(hresult_of) == hresult
                }));
            }
            Outcome::Failed(code, error) => {
                assert_eq!((hresult, state), (Some(code), "failed"), "{story}");
                let told = match self.case.neighbours {
                    Neighbours::Alone => messages.error.iter().collect::<Vec<_>>(),
                    Neighbours::BesideTwoGood => messages.warnings.iter().collect(),
                };
                let mine = |(told, details): &&(glib::Error, Option<gst::Structure>)| {
                    told.matches(error) && details.as_ref().and_then(hresult_of) == Some(code)
                };
                assert!(told.iter().any(mine), "{told:?}");
                assert!(messages.error.is_some() == (self.case.neighbours == Neighbours::Alone));
            }
            Outcome::NewSession => {
                let told = |details: &gst::Structure| details.name() == "asfpushsink-notice";
                assert!(messages.warnings.iter().any(|(_, details)| details.as_ref().is_some_and(told)), "{story}");
                assert!(gone_on, "{story}");
            }
            Outcome::Ended => assert_eq!((failure, state), (None, "closed"), "{story}"),
            Outcome::EndUnconfirmed => {
                assert!(failure.is_none() && ["closed", "ending", "streaming"].contains(&state), "{story}");
                assert!(messages.eos);
            }
        }
        drop(messages);
        self.check_attempts(course, fault, moment, &story);
    }

    /// At most one connection per retry-delay, and one request per 401.
    fn check_attempts(&self, course: Outcome, fault: Fault, moment: Moment, story: &str) {
        let messages = self.messages.lock().unwrap();
        let begun = self.measured.lock().unwrap().begun.unwrap();
        let seen = self.faulty_server.as_ref().unwrap().accepted().len();
        // The element also reports attempts that no server sees.
        let told = messages.statuses.iter().filter(|status| nick_is(status, &["locating"])).count();
        let attempts = seen.max(told);
        self.measured.lock().unwrap().attempts = attempts;
        let delay = if fault == Fault::Status(503) { Duration::from_secs(1) } else { RETRY_DELAY.mul_f64(0.8) };
        let most = begun.elapsed().as_millis() / delay.as_millis() + 1;
        assert!(attempts as u128 <= most, "{attempts} attempts, {story}");
        match course {
            Outcome::Retried(_) => assert!(attempts > 1, "{attempts} attempts, {story}"),
            Outcome::Failed(..) | Outcome::Ended | Outcome::EndUnconfirmed => assert_eq!(attempts, 1, "{story}"),
            Outcome::NewSession => {}
        }
        if (fault, moment) == (Fault::Status(401), Moment::InSetup) {
            assert_eq!(self.pushing.destination_stats().get::<u64>("requests-sent"), Ok(1), "{story}");
        }
    }
}

impl Messages {
    fn take(&mut self, message: &gst::Message) {
        if let Some(status) = status(message).filter(|status| status.get::<String>("destination").unwrap() == "dest_0")
        {
            self.statuses.push(status);
        }
        let told = |error, details: Option<&gst::StructureRef>| (error, details.map(ToOwned::to_owned));
        if let gst::MessageView::Warning(warning) = message.view() {
            self.warnings.push(told(warning.error(), warning.details()));
        }
        if let gst::MessageView::Error(error) = message.view() {
            self.error.get_or_insert_with(|| told(error.error(), error.details()));
        }
        self.eos |= message.type_() == gst::MessageType::Eos;
    }
}

fn nick_is(status: &gst::Structure, nicks: &[&str]) -> bool {
    nicks.contains(&status_nick(status).as_str())
}

fn hresult_of(details: &gst::Structure) -> Option<Hresult> {
    details.get::<u32>("hresult").ok().map(Hresult)
}

fn accounted_for(stats: &gst::Structure) -> u64 {
    ["packets-sent", "packets-dropped", "packets-queued"].iter().map(|name| stats.get::<u64>(*name).unwrap()).sum()
}

/// Runs test cases, several at a time, and returns what each measured or how it failed.
fn run_all(cells: Vec<TestCase>) -> Vec<(TestCase, Result<Measured, String>)> {
    let waiting = Mutex::new(VecDeque::from(cells));
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let (waiting, done) = (&waiting, &done);
            scope.spawn(move || {
                // Test cases do not start simultaneously; that is tested elsewhere.
                thread::sleep(BUFFER_TIME * 4 * number);
                loop {
                    let Some(case) = waiting.lock().unwrap().pop_front() else { break };
                    let outcome = catch_unwind(|| Run::new(case).run()).map_err(|panic| text_of(&*panic));
                    done.lock().unwrap().push((case, outcome));
                }
            });
        }
    });
    done.into_inner().unwrap()
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// Contract 1 to 4, 6 and 7. With a single server, the pipeline is paused halfway; each test case is also stopped
/// during its fault.
#[test]
fn every_fault_at_every_moment() {
    if !netns_link::can_create_link() {
        return netns_link::rerun_as_root("faults::every_fault_at_every_moment");
    }
    let without = run_all(vec![TestCase { fault: None, neighbours: Neighbours::BesideTwoGood }; AT_ONCE as usize]);
    let usual = worst_of(&without);
    assert!(usual.gap < Duration::MAX, "without faults, not all of the stream arrived");
    let mut cells = Vec::new();
    for fault in FAULTS {
        for moment in MOMENTS.into_iter().filter(|moment| inapplicable_reason(fault, *moment).is_none()) {
            let both = [Neighbours::BesideTwoGood, Neighbours::Alone];
            cells.extend(both.map(|neighbours| TestCase { fault: Some((fault, moment)), neighbours }));
        }
    }
    let count = cells.len();
    let mut outcomes = run_all(cells);
    println!("without faults: {usual}\nthe worst of {count} cells: {}", worst_of(&outcomes));
    // A busy machine causes a delay once, a fault each time. The timeouts are short here and may expire while no thread
    // runs.
    for _ in 0..2 {
        let again = outcomes.extract_if(.., |(case, outcome)| match outcome {
            Ok(measured) => measured.is_disturbed(&usual),
            Err(text) => {
                println!("{case}, once more: {text}");
                true
            }
        });
        let again: Vec<TestCase> = again.map(|(case, _)| case).collect();
        outcomes.extend(run_all(again));
    }
    let mut failed = Vec::new();
    for (case, outcome) in without.iter().chain(&outcomes) {
        match outcome {
            Ok(measured) if measured.is_disturbed(&usual) => {
                failed.push(format!("{case}: the working servers are disturbed: {measured}; without faults: {usual}"));
            }
            Ok(measured) => println!("{case}: {measured}"),
            Err(text) => failed.push(format!("{case}: {text}")),
        }
    }
    assert!(failed.is_empty(), "{} of {count} cells failed:\n{}", failed.len(), failed.join("\n"));
}

fn worst_of(outcomes: &[(TestCase, Result<Measured, String>)]) -> Measured {
    let measured = outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok());
    measured.fold(Measured::default(), |worst, measured| Measured {
        state_change: worst.state_change.max(measured.state_change),
        render: worst.render.max(measured.render),
        eos_late: worst.eos_late.max(measured.eos_late),
        start: worst.start.max(measured.start),
        gap: worst.gap.max(measured.gap),
        attempts: worst.attempts.max(measured.attempts),
        begun: None,
    })
}
