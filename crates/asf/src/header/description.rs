//! Descriptive information in a header: title, author, codecs, sizes, bit rates.
//!
//! Sending and receiving the stream need none of it, so missing or invalid values are left out and are not an error.

use super::objects::{self, Object, Objects};
use super::{HEADER_HEAD, Header, Stream, StreamKind, extension_children};
use crate::cursor::Cursor;
use crate::guid;

/// Size in bytes of the Stream Properties before their type-specific data (ASF 3.3).
const TYPE_SPECIFIC_AT: usize = 78;
/// Units of 100 ns in a second.
const UNITS_PER_SECOND: f64 = 1e7;
/// Codec types of the Codec List (ASF 3.5).
const VIDEO_CODEC: u16 = 1;
const AUDIO_CODEC: u16 = 2;

/// Description of a stream. The texts are untrusted: they come from the encoder, may have any length and may contain
/// any character.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// The title, if present and not empty.
    pub title: Option<String>,
    /// The author, if present and not empty.
    pub author: Option<String>,
    /// The streams, in the order of the header.
    pub streams: Vec<StreamDescription>,
}

/// Description of one stream of a header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamDescription {
    /// Stream number, 1 to 127.
    pub number: u8,
    /// What the stream carries.
    pub kind: StreamKind,
    /// Name of the codec: from the header's Codec List, else the common name of its code, else the code.
    pub codec: Option<String>,
    /// Bit rate in bit/s.
    pub bit_rate: Option<u32>,
    /// Width and height of video in pixels.
    pub size: Option<(u32, u32)>,
    /// Video frames per second.
    pub frame_rate: Option<f64>,
    /// Audio samples per second.
    pub sample_rate: Option<u32>,
    /// Number of audio channels.
    pub channels: Option<u16>,
}

impl Header {
    /// Returns the descriptive information of the header, which is parsed on each call.
    #[must_use]
    pub fn describe(&self) -> Description {
        let (object, _) = self.split();
        let children = object.get(HEADER_HEAD..).unwrap_or_default();
        let mut found = CollectedInfo::default();
        for child in Objects::new(children, HEADER_HEAD).map_while(Result::ok) {
            found.add(&child);
        }
        let [title, author] = found.texts;
        let streams = self.streams().iter().map(|stream| found.codecs.describe(*stream, &found.streams));
        Description { title, author, streams: streams.collect() }
    }
}

/// Values collected from the objects of a header, before they are merged per stream.
#[derive(Default)]
struct CollectedInfo {
    /// Title and author.
    texts: [Option<String>; 2],
    streams: Vec<StreamDetails>,
    codecs: Codecs,
}

/// Values that one object gives for a stream. Several objects may each give a part.
#[derive(Default)]
struct StreamDetails {
    number: u8,
    code: Option<CodecId>,
    bit_rate: Option<u32>,
    size: Option<(u32, u32)>,
    frame_rate: Option<f64>,
    sample_rate: Option<u32>,
    channels: Option<u16>,
}

/// A codec identifier in Stream Properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CodecId {
    /// The FOURCC of a BITMAPINFOHEADER (ASF 9.2).
    FourCc([u8; 4]),
    /// The format tag of a WAVEFORMATEX (ASF 9.1).
    FormatTag(u16),
}

/// The Codec List (ASF 3.5): type, name and codec information of each entry.
#[derive(Default)]
struct Codecs(Vec<(u16, String, Vec<u8>)>);

impl CollectedInfo {
    /// Adds the values of an object. The first value of each kind counts.
    fn add(&mut self, object: &Object<'_>) {
        match object.guid {
            guid::CONTENT_DESCRIPTION => {
                for (known, text) in self.texts.iter_mut().zip(content(object)) {
                    *known = known.take().or(text);
                }
            }
            guid::STREAM_PROPERTIES => self.streams.extend(properties(object)),
            guid::STREAM_BITRATE_PROPERTIES => self.streams.extend(bit_rates(object)),
            guid::CODEC_LIST => self.codecs.0.extend(codec_list(object)),
            guid::HEADER_EXTENSION => {
                let extended = extension_children(object)
                    .map_while(Result::ok)
                    .filter(|child| child.guid == guid::EXTENDED_STREAM_PROPERTIES);
                for child in extended {
                    self.streams.extend(extended_properties(&child));
                    self.streams.extend(super::hidden_properties(&child).and_then(|object| properties(&object)));
                }
            }
            _ => {}
        }
    }
}

