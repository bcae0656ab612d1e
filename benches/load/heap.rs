//! Measures the element's heap: the number of allocations, and the bytes allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use gst::prelude::*;

use crate::upstream::Upstream;
use bench_parts::media::Media;

/// Counts what is allocated through Rust's allocator: everything that the plugin allocates, and nothing that GStreamer
/// allocates.
pub struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    fn grown(by: usize) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        let held = HELD.fetch_add(by, Ordering::Relaxed) + by;
        PEAK.fetch_max(held, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator is")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grown(layout.size());
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        Self::grown(new_size);
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

/// Pushes 64 MB of packets in buffers of `block` bytes, or one packet per buffer if it is 0, as fast as the receiver at
/// `port` accepts them. Prints one line: `allocations a packet`, and `peak bytes` of heap in addition to what was
/// allocated before the element.
pub fn run(packet_size: usize, block: usize, port: u16) {
    const BYTES: usize = 64 * 1024 * 1024;
    let media = Media { packet_size, padded: false, step: 1 };
    let count = u32::try_from(BYTES / packet_size).unwrap();
    let stream = media.packets(0..count).leak();
    let block = if block == 0 { packet_size } else { block };
    gst::init().unwrap();
    // Registers the element in this program, whose allocator counts.
    gstasfpush::plugin_register_static().unwrap();
    let stream: &'static [u8] = stream;
    // The buffers are created before counting starts and are kept to the end, because they do not belong to the
    // element.
    let buffers: Vec<gst::Buffer> = stream.chunks(block).map(gst::Buffer::from_slice).collect();
    let header = gst::Buffer::from_slice(media.header());
    let held = HELD.load(Ordering::Relaxed);
    let limit = 1024 * 1024;
    let upstream = Upstream::to(
        &format!("asfpushsink location=http://127.0.0.1:{port}/p sync=false max-size-bytes={limit}"),
        false,
    );
    upstream.push(header);
    // The first part establishes the connection and lets all buffers grow to their final size.
    let (warm_up, counted) = buffers.split_at(buffers.len() / 4);
    for buffer in warm_up {
        upstream.push(buffer.clone());
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    PEAK.store(HELD.load(Ordering::Relaxed), Ordering::Relaxed);
    for buffer in counted {
        upstream.push(buffer.clone());
    }
    let stats = || upstream.sink.property::<gst::Structure>("stats");
    let sent = || {
        let all = stats().get::<gst::Array>("destinations").unwrap();
        all[0].get::<gst::Structure>().unwrap().get::<u64>("packets-sent").unwrap()
    };
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    while sent() < u64::from(count) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let packets = (counted.len() * block) as f64 / packet_size as f64;
    let peak = PEAK.load(Ordering::Relaxed).saturating_sub(held);
    println!("{:.3} {peak} {limit}", allocations as f64 / packets);
}
