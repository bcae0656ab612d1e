//! Identifies packets of a stream by a hash of their contents.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use asf::{Parser, Settings};
use bytes::Bytes;

/// Counts the packets of an ASF stream. Its list is in a file, so that it does not affect memory measurements.
pub struct PacketCounter {
    list: PathBuf,
    file: BufWriter<File>,
    packets: u64,
}

impl PacketCounter {
    pub fn in_file(list: PathBuf) -> Self {
        Self { file: BufWriter::new(File::create(&list).unwrap()), list, packets: 0 }
    }

    /// Counts the packets that a parser has ready.
    pub fn count(&mut self, parser: &mut Parser) {
        while let Some(unit) = parser.next_packet().unwrap() {
            let mut hasher = DefaultHasher::new();
            unit.packet.slices().iter().for_each(|slice| hasher.write(slice));
            self.file.write_all(&hasher.finish().to_le_bytes()).unwrap();
            self.packets += 1;
        }
    }

    /// Counts the packets of a file, which may end within a packet.
    pub fn count_file(&mut self, path: &Path) {
        let (mut file, mut parser) = (File::open(path).unwrap(), Parser::new(Settings::default()));
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = file.read(&mut chunk).unwrap();
            if read == 0 {
                return;
            }
            parser.push(Bytes::copy_from_slice(&chunk[..read]));
            self.count(&mut parser);
        }
    }

    /// Returns the number of packets counted, possibly including duplicates.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Returns the hashes of the packets counted.
    pub fn into_set(mut self) -> HashSet<u64> {
        self.file.flush().unwrap();
        let bytes = std::fs::read(&self.list).unwrap();
        bytes.chunks_exact(8).map(|hash| u64::from_le_bytes(hash.try_into().unwrap())).collect()
    }
}
