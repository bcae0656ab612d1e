//! Shrinks a header to the protocol's limit by removing what players need least, in a fixed order.

use bytes::{BufMut, Bytes};

use super::objects::{HEAD, Object, Objects};
use super::{EXTENSION_HEAD, HEADER_HEAD, Header, extension_children};
use crate::Error;
use crate::cursor::Cursor;
use crate::guid::{self, Guid};

/// Attribute values longer than this, in bytes, are removed early, because they are rarely text for people to read.
const LONG_VALUE: usize = 1024;

impl Header {
    /// Removes what players do not need until the header has no more than [`Header::MAX_LEN`] bytes. Returns the
    /// header and the names of what was removed.
    ///
    /// # Errors
    ///
    /// [`Error::HeaderTooBig`] if it still does not fit.
    pub fn shrink(&self) -> Result<(Header, Vec<&'static str>), Error> {
        if self.bytes.len() <= Self::MAX_LEN {
            return Ok((self.clone(), Vec::new()));
        }
        let (object, data) = self.split();
        let mut draft = EditableHeader::read(object);
        let mut dropped = Vec::new();
        for (name, drop) in &STEPS {
            if draft.len() + data.len() <= Self::MAX_LEN {
                break;
            }
            let before = draft.len();
            draft.apply(drop);
            if draft.len() < before {
                dropped.push(*name);
            }
        }
        // The signature covers objects that were removed, so it is no longer valid.
        let before = draft.len();
        draft.apply(&RemovalStep::Objects(|guid| *guid == guid::DIGITAL_SIGNATURE));
        if draft.len() < before {
            dropped.push("Digital Signature");
        }
        let len = draft.len() + data.len();
        if len > Self::MAX_LEN {
            return Err(Error::HeaderTooBig {
                object: "Header Object",
                offset: 16,
                size: len as u64,
                limit: Self::MAX_LEN as u64,
            });
        }
        let mut bytes = draft.write();
        bytes.extend_from_slice(data);
        Ok((Self::parse(Bytes::from(bytes))?, dropped))
    }
}

/// What one step removes.
enum RemovalStep {
    /// Objects whose GUID matches.
    Objects(fn(&Guid) -> bool),
    /// Attributes that match, in all objects that contain attributes.
    Attributes(fn(&Attribute<'_>) -> bool),
}

/// What is removed, in this order.
const STEPS: [(&str, RemovalStep); 10] = [
    ("Padding", RemovalStep::Objects(|guid| *guid == guid::PADDING)),
    ("pictures", RemovalStep::Attributes(|attribute| attribute.is_picture())),
    ("Index Parameters", RemovalStep::Objects(is_index_parameters)),
    ("Content Branding", RemovalStep::Objects(|guid| *guid == guid::CONTENT_BRANDING)),
    ("Markers", RemovalStep::Objects(|guid| *guid == guid::MARKER)),
    ("long metadata attributes", RemovalStep::Attributes(|attribute| attribute.value_len > LONG_VALUE)),
    ("Metadata Library", RemovalStep::Objects(|guid| *guid == guid::METADATA_LIBRARY)),
    ("Extended Content Description", RemovalStep::Objects(|guid| *guid == guid::EXTENDED_CONTENT_DESCRIPTION)),
    ("unknown objects", RemovalStep::Objects(is_unknown)),
    ("Content Description", RemovalStep::Objects(|guid| *guid == guid::CONTENT_DESCRIPTION)),
];

/// Whether an object describes an index, which a live stream does not have.
fn is_index_parameters(guid: &Guid) -> bool {
    [
        guid::INDEX_PARAMETERS,
        guid::MEDIA_OBJECT_INDEX_PARAMETERS,
        guid::TIMECODE_INDEX_PARAMETERS,
        guid::INDEX_PLACEHOLDER,
    ]
    .contains(guid)
}

/// Whether an object is not known to be needed. Needed objects describe the streams, are referred to by others
/// (Language List), or hold the aspect ratio (Metadata).
fn is_unknown(guid: &Guid) -> bool {
    ![
        guid::FILE_PROPERTIES,
        guid::STREAM_PROPERTIES,
        guid::HEADER_EXTENSION,
        guid::EXTENDED_STREAM_PROPERTIES,
        guid::CODEC_LIST,
        guid::STREAM_BITRATE_PROPERTIES,
        guid::BITRATE_MUTUAL_EXCLUSION,
        guid::GROUP_MUTUAL_EXCLUSION,
        guid::ADVANCED_MUTUAL_EXCLUSION,
        guid::STREAM_PRIORITIZATION,
        guid::BANDWIDTH_SHARING,
        guid::LANGUAGE_LIST,
        guid::METADATA,
        guid::COMPATIBILITY,
        guid::ERROR_CORRECTION,
        guid::CONTENT_ENCRYPTION,
        guid::EXTENDED_CONTENT_ENCRYPTION,
        guid::ADVANCED_CONTENT_ENCRYPTION,
        guid::SCRIPT_COMMAND,
        // These two have separate steps.
        guid::CONTENT_DESCRIPTION,
        guid::DIGITAL_SIGNATURE,
    ]
    .contains(guid)
}

/// A Header Object split into its children.
struct EditableHeader<'a> {
    head: &'a [u8],
    children: Vec<Child<'a>>,
    /// Unchanged bytes after the last valid object.
    rest: &'a [u8],
}

/// A child of the Header Object.
enum Child<'a> {
    /// Any object except the Header Extension.
    Object(ObjectEdit<'a>),
    /// The Header Extension, split into its own children.
    Extension { head: &'a [u8], children: Vec<ObjectEdit<'a>>, rest: &'a [u8] },
}

/// An object, unchanged or rewritten without some of its attributes.
struct ObjectEdit<'a> {
    object: Object<'a>,
    rewritten: Option<Vec<u8>>,
}

impl<'a> EditableHeader<'a> {
    /// Splits a Header Object.
    fn read(header: &'a [u8]) -> Self {
        let (head, list) = header.split_at_checked(HEADER_HEAD).unwrap_or((header, &[]));
        let (objects, rest) = read_list(list, Objects::new(list, HEADER_HEAD));
        let children = objects.into_iter().map(Child::read).collect();
        Self { head, children, rest }
    }

