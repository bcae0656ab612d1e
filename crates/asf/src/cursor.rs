//! Reading little-endian fields.

/// Reads little-endian fields from one slice, or from two as if they were joined.
///
/// A read returns `None` and does not move the position if the bytes end before the field does.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    first: &'a [u8],
    second: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Reads from one slice.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self::joined(bytes, &[])
    }

    /// Reads from two slices as if they were joined.
    pub(super) fn joined(first: &'a [u8], second: &'a [u8]) -> Self {
        Self { first, second, at: 0 }
    }

    /// Number of bytes before the position.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Total number of bytes, read or not.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// Skips `count` bytes.
    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        let end = self.at.checked_add(count)?;
        (end <= self.len()).then(|| self.at = end)
    }

    /// Reads `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = match self.first.get(self.at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => *bytes,
            None => self.array_across_slices()?,
        };
        self.at += N;
        Some(bytes)
    }

    /// Reads a BYTE.
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    /// Reads a WORD.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Reads a DWORD.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a QWORD.
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a field whose two-bit type gives its width (ASF 5.2.2); 0 if the field is absent.
    pub(super) fn typed(&mut self, kind: u8) -> Option<u32> {
        match width(kind) {
            0 => Some(0),
            1 => self.u8().map(u32::from),
            2 => self.u16().map(u32::from),
            _ => self.u32(),
        }
    }

    /// Reads a field that is not within the first slice. Packets are rarely split, so this is kept out of the way of
    /// the usual case.
    #[cold]
    fn array_across_slices<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for (at, byte) in (self.at..).zip(&mut bytes) {
            *byte = match at.checked_sub(self.first.len()) {
                None => *self.first.get(at)?,
                Some(at) => *self.second.get(at)?,
            };
        }
        Some(bytes)
    }
}

/// Width in bytes of a field with this two-bit type (ASF 5.2.2): absent, BYTE, WORD, DWORD.
pub(super) const fn width(kind: u8) -> usize {
    match kind & 3 {
        3 => 4,
        narrow => narrow as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_reads_the_same() {
        let bytes: Vec<u8> = (1..=15).collect();
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let mut cursor = Cursor::joined(first, second);
            assert_eq!(cursor.u8(), Some(1));
            assert_eq!(cursor.u16(), Some(0x0302));
            assert_eq!(cursor.u32(), Some(0x0706_0504));
            assert_eq!(cursor.u64(), Some(0x0f0e_0d0c_0b0a_0908));
            assert_eq!(cursor.u8(), None);
            assert_eq!(cursor.position(), 15);
        }
    }

    #[test]
    fn a_failed_read_moves_nothing() {
        let mut cursor = Cursor::joined(&[1], &[2]);
        assert_eq!(cursor.u32(), None);
        assert_eq!(cursor.skip(3), None);
        assert_eq!(cursor.skip(usize::MAX), None);
        assert_eq!(cursor.u16(), Some(0x0201));
        assert_eq!(cursor.skip(usize::MAX), None);
    }

    #[test]
    fn a_type_is_a_width() {
        assert_eq!([0, 1, 2, 3].map(width), [0, 1, 2, 4]);
        let mut cursor = Cursor::new(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(cursor.typed(0), Some(0));
        assert_eq!(cursor.typed(1), Some(1));
        assert_eq!(cursor.typed(2), Some(0x0302));
        assert_eq!(cursor.typed(3), Some(0x0706_0504));
        assert_eq!(cursor.typed(1), None);
    }
}
