//! Does a part so many times, for callgrind to count: `instructions PART TURNS`; without arguments, names the parts.
#![allow(clippy::unwrap_used, reason = "a measurement that fails, fails")]

use bench_parts::parts::{self, Part};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, turns] = &arguments[..] else {
        for name in parts::names() {
            println!("{name} {}", Part::named(name).packets());
        }
        return;
    };
    let mut part = Part::named(name);
    for _ in 0..turns.parse::<u32>().unwrap() {
        assert_eq!(part.turn(), part.packets());
    }
}
