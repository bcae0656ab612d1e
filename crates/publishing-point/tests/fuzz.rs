//! Hostile input by the thousand to every layer that reads what others wrote; `FUZZ_ROUNDS` says how many of each.
//!
//! The drivers are those of `cargo fuzz` (`fuzz/`). Here the inputs are seeds and what the fuzzer has found
//! (`fuzz/corpus`), as they are and changed at random from a number that a failure tells: `FUZZ_SEED` repeats it.
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

/// Threads that attack the server at one time.
const ATTACKERS: u64 = 4;
/// Requests after which a long run tells how far it is.
const TOLD: usize = 100_000;
/// Bytes of an input; what is longer says nothing new here.
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

/// The input number `n` of a run, of the seeds and what changes make of them.
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

/// What the fuzzer has found for a driver, each a file.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = test_support::root().join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 10, "{} has {} files", folder.display(), files.len());
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Runs `run` on `input`; where it panics, the input is told, so that it can become a test.
fn driven<R>(name: &str, seed: u64, input: &[u8], run: impl FnOnce(&[u8]) -> R) -> R {
    catch_unwind(AssertUnwindSafe(|| run(input))).unwrap_or_else(|panic| {
        println!("{name}: FUZZ_SEED={seed}: b\"{}\"", input.escape_ascii());
        resume_unwind(panic)
    })
}

/// No panic, and what each driver holds, whatever comes.
#[test]
fn any_bytes_harm_no_layer() {
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

/// The program lives, serves, and has grown no more than its buffers.
#[test]
fn hostile_requests_harm_no_server() {
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
    // Buffers of all threads are there after the first part.
    let (before, start) = (attack(count / 10), program.resident());
    let after = attack(count);
    println!("{} requests: {before} KiB resident after the first tenth, {after} KiB at the end", sent.into_inner());
    assert!(after < 2 * before.max(start) + 8 * 1024, "it grows: from {before} to {after} KiB");
    program.is_well();
    let (_, log) = program.stop();
    assert!(!log.contains("panicked"), "{log}");
}
