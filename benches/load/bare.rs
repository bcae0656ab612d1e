//! The bound for a sink that sends from a thread of its own: it only copies and writes.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use gst::prelude::*;

/// Size in bytes of the pieces that are written; as large as the blocks of the element's packet buffer.
const PIECE: usize = 64 * 1024;
/// Number of pieces between the two threads. They stay in the processor's cache.
const PIECES: usize = 8;

/// Copies what arrives into pieces, and passes on each full one.
struct Copier {
    piece: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

impl Copier {
    fn copy(&mut self, bytes: &[u8]) {
        if self.piece.len() + bytes.len() > PIECE {
            let next = self.empty.recv().unwrap();
            self.full.send(std::mem::replace(&mut self.piece, next)).unwrap();
        }
        self.piece.extend_from_slice(bytes);
    }
}

/// Reads a file with filesrc in blocks of `block` bytes and sends it to the receiver's port for raw bytes.
pub fn run(path: &str, block: u32, port: u16) {
    gst::init().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (full, filled) = sync_channel::<Vec<u8>>(PIECES);
    let (back, empty) = sync_channel(PIECES);
    for _ in 0..PIECES {
        back.send(Vec::with_capacity(PIECE.max(block as usize))).unwrap();
    }
    let writer = thread::spawn(move || {
        for mut piece in filled {
            stream.write_all(&piece).unwrap();
            piece.clear();
            // The other thread may have ended.
            let _ = back.send(piece);
        }
    });

    let first = Vec::with_capacity(PIECE.max(block as usize));
    let copier = Arc::new(Mutex::new(Some(Copier { piece: first, full, empty })));
    let for_end = Arc::clone(&copier);
    let (at_end, end) = sync_channel(1);
    let source = gst::ElementFactory::make("filesrc").property("location", path).property("blocksize", block).build();
    let (source, pipeline) = (source.unwrap(), gst::Pipeline::new());
    pipeline.add(&source).unwrap();
    let pad = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            copier.lock().unwrap().as_mut().unwrap().copy(&buffer.map_readable().unwrap());
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |_, _, event| {
            if event.type_() == gst::EventType::Eos {
                let Copier { piece, full, .. } = for_end.lock().unwrap().take().unwrap();
                full.send(piece).unwrap();
                at_end.send(()).unwrap();
            }
            true
        })
        .build();
    pad.set_active(true).unwrap();
    source.static_pad("src").unwrap().link(&pad).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    end.recv().unwrap();
    writer.join().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
}
