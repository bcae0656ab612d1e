//! Assembles an ASF file header from the `$H` packets that contain it.

use asf::Header;
use bytes::{BufMut, Bytes, BytesMut};

/// Maximum size of an accepted header in bytes. Players accept no more than one `$H` can contain, some only 16 KiB.
const MAX_HEADER: usize = 1 << 20;
/// Number of bytes of the Data Object that follow the Header Object in `$H`.
const DATA_HEAD: usize = 50;
/// Size in bytes of the Header Object's GUID and size field.
const OBJECT_HEAD: usize = 24;

/// Why the pieces are not a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("its header claims a size of {0} bytes; the limit is {MAX_HEADER}")]
    TooLong(u64),
    #[error("its header claims a size of {expected} bytes, but {got} arrived")]
    Incomplete { expected: u64, got: usize },
    #[error("its header cannot be read: {0}")]
    Invalid(#[from] asf::Error),
}

/// Collects pieces up to the size that the header claims, because not every server flags the last piece.
#[derive(Debug, Default)]
pub(super) struct HeaderPieces(BytesMut);

impl HeaderPieces {
    /// Adds a piece, and returns the header once it is complete.
    ///
    /// # Errors
    /// The pieces are not a header, or cannot become one.
    pub(super) fn push(&mut self, piece: &Bytes, first: bool, last: bool) -> Result<Option<Header>, HeaderError> {
        // A flagged first piece replaces an incomplete header, which another one has interrupted.
        if first {
            self.0.clear();
        }
        self.0.put_slice(piece);
        let expected = self.expected_len();
        if let Some(expected) = expected.filter(|expected| *expected > MAX_HEADER as u64) {
            return Err(HeaderError::TooLong(expected));
        }
        let Some(whole) = expected.and_then(|len| usize::try_from(len).ok()).filter(|len| self.0.len() >= *len) else {
            if last || self.0.len() > MAX_HEADER {
                let got = self.0.len();
                return Err(HeaderError::Incomplete { expected: expected.unwrap_or_default(), got });
            }
            return Ok(None);
        };
        let header = std::mem::take(&mut self.0).split_to(whole).freeze();
        Ok(Some(Header::parse(header)?))
    }

    /// The size in the Header Object, plus the start of the Data Object.
    fn expected_len(&self) -> Option<u64> {
        let size = self.0.get(16..OBJECT_HEAD)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*size).saturating_add(DATA_HEAD as u64))
    }
}

#[cfg(test)]
mod tests {
    use asf::test_util::HeaderBuilder;

    use super::*;

    #[test]
    fn pieces_of_any_size_become_the_header() {
        let whole = HeaderBuilder::default().packet_size(200).build();
        for flagged in [true, false] {
            for size in [1, 20, 77, whole.len()] {
                let mut pieces = HeaderPieces::default();
                let count = whole.len().div_ceil(size);
                let mut header = None;
                for (index, piece) in whole.chunks(size).enumerate() {
                    assert!(header.is_none());
                    let (first, last) = (flagged && index == 0, flagged && index + 1 == count);
                    header = pieces.push(&Bytes::copy_from_slice(piece), first, last).unwrap();
                }
                assert_eq!(header.unwrap().bytes(), &whole);
            }
        }
    }

    #[test]
    fn a_header_with_a_wrong_size_is_rejected() {
        let whole = HeaderBuilder::default().build();
        let with_size = |size: u64| {
            let mut bytes = BytesMut::from(&whole[..]);
            bytes[16..24].copy_from_slice(&size.to_le_bytes());
            HeaderPieces::default().push(&bytes.freeze(), true, true)
        };
        assert!(matches!(with_size(u64::MAX), Err(HeaderError::TooLong(_))));
        assert!(matches!(with_size(whole.len() as u64 + 1), Err(HeaderError::Incomplete { .. })));
        assert!(matches!(with_size(0), Err(HeaderError::Invalid(_))));
        let mut pieces = HeaderPieces::default();
        assert!(matches!(pieces.push(&Bytes::from_static(b"0&"), false, true), Err(HeaderError::Incomplete { .. })));
    }

    #[test]
    fn another_first_piece_restarts_the_header() {
        let whole = HeaderBuilder::default().build();
        let mut pieces = HeaderPieces::default();
        assert!(pieces.push(&whole.slice(..30), true, false).unwrap().is_none());
        assert!(pieces.push(&whole, true, true).unwrap().is_some());
    }
}
