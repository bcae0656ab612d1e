//! A queue of bytes that were received and not yet parsed.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Chunks shorter than this are appended to one buffer instead of being kept one by one. A stream that arrives in
/// single bytes would otherwise need a chunk for each byte.
const COALESCE_BELOW_BYTES: usize = 1024;

/// Chunks in the order of the stream. Large chunks are shared, small ones are copied.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Bytes>,
    /// Bytes after the last chunk, copied from small chunks.
    tail: BytesMut,
    /// Whether all bytes are in the tail and new ones are appended to it.
    collecting: bool,
    /// Bytes in the chunks and the tail together.
    len: usize,
}

impl Queue {
    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a chunk: shared if it is large, copied if it is small.
    pub(super) fn push(&mut self, chunk: Bytes) {
        let was_empty = self.is_empty();
        self.len += chunk.len();
        if self.collecting || (chunk.len() < COALESCE_BELOW_BYTES && !was_empty) {
            self.tail.extend_from_slice(&chunk);
        } else if !chunk.is_empty() {
            self.tail_to_chunk();
            self.chunks.push_back(chunk);
        }
    }

    /// Appends a copy of the bytes.
    pub(super) fn push_copy(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    /// Puts a chunk before all others, without a copy.
    pub(super) fn push_front(&mut self, chunk: Bytes) {
        self.collecting = false;
        self.len += chunk.len();
        self.chunks.push_front(chunk);
    }

    /// Removes all bytes.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The first `N` bytes; `None` if the queue is shorter.
    pub(super) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        if let Some(bytes) = self.chunks.front().and_then(|chunk| chunk.first_chunk()) {
            return Some(*bytes);
        }
        let mut bytes = [0; N];
        (self.peek_into(&mut bytes) == N).then_some(bytes)
    }

