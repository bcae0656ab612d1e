//! The ASF header, which describes a stream and is sent as `$H` or `$C`.

mod description;
mod live;
mod objects;
mod shrink;

use std::fmt;

use bytes::Bytes;

use crate::Error;
use crate::cursor::Cursor;
use crate::guid;
pub use description::{Description, StreamDescription};
use objects::{Object, Objects};

/// Size in bytes of the Header Object before its children (ASF 3.1).
pub(super) const HEADER_HEAD: usize = 30;
/// Size in bytes of the Data Object before its packets (ASF 5.1).
pub(super) const DATA_HEAD: usize = 50;
/// Maximum size in bytes of a Header Object that is read; larger ones are rejected. Known headers stay below 128 KiB.
pub(super) const MAX_READ: u64 = 16 << 20;
/// Offset of the first child in a Header Extension Object (ASF 3.4).
const EXTENSION_HEAD: usize = 46;
/// Maximum data packet size: the length field of `$D` is a WORD.
const MAX_PACKET: u32 = 65_535;
/// Minimum data packet size: the fixed fields of a packet do not fit into less.
const MIN_PACKET: u32 = 16;

/// An ASF file header as [MS-WMHTTP] sends it: the Header Object and the first 50
/// bytes of the Data Object.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    bytes: Bytes,
    file: FileProperties,
    streams: Vec<Stream>,
    /// One bit per stream number, set for video streams.
    video: u128,
    title: Option<String>,
    /// Data Object Size, in bytes.
    data_size: u64,
    /// The error in the first invalid child object, if any.
    broken_child: Option<Error>,
}

/// A stream of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Stream number, 1 to 127; 0 if the header contains this invalid number.
    pub number: u8,
    /// What the stream carries.
    pub kind: StreamKind,
}

/// Objects that decoders do not need (ASF 3 and 4). The relevant File Properties are compared separately.
const NOT_FOR_DECODING: [guid::Guid; 15] = [
    guid::FILE_PROPERTIES,
    guid::CONTENT_DESCRIPTION,
    guid::EXTENDED_CONTENT_DESCRIPTION,
    guid::METADATA_LIBRARY,
    guid::PADDING,
    guid::CODEC_LIST,
    guid::SCRIPT_COMMAND,
    guid::MARKER,
    guid::CONTENT_BRANDING,
    guid::STREAM_BITRATE_PROPERTIES,
    guid::DIGITAL_SIGNATURE,
    guid::INDEX_PARAMETERS,
    guid::MEDIA_OBJECT_INDEX_PARAMETERS,
    guid::TIMECODE_INDEX_PARAMETERS,
    guid::INDEX_PLACEHOLDER,
];

/// What a stream carries, by its Stream Type (ASF 10.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
    /// Script commands.
    Command,
    /// Anything else: still images, files, private types.
    #[default]
    Other,
}

impl Header {
    /// Maximum size in bytes of a header that fits into `$C` as well as into `$H`: in a `$C` packet a DWORD precedes
    /// the header.
    pub const MAX_LEN: usize = 65_527;

