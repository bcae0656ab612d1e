//! Builds headers and packets for tests, byte by byte from the ASF specification and independently of the code that
//! parses them.

use bytes::{BufMut, Bytes};

use crate::guid;

pub use crate::guid::*;

/// Builds a header. The default is that of a finite file with audio as stream 1,
/// video as stream 2 and packets of 200 bytes.
#[derive(Clone, Debug)]
pub struct HeaderBuilder {
    /// File ID, in both places.
    pub file_id: [u8; 16],
    /// File size in bytes.
    pub file_size: u64,
    /// Data Packets Count, in both places.
    pub packets: u64,
    /// Play and send duration in 100 ns.
    pub duration: u64,
    /// Milliseconds.
    pub preroll: u64,
    /// Bit 0 Broadcast, bit 1 Seekable.
    pub flags: u32,
    /// Minimum and maximum data packet size in bytes.
    pub packet_size: (u32, u32),
    /// bit/s.
    pub max_bitrate: u32,
    /// Number, with bits 7 to 15 as they are, and type.
    pub streams: Vec<(u16, Guid)>,
    /// Whole objects before the streams.
    pub before_streams: Vec<Vec<u8>>,
    /// Whole objects after the streams.
    pub objects: Vec<Vec<u8>>,
    /// Whole objects in the Header Extension.
    pub extension: Vec<Vec<u8>>,
    /// Data Object Size in bytes.
    pub data_size: u64,
}

impl Default for HeaderBuilder {
    fn default() -> Self {
        Self {
            file_id: [0xA5; 16],
            file_size: 12_345,
            packets: 10,
            duration: 5_000_000,
            preroll: 3000,
            flags: 2,
            packet_size: (200, 200),
            max_bitrate: 128_000,
            streams: vec![(1, guid::AUDIO_MEDIA), (2, guid::VIDEO_MEDIA)],
            before_streams: Vec::new(),
            objects: Vec::new(),
            extension: Vec::new(),
            data_size: 50,
        }
    }
}

impl HeaderBuilder {
    /// With packets of `size` bytes.
    #[must_use]
    pub fn packet_size(mut self, size: u32) -> Self {
        self.packet_size = (size, size);
        self
    }

    /// With one audio stream only.
    #[must_use]
    pub fn audio_only(mut self) -> Self {
        self.streams = vec![(1, guid::AUDIO_MEDIA)];
        self
    }

    /// With one script command stream only.
    #[must_use]
    pub fn command_only(mut self) -> Self {
        self.streams = vec![(3, guid::COMMAND_MEDIA)];
        self
    }

    /// With data of `packets` packets, and their size in the Data Object.
    #[must_use]
    pub fn finite(mut self, packets: u32) -> Self {
        self.data_size = 50 + u64::from(packets) * u64::from(self.packet_size.1);
        self
    }

    /// With one more object after the streams.
    #[must_use]
    pub fn object(mut self, guid: Guid, content: &[u8]) -> Self {
        self.objects.push(object(guid, content));
        self
    }

    /// With one more object in the Header Extension.
    #[must_use]
    pub fn extension(mut self, guid: Guid, content: &[u8]) -> Self {
        self.extension.push(object(guid, content));
        self
    }

    /// The Header Object and the first 50 bytes of the Data Object. File Properties lie
    /// at byte 30, the Header Extension at byte 134.
    #[must_use]
    pub fn build(&self) -> Bytes {
        let mut children = self.file_properties();
        children.extend(self.header_extension());
        children.extend(self.before_streams.concat());
        for (number, kind) in &self.streams {
            children.extend(stream_properties(*number, *kind));
        }
        children.extend(self.objects.concat());
        let mut out = Vec::new();
        out.put_slice(&guid::HEADER);
        out.put_u64_le(children.len() as u64 + 30);
        out.put_u32_le(u32::try_from(2 + self.streams.len()).unwrap_or(0));
        out.put_slice(&[1, 2]);
        out.put_slice(&children);
        out.put_slice(&guid::DATA);
        out.put_u64_le(self.data_size);
        out.put_slice(&self.file_id);
        out.put_u64_le(self.packets);
        out.put_slice(&[1, 1]);
        out.into()
    }