    /// Size in bytes of the header as it is now.
    fn len(&self) -> usize {
        let children: usize = self.children.iter().map(Child::len).sum();
        self.head.len() + children + self.rest.len()
    }

    /// Removes what the step removes.
    fn apply(&mut self, drop: &RemovalStep) {
        self.children.retain_mut(|child| match child {
            Child::Object(piece) => piece.apply(drop),
            Child::Extension { children, .. } => {
                children.retain_mut(|piece| piece.apply(drop));
                true
            }
        });
    }

    /// Serialises the header with updated sizes and object count (ASF 3.1, 3.4).
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        out.put_slice(&guid::HEADER);
        out.put_u64_le(self.len() as u64);
        out.put_u32_le(u32::try_from(self.children.len()).unwrap_or(u32::MAX));
        // The two reserved bytes after the object count.
        out.put_slice(self.head.get(28..).unwrap_or_default());
        for child in &self.children {
            match child {
                Child::Object(piece) => out.put_slice(piece.bytes()),
                Child::Extension { head, children, rest } => {
                    out.put_slice(head.get(..16).unwrap_or_default());
                    out.put_u64_le(child.len() as u64);
                    // The reserved fields; the size of the data follows them.
                    out.put_slice(head.get(24..42).unwrap_or_default());
                    let data = child.len() - head.len();
                    out.put_u32_le(u32::try_from(data).unwrap_or(u32::MAX));
                    for piece in children {
                        out.put_slice(piece.bytes());
                    }
                    out.put_slice(rest);
                }
            }
        }
        out.put_slice(self.rest);
        out
    }
}

impl<'a> Child<'a> {
    /// Splits a Header Extension; keeps any other object as it is.
    fn read(object: Object<'a>) -> Self {
        let parts = object.bytes.split_at_checked(EXTENSION_HEAD);
        match parts {
            Some((head, list)) if object.guid == guid::HEADER_EXTENSION => {
                let (objects, rest) = read_list(list, extension_children(&object));
                Self::Extension { head, children: objects.into_iter().map(ObjectEdit::read).collect(), rest }
            }
            _ => Self::Object(ObjectEdit::read(object)),
        }
    }

    /// Size in bytes of the child as it is now.
    fn len(&self) -> usize {
        match self {
            Self::Object(piece) => piece.bytes().len(),
            Self::Extension { head, children, rest } => {
                let children: usize = children.iter().map(|piece| piece.bytes().len()).sum();
                head.len() + children + rest.len()
            }
        }
    }
}

impl<'a> ObjectEdit<'a> {
    /// Returns the unchanged object.
    fn read(object: Object<'a>) -> Self {
        Self { object, rewritten: None }
    }

    /// The bytes to write.
    fn bytes(&self) -> &[u8] {
        self.rewritten.as_deref().unwrap_or(self.object.bytes)
    }

