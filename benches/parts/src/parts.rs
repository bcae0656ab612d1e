//! The parts of a packet's path that do no I/O, each as an operation that can be repeated on one stream.
//!
//! `pure.rs` measures their time, and `instructions` counts their instructions.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use asf::{self, Header, Packet, Padding, ParsedPacket, Parser, Settings};
use asfpush_client::packet_buffer::{DropPolicy, Limits, PacketBuffer, Reader, ReaderOptions, StartPosition};
use bytes::Bytes;
use http::HeaderMap;
use wmhttp::client::{Config, Output, ResponseHead, Session};

use crate::media::Media;

/// Number of bytes of the stream per iteration; they stay in the processor's cache.
const TURN: usize = 512 * 1024;

/// A part and the stream that it processes.
pub struct Borrowed {
    /// The packets of the stream.
    pub media: Media,
    blocks: Vec<Bytes>,
    packets: u32,
    work: Work,
}

enum Work {
    /// Parses bytes to packets.
    Parse(Box<Parser>),
    /// Removes a packet's padding.
    Strip(Arc<Header>),
    /// Frames packets as `$D`, and takes them from the buffer like a destination.
    Frame(Arc<Header>, Vec<Packet>, Arc<PacketBuffer>, Reader),
    /// Asks the session how much of a packet may be sent now.
    Session(Arc<Header>, Box<Session>),
    /// Everything: from input bytes to the bytes to send.
    Path(Box<Parser>, Arc<PacketBuffer>, Reader),
}

/// Name, stream, size of the buffers, and constructor of a part.
type Recipe = (&'static str, Media, usize, fn(Media) -> Work);

const SMALL: Media = Media { packet_size: 1444, padded: false, step: 10 };
const USUAL: Media = Media { packet_size: 3200, padded: false, step: 10 };
const PADDED: Media = Media { packet_size: 3200, padded: true, step: 10 };
const LARGE: Media = Media { packet_size: 16_000, padded: false, step: 10 };

/// Packets of the three relevant sizes: that of a datagram, asfmux's default, and a large one; in buffers of one packet
/// or of any size.
const RECIPES: &[Recipe] = &[
    ("parse-1444", SMALL, 1444, parsing),
    ("parse-3200", USUAL, 3200, parsing),
    ("parse-3200-blocks-of-4096", USUAL, 4096, parsing),
    ("parse-3200-blocks-of-65536", USUAL, 65_536, parsing),
    ("parse-16000", LARGE, 16_000, parsing),
    ("strip-3200", PADDED, 3200, |media| Work::Strip(header(media))),
    ("frame-3200", USUAL, 3200, framing),
    ("session-3200", USUAL, 3200, |media| Work::Session(header(media), Box::new(streaming(&header(media))))),
    ("path-1444", SMALL, 1444, path),
    ("path-3200", USUAL, 3200, path),
    ("path-3200-padded", PADDED, 3200, path),
    ("path-3200-blocks-of-4096", USUAL, 4096, path),
    ("path-16000", LARGE, 16_000, path),
];

/// Returns the names of all parts.
pub fn names() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|recipe| recipe.0)
}

impl Borrowed {
    /// Creates the part with this name, ready for its first iteration.
    pub fn named(name: &str) -> Self {
        let &(_, media, block, work) = RECIPES.iter().find(|recipe| recipe.0 == name).unwrap();
        let packets = u32::try_from(TURN / media.packet_size).unwrap();
        let bytes = Bytes::from(media.packets(0..packets));
        let blocks = (0..bytes.len()).step_by(block).map(|at| bytes.slice(at..bytes.len().min(at + block))).collect();
        Self { media, blocks, packets, work: work(media) }
    }