    /// Parses a header: exactly the Header Object and 50 bytes of the Data Object.
    ///
    /// Wrong object counts, reserved bytes, File IDs and packet counts are accepted, and so is an invalid object after
    /// the required ones.
    ///
    /// # Errors
    ///
    /// If the bytes are not a header, a required object is missing or invalid, or the data packets do not have a fixed
    /// size that fits into `$D`.
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        let size = header_size(&bytes)?;
        let object = size.and_then(|size| {
            let size = usize::try_from(size).ok()?;
            (size.checked_add(DATA_HEAD)? == bytes.len()).then_some(size)
        });
        let Some((object, data)) = object.and_then(|size| bytes.split_at_checked(size)) else {
            let reason = format!(
                "its size field says {} bytes, with 50 more for the Data Object, but {} bytes were received",
                size.unwrap_or(u64::MAX),
                bytes.len()
            );
            return Err(invalid("Header Object", 16, reason));
        };
        let children = Children::read(object)?;
        let data_size = data_size(data, object.len())?;
        Ok(Self {
            file: children.file,
            streams: children.streams,
            video: children.video,
            title: children.title,
            broken_child: children.broken,
            data_size,
            bytes,
        })
    }

    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Size in bytes of every data packet before its padding is removed.
    #[must_use]
    pub fn packet_size(&self) -> usize {
        self.file.packet_size as usize
    }

    /// The streams, in the order of the header.
    #[must_use]
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Whether the stream with this number carries video.
    #[must_use]
    pub fn is_video(&self, stream: u8) -> bool {
        self.video.checked_shr(stream.into()).unwrap_or(0) & 1 == 1
    }

    /// Whether any stream carries video.
    #[must_use]
    pub fn has_video(&self) -> bool {
        self.video != 0
    }

    /// Preroll in milliseconds: how long a player buffers before it starts playback.
    #[must_use]
    pub fn preroll_ms(&self) -> u64 {
        self.file.preroll_ms
    }

    /// Whether a player that has this header can decode the packets that follow `other`. This is so if the packet
    /// sizes and prerolls are equal, the streams have the same numbers and properties, byte for byte, and the headers
    /// differ only in titles and other texts, sizes, times and bit rates.
    #[must_use]
    pub fn decodes_as(&self, other: &Self) -> bool {
        let relevant =
            |header: &Self| Some((header.packet_size(), header.preroll_ms(), header.objects_for_decoding()?));
        self.bytes == other.bytes || relevant(self).is_some_and(|own| relevant(other) == Some(own))
    }

    /// The objects that a decoder may need, including those inside the Header Extension, sorted, because their order
    /// has no meaning. `None` if one of them is broken.
    fn objects_for_decoding(&self) -> Option<Vec<Vec<u8>>> {
        let (header, _) = self.split();
        let mut needed = Vec::new();
        for child in Objects::new(header.get(HEADER_HEAD..)?, HEADER_HEAD) {
            let child = child.ok()?;
            if child.guid == guid::HEADER_EXTENSION {
                for inner in extension_children(&child) {
                    needed.push(inner.ok()?);
                }
            } else {
                needed.push(child);
            }
        }
        let mut needed: Vec<_> = needed
            .into_iter()
            .filter(|object| !NOT_FOR_DECODING.contains(&object.guid))
            .map(|object| object.bytes.to_vec())
            .collect();
        needed.sort_unstable();
        Some(needed)
    }

    /// Maximum bit rate of the whole stream in bit/s; 0 if unknown.
    #[must_use]
    pub fn max_bitrate(&self) -> u32 {
        self.file.max_bitrate
    }

    /// Whether the header is that of a live stream, in which sizes and durations are meaningless.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        self.file.flags & FileProperties::BROADCAST != 0
    }

    /// The title of the Content Description, if present and not empty.
    #[must_use]
    pub fn title(&self) -> Option<String> {
        self.title.clone()
    }

    /// Total size of all data packets in bytes, if the header contains it.
    ///
    /// The Broadcast flag alone is not enough to decide this: some muxers leave it clear while they do not know the
    /// size yet.
    #[must_use]
    pub fn data_bytes(&self) -> Option<u64> {
        let known = !self.is_broadcast() && i64::try_from(self.data_size).is_ok();
        let size = self.data_size.checked_sub(DATA_HEAD as u64)?;
        (known && size > 0).then_some(size)
    }

    /// The error in the first invalid child object. The objects after it were not read.
    pub(super) fn broken_child(&self) -> Option<&Error> {
        self.broken_child.as_ref()
    }

    /// The Header Object and the 50 bytes of the Data Object.
    fn split(&self) -> (&[u8], &[u8]) {
        let object = self.bytes.len().saturating_sub(DATA_HEAD);
        self.bytes.split_at_checked(object).unwrap_or_default()
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("len", &self.bytes.len())
            .field("packet_size", &self.file.packet_size)
            .field("streams", &self.streams)
            .field("broadcast", &self.is_broadcast())
            .field("data_size", &self.data_size)
            .field("title", &self.title)
            .finish_non_exhaustive()
    }
}