    /// Applies the step and returns whether the object stays.
    fn apply(&mut self, drop: &RemovalStep) -> bool {
        match drop {
            RemovalStep::Objects(drops) => !drops(&self.object.guid),
            RemovalStep::Attributes(drops) => {
                let rewritten = without_attributes(self.object.guid, self.bytes(), *drops);
                if rewritten.is_some() {
                    self.rewritten = rewritten;
                }
                true
            }
        }
    }
}

/// Returns the valid objects of a list, and the bytes after the last of them.
fn read_list<'a>(list: &'a [u8], objects: Objects<'a>) -> (Vec<Object<'a>>, &'a [u8]) {
    let objects: Vec<_> = objects.map_while(Result::ok).collect();
    let len: usize = objects.iter().map(|object| object.bytes.len()).sum();
    (objects, list.get(len..).unwrap_or_default())
}

/// A name with its value, in any of the three objects that contain attributes.
struct Attribute<'a> {
    bytes: &'a [u8],
    name: &'a [u8],
    /// In bytes.
    value_len: usize,
}

impl<'a> Attribute<'a> {
    /// Whether the attribute is a picture, such as a cover.
    fn is_picture(&self) -> bool {
        const NAME: &[u8] = b"W\0M\0/\0P\0i\0c\0t\0u\0r\0e\0";
        self.name.strip_prefix(NAME).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    }

    /// Reads the first attribute of a list in an Extended Content Description (ASF 3.11): name length, name, value
    /// type, value length, value.
    fn read_described(list: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(list);
        let name_len = usize::from(cursor.u16()?);
        cursor.skip(name_len + 2)?;
        let value_len = usize::from(cursor.u16()?);
        cursor.skip(value_len)?;
        Some(Self { bytes: list.get(..cursor.position())?, name: list.get(2..2 + name_len)?, value_len })
    }

    /// Reads the first attribute of a list in Metadata or a Metadata Library (ASF 4.7 and 4.8): language, stream, name
    /// length, type, value length, name, value.
    fn read_metadata(list: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(list);
        cursor.skip(4)?;
        let name_len = usize::from(cursor.u16()?);
        cursor.skip(2)?;
        let value_len = usize::try_from(cursor.u32()?).ok()?;
        cursor.skip(name_len)?;
        cursor.skip(value_len)?;
        Some(Self { bytes: list.get(..cursor.position())?, name: list.get(12..12 + name_len)?, value_len })
    }
}