    /// Returns the number of packets per iteration.
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// Processes the whole stream once and returns the number of resulting packets.
    pub fn turn(&mut self) -> u32 {
        let mut done = 0;
        match &mut self.work {
            Work::Parse(parser) => {
                for block in &self.blocks {
                    read(parser, block, |units| {
                        for unit in units {
                            std::hint::black_box(unit);
                            done += 1;
                        }
                    });
                }
            }
            Work::Strip(header) => {
                for block in &self.blocks {
                    let packet = Packet::parse([block.clone(), Bytes::new()], header, Padding::Explicit);
                    done += u32::from(std::hint::black_box(packet).padding_removed() > 0);
                }
            }
            Work::Frame(header, packets, buffer, reader) => {
                for ten in packets.chunks(10) {
                    buffer.append(header, ten.iter().cloned());
                    done += taken(reader);
                }
            }
            Work::Session(header, session) => {
                let now = Instant::now();
                let size = self.media.packet_size + 4;
                for _ in 0..self.packets {
                    if session.offer(header, size, now) < size as u64 {
                        // The body of 2 GiB is full.
                        **session = streaming(header);
                        session.offer(header, size, now);
                    }
                    session.sent(size as u64);
                    done += u32::from(session.poll().is_none());
                }
            }
            Work::Path(parser, buffer, reader) => {
                for block in &self.blocks {
                    let header = Arc::clone(parser.header().unwrap());
                    read(parser, block, |parsed| buffer.append(&header, parsed.map(|parsed| parsed.packet)));
                    done += taken(reader);
                }
            }
        }
        done
    }
}

/// Parses the packets that end in this block in place, as the element does. The remainder is kept.
fn read<'a>(
    parser: &mut Parser,
    block: &'a [u8],
    take: impl FnOnce(&mut dyn Iterator<Item = ParsedPacket<asf::Borrowed<'a>>>),
) {
    let mut rest = block;
    take(&mut std::iter::from_fn(|| parser.next_packet_in_place(&mut rest).unwrap()));
    if !rest.is_empty() {
        parser.push_copied(rest);
        assert!(parser.next_packet().unwrap().is_none(), "a packet was not parsed in place");
    }
}

/// Takes the available packets, as a destination does.
fn taken(reader: &mut Reader) -> u32 {
    let mut count = 0;
    while let Some(batch) = reader.take(64 * 1024) {
        count += u32::try_from(batch.sizes.len()).unwrap();
        std::hint::black_box(batch);
    }
    count
}

fn header(media: Media) -> Arc<Header> {
    Arc::new(Header::parse(media.header()).unwrap())
}

fn parser(media: Media) -> Box<Parser> {
    let mut parser = Box::new(Parser::new(Settings::default()));
    parser.push(media.header());
    assert!(parser.next_packet().unwrap().is_none());
    parser
}

fn parsing(media: Media) -> Work {
    Work::Parse(parser(media))
}

fn buffer() -> (Arc<PacketBuffer>, Reader) {
    let buffer = PacketBuffer::new(Limits { bytes: 1024 * 1024, time: Duration::ZERO, packets: 0 });
    let options = ReaderOptions { policy: Some(DropPolicy::Block), ..ReaderOptions::default() };
    let reader = buffer.reader(StartPosition::Oldest, options);
    reader.set_streaming(true);
    (buffer, reader)
}

fn framing(media: Media) -> Work {
    let header = header(media);
    let packet = |n| Packet::parse([media.packet(n), Bytes::new()], &header, Padding::Explicit);
    let packets = (0..u32::try_from(TURN / media.packet_size).unwrap()).map(packet).collect();
    let (buffer, reader) = buffer();
    Work::Frame(header, packets, buffer, reader)
}

fn path(media: Media) -> Work {
    let (buffer, reader) = buffer();
    Work::Path(parser(media), buffer, reader)
}

/// A session that has started its first body.
fn streaming(header: &Arc<Header>) -> Session {
    let now = Instant::now();
    let mut session = Session::new(Config::new(
        "http://localhost/p".parse().unwrap(),
        "WMEncoder/12.0.0.0",
        || [0; 16],
        || SystemTime::UNIX_EPOCH,
    ));
    session.connect(now);
    let request = session.poll();
    assert!(matches!(request, Some(Output::Request(_))), "{request:?}");
    let mut headers = HeaderMap::new();
    headers.insert("server", "Cougar/9.6".parse().unwrap());
    headers.insert("set-cookie", "push-id=1".parse().unwrap());
    session.handle_connected();
    session.handle_response(&ResponseHead { status: 204, headers, keep_alive: true }, now);
    session.offer(header, 1, now);
    session.sent(1);
    while session.poll().is_some() {}
    session
}