/// Reads the size field of a Header Object (ASF 3.1).
///
/// `None` stands for 2^64-1, which ffmpeg writes if it does not know the size of a long header when it writes the
/// first part of it. `bytes` needs only the first 24 bytes.
///
/// # Errors
///
/// If the GUID is a different one, or the size is impossible.
pub(super) fn header_size(bytes: &[u8]) -> Result<Option<u64>, Error> {
    let mut cursor = Cursor::new(bytes);
    if cursor.array() != Some(guid::HEADER) {
        let reason = "its GUID is missing".to_owned();
        return Err(invalid("Header Object", 0, reason));
    }
    match cursor.u64() {
        Some(u64::MAX) => Ok(None),
        Some(size) if size < HEADER_HEAD as u64 => {
            let reason = format!("its size field says {size} bytes, but the minimum is 30");
            Err(invalid("Header Object", 16, reason))
        }
        Some(size) if size > MAX_READ => {
            Err(Error::HeaderTooBig { object: "Header Object", offset: 16, size, limit: MAX_READ })
        }
        Some(size) => Ok(Some(size)),
        None => {
            let reason = format!("it ends after {} bytes", bytes.len());
            Err(invalid("Header Object", 16, reason))
        }
    }
}

/// Values read from the children of a Header Object.
struct Children {
    file: FileProperties,
    streams: Vec<Stream>,
    video: u128,
    title: Option<String>,
    broken: Option<Error>,
}

impl Children {
    /// Reads the children up to the first invalid one.
    ///
    /// # Errors
    /// If a required object is missing or invalid.
    fn read(header: &[u8]) -> Result<Self, Error> {
        let mut file = None;
        let mut streams = Vec::new();
        let mut title = None;
        let mut broken = None;
        for child in Objects::new(header.get(HEADER_HEAD..).unwrap_or_default(), HEADER_HEAD) {
            let child = match child {
                Ok(child) => child,
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            };
            match child.guid {
                guid::FILE_PROPERTIES if file.is_none() => {
                    file = Some(FileProperties::read(&child)?);
                }
                guid::STREAM_PROPERTIES => streams.push(Stream::read(&child)?),
                guid::HEADER_EXTENSION => streams.extend(hidden_streams(&child)),
                guid::CONTENT_DESCRIPTION => title = title.or_else(|| read_title(&child)),
                _ => {}
            }
        }
        // An invalid object ends the search early, so it is named as the cause.
        let missing = |object: &'static str| {
            let (offset, cause) = match &broken {
                Some(Error::InvalidHeader { offset, reason, .. }) => {
                    (*offset, format!("; the object at this offset is invalid: {reason}"))
                }
                _ => (header.len() as u64, String::new()),
            };
            let reason = format!("it is missing in the Header Object{cause}");
            invalid(object, offset, reason)
        };
        let file = file.ok_or_else(|| missing("File Properties Object"))?;
        if streams.is_empty() {
            return Err(missing("Stream Properties Object"));
        }
        let video = streams
            .iter()
            .filter(|stream| stream.kind == StreamKind::Video)
            .fold(0, |video, stream| video | 1 << (stream.number & 0x7f));
        Ok(Self { file, streams, video, title, broken })
    }
}

/// The fields of the File Properties Object that this crate uses (ASF 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileProperties {
    preroll_ms: u64,
    flags: u32,
    packet_size: u32,
    max_bitrate: u32,
}

impl FileProperties {
    /// Size in bytes of the object.
    const LEN: usize = 104;
    /// The flag of a live stream.
    const BROADCAST: u32 = 1;
    /// The flag of a file with an index, or without video.
    const SEEKABLE: u32 = 2;

    /// Reads the fields that follow the File Properties' times, at offset 80.
    ///
    /// # Errors
    /// If the object is too short, or the packets do not have a fixed size that fits into `$D`.
    fn read(object: &Object<'_>) -> Result<Self, Error> {
        let mut fields = object.from(80);
        let (Some(preroll_ms), Some(flags), Some(minimum), Some(maximum), Some(max_bitrate)) =
            (fields.u64(), fields.u32(), fields.u32(), fields.u32(), fields.u32())
        else {
            return Err(too_short("File Properties Object", object, Self::LEN));
        };
        let offset = object.offset as u64 + 92;
        if minimum == maximum && maximum > MAX_PACKET {
            return Err(Error::PacketTooBig { offset, size: maximum, limit: MAX_PACKET });
        }
        if minimum != maximum || maximum < MIN_PACKET {
            return Err(Error::PacketSize { offset, minimum, maximum });
        }
        Ok(Self {
            preroll_ms,
            flags,
            packet_size: maximum,
            // avmux_asf writes the highest number if the bit rate is unknown.
            max_bitrate: if max_bitrate == u32::MAX { 0 } else { max_bitrate },
        })
    }
}

