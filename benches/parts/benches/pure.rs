//! Measures the parts without I/O: nanoseconds per packet, and bytes per second. `cargo bench --bench pure`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that fails, fails")]

use bench_parts::parts::{self, Borrowed};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

/// One iteration processes 512 KiB of packets.
#[divan::bench(args = parts::names(), sample_count = 200)]
fn part(bencher: Bencher, name: &str) {
    let mut part = Borrowed::named(name);
    let packets = part.packets();
    let bytes = packets as usize * part.media.packet_size;
    // The first iterations fill the packet buffer, which then drops packets as it accepts new ones.
    for _ in 0..4 {
        assert_eq!(part.turn(), packets);
    }
    bencher.counter(BytesCount::new(bytes)).counter(ItemsCount::new(packets)).bench_local(|| part.turn());
}