impl Codecs {
    /// Merges the details of a stream.
    fn describe(&self, stream: Stream, details: &[StreamDetails]) -> StreamDescription {
        let mut described = StreamDescription { number: stream.number, kind: stream.kind, ..Default::default() };
        let mut code = None;
        for details in details.iter().filter(|details| details.number == stream.number) {
            code = code.or(details.code);
            described.bit_rate = described.bit_rate.or(details.bit_rate);
            described.size = described.size.or(details.size);
            described.frame_rate = described.frame_rate.or(details.frame_rate);
            described.sample_rate = described.sample_rate.or(details.sample_rate);
            described.channels = described.channels.or(details.channels);
        }
        described.codec = self.name(stream.kind, code);
        described
    }

    /// Returns the name of a codec. Some muxers leave the codec information empty; the entry is then used if it is the
    /// only one of its type.
    fn name(&self, kind: StreamKind, code: Option<CodecId>) -> Option<String> {
        let wanted = match kind {
            StreamKind::Video => VIDEO_CODEC,
            StreamKind::Audio => AUDIO_CODEC,
            StreamKind::Command | StreamKind::Other => return None,
        };
        let information = code.map(|code| match code {
            CodecId::FourCc(code) => code.to_vec(),
            CodecId::FormatTag(tag) => tag.to_le_bytes().to_vec(),
        });
        let mut of_type = self.0.iter().filter(|(kind, ..)| *kind == wanted);
        let same = of_type.clone().find(|(.., known)| information.as_ref() == Some(known));
        let only = of_type.next().filter(|(.., known)| known.is_empty() && of_type.next().is_none());
        same.or(only)
            .map(|(_, name, _)| name.clone())
            .filter(|name| !name.is_empty())
            .or_else(|| code.map(CodecId::name))
    }
}

impl CodecId {
    /// Returns the common name, or the code itself if there is none.
    fn name(self) -> String {
        let known = match self {
            Self::FourCc(code) => match &code.map(|byte| byte.to_ascii_uppercase()) {
                b"WMV1" => "Windows Media Video 7",
                b"WMV2" => "Windows Media Video 8",
                b"WMV3" => "Windows Media Video 9",
                b"WVC1" | b"WMVA" => "Windows Media Video 9 Advanced Profile",
                b"WMVP" | b"WVP2" => "Windows Media Video 9 Image",
                b"MSS1" | b"MSS2" => "Windows Media Screen",
                b"MP42" => "MS MPEG-4 version 2",
                b"MP43" | b"DIV3" => "MS MPEG-4 version 3",
                b"MP4S" | b"M4S2" | b"MP4V" => "MPEG-4",
                b"H264" | b"AVC1" => "H.264",
                b"MJPG" => "Motion JPEG",
                _ => "",
            },
            Self::FormatTag(tag) => match tag {
                0x0001 => "PCM",
                0x000A => "Windows Media Audio Voice 9",
                0x0055 => "MP3",
                0x00FF | 0x1600 | 0x1610 => "AAC",
                0x0160 => "Windows Media Audio 1",
                0x0161 => "Windows Media Audio 2",
                0x0162 => "Windows Media Audio 9 Professional",
                0x0163 => "Windows Media Audio 9 Lossless",
                0x2000 => "AC-3",
                _ => "",
            },
        };
        match self {
            _ if !known.is_empty() => known.to_owned(),
            Self::FourCc(code) if code.iter().all(u8::is_ascii_graphic) => String::from_utf8_lossy(&code).into_owned(),
            Self::FourCc(code) => format!("0x{:08X}", u32::from_le_bytes(code)),
            Self::FormatTag(tag) => format!("0x{tag:04X}"),
        }
    }
}

/// Title and author of a Content Description Object (ASF 3.10).
fn content(object: &Object<'_>) -> [Option<String>; 2] {
    let mut cursor = object.from(objects::HEAD);
    let lengths = [cursor.u16(), cursor.u16()].map(|length| usize::from(length.unwrap_or(0)));
    let mut at = 34;
    lengths.map(|length| {
        let text = object.bytes.get(at..at + length);
        at += length;
        text.and_then(super::text)
    })
}

