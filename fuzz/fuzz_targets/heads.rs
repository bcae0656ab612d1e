#![no_main]
#![allow(dead_code, reason = "each target drives one layer")]

#[path = "../drivers/mod.rs"]
mod drivers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| drivers::heads::run(data));