    /// Copies the first bytes into `bytes`, up to the length of either, and returns how many.
    pub(super) fn peek_into(&self, bytes: &mut [u8]) -> usize {
        let mut filled = 0;
        for slice in self.slices() {
            let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) else {
                break;
            };
            let count = room.len().min(slice.len());
            for (to, from) in room.iter_mut().zip(slice) {
                *to = *from;
            }
            filled += count;
        }
        filled
    }

    /// The first `count` bytes as one or two slices. If they are spread over more than two chunks, they are first
    /// copied into one.
    pub(super) fn front(&mut self, count: usize) -> [&[u8]; 2] {
        let count = count.min(self.len);
        if count == 0 {
            return [&[], &[]];
        }
        let two: usize = self.slices().take(2).map(<[u8]>::len).sum();
        if two < count {
            let front = self.take_one(count);
            self.push_front(front);
        }
        let mut slices = self.slices();
        let first = slices.next().unwrap_or_default();
        let second = slices.next().unwrap_or_default();
        let in_first = first.len().min(count);
        let in_second = second.len().min(count - in_first);
        [first.get(..in_first).unwrap_or_default(), second.get(..in_second).unwrap_or_default()]
    }

    /// Takes the first `count` bytes, or all if there are fewer. They are shared if they are in one or two chunks, and
    /// copied into one otherwise.
    pub(super) fn take(&mut self, count: usize) -> [Bytes; 2] {
        let count = count.min(self.len);
        if count == 0 {
            return [Bytes::new(), Bytes::new()];
        }
        self.prepare_take(count);
        let first = self.take_from_chunk(count);
        let missing = count - first.len();
        if missing == 0 {
            return [first, Bytes::new()];
        }
        if self.chunks.front().is_some_and(|next| next.len() >= missing) {
            return [first, self.take_from_chunk(missing)];
        }
        let mut whole = BytesMut::with_capacity(count);
        whole.extend_from_slice(&first);
        while whole.len() < count && !self.chunks.is_empty() {
            whole.extend_from_slice(&self.take_from_chunk(count - whole.len()));
        }
        [whole.freeze(), Bytes::new()]
    }

    /// Takes the first `count` bytes as a copy, so that the result does not keep a chunk's memory alive.
    pub(super) fn take_copy(&mut self, count: usize) -> Bytes {
        let [first, second] = self.take(count);
        if second.is_empty() {
            return Bytes::copy_from_slice(&first);
        }
        [first, second].concat().into()
    }

    /// Drops the first `count` bytes.
    pub(super) fn skip(&mut self, count: usize) {
        self.prepare_take(count);
        let mut missing = count;
        while missing > 0 && !self.chunks.is_empty() {
            missing -= self.take_from_chunk(missing).len();
        }
    }

    /// All bytes in one writable buffer. They stay in it until some are taken.
    pub(super) fn collect(&mut self) -> &mut [u8] {
        if !self.collecting {
            let mut all = BytesMut::with_capacity(self.len);
            for slice in self.slices() {
                all.extend_from_slice(slice);
            }
            self.chunks.clear();
            self.tail = all;
            self.collecting = true;
        }
        &mut self.tail
    }

    /// Takes the first `count` bytes as one chunk, copied if necessary.
    fn take_one(&mut self, count: usize) -> Bytes {
        let [first, second] = self.take(count);
        if second.is_empty() {
            return first;
        }
        [first, second].concat().into()
    }

    /// The contents in order. The last slice, the tail, may be empty.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(|chunk| &**chunk).chain(std::iter::once(&*self.tail))
    }

    /// Ends the collection, and makes a chunk of the tail if the first `count` bytes reach into it.
    fn prepare_take(&mut self, count: usize) {
        self.collecting = false;
        if count > self.len - self.tail.len() {
            self.tail_to_chunk();
        }
    }

    /// Makes a chunk of the tail, without a copy.
    fn tail_to_chunk(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    /// Takes up to `count` bytes of the first chunk.
    fn take_from_chunk(&mut self, count: usize) -> Bytes {
        let taken = match self.chunks.front_mut() {
            Some(chunk) if chunk.remaining() > count => chunk.split_to(count),
            _ => self.chunks.pop_front().unwrap_or_default(),
        };
        self.len -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(chunks: &[&'static [u8]]) -> Queue {
        let mut queue = Queue::default();
        for chunk in chunks {
            queue.push(Bytes::from_static(chunk));
        }
        queue
    }

    static BIG: [u8; 4096] = [7; 4096];

    #[test]
    fn bytes_in_one_chunk_are_shared() {
        let mut queue = queue(&[&BIG]);
        let [first, second] = queue.take(100);
        assert_eq!(first.as_ptr(), BIG.as_ptr());
        assert!(second.is_empty());
        assert_eq!(queue.len(), 3996);
    }

    #[test]
    fn bytes_in_two_chunks_are_shared() {
        let mut queue = queue(&[&BIG, &BIG]);
        queue.skip(4000);
        let [first, second] = queue.take(200);
        assert_eq!((first.len(), second.len()), (96, 104));
        assert_eq!(second.as_ptr(), BIG.as_ptr());
    }

    #[test]
    fn bytes_in_three_chunks_are_copied_together() {
        let mut queue = queue(&[&BIG, &BIG, &BIG]);
        let [first, second] = queue.take(8193);
        assert_eq!((first.len(), second.len()), (8193, 0));
        assert_eq!(queue.len(), 4095);
    }

    #[test]
    fn single_bytes_do_not_stay_chunks() {
        let mut queue = Queue::default();
        for byte in 0..=255_u8 {
            queue.push(Bytes::copy_from_slice(&[byte]));
        }
        assert_eq!(queue.chunks.len(), 1);
        assert_eq!(queue.peek::<3>(), Some([0, 1, 2]));
        assert_eq!(queue.take(256).concat(), (0..=255).collect::<Vec<u8>>());
        assert!(queue.is_empty());
    }

    #[test]
    fn the_front_has_up_to_two_slices() {
        let mut queue = queue(&[&BIG, &BIG, &BIG]);
        let front = queue.front(9000);
        assert_eq!(front.map(<[u8]>::len), [9000, 0]);
        assert_eq!(queue.len(), 3 * 4096);
    }

    #[test]
    fn collected_bytes_can_be_written_to_and_extended() {
        let mut queue = queue(&[b"abc", &BIG]);
        queue.collect()[1] = b'X';
        queue.push(Bytes::from_static(&BIG));
        assert_eq!(queue.collect().len(), 3 + 2 * 4096);
        assert_eq!(queue.take(4).concat(), b"aXc\x07");
        assert_eq!(queue.len(), 2 * 4096 - 1);
    }

    #[test]
    fn taking_more_than_the_length_gives_all_bytes() {
        let mut queue = queue(&[b"abc"]);
        queue.skip(1);
        assert_eq!(queue.front(9), [&b"bc"[..], &[]]);
        assert_eq!(queue.take(9).concat(), b"bc");
        queue.skip(1);
        assert!(queue.is_empty());
    }
}