/// Stream Properties with their type-specific data (ASF 3.3, 9.1, 9.2).
fn properties(object: &Object<'_>) -> Option<StreamDetails> {
    let stream = Stream::read(object).ok()?;
    let mut details = StreamDetails { number: stream.number, ..StreamDetails::default() };
    let len = usize::try_from(object.from(64).u32()?).ok()?;
    let specific = object.bytes.get(TYPE_SPECIFIC_AT..)?;
    let mut cursor = Cursor::new(specific.get(..len).unwrap_or(specific));
    match stream.kind {
        StreamKind::Audio => {
            details.code = cursor.u16().map(CodecId::FormatTag);
            details.channels = cursor.u16().filter(|channels| *channels > 0);
            details.sample_rate = cursor.u32().filter(|rate| *rate > 0);
            details.bit_rate = cursor.u32().and_then(|bytes| bytes.checked_mul(8)).filter(|rate| *rate > 0);
        }
        StreamKind::Video => {
            let size = cursor.u32().zip(cursor.u32());
            details.size = size.filter(|(width, height)| *width > 0 && *height > 0);
            // A reserved byte, the size of what follows, and a BITMAPINFOHEADER up to its FOURCC.
            cursor.skip(1 + 2 + 16)?;
            details.code = cursor.array().map(CodecId::FourCc);
        }
        StreamKind::Command | StreamKind::Other => {}
    }
    Some(details)
}

/// Bit rate and frame rate of an Extended Stream Properties Object (ASF 4.1).
fn extended_properties(object: &Object<'_>) -> Option<StreamDetails> {
    let bit_rate = object.from(40).u32().filter(|rate| *rate > 0);
    let [number, _] = object.from(72).u16()?.to_le_bytes();
    let time = object.from(76).u64().filter(|time| *time > 0);
    // Rounded to a thousandth, because the time of a frame is a whole number of units: 29.97 is 333,667 units.
    let frame_rate = time.map(|time| (UNITS_PER_SECOND / time as f64 * 1000.0).round() / 1000.0);
    Some(StreamDetails { number: number & 0x7f, bit_rate, frame_rate, ..StreamDetails::default() })
}

/// The records of a Stream Bitrate Properties Object (ASF 3.12).
fn bit_rates(object: &Object<'_>) -> Vec<StreamDetails> {
    let mut cursor = object.from(objects::HEAD);
    let count = cursor.u16().unwrap_or(0);
    let records = (0..count).map_while(|_| cursor.u16().zip(cursor.u32()));
    records
        .map(|(flags, rate)| {
            let [number, _] = flags.to_le_bytes();
            StreamDetails {
                number: number & 0x7f,
                bit_rate: Some(rate).filter(|rate| *rate > 0),
                ..StreamDetails::default()
            }
        })
        .collect()
}

/// The entries of a Codec List Object (ASF 3.5).
fn codec_list(object: &Object<'_>) -> Vec<(u16, String, Vec<u8>)> {
    let mut cursor = object.from(objects::HEAD + 16);
    let count = cursor.u32().unwrap_or(0);
    let mut entries = Entries { bytes: object.bytes, at: objects::HEAD + 20 };
    (0..count).map_while(|_| entries.next()).collect()
}

