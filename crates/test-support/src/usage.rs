//! What a process uses of the system.

use std::fs;

#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Memory that the process has in RAM, KiB.
    pub resident: u64,
    pub descriptors: u64,
    pub threads: u64,
}

impl Usage {
    /// That of a process that runs.
    pub fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let entries = |folder: &str| fs::read_dir(format!("/proc/{process}/{folder}")).unwrap().count() as u64;
        Self {
            resident: line.trim().trim_end_matches(" kB").parse().unwrap(),
            descriptors: entries("fd"),
            threads: entries("task"),
        }
    }

    /// That of this process.
    pub fn here() -> Self {
        Self::of(std::process::id())
    }
}
