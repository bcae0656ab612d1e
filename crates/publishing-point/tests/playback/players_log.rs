//! The reports of players are logged by the server, without private data.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use test_support::server_fixture::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both forms of a report, with a session and without.
#[test]
fn a_players_report_is_logged() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let server = server();
    let xml =
        "<XML><cs-uri-stem>http://u:secret@x/</cs-uri-stem><c-status>200</c-status><x-duration>31</x-duration></XML>";
    let posted = format!(
        "POST /concert HTTP/1.1\r\nHost: x\r\nPragma: client-id=77\r\nContent-Type: application/x-wms-LogStats\r\n\
         Content-Length: {}\r\n\r\n{xml}",
        xml.len()
    );
    assert_eq!(ask(&server, &posted).status, 204);
    let line = "POST /concert HTTP/1.0\r\nPragma: log-line=0.0.0.0 2003-09-10 22:05:20 - http://u:secret@x/ 0 32 1 404\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(ask(&server, line).status, 204);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let reports: Vec<_> = text.lines().filter(|line| line.contains("player report")).collect();
    assert_eq!(reports.len(), 2, "{text}");
    assert!(reports[0].contains("client=77") && reports[0].contains("status=\"200\""), "{text}");
    assert!(reports[0].contains("seconds=\"31\"") && reports[1].contains("status=\"404\""), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