/// Walks the entries of a Codec List.
struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Entries<'_> {
    /// Returns the type, name and codec information of the next entry.
    fn next(&mut self) -> Option<(u16, String, Vec<u8>)> {
        let [low, high] = *self.take(2)?.first_chunk()?;
        let name = self.counted(2)?.to_vec();
        // A description.
        self.counted(2)?;
        let information = self.counted(1)?.to_vec();
        Some((u16::from_le_bytes([low, high]), super::text(&name).unwrap_or_default(), information))
    }

    /// Returns the bytes after a WORD that gives their count in units of `unit_len` bytes.
    fn counted(&mut self, unit_len: usize) -> Option<&[u8]> {
        let count = u16::from_le_bytes(*self.take(2)?.first_chunk()?);
        self.take(usize::from(count) * unit_len)
    }

    /// Returns the next `len` bytes.
    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let bytes = self.bytes.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{self, HeaderBuilder};

    fn described(objects: Vec<Vec<u8>>) -> HeaderBuilder {
        HeaderBuilder { streams: Vec::new(), before_streams: objects, ..HeaderBuilder::default() }
    }

    fn describe(builder: &HeaderBuilder) -> Description {
        Header::parse(builder.build()).unwrap().describe()
    }

    #[test]
    fn a_complete_header_is_described() {
        let streams = vec![
            test_util::audio_properties(1, 0x161, 2, 44_100, 8000),
            test_util::video_properties(2, *b"WMV2", 320, 240),
        ];
        let mut extended = vec![0; 16];
        extended.extend(150_000_u32.to_le_bytes());
        extended.resize(48, 0);
        extended.extend([2, 0, 0, 0]);
        extended.extend(400_000_u64.to_le_bytes());
        extended.extend([0; 4]);
        let builder = described(streams)
            .object(guid::CONTENT_DESCRIPTION, &test_util::content("Konzert", "Käthe"))
            .object(guid::STREAM_BITRATE_PROPERTIES, &test_util::bit_rates(&[(1, 64_500), (2, 0)]))
            .extension(guid::EXTENDED_STREAM_PROPERTIES, &extended)
            .object(
                guid::CODEC_LIST,
                &test_util::codecs(&[(VIDEO_CODEC, "WMV V8", b"WMV2"), (AUDIO_CODEC, "", &[0x61, 1])]),
            );
        let audio = StreamDescription {
            number: 1,
            kind: StreamKind::Audio,
            codec: Some("Windows Media Audio 2".to_owned()),
            bit_rate: Some(64_000),
            sample_rate: Some(44_100),
            channels: Some(2),
            ..Default::default()
        };
        let video = StreamDescription {
            number: 2,
            kind: StreamKind::Video,
            codec: Some("WMV V8".to_owned()),
            bit_rate: Some(150_000),
            size: Some((320, 240)),
            frame_rate: Some(25.0),
            ..Default::default()
        };
        let described = describe(&builder);
        assert_eq!((described.title.as_deref(), described.author.as_deref()), (Some("Konzert"), Some("Käthe")));
        assert_eq!(described.streams, [audio, video]);
    }

    #[test]
    fn a_codec_is_named_by_the_list_or_by_its_code() {
        let names = |code: [u8; 4], list: &[(u16, &str, &[u8])]| {
            let builder = described(vec![test_util::video_properties(2, code, 1, 1)]);
            describe(&builder.object(guid::CODEC_LIST, &test_util::codecs(list))).streams[0].codec.clone().unwrap()
        };
        assert_eq!(names(*b"wvc1", &[]), "Windows Media Video 9 Advanced Profile");
        assert_eq!(names(*b"XYZ1", &[]), "XYZ1");
        assert_eq!(names([0, 1, 2, 3], &[]), "0x03020100");
        assert_eq!(names(*b"WMV2", &[(VIDEO_CODEC, "the only one", b"")]), "the only one");
        assert_eq!(names(*b"WMV2", &[(VIDEO_CODEC, "a", b""), (VIDEO_CODEC, "b", b"")]), "Windows Media Video 8");
        assert_eq!(names(*b"WMV2", &[(VIDEO_CODEC, "a", b"WMV3"), (VIDEO_CODEC, "b", b"WMV2")]), "b");
    }

    #[test]
    fn missing_values_are_left_out() {
        let described = describe(&HeaderBuilder::default());
        assert_eq!((described.title, described.author), (None, None));
        let numbers: Vec<_> = described.streams.iter().map(|stream| (stream.number, stream.bit_rate)).collect();
        assert_eq!(numbers, [(1, None), (2, None)]);
    }

    #[test]
    fn broken_objects_are_left_out() {
        let whole = described(vec![test_util::audio_properties(1, 0x161, 2, 44_100, 8000)])
            .object(guid::CONTENT_DESCRIPTION, &test_util::content("a title", "an author"))
            .object(guid::CODEC_LIST, &test_util::codecs(&[(AUDIO_CODEC, "a name", &[0x61, 1])]))
            .object(guid::STREAM_BITRATE_PROPERTIES, &test_util::bit_rates(&[(1, 64_500)]));
        for at in 0..whole.objects.len() {
            for len in 24..whole.objects[at].len() {
                let mut cut = whole.clone();
                cut.objects[at].truncate(len);
                cut.objects[at][16..24].copy_from_slice(&(len as u64).to_le_bytes());
                assert_eq!(describe(&cut).streams.len(), 1, "object {at} of {len} bytes");
            }
        }
    }
}
