//! A buffer of several byte slices, which are written with as few vectored writes as possible.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Shared byte slices in the order in which they are sent.
#[derive(Debug, Default)]
pub(crate) struct BufList {
    /// None of the slices is empty.
    pieces: VecDeque<Bytes>,
    /// The length of all pieces together.
    len: usize,
}

impl BufList {
    /// Adds a piece, unless it is empty.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Adds all pieces of another list.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.len += other.len;
        self.pieces.append(&mut other.pieces);
    }

    /// Returns whether there are no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves the first `len` bytes to another buffer, or all if there are fewer.
    pub(crate) fn move_to(&mut self, mut len: usize, to: &mut Self) {
        while let Some(front) = self.pieces.front_mut().filter(|_| len > 0) {
            let count = front.len().min(len);
            to.push(front.split_to(count));
            len -= count;
            self.len -= count;
            if front.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}

impl FromIterator<Bytes> for BufList {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let mut all = Self::default();
        pieces.into_iter().for_each(|piece| all.push(piece));
        all
    }
}

impl From<Bytes> for BufList {
    fn from(piece: Bytes) -> Self {
        [piece].into_iter().collect()
    }
}

impl Buf for BufList {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let filled = self.pieces.iter().zip(to);
        filled.map(|(piece, slice)| *slice = IoSlice::new(piece)).count()
    }

    /// Advancing past the end stops at the end.
    fn advance(&mut self, mut len: usize) {
        while let Some(front) = self.pieces.front_mut().filter(|_| len > 0) {
            let count = front.len().min(len);
            front.advance(count);
            len -= count;
            self.len -= count;
            if front.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Copies nothing if one slice contains all of the bytes.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let mut taken = Self::default();
        self.move_to(len, &mut taken);
        match taken.pieces.len() {
            0 | 1 => taken.pieces.pop_front().unwrap_or_default(),
            _ => taken.pieces.iter().flatten().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_read_as_one() {
        let pieces = || ["one", "", "two", "three"].map(|piece| Bytes::from_static(piece.as_bytes()));
        for skipped in 0..=11 {
            let mut slices: BufList = pieces().into_iter().collect();
            slices.advance(skipped);
            assert_eq!(slices.remaining(), 11 - skipped);
            let mut vectors = [IoSlice::new(&[]); 8];
            let count = slices.chunks_vectored(&mut vectors);
            let seen: Vec<u8> = vectors[..count].iter().flat_map(|vector| vector.to_vec()).collect();
            assert_eq!(seen, b"onetwothree"[skipped..]);
            let mut first = BufList::default();
            slices.move_to(4, &mut first);
            assert_eq!(first.remaining() + slices.remaining(), 11 - skipped);
            let mut all = first.copy_to_bytes(first.remaining()).to_vec();
            all.extend(slices.copy_to_bytes(slices.remaining()));
            assert_eq!(all, b"onetwothree"[skipped..]);
            assert!(slices.is_empty() && !slices.has_remaining());
        }
    }
}