    fn file_properties(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_slice(&self.file_id);
        out.put_u64_le(self.file_size);
        out.put_u64_le(0x01DA_0000_0000_0000);
        out.put_u64_le(self.packets);
        out.put_u64_le(self.duration);
        out.put_u64_le(self.duration);
        out.put_u64_le(self.preroll);
        out.put_u32_le(self.flags);
        out.put_u32_le(self.packet_size.0);
        out.put_u32_le(self.packet_size.1);
        out.put_u32_le(self.max_bitrate);
        object(guid::FILE_PROPERTIES, &out)
    }

    fn header_extension(&self) -> Vec<u8> {
        let children = self.extension.concat();
        let mut out = vec![0x11; 16];
        out.put_u16_le(6);
        out.put_u32_le(u32::try_from(children.len()).unwrap_or(0));
        out.put_slice(&children);
        object(guid::HEADER_EXTENSION, &out)
    }
}

/// An object around its content.
#[must_use]
pub fn object(guid: Guid, content: &[u8]) -> Vec<u8> {
    let mut out = guid.to_vec();
    out.put_u64_le(content.len() as u64 + 24);
    out.put_slice(content);
    out
}

/// A Stream Properties Object of 86 bytes.
#[must_use]
pub fn stream_properties(number: u16, kind: Guid) -> Vec<u8> {
    let mut out = kind.to_vec();
    out.put_bytes(0, 16 + 8);
    out.put_u32_le(8);
    out.put_u32_le(0);
    out.put_u16_le(number);
    out.put_u32_le(0);
    out.put_bytes(0x55, 8);
    object(guid::STREAM_PROPERTIES, &out)
}

/// A Stream Properties Object of audio: number, format tag, channels, samples per second, bytes per second.
#[must_use]
pub fn audio_properties(number: u16, tag: u16, channels: u16, rate: u32, bytes: u32) -> Vec<u8> {
    let mut format = Vec::new();
    format.put_u16_le(tag);
    format.put_u16_le(channels);
    format.put_u32_le(rate);
    format.put_u32_le(bytes);
    format.put_u16_le(1);
    format.put_u16_le(16);
    format.put_u16_le(0);
    properties(number, guid::AUDIO_MEDIA, &format)
}

/// A Stream Properties Object of video: number, FOURCC, width and height.
#[must_use]
pub fn video_properties(number: u16, code: [u8; 4], width: u32, height: u32) -> Vec<u8> {
    let mut format = Vec::new();
    format.put_u32_le(width);
    format.put_u32_le(height);
    format.put_u8(2);
    format.put_u16_le(40);
    format.put_u32_le(40);
    format.put_u32_le(width);
    format.put_u32_le(height);
    format.put_u16_le(1);
    format.put_u16_le(24);
    format.put_slice(&code);
    format.put_bytes(0, 20);
    properties(number, guid::VIDEO_MEDIA, &format)
}

fn properties(number: u16, kind: Guid, format: &[u8]) -> Vec<u8> {
    let mut out = kind.to_vec();
    out.put_bytes(0, 16 + 8);
    out.put_u32_le(u32::try_from(format.len()).unwrap_or(0));
    out.put_u32_le(0);
    out.put_u16_le(number);
    out.put_u32_le(0);
    out.put_slice(format);
    object(guid::STREAM_PROPERTIES, &out)
}

/// The content of a Content Description Object with this title only.
#[must_use]
pub fn title(text: &str) -> Vec<u8> {
    let text = utf16(text);
    let mut out = Vec::new();
    out.put_u16_le(u16::try_from(text.len()).unwrap_or(0));
    out.put_bytes(0, 8);
    out.put_slice(&text);
    out
}

/// The content of a Content Description Object with title and author.
#[must_use]
pub fn content(title: &str, author: &str) -> Vec<u8> {
    let texts = [title, author].map(utf16);
    let mut out = Vec::new();
    for text in &texts {
        out.put_u16_le(u16::try_from(text.len()).unwrap_or(0));
    }
    out.put_bytes(0, 6);
    out.put_slice(&texts.concat());
    out
}

/// The content of a Stream Bitrate Properties Object: stream numbers and bit/s.
#[must_use]
pub fn bit_rates(records: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16_le(u16::try_from(records.len()).unwrap_or(0));
    for (number, rate) in records {
        out.put_u16_le(*number);
        out.put_u32_le(*rate);
    }
    out
}