/// Returns the object without the attributes for which `drops` is true; `None` if nothing changes or the list cannot
/// be read.
fn without_attributes(guid: Guid, object: &[u8], drops: fn(&Attribute<'_>) -> bool) -> Option<Vec<u8>> {
    let read = match guid {
        guid::EXTENDED_CONTENT_DESCRIPTION => Attribute::read_described,
        guid::METADATA | guid::METADATA_LIBRARY => Attribute::read_metadata,
        _ => return None,
    };
    let count = Cursor::new(object.get(HEAD..)?).u16()?;
    let mut list = object.get(HEAD + 2..)?;
    let mut kept = Vec::new();
    let mut kept_count = 0_u16;
    for _ in 0..count {
        let attribute = read(list)?;
        list = list.get(attribute.bytes.len()..)?;
        if !drops(&attribute) {
            kept.extend_from_slice(attribute.bytes);
            kept_count += 1;
        }
    }
    if kept_count == count {
        return None;
    }
    let mut out = Vec::with_capacity(HEAD + 2 + kept.len());
    out.put_slice(&guid);
    out.put_u64_le((HEAD + 2 + kept.len()) as u64);
    out.put_u16_le(kept_count);
    out.put_slice(&kept);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{self, HeaderBuilder};

    const BIG: usize = 70_000;

    fn parse(builder: &HeaderBuilder) -> Header {
        Header::parse(builder.build()).unwrap()
    }

    fn dropped(builder: &HeaderBuilder) -> Vec<&'static str> {
        let (shrunk, dropped) = parse(builder).shrink().unwrap();
        assert!(shrunk.bytes().len() <= Header::MAX_LEN);
        let (object, data) = shrunk.split();
        let children: Vec<_> = Objects::new(&object[HEADER_HEAD..], HEADER_HEAD).map(Result::unwrap).collect();
        assert_eq!(object[24..28], (children.len() as u32).to_le_bytes());
        assert_eq!(object[16..24], (object.len() as u64).to_le_bytes());
        let extension = children.iter().find(|child| child.guid == guid::HEADER_EXTENSION).unwrap();
        let inside = (extension.bytes.len() - EXTENSION_HEAD) as u32;
        assert_eq!(extension.bytes[42..46], inside.to_le_bytes());
        assert!(extension_children(extension).all(|child| child.is_ok()));
        let builder = builder.build();
        assert_eq!(object[30..134], builder[30..134], "File Properties");
        assert_eq!(*data, builder[builder.len() - 50..]);
        dropped
    }

    #[test]
    fn a_header_that_fits_stays() {
        let room = Header::MAX_LEN - HeaderBuilder::default().build().len() - 24;
        let fits = HeaderBuilder::default().object(guid::PADDING, &vec![0; room]);
        assert_eq!(parse(&fits).bytes().len(), Header::MAX_LEN);
        let (same, dropped) = parse(&fits).shrink().unwrap();
        assert!(dropped.is_empty());
        assert_eq!(same, parse(&fits));
        let one_more = HeaderBuilder::default().object(guid::PADDING, &vec![0; room + 1]);
        assert_eq!(self::dropped(&one_more), ["Padding"]);
    }

    #[test]
    fn each_kind_is_dropped_by_its_step() {
        let big = vec![0; BIG];
        let text = u16::MAX - 30;
        let header = HeaderBuilder::default;
        let cases = [
            (header().object(guid::PADDING, &big), "Padding"),
            (header().extension(guid::PADDING, &big), "Padding"),
            (
                header().object(
                    guid::EXTENDED_CONTENT_DESCRIPTION,
                    &test_util::described(&[("Title", 50), ("WM/Picture", u16::MAX)]),
                ),
                "pictures",
            ),
            (
                header()
                    .extension(guid::METADATA_LIBRARY, &test_util::metadata(&[("Title", 50), ("WM/Picture", 99_999)])),
                "pictures",
            ),
            (header().extension(guid::INDEX_PARAMETERS, &big), "Index Parameters"),
            (header().extension(guid::INDEX_PLACEHOLDER, &big), "Index Parameters"),
            (header().object(guid::CONTENT_BRANDING, &big), "Content Branding"),
            (header().object(guid::MARKER, &big), "Markers"),
            (
                header().object(
                    guid::EXTENDED_CONTENT_DESCRIPTION,
                    &test_util::described(&[("Lyrics", text), ("Title", 50)]),
                ),
                "long metadata attributes",
            ),
            (header().extension(guid::METADATA, &test_util::metadata(&[("Blob", 99_999)])), "long metadata attributes"),
            (
                header().extension(guid::METADATA_LIBRARY, &test_util::metadata(&[("Text", 1000); 70])),
                "Metadata Library",
            ),
            (
                header().object(guid::EXTENDED_CONTENT_DESCRIPTION, &test_util::described(&[("Text", 1000); 70])),
                "Extended Content Description",
            ),
            (header().object([9; 16], &big), "unknown objects"),
            (header().object(guid::CONTENT_DESCRIPTION, &big), "Content Description"),
        ];
        for (builder, name) in cases {
            assert_eq!(dropped(&builder), [name]);
        }
    }

    #[test]
    fn no_more_is_dropped_than_needed_but_the_signature() {
        let builder = HeaderBuilder::default()
            .object(guid::PADDING, &vec![0; BIG])
            .object(guid::MARKER, &[0; 100])
            .object(guid::DIGITAL_SIGNATURE, &[0; 100]);
        assert_eq!(dropped(&builder), ["Padding", "Digital Signature"]);
        let builder = builder.object([9; 16], &vec![0; BIG]);
        assert_eq!(dropped(&builder), ["Padding", "Markers", "unknown objects", "Digital Signature"]);
    }

    #[test]
    fn what_describes_the_streams_is_never_dropped() {
        for kept in [
            guid::CODEC_LIST,
            guid::LANGUAGE_LIST,
            guid::SCRIPT_COMMAND,
            guid::STREAM_BITRATE_PROPERTIES,
            guid::CONTENT_ENCRYPTION,
            guid::COMPATIBILITY,
        ] {
            let header = parse(&HeaderBuilder::default().object(kept, &vec![0; BIG]));
            let error = header.shrink().unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::HeaderTooBig { limit: 65_527, .. }), "{text}");
            assert!(text.contains("Header Object at byte 16"), "{text}");
            assert!(text.contains("Remove metadata"), "{text}");
        }
    }

    #[test]
    fn a_broken_end_is_kept_as_it_is() {
        let mut builder = HeaderBuilder::default().object(guid::PADDING, &vec![0; BIG]);
        builder.objects.push(b"broken".to_vec());
        let (shrunk, _) = parse(&builder).shrink().unwrap();
        assert!(shrunk.split().0.ends_with(b"broken"));
    }
}
