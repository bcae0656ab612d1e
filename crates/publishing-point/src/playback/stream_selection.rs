//! The stream selection of a player ([MS-WMSP] 2.2.1.4: `stream-switch-entry`), and the filter for its payloads.

use asf::{Header, PayloadInfo, StartFilter};

/// Maximum number of streams in a header.
const MAX_ENTRIES: usize = 127;
/// The stream number that means no stream.
const NO_STREAM: u16 = 0xffff;
/// The token of a Pragma header before the entries.
const ENTRY_NAME: &str = "stream-switch-entry=";

/// How much of a stream is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThinningLevel {
    /// All payloads.
    All,
    /// Only key frames.
    KeyFrames,
    /// No payloads.
    Nothing,
}

/// Replaces stream `from` by stream `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<N> {
    from: N,
    to: N,
    level: ThinningLevel,
}

/// A stream number as written. [MS-WMSP] specifies hexadecimal digits, but known players write decimal ones, so both
/// readings are kept until the header shows which streams exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RawStreamNumber {
    hexadecimal: u16,
    decimal: Option<u16>,
}

/// The stream selection of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamSelection(Vec<Entry<RawStreamNumber>>);

impl StreamSelection {
    /// Parses the entries of a request's Pragma headers, joined and in lower case. `stream-switch-count` is ignored,
    /// because players send wrong values.
    pub(crate) fn read(pragma: &str) -> Self {
        let lists = pragma.split(ENTRY_NAME).skip(1).map(|rest| rest.split(',').next().unwrap_or_default());
        let entries = lists.flat_map(|list| list.trim_matches('"').split_whitespace()).filter_map(Entry::read);
        Self(entries.take(MAX_ENTRIES).collect())
    }

    /// Returns whether the request selects no streams.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entries with the numbers that they mean if the header has these streams.
    fn resolved(&self, header: &Header) -> impl Iterator<Item = Entry<u16>> {
        let exists =
            |number: u16| number == NO_STREAM || header.streams().iter().any(|s| u16::from(s.number) == number);
        let all = |number: fn(&RawStreamNumber) -> Option<u16>| {
            self.0.iter().all(|entry| [entry.from, entry.to].iter().all(|n| number(n).is_some_and(exists)))
        };
        // The decimal reading is used only if it names existing streams and the hexadecimal one does not. Up to stream
        // 9 both are the same.
        let decimal = !all(|number| Some(number.hexadecimal)) && all(|number| number.decimal.or(Some(NO_STREAM)));
        let meant = move |number: RawStreamNumber| match number.decimal {
            Some(number) if decimal => number,
            _ => number.hexadecimal,
        };
        self.0.iter().map(move |entry| Entry { from: meant(entry.from), to: meant(entry.to), level: entry.level })
    }
}

impl Entry<RawStreamNumber> {
    /// Parses `FROM:TO:LEVEL`.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut number = || {
            let digits = parts.next()?;
            let hexadecimal = u16::from_str_radix(digits, 16).ok()?;
            Some(RawStreamNumber { hexadecimal, decimal: digits.parse().ok() })
        };
        let (from, to) = (number()?, number()?);
        let level = match parts.next()? {
            "0" => ThinningLevel::All,
            "1" => ThinningLevel::KeyFrames,
            "2" => ThinningLevel::Nothing,
            _ => return None,
        };
        Some(Self { from, to, level })
    }
}

/// The streams that a player receives, one bit per stream number, and their state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PayloadFilter {
    /// Streams of which the player receives all payloads.
    all: u128,
    /// Streams of which the player receives only key frames.
    key_frames: u128,
    /// All streams of the header.
    streams: u128,
    /// Streams that are switched on start with decodable data, and so do all streams if the player joins in mid-stream.
    start: StartFilter,
}

impl PayloadFilter {
    /// Returns the filter of a Play request; `None` if it selects all streams, or only streams that do not exist. In
    /// the latter case [MS-WMSP] specifies an empty stream, which no player in the field expects.
    pub(crate) fn of(selection: &StreamSelection, header: &Header) -> Option<Self> {
        let mut filter = Self { all: 0, ..Self::beginning(header) };
        filter.apply(selection, header);
        let wanted = (filter.all | filter.key_frames) & filter.streams;
        (wanted != 0 && !filter.is_everything()).then_some(filter)
    }

    /// Returns a filter with all streams, all of them decodable.
    pub(crate) fn everything(header: &Header) -> Self {
        Self { start: StartFilter::already_started(header), ..Self::beginning(header) }
    }

    /// Returns a filter with all streams, each starting with decodable data.
    pub(crate) fn beginning(header: &Header) -> Self {
        let streams = header.streams().iter().fold(0, |bits, stream| bits | bit(stream.number));
        Self { all: streams, key_frames: 0, streams, start: StartFilter::new(header) }
    }

    /// Records that the next packet follows a gap and contains the start of a key frame.
    pub(crate) fn restart(&mut self) {
        self.start.restart();
    }

    /// Returns whether all payloads pass from now on.
    pub(crate) fn passes_all(&self) -> bool {
        self.is_everything() && self.start.is_done()
    }

    /// Returns whether all payloads of all streams are selected.
    fn is_everything(&self) -> bool {
        self.all & self.streams == self.streams
    }

    /// Changes the selection, from the next payload on.
    pub(crate) fn apply(&mut self, selection: &StreamSelection, header: &Header) {
        for Entry { from, to, level } in selection.resolved(header) {
            // An entry replaces one stream by another, such as a video of another bit rate.
            if from != to {
                self.set(from, ThinningLevel::Nothing);
            }
            self.set(to, level);
        }
        self.start.restart_streams(!(self.all | self.key_frames));
    }

