//! The programs for measurements of whole processes; `benches/run` starts them.
//!
//! ```text
//! load media FILE PACKET_SIZE full|padded BYTES     writes a stream
//! load receive                                      receives data until its standard input ends
//! load blast PORT BYTES                             measures the receiver's maximum rate
//! load bare FILE BLOCK PORT                         reads a file with filesrc, and only copies and writes it
//! load paced ELEMENT MBIT BURST SECONDS             latency and wake-ups of a live push
//! load heap PACKET_SIZE BLOCK PORT                  allocations and heap size of the element
//! ```
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a measurement that fails, fails")]

mod bare;
mod heap;
mod paced;
mod receiver;
mod upstream;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::TcpStream;

use bench_parts::media::Media;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["media", path, size, fill, bytes] => write_media(path, number(size), fill == "padded", number(bytes)),
        ["receive"] => receiver::run(),
        ["blast", port, bytes] => blast(number(port), number(bytes)),
        ["bare", path, block, port] => bare::run(path, number(block), number(port)),
        ["paced", element, mbit, burst, seconds] => {
            paced::run(element, number(mbit), number(burst), number(seconds));
        }
        ["heap", size, block, port] => heap::run(number(size), number(block), number(port)),
        // Without arguments, cargo runs this program as a test of all targets.
        _ => println!("benches/run starts this program; see its first lines for how"),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}

fn write_media(path: &str, packet_size: usize, padded: bool, bytes: usize) {
    let media = Media { packet_size, padded, step: 10 };
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&media.header()).unwrap();
    for n in 0..u32::try_from(bytes / packet_size).unwrap() {
        file.write_all(&media.packet(n)).unwrap();
    }
    file.flush().unwrap();
}

/// Writes zeros in large blocks: no measured program can be faster than this.
fn blast(port: u16, bytes: usize) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let piece = vec![0; 256 * 1024];
    for _ in 0..bytes / piece.len() {
        stream.write_all(&piece).unwrap();
    }
}