/// The content of a Codec List Object: type, name and codec information of each codec.
#[must_use]
pub fn codecs(entries: &[(u16, &str, &[u8])]) -> Vec<u8> {
    let mut out = vec![0x22; 16];
    out.put_u32_le(u32::try_from(entries.len()).unwrap_or(0));
    for (kind, name, information) in entries {
        let name = utf16(name);
        out.put_u16_le(*kind);
        out.put_u16_le(u16::try_from(name.len() / 2).unwrap_or(0));
        out.put_slice(&name);
        out.put_u16_le(0);
        out.put_u16_le(u16::try_from(information.len()).unwrap_or(0));
        out.put_slice(information);
    }
    out
}

/// The content of an Extended Content Description Object: names and lengths of values.
#[must_use]
pub fn described(attributes: &[(&str, u16)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16_le(u16::try_from(attributes.len()).unwrap_or(0));
    for (name, value_len) in attributes {
        let name = utf16(name);
        out.put_u16_le(u16::try_from(name.len()).unwrap_or(0));
        out.put_slice(&name);
        out.put_u16_le(1);
        out.put_u16_le(*value_len);
        out.put_bytes(0x77, usize::from(*value_len));
    }
    out
}

/// The content of a Metadata or Metadata Library Object: names and lengths of values.
#[must_use]
pub fn metadata(attributes: &[(&str, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16_le(u16::try_from(attributes.len()).unwrap_or(0));
    for (name, value_len) in attributes {
        let name = utf16(name);
        out.put_u32_le(0);
        out.put_u16_le(u16::try_from(name.len()).unwrap_or(0));
        out.put_u16_le(1);
        out.put_u32_le(*value_len);
        out.put_slice(&name);
        out.put_bytes(0x77, *value_len as usize);
    }
    out
}

fn utf16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}

/// How a field is written: absent, BYTE, WORD or DWORD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// Absent.
    #[default]
    Absent,
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
}

impl Width {
    /// All of them.
    pub const ALL: [Width; 4] = [Width::Absent, Width::Byte, Width::Word, Width::Dword];

    fn put(self, out: &mut Vec<u8>, value: u32) {
        let len = match self {
            Width::Absent => 0,
            Width::Byte => 1,
            Width::Word => 2,
            Width::Dword => 4,
        };
        out.extend(value.to_le_bytes().into_iter().take(len));
    }
}

/// One payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Stream number, 1 to 127.
    pub stream: u8,
    /// The key frame bit.
    pub key: bool,
    /// Offset into the media object in bytes.
    pub offset: u32,
    /// In the compressed form: replicated data of one byte.
    pub compressed: bool,
    /// Presentation time in milliseconds; `None` is the send time of the packet.
    pub time: Option<u32>,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Payload {
    /// A whole object, or its beginning.
    #[must_use]
    pub fn new(stream: u8, data: &[u8]) -> Self {
        Self { stream, key: false, offset: 0, compressed: false, time: None, data: data.to_vec() }
    }

    /// With the key frame bit.
    #[must_use]
    pub fn key(mut self) -> Self {
        self.key = true;
        self
    }

    /// A later part of its object.
    #[must_use]
    pub fn at(mut self, offset: u32) -> Self {
        self.offset = offset;
        self
    }

    /// In the compressed form.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.compressed = true;
        self
    }
}

/// Value of the Packet Length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The size of the packet with its padding.
    Whole,
    /// Without the padding, as asfmux writes it.
    WithoutPadding,
    /// This value.
    Is(u32),
}

/// Builds a data packet. The default has the error correction that most muxers write, no optional fields, one payload
/// of stream 1, and fills its 200 bytes.
#[derive(Clone, Debug)]
pub struct PacketBuilder {
    /// Total size in bytes.
    pub size: usize,
    /// Error correction with its first byte, or empty.
    pub correction: Vec<u8>,
    /// The Packet Length field.
    pub length: (Width, Length),
    /// The Sequence field, which has the value 0x5E.
    pub sequence: Width,
    /// The Padding Length field.
    pub padding: Width,
    /// Value of the padding bytes.
    pub filler: u8,
    /// Property Flags.
    pub properties: u8,
    /// Milliseconds.
    pub send_time: u32,
    /// Milliseconds.
    pub duration: u16,
    /// Width of the payload lengths in the form with multiple payloads; `None` for a single payload.
    pub multiple: Option<Width>,
    /// The payloads.
    pub payloads: Vec<Payload>,
}

impl Default for PacketBuilder {
    fn default() -> Self {
        Self {
            size: 200,
            correction: vec![0x82, 0, 0],
            length: (Width::Absent, Length::Whole),
            sequence: Width::Absent,
            padding: Width::Absent,
            filler: 0xFF,
            properties: 0x5D,
            send_time: 0,
            duration: 0,
            multiple: None,
            payloads: vec![Payload::new(1, &[0x42; 40])],
        }
    }
}

