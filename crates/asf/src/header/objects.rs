//! Iterates over a list of ASF objects.

use crate::Error;
use crate::cursor::Cursor;
use crate::guid::Guid;

/// Size in bytes of the GUID and size fields at the start of every object (ASF 2.1).
pub(super) const HEAD: usize = 24;

/// One object, including its GUID and size fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    pub(super) guid: Guid,
    /// Bytes from the start of the header.
    pub(super) offset: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> Object<'a> {
    /// Returns a cursor at offset `at` in the object; at its end if the object is shorter.
    pub(super) fn from(&self, at: usize) -> Cursor<'a> {
        Cursor::new(self.bytes.get(at..).unwrap_or_default())
    }
}

/// Iterates over the objects in a part of the header by their sizes, because the counts that muxers write are often
/// wrong. Ends after the first invalid object.
#[derive(Clone, Debug)]
pub(super) struct Objects<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Objects<'a> {
    /// Iterates over the objects in `bytes`, which is at this offset in the header.
    pub(super) fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }

    /// Returns the first object and the bytes after it.
    ///
    /// # Errors
    /// If its size is impossible.
    fn split_first(&self) -> Result<(Object<'a>, &'a [u8]), Error> {
        let broken = |reason| Error::InvalidHeader { object: "object", offset: self.offset as u64, reason };
        let mut head = Cursor::new(self.rest);
        let (Some(guid), Some(size)) = (head.array(), head.u64()) else {
            let reason = format!("it is cut off after {} bytes, but an object has at least 24", self.rest.len());
            return Err(broken(reason));
        };
        let split =
            usize::try_from(size).ok().filter(|&size| size >= HEAD).and_then(|size| self.rest.split_at_checked(size));
        let Some((bytes, rest)) = split else {
            let reason = format!("its size field says {size} bytes, but must be from 24 to {}", self.rest.len());
            return Err(broken(reason));
        };
        let offset = self.offset;
        Ok((Object { guid, offset, bytes }, rest))
    }
}

impl<'a> Iterator for Objects<'a> {
    type Item = Result<Object<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        // After an error the rest is empty, so that the iterator ends.
        let split = self.split_first();
        self.rest = split.as_ref().map_or(&[], |(_, rest)| rest);
        let object = split.map(|(object, _)| object);
        self.offset += object.as_ref().map_or(0, |object| object.bytes.len());
        Some(object)
    }
}
