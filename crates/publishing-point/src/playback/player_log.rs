//! The playback reports of players ([MS-WMLOG]), as lines of the server's log.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use quick_xml::Reader;
use quick_xml::events::Event;

/// Maximum bytes of a report in XML.
const MAX_BYTES: usize = 64 * 1024;
/// Maximum characters that are kept of a value.
const MAX_VALUE: usize = 64;

/// The fields of the legacy format in their order (the log of Windows Media Services 4.1 and later).
const FIELDS: [&str; 44] = [
    "c-ip",
    "date",
    "time",
    "c-dns",
    "cs-uri-stem",
    "c-starttime",
    "x-duration",
    "c-rate",
    "c-status",
    "c-playerid",
    "c-playerversion",
    "c-playerlanguage",
    "cs(User-Agent)",
    "cs(Referer)",
    "c-hostexe",
    "c-hostexever",
    "c-os",
    "c-osversion",
    "c-cpu",
    "filelength",
    "filesize",
    "avgbandwidth",
    "protocol",
    "transport",
    "audiocodec",
    "videocodec",
    "channelURL",
    "sc-bytes",
    "c-bytes",
    "s-pkts-sent",
    "c-pkts-received",
    "c-pkts-lost-client",
    "c-pkts-lost-net",
    "c-pkts-lost-cont-net",
    "c-resendreqs",
    "c-pkts-recovered-ECC",
    "c-pkts-recovered-resent",
    "c-buffercount",
    "c-totalbuffertime",
    "c-quality",
    "s-ip",
    "s-dns",
    "s-totalclients",
    "s-cpu-util",
];

/// The relevant fields of a report. URLs and addresses are left out, because they may reveal who watched what, and
/// passwords.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PlayerLog {
    /// The status as the player reports it; 200 means success.
    status: Option<String>,
    /// Seconds played.
    seconds: Option<String>,
    player_version: Option<String>,
    /// The operating system.
    system: Option<String>,
    /// Average bandwidth in bit/s.
    bandwidth: Option<String>,
    /// Bytes received.
    bytes: Option<String>,
    /// Packets received.
    packets: Option<String>,
    /// Packets that the player missed.
    packets_lost: Option<String>,
    /// How often the player paused to fill its buffer.
    rebuffered: Option<String>,
    /// The time of these pauses.
    rebuffered_seconds: Option<String>,
    /// The quality of the stream as a percentage, as the player computes it.
    quality: Option<String>,
}

impl PlayerLog {
    /// Parses the value of `log-line=` in a Pragma.
    pub(crate) fn of_line(line: &str) -> Self {
        let mut log = Self::default();
        for (name, value) in FIELDS.iter().zip(line.split_ascii_whitespace()) {
            log.set(name, value);
        }
        log
    }

    /// Parses a report in XML; invalid parts are left out.
    pub(crate) fn of_xml(text: &str) -> Self {
        let mut log = Self::default();
        let mut reader = Reader::from_str(text);
        let mut element = String::new();
        loop {
            match reader.read_event() {
                Ok(Event::Start(start)) => {
                    element = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                }
                Ok(Event::Text(value)) => log.set(&element, &String::from_utf8_lossy(&value)),
                Ok(Event::End(_)) => element.clear(),
                Ok(Event::Eof) | Err(_) => return log,
                Ok(_) => {}
            }
        }
    }

    /// Sets the field of this name in the protocol. Other fields are ignored.
    fn set(&mut self, name: &str, value: &str) {
        let field = match name {
            "c-status" => &mut self.status,
            "x-duration" => &mut self.seconds,
            "c-playerversion" => &mut self.player_version,
            "c-os" => &mut self.system,
            "avgbandwidth" => &mut self.bandwidth,
            "c-bytes" => &mut self.bytes,
            "c-pkts-received" => &mut self.packets,
            "c-pkts-lost-client" => &mut self.packets_lost,
            "c-buffercount" => &mut self.rebuffered,
            "c-totalbuffertime" => &mut self.rebuffered_seconds,
            "c-quality" => &mut self.quality,
            _ => return,
        };
        // The values come from the client: only characters that no log format treats specially are kept.
        let plain = |char: &char| char.is_ascii_alphanumeric() || "._-+".contains(*char);
        let value: String = value.trim().chars().filter(plain).take(MAX_VALUE).collect();
        if !value.is_empty() && value != "-" {
            *field = Some(value);
        }
    }