impl Stream {
    /// Size in bytes of a Stream Properties Object before its type-specific data (ASF 3.3).
    const LEN: usize = 78;

    /// Reads the type and number of a stream.
    ///
    /// # Errors
    /// If the object is too short.
    fn read(object: &Object<'_>) -> Result<Self, Error> {
        let kind = object.from(24).array();
        let number = object.from(72).u16();
        let (Some(kind), Some([number, _]), true) =
            (kind, number.map(u16::to_le_bytes), object.bytes.len() >= Self::LEN)
        else {
            return Err(too_short("Stream Properties Object", object, Self::LEN));
        };
        Ok(Self {
            number: number & 0x7f,
            kind: match kind {
                guid::AUDIO_MEDIA => StreamKind::Audio,
                guid::VIDEO_MEDIA => StreamKind::Video,
                guid::COMMAND_MEDIA => StreamKind::Command,
                _ => StreamKind::Other,
            },
        })
    }
}

/// Streams that are hidden from old players: their Stream Properties are at the end of an Extended Stream Properties
/// Object in the Header Extension (ASF 4.1).
fn hidden_streams(extension: &Object<'_>) -> Vec<Stream> {
    extension_children(extension)
        .map_while(Result::ok)
        .filter(|object| object.guid == guid::EXTENDED_STREAM_PROPERTIES)
        .filter_map(|object| Stream::read(&hidden_properties(&object)?).ok())
        .collect()
}

/// The Stream Properties at the end of an Extended Stream Properties Object.
fn hidden_properties<'a>(extended: &Object<'a>) -> Option<Object<'a>> {
    let mut cursor = extended.from(0);
    // The fixed fields up to the counts of names and of payload extension systems.
    cursor.skip(84)?;
    let names = cursor.u16()?;
    let systems = cursor.u16()?;
    for _ in 0..names {
        cursor.skip(2)?;
        let len = cursor.u16()?;
        cursor.skip(len.into())?;
    }
    for _ in 0..systems {
        cursor.skip(18)?;
        let len = cursor.u32()?;
        cursor.skip(usize::try_from(len).ok()?)?;
    }
    let at = cursor.position();
    let stream = Objects::new(extended.bytes.get(at..)?, extended.offset + at).next()?.ok()?;
    (stream.guid == guid::STREAM_PROPERTIES).then_some(stream)
}

/// The objects inside a Header Extension Object (ASF 3.4).
fn extension_children<'a>(extension: &Object<'a>) -> Objects<'a> {
    Objects::new(extension.bytes.get(EXTENSION_HEAD..).unwrap_or_default(), extension.offset + EXTENSION_HEAD)
}

/// The Title of a Content Description Object (ASF 3.10).
fn read_title(object: &Object<'_>) -> Option<String> {
    let len = object.from(objects::HEAD).u16()?;
    text(object.bytes.get(34..)?.get(..len.into())?)
}

