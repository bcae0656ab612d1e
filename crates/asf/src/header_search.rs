//! Searches for a Header Object within other bytes.

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::cursor::Cursor;
use crate::guid;
use crate::header::{HEADER_HEAD, MAX_READ};

/// Finds Header Objects inside truncated packets and after an index.
#[derive(Debug)]
pub(super) struct HeaderSearch {
    finder: Finder<'static>,
}

impl HeaderSearch {
    pub(super) fn new() -> Self {
        const HEADER_OBJECT_ID: &[u8] = &guid::HEADER;
        Self { finder: Finder::new(HEADER_OBJECT_ID) }
    }

    /// The first offset at which the fixed part of a Header Object is complete.
    pub(super) fn find(&self, [first, second]: [&[u8]; 2]) -> Option<usize> {
        let bytes = Cursor::joined(first, second);
        // A GUID alone can occur in media data by chance or in a copy of a file, so the other fixed fields are checked
        // too.
        let plausible = |&at: &usize| {
            let mut cursor = bytes.clone();
            cursor.skip(at).is_some() && cursor.array().as_ref().is_some_and(is_header)
        };
        let in_first = self.finder.find_iter(first).find(plausible);
        if second.is_empty() {
            return in_first;
        }
        in_first
            .or_else(|| self.find_at_joint(first, second).filter(plausible))
            .or_else(|| self.finder.find_iter(second).map(|at| first.len() + at).find(plausible))
    }

    /// The offset of a GUID that begins in `first` and ends in `second`.
    fn find_at_joint(&self, first: &[u8], second: &[u8]) -> Option<usize> {
        const OVERLAP_BYTES: usize = guid::HEADER.len() - 1;
        if second.is_empty() {
            return None;
        }
        // A GUID across the joint begins in the last 15 bytes of the first slice and ends in the first 15 of the
        // second.
        let from = first.len().saturating_sub(OVERLAP_BYTES);
        let before = first.get(from..)?;
        let mut joint = [0; 2 * OVERLAP_BYTES];
        let room = joint.get_mut(before.len()..)?;
        let after = second.get(..room.len()).unwrap_or(second);
        room.get_mut(..after.len())?.copy_from_slice(after);
        joint.get_mut(..before.len())?.copy_from_slice(before);
        Some(from + self.finder.find(&joint)?)
    }
}

/// Whether `head` can be the start of a Header Object: its GUID, a possible size and both reserved bytes (ASF 3.1).
pub(super) fn is_header(head: &[u8; HEADER_HEAD]) -> bool {
    let mut cursor = Cursor::new(head);
    cursor.array() == Some(guid::HEADER)
        && cursor.u64().is_some_and(|size| (HEADER_HEAD as u64..=MAX_READ).contains(&size))
        && head.ends_with(&[1, 2])
}

/// The last bytes, up to 29, if they may be the start of a Header Object that continues after them; otherwise empty.
pub(super) fn partial_header_at_end(first: &[u8], second: &[u8]) -> Bytes {
    const MAX_PARTIAL_BYTES: usize = HEADER_HEAD - 1;
    // In most cases, the end is in one slice and need not be copied.
    let last = if second.is_empty() { first } else { second };
    if let Some(end) = last.last_chunk::<MAX_PARTIAL_BYTES>() {
        return partial_header_in(end);
    }
    let mut end = [0; MAX_PARTIAL_BYTES];
    let len = (first.len() + second.len()).min(MAX_PARTIAL_BYTES);
    let bytes = second.iter().rev().chain(first.iter().rev());
    for (to, byte) in end.iter_mut().rev().zip(bytes) {
        *to = *byte;
    }
    partial_header_in(end.get(MAX_PARTIAL_BYTES - len..).unwrap_or_default())
}

/// The part of `end` from the first byte at which a Header Object may begin.
fn partial_header_in(end: &[u8]) -> Bytes {
    // Most ends do not contain the first byte of the GUID, so that nothing is compared.
    memchr::memchr_iter(guid::HEADER[0], end)
        .map(|at| end.get(at..).unwrap_or_default())
        .find(|begun| matches_header_guid(begun))
        .map_or_else(Bytes::new, Bytes::copy_from_slice)
}

/// Whether the bytes match the GUID of the Header Object, compared up to the shorter length.
pub(super) fn matches_header_guid(bytes: &[u8]) -> bool {
    bytes.iter().zip(&guid::HEADER).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(size: u64) -> Vec<u8> {
        let mut head = guid::HEADER.to_vec();
        head.extend(size.to_le_bytes());
        head.extend([5, 0, 0, 0, 1, 2]);
        head
    }

    #[test]
    fn a_header_is_found_in_every_split() {
        let bytes = [vec![0x30; 40], head(500), vec![0x30; 40]].concat();
        let search = HeaderSearch::new();
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(search.find([first, second]), Some(40), "cut at {cut}");
        }
    }

    #[test]
    fn implausible_headers_are_skipped() {
        let search = HeaderSearch::new();
        for size in [0, 29, MAX_READ + 1, u64::MAX] {
            let bytes = [head(size), head(30)].concat();
            assert_eq!(search.find([&bytes, &[]]), Some(30), "{size}");
            let (first, second) = bytes.split_at(8);
            assert_eq!(search.find([first, second]), Some(30), "{size}");
        }
        assert_eq!(search.find([&head(30)[..29], &[]]), None);
    }

    #[test]
    fn a_partial_header_is_recognised_at_the_end() {
        let whole = head(500);
        for len in 0..30 {
            let bytes = [&[0; 50], &whole[..len]].concat();
            for cut in [0, 40, 55.min(bytes.len()), bytes.len()] {
                let (first, second) = bytes.split_at(cut);
                assert_eq!(partial_header_at_end(first, second), whole[..len]);
            }
        }
        assert_eq!(partial_header_at_end(&[0x30, 0x30], &[]), [0x30][..]);
        assert!(partial_header_at_end(&[], &[]).is_empty());
    }
}