    /// Writes the log line.
    pub(crate) fn log(&self, point: &str, client: Option<u32>) {
        let Self { status, seconds, player_version, system, bandwidth, bytes, packets, .. } = self;
        let Self { packets_lost, rebuffered, rebuffered_seconds, quality, .. } = self;
        tracing::info!(
            point,
            client,
            status = status.as_deref(),
            seconds = seconds.as_deref(),
            player_version = player_version.as_deref(),
            system = system.as_deref(),
            bandwidth = bandwidth.as_deref(),
            bytes = bytes.as_deref(),
            packets = packets.as_deref(),
            packets_lost = packets_lost.as_deref(),
            rebuffered = rebuffered.as_deref(),
            rebuffered_seconds = rebuffered_seconds.as_deref(),
            quality = quality.as_deref(),
            "player report"
        );
    }
}

/// Reads the report in a request body; `None` if it is too long or incomplete.
pub(crate) async fn read(mut body: Incoming) -> Option<String> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            if whole.len() + data.len() > MAX_BYTES {
                return None;
            }
            whole.extend_from_slice(&data);
        }
    }
    Some(String::from_utf8_lossy(&whole).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_give_the_same_fields() {
        let line = "0.0.0.0 2003-09-10 22:05:20 - http://u:secret@x/y 0 31 1 200 {3300AD50-2C39-46c0-AE0A-70B64F321A80} \
            9.0.0.2980 en-US WMFSDK/9.0 - wmplayer.exe 9.0.0.2980 Windows_XP 5.1.0.2600 Pentium 0 0 300250 http TCP \
            - - - 1163250 1163000 0 388 3 0 0 0 0 0 1 4 100 - - - -";
        let log = PlayerLog::of_line(line);
        let xml = "<?xml version=\"1.0\"?><XML><Summary>x</Summary><cs-uri-stem>http://u:secret@x/y</cs-uri-stem>\
            <c-status>200</c-status><x-duration> 31 </x-duration><c-playerversion>9.0.0.2980</c-playerversion>\
            <c-os>Windows_XP</c-os><avgbandwidth>300250</avgbandwidth><c-bytes>1163000</c-bytes>\
            <c-pkts-received>388</c-pkts-received><c-pkts-lost-client>3</c-pkts-lost-client>\
            <c-buffercount>1</c-buffercount><c-totalbuffertime>4</c-totalbuffertime><c-quality>100</c-quality></XML>";
        assert_eq!(PlayerLog::of_xml(xml), log);
        assert_eq!(log.packets_lost.as_deref(), Some("3"));
        assert_eq!(log.quality.as_deref(), Some("100"));
        assert!(!format!("{log:?}").contains("secret"));
    }

    #[test]
    fn invalid_parts_are_left_out() {
        let log = PlayerLog::of_xml("<XML><c-status>404</c-status><c-os>a\n\u{1b}[31mred</c-os><c-bytes>7<");
        assert_eq!(log.status.as_deref(), Some("404"));
        assert_eq!(log.system.as_deref(), Some("a31mred"));
        assert_eq!(PlayerLog::of_line("- - -"), PlayerLog::default());
        assert_eq!(PlayerLog::of_xml("\u{0}<<<>&&"), PlayerLog::default());
        let long = format!("<c-os>{}</c-os>", "x".repeat(1000));
        assert_eq!(PlayerLog::of_xml(&long).system.map(|text| text.len()), Some(MAX_VALUE));
    }
}