/// Decodes UTF-16 up to its end or a NUL, and trims it; `None` if the result is empty.
fn text(bytes: &[u8]) -> Option<String> {
    let (units, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|&unit| unit != 0).collect();
    let text = String::from_utf16_lossy(&units).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Checks the first 50 bytes of the Data Object and returns its size (ASF 5.1).
fn data_size(data: &[u8], offset: usize) -> Result<u64, Error> {
    let mut cursor = Cursor::new(data);
    match (cursor.array(), cursor.u64()) {
        (Some(guid::DATA), Some(size)) => Ok(size),
        _ => {
            let reason = "it is missing after the Header Object (its GUID was not found)".to_owned();
            Err(invalid("Data Object", offset, reason))
        }
    }
}

/// Returns the error of an object that is too short for its fields.
fn too_short(name: &'static str, object: &Object<'_>, needed: usize) -> Error {
    let reason = format!("it has {} bytes, but the minimum is {needed}", object.bytes.len());
    invalid(name, object.offset, reason)
}

/// Returns the error of an invalid object.
fn invalid(object: &'static str, offset: impl TryInto<u64>, reason: String) -> Error {
    Error::InvalidHeader { object, offset: offset.try_into().unwrap_or(u64::MAX), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{self, HeaderBuilder};

    fn parse(builder: &HeaderBuilder) -> Result<Header, Error> {
        Header::parse(builder.build())
    }

    #[test]
    fn the_fields_are_read() {
        let builder =
            HeaderBuilder::default().finite(10).object(guid::CONTENT_DESCRIPTION, &test_util::title("Käse ☂"));
        let header = parse(&builder).unwrap();
        assert_eq!(header.packet_size(), 200);
        assert_eq!(header.preroll_ms(), 3000);
        assert_eq!(header.max_bitrate(), 128_000);
        assert!(!header.is_broadcast());
        assert_eq!(header.data_bytes(), Some(2000));
        assert_eq!(header.title().as_deref(), Some("Käse ☂"));
        let kinds: Vec<_> = header.streams().iter().map(|s| (s.number, s.kind)).collect();
        assert_eq!(kinds, [(1, StreamKind::Audio), (2, StreamKind::Video)]);
        assert!(header.has_video() && header.is_video(2));
        assert!(!header.is_video(1) && !header.is_video(127) && !header.is_video(255));
        assert!(!format!("{header:?}").contains("75, 82"), "bytes in Debug");
    }

    #[test]
    fn headers_that_differ_in_texts_alone_decode_the_same() {
        let plain = parse(&HeaderBuilder::default()).unwrap();
        let like = |builder: HeaderBuilder| plain.decodes_as(&parse(&builder).unwrap());
        assert!(like(HeaderBuilder::default()));
        assert!(like(HeaderBuilder::default().object(guid::CONTENT_DESCRIPTION, &test_util::title("another"))));
        assert!(like(HeaderBuilder { max_bitrate: 1, ..HeaderBuilder::default() }.finite(3)));
        assert!(like(HeaderBuilder::default().extension(guid::METADATA_LIBRARY, b"xyz")));
        for other in [
            HeaderBuilder::default().packet_size(300),
            HeaderBuilder { preroll: 4000, ..HeaderBuilder::default() },
            HeaderBuilder::default().audio_only(),
            HeaderBuilder { streams: vec![(2, guid::AUDIO_MEDIA), (1, guid::VIDEO_MEDIA)], ..HeaderBuilder::default() },
            HeaderBuilder::default().extension(guid::METADATA, b"xyz"),
            HeaderBuilder::default().object(guid::CONTENT_ENCRYPTION, b"xyz"),
            HeaderBuilder::default().object([7; 16], b"nobody knows it"),
        ] {
            let other = parse(&other).unwrap();
            assert!(!plain.decodes_as(&other) && !other.decodes_as(&plain));
        }
    }

    #[test]
    fn the_end_of_the_data_is_known_of_finite_files_only() {
        let known = |flags, data_size| {
            let builder = HeaderBuilder { flags, data_size, ..HeaderBuilder::default() };
            parse(&builder).unwrap().data_bytes()
        };
        for size in [0, 1, 49, 50, u64::MAX] {
            assert_eq!(known(2, size), None, "{size}");
        }
        assert_eq!(known(2, 51), Some(1));
        assert_eq!(known(1, 2050), None);
        assert_eq!(known(2, 2050), Some(2000));
    }

    #[test]
    fn what_muxers_write_for_unknown_is_unknown() {
        let builder = HeaderBuilder { max_bitrate: u32::MAX, ..HeaderBuilder::default() };
        assert_eq!(parse(&builder).unwrap().max_bitrate(), 0);
        let builder = builder.object(guid::CONTENT_DESCRIPTION, &test_util::title(""));
        assert_eq!(parse(&builder).unwrap().title(), None);
    }

    #[test]
    fn a_stream_that_may_not_have_its_number_is_let_pass() {
        let flagged = |flags: u16| {
            let mut builder = HeaderBuilder::default().audio_only();
            builder.objects.push(test_util::stream_properties(flags, guid::VIDEO_MEDIA));
            parse(&builder).unwrap().streams().last().unwrap().number
        };
        // The seven low bits are the number.
        assert_eq!([flagged(0), flagged(127), flagged(128), flagged(0xffff)], [0, 127, 0, 127]);
    }

    #[test]
    fn streams_hidden_in_the_extension_are_seen() {
        let mut extended = vec![0; 60];
        extended.extend([1, 0, 1, 0]);
        extended.extend([0, 0, 2, 0, b'a', 0]);
        extended.extend([[0; 18].as_slice(), &3_u32.to_le_bytes(), b"xyz"].concat());
        extended.extend(test_util::stream_properties(7, guid::VIDEO_MEDIA));
        let builder = HeaderBuilder::default().audio_only().extension(guid::EXTENDED_STREAM_PROPERTIES, &extended);
        assert!(parse(&builder).unwrap().is_video(7));
    }

    #[test]
    fn a_broken_object_behind_those_needed_is_let_pass() {
        for size in [0_u64, 23, 1 << 40, u64::MAX - 23] {
            let mut broken = guid::PADDING.to_vec();
            broken.extend(size.to_le_bytes());
            let mut builder = HeaderBuilder::default();
            builder.objects.push(broken.clone());
            let header = parse(&builder).unwrap();
            let text = header.broken_child().unwrap().to_string();
            assert!(text.contains("object at byte") && text.contains("its size field says"), "{text}");

            let mut builder = HeaderBuilder::default();
            builder.before_streams.push(broken);
            let text = parse(&builder).unwrap_err().to_string();
            assert!(text.contains("Stream Properties Object at byte 180"), "{text}");
        }
    }

    #[test]
    fn the_packet_size_must_be_one_that_fits() {
        let sized = |minimum, maximum| {
            let builder = HeaderBuilder { packet_size: (minimum, maximum), ..HeaderBuilder::default() };
            parse(&builder)
        };
        for (minimum, maximum) in [(200, 201), (0, 0), (1, 1), (9, 9), (15, 15), (0, 200)] {
            let error = sized(minimum, maximum).unwrap_err();
            assert_eq!(error, Error::PacketSize { offset: 122, minimum, maximum });
        }
        for size in [65_536, u32::MAX] {
            let error = sized(size, size).unwrap_err();
            assert!(matches!(error, Error::PacketTooBig { offset: 122, .. }), "{error}");
        }
        assert_eq!(sized(16, 16).unwrap().packet_size(), 16);
        assert_eq!(sized(65_535, 65_535).unwrap().packet_size(), 65_535);
    }

    #[test]
    fn a_live_header_has_no_end() {
        let builder = HeaderBuilder { flags: 0x0A, file_id: [0; 16], ..HeaderBuilder::default() };
        let file = parse(&builder.finite(10)).unwrap();
        let live = file.to_live();
        assert!(live.is_broadcast());
        assert_eq!(live.data_bytes(), None);
        let (before, after) = (file.bytes(), live.bytes());
        assert_eq!(before.len(), after.len());
        let data = after.len() - 50;
        let changed: Vec<usize> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
        let may_change = |at: usize| {
            let file = at.wrapping_sub(30);
            file == 39
                || (40..48).contains(&file)
                || (56..80).contains(&file)
                || file == 88
                || (data + 16..data + 24).contains(&at)
                || at == data + 39
                || (data + 40..data + 48).contains(&at)
        };
        assert!(changed.iter().all(|at| may_change(*at)), "{changed:?}");
        assert_eq!((after[30 + 39], after[data + 39]), (1, 1));
        assert_eq!(after[30 + 88], 0x09);
        assert_eq!(after[data + 16..data + 24], [50, 0, 0, 0, 0, 0, 0, 0]);
        for at in [30 + 40, 30 + 56, 30 + 64, 30 + 72, data + 40] {
            assert_eq!(after[at..at + 8], [0; 8]);
        }
        assert_eq!(live.to_live(), live);
        assert_eq!(Header::parse(after.clone()).unwrap(), live);
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = HeaderBuilder::default().build();
        for len in 0..bytes.len() {
            let error = Header::parse(bytes.slice(..len)).unwrap_err();
            assert!(error.to_string().contains("at byte"), "{error}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Header::parse(longer.into()).is_err());
    }
}