    /// Selects this much of a stream. Numbers that no stream can have are ignored.
    fn set(&mut self, number: u16, level: ThinningLevel) {
        let Ok(number) = u8::try_from(number) else { return };
        let bit = bit(number);
        self.all &= !bit;
        self.key_frames &= !bit;
        match level {
            ThinningLevel::All => self.all |= bit,
            ThinningLevel::KeyFrames => self.key_frames |= bit,
            ThinningLevel::Nothing => {}
        }
    }

    /// Returns whether the player receives this payload. It must be called for each payload in order.
    pub(crate) fn wants(&mut self, payload: PayloadInfo) -> bool {
        let bit = bit(payload.stream);
        let is_wanted = self.all & bit != 0 || (self.key_frames & bit != 0 && self.start.is_decodable_alone(payload));
        is_wanted && self.start.accepts(payload)
    }

    /// Counts a packet for the search of decodable data. It must be called after each packet.
    pub(crate) fn count_packet(&mut self) {
        self.start.count_packet();
    }
}

/// Returns the bit of a stream number; 0 for a number that no stream can have (128 and more).
fn bit(number: u8) -> u128 {
    1_u128.checked_shl(number.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use asf::test_util::{AUDIO_MEDIA, HeaderBuilder, VIDEO_MEDIA};

    fn header(streams: &[u16]) -> Header {
        let kinds = streams.iter().map(|n| (*n, if *n == 1 { AUDIO_MEDIA } else { VIDEO_MEDIA })).collect();
        Header::parse(HeaderBuilder { streams: kinds, ..HeaderBuilder::default() }.build()).unwrap()
    }

    fn payload(stream: u8, key: bool, begins: bool) -> PayloadInfo {
        PayloadInfo { stream, key, begins }
    }

    /// Returns the numbers of the streams that are switched on.
    fn on(pragma: &str, streams: &[u16]) -> Option<Vec<u8>> {
        let filter = PayloadFilter::of(&StreamSelection::read(pragma), &header(streams))?;
        Some((1..=127).filter(|n| (filter.all | filter.key_frames) & bit(*n) != 0).collect())
    }

    #[test]
    fn selections_of_players_are_parsed() {
        let streams = [1, 2, 3];
        for (pragma, expected) in [
            ("no-cache,stream-switch-count=2,stream-switch-entry=ffff:1:0 ffff:3:0 ,rate=1", Some(vec![1, 3])),
            ("stream-switch-entry=ffff:1:0,stream-switch-entry=ffff:2:2 ffff:3:1", Some(vec![1, 3])),
            ("stream-switch-entry=\"ffff:1:0\"", Some(vec![1])),
            ("stream-switch-entry=ffff:1:0 junk ffff:9 ffff:2:7 :::", Some(vec![1])),
            // All streams, no selection, and only missing streams: each selects everything.
            ("stream-switch-entry=ffff:1:0 ffff:2:0 ffff:3:0", None),
            ("xplaystrm=1", None),
            ("stream-switch-entry=ffff:7:0", None),
            ("stream-switch-entry=", None),
            ("stream-switch-entry=ffff:1:2 ffff:2:2", None),
        ] {
            assert_eq!(on(pragma, &streams), expected, "{pragma}");
        }
    }

    #[test]
    fn numbers_are_hexadecimal_unless_only_decimal_ones_exist() {
        assert_eq!(on("stream-switch-entry=ffff:1:0 ffff:10:0", &[1, 2, 16]), Some(vec![1, 16]));
        assert_eq!(on("stream-switch-entry=ffff:1:0 ffff:10:0", &[1, 2, 10]), Some(vec![1, 10]));
        assert_eq!(on("stream-switch-entry=ffff:a:0", &[1, 10]), Some(vec![10]));
    }

    #[test]
    fn a_stream_starts_with_a_key_frame() {
        let header = header(&[1, 2, 3]);
        let mut filter =
            PayloadFilter::of(&StreamSelection::read("stream-switch-entry=ffff:1:0 ffff:2:0"), &header).unwrap();
        assert!(!filter.wants(payload(1, false, false)));
        assert!(filter.wants(payload(1, false, true)));
        assert!(filter.wants(payload(1, false, false)));
        assert!(!filter.wants(payload(2, false, true)));
        assert!(!filter.wants(payload(2, true, false)), "the rest of an earlier frame");
        assert!(filter.wants(payload(2, true, true)));
        assert!(filter.wants(payload(2, false, true)));
        // The other stream replaces this one.
        filter.apply(&StreamSelection::read("stream-switch-entry=2:3:0"), &header);
        assert!(!filter.wants(payload(2, true, true)));
        assert!(!filter.wants(payload(3, false, true)));
        assert!(filter.wants(payload(3, true, true)));
        assert!(filter.wants(payload(1, false, false)), "not affected");
    }

    #[test]
    fn key_frames_only() {
        let header = header(&[1, 2]);
        let mut filter = PayloadFilter::everything(&header);
        assert!(filter.passes_all());
        filter.apply(&StreamSelection::read("stream-switch-entry=2:2:1"), &header);
        assert!(!filter.passes_all());
        assert!(filter.wants(payload(2, true, true)) && filter.wants(payload(2, true, false)));
        assert!(!filter.wants(payload(2, false, true)));
        filter.apply(&StreamSelection::read("stream-switch-entry=2:2:0"), &header);
        assert!(filter.passes_all());
    }
}