impl PacketBuilder {
    /// As asfmux writes it: no error correction, both lengths as WORDs, Packet Length
    /// without the padding, always the form with several payloads.
    #[must_use]
    pub fn asfmux(size: usize, payloads: Vec<Payload>) -> Self {
        Self {
            size,
            correction: Vec::new(),
            length: (Width::Word, Length::WithoutPadding),
            padding: Width::Word,
            multiple: Some(Width::Word),
            payloads,
            ..Self::default()
        }
    }

    /// As Windows Media encoders write it: a single payload, and padding as a WORD.
    #[must_use]
    pub fn windows(size: usize, payload: Payload) -> Self {
        Self { size, padding: Width::Word, payloads: vec![payload], ..Self::default() }
    }

    /// Sent at this time, in milliseconds.
    #[must_use]
    pub fn send_time(mut self, ms: u32) -> Self {
        self.send_time = ms;
        self
    }

    /// The packet. The bytes after its payloads are padding, counted by the Padding Length if that field is present.
    #[must_use]
    pub fn build(&self) -> Bytes {
        // The fields have fixed widths, so building the packet once gives the size of the padding.
        let used = self.write(0).len();
        let padding = self.size.saturating_sub(used);
        let mut out = self.write(u32::try_from(padding).unwrap_or(0));
        out.resize(self.size.max(used), self.filler);
        out.into()
    }

    fn write(&self, padding: u32) -> Vec<u8> {
        let mut out = self.correction.clone();
        let multiple = u8::from(self.multiple.is_some());
        let (length, value) = self.length;
        out.put_u8(multiple | (self.sequence as u8) << 1 | (self.padding as u8) << 3 | (length as u8) << 5);
        out.put_u8(self.properties);
        let size = u32::try_from(self.size).unwrap_or(0);
        length.put(
            &mut out,
            match value {
                Length::Whole => size,
                Length::WithoutPadding => size.saturating_sub(padding),
                Length::Is(value) => value,
            },
        );
        self.sequence.put(&mut out, 0x5E);
        self.padding.put(&mut out, padding);
        out.put_u32_le(self.send_time);
        out.put_u16_le(self.duration);
        if let Some(width) = self.multiple {
            let count = u8::try_from(self.payloads.len()).unwrap_or(0);
            out.put_u8(count & 0x3f | (width as u8) << 6);
        }
        for (number, payload) in (0_u32..).zip(&self.payloads) {
            self.write_payload(number, payload, &mut out);
        }
        out
    }

    fn write_payload(&self, number: u32, payload: &Payload, out: &mut Vec<u8>) {
        let width = |shift: u8| match self.properties >> shift & 3 {
            0 => Width::Absent,
            1 => Width::Byte,
            2 => Width::Word,
            _ => Width::Dword,
        };
        out.put_u8(payload.stream | u8::from(payload.key) << 7);
        width(4).put(out, number);
        let time_as_offset = payload.time.filter(|_| payload.compressed);
        width(2).put(out, time_as_offset.unwrap_or(payload.offset));
        if payload.compressed {
            width(0).put(out, 1);
            out.put_u8(20);
        } else {
            width(0).put(out, 8);
            out.put_u32_le(u32::try_from(payload.data.len()).unwrap_or(0));
            out.put_u32_le(payload.time.unwrap_or(self.send_time));
        }
        if let Some(width) = self.multiple {
            width.put(out, u32::try_from(payload.data.len()).unwrap_or(0));
        }
        out.put_slice(&payload.data);
    }
}

/// Any number of packets for a header, each with its number as send time (times 100
/// ms) and in its payload. Every fourth starts a key frame of stream 2.
#[must_use]
pub fn packets(size: usize, count: u32) -> Vec<Bytes> {
    (0..count)
        .map(|number| {
            let data = vec![number.to_le_bytes()[0]; size / 3];
            let payload = Payload::new(2, &data);
            let payload = match number % 4 {
                0 => payload.key(),
                _ => payload,
            };
            PacketBuilder::windows(size, payload).send_time(number * 100).build()
        })
        .collect()
}

/// A Simple Index Object of 80 bytes.
#[must_use]
pub fn index() -> Vec<u8> {
    object(guid::SIMPLE_INDEX, &[0; 56])
}
