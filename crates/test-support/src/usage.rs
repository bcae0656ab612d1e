//! The system resources that a process uses.

use std::fs;

#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory of the process in KiB.
    pub resident: u64,
    pub descriptors: u64,
    pub threads: u64,
}

impl Usage {
    /// Returns the usage of a running process.
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

    /// Returns the usage of this process.
    pub fn here() -> Self {
        Self::of(std::process::id())
    }
}
