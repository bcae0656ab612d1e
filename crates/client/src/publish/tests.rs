//! Starting and dropping many destinations at once.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use super::status::{DestinationEvent, State};
use super::{DestinationObserver, DrainOutcome, NewDestination, Publisher, Settings};
use crate::packet_buffer::{Limits, ReaderOptions};
use crate::publish::backoff::Policy;
use crate::transport::tls::Tls;
use crate::transport::{self, runtime};
use wmhttp::auth::{CredentialRequest, Credentials};
use wmhttp::client::Config;
use wmhttp::failure::Failure;

/// More than [`super::STARTED_AT_ONCE`].
const MANY: usize = 1000;

#[derive(Default)]
struct Observer {
    reports: AtomicUsize,
}

impl DestinationObserver for Observer {
    fn report(&self, _report: DestinationEvent) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }

    fn has_retry_handler(&self) -> bool {
        false
    }

    fn should_retry(&self, _failure: &Failure) -> bool {
        true
    }

    fn credentials(&self, _question: &CredentialRequest) -> Option<Credentials> {
        None
    }
}

/// Creates a publisher to many publishing points of a server that does not listen.
fn publisher(observer: &Arc<Observer>) -> Publisher {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let destination = |number: usize| {
        let url = format!("http://127.0.0.1:{port}/p{number}").parse().unwrap();
        let settings = Settings {
            session: Config::new(url, "WMEncoder/12.0.0.0", || [7; 16], SystemTime::now),
            transport: transport::Settings {
                connect_timeout: Duration::from_secs(60),
                stall_timeout: Duration::from_secs(60),
                local_address: None,
                dscp: None,
                tls: Tls::default(),
            },
            retry: Policy { retries: Some(0), ..Policy::default() },
            options: ReaderOptions::default(),
        };
        NewDestination { name: format!("dest_{number}"), settings, observer: Arc::clone(observer) as Arc<_> }
    };
    let publisher = Publisher::new(Limits::default());
    publisher.add_all((0..MANY).map(destination)).unwrap();
    publisher
}

#[test]
fn all_destinations_are_started() {
    let publisher = publisher(&Arc::default());
    publisher.end();
    let ended = publisher.wait_until_ended(Instant::now() + Duration::from_secs(60));
    assert_eq!(ended, Ok(DrainOutcome::All));
    assert_eq!(publisher.count(State::Failed), MANY);
}

/// Otherwise repeated state changes would queue more and more useless work.
#[test]
fn destinations_of_a_dropped_publisher_are_not_started() {
    let (release, released) = mpsc::channel::<()>();
    // Keeps the I/O thread busy.
    runtime::spawn(async move { assert!(released.recv().is_err()) }).unwrap();
    let observer = Arc::default();
    let publisher = publisher(&observer);
    assert_eq!(publisher.count(State::Idle), MANY);
    drop(publisher);
    drop(release);
    let (done, is_done) = mpsc::channel();
    // The I/O thread runs tasks in the order in which they were spawned.
    runtime::spawn(async move { done.send(()).unwrap() }).unwrap();
    is_done.recv().unwrap();
    assert_eq!(observer.reports.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&observer), 1);
}
