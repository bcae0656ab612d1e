//! Many random inputs for each layer that parses untrusted data; `FUZZ_ROUNDS` is the number of inputs per layer.
//!
//! The drivers are those of `cargo fuzz` (`fuzz/`). The inputs are the seeds and the fuzzer's corpus (`fuzz/corpus`),
//! unchanged and with random changes. A failure prints its random seed, and `FUZZ_SEED` repeats it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use fuzz_drivers::{DRIVERS, http};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use test_support::server_process::PointProgram;

/// Threads that attack the server at the same time.
const ATTACKERS: u64 = 4;
/// A long run prints its progress after this many requests.
const TOLD: usize = 100_000;
/// Maximum bytes of an input. Longer inputs would find nothing new.
const LONGEST: usize = 4096;

fn rounds(default: usize) -> usize {
    std::env::var("FUZZ_ROUNDS").map_or(default, |text| text.parse().unwrap())
}

fn seed() -> u64 {
    let now = || u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos());
    let seed = std::env::var("FUZZ_SEED").map_or_else(|_| now(), |text| text.parse().unwrap());
    println!("FUZZ_SEED={seed}");
    seed
}

/// Returns the input number `n` of a run: a seed or a changed seed.
fn input(seeds: &[Vec<u8>], seed: u64, n: u64) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let mut input = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..=8) {
        let at = random.random_range(0..=input.len());
        let end = random.random_range(at..=input.len().min(at + 32));
        match random.random_range(0..8) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = [0, 1, 4, 0x7F, 0x80, 0xFF][random.random_range(0..6)],
            2 => drop(input.splice(at..at, (0..random.random_range(1..16)).map(|_| random.random::<u8>()))),
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            5 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => input.extend((0..random.random_range(1..64)).map(|_| random.random::<u8>())),
            _ if at + 4 <= input.len() => input[at..at + 4].copy_from_slice(&random.random::<u32>().to_le_bytes()),
            _ => {}
        }
    }
    input.truncate(LONGEST);
    input
}

/// Returns the fuzzer's corpus for a driver, one file each.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = test_support::root().join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 10, "{} has {} files", folder.display(), files.len());
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Runs `run` on `input`. If it panics, the input is printed, so that it can become a test.
fn driven<R>(name: &str, seed: u64, input: &[u8], run: impl FnOnce(&[u8]) -> R) -> R {
    catch_unwind(AssertUnwindSafe(|| run(input))).unwrap_or_else(|panic| {
        println!("{name}: FUZZ_SEED={seed}: b\"{}\"", input.escape_ascii());
        resume_unwind(panic)
    })
}

/// No driver panics, and its invariants hold, for any input.
#[test]
fn any_bytes_are_safe_for_each_layer() {
    let seed = seed();
    for driver in DRIVERS {
        let seeds = [(driver.seeds)(), corpus(driver.name)].concat();
        let count = rounds(20_000);
        let changed = (0..count as u64).map(|n| input(&seeds, seed, n));
        for input in seeds.iter().cloned().chain(changed) {
            driven(driver.name, seed, &input, driver.run);
        }
        println!("{}: {} files and seeds, {count} inputs of them", driver.name, seeds.len());
    }
}

/// The program keeps running and serving, and its memory grows only by its buffers.
#[test]
fn hostile_requests_are_safe_for_the_server() {
    let program = PointProgram::start(&["--point", "concert", "--log", "error"]);
    let (seed, seeds, count) = (seed(), [http::seeds(), corpus("http")].concat(), rounds(12_000));
    for input in &seeds {
        driven("http", seed, input, |input| http::attack(program.address, input));
    }
    let sent = AtomicUsize::new(0);
    let attack = |share: usize| {
        thread::scope(|scope| {
            for attacker in 0..ATTACKERS {
                let (seeds, sent, address) = (&seeds, &sent, program.address);
                scope.spawn(move || {
                    let start = sent.load(Ordering::Relaxed) as u64;
                    for n in (0..).map(|n| start.wrapping_add(n) * ATTACKERS + attacker) {
                        if sent.load(Ordering::Relaxed) >= share {
                            return;
                        }
                        let input = input(seeds, seed, n);
                        let requests = driven("http", seed, &input, |input| http::attack(address, input));
                        let before = sent.fetch_add(requests, Ordering::Relaxed);
                        if before / TOLD != (before + requests) / TOLD {
                            println!("{} requests", before + requests);
                        }
                    }
                });
            }
        });
        program.resident()
    };
    // The first part has allocated the buffers of all threads.
    let (before, start) = (attack(count / 10), program.resident());
    let after = attack(count);
    println!("{} requests: {before} KiB resident after the first tenth, {after} KiB at the end", sent.into_inner());
    assert!(after < 2 * before.max(start) + 8 * 1024, "its memory grows: from {before} to {after} KiB");
    program.is_well();
    let (_, log) = program.stop();
    assert!(!log.contains("panicked"), "{log}");
}
