//! Runs a part a number of times, for callgrind to count: `instructions PART TURNS`. Without arguments it prints the
//! names of the parts.
#![allow(clippy::unwrap_used, reason = "a measurement that fails, fails")]

use bench_parts::parts::{self, Borrowed};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, turns] = &arguments[..] else {
        for name in parts::names() {
            println!("{name} {}", Borrowed::named(name).packets());
        }
        return;
    };
    let mut part = Borrowed::named(name);
    for _ in 0..turns.parse::<u32>().unwrap() {
        assert_eq!(part.turn(), part.packets());
    }
}
