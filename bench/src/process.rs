//! Processor time and memory of processes, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use rustix::param::clock_ticks_per_second;

/// A process with all its descendants, under one name.
#[derive(Clone, Debug)]
pub struct Process {
    name: &'static str,
    pid: i32,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ProcessUsage {
    /// Seconds of processor time since the process started, including children that have ended.
    pub cpu_s: f64,
    /// Resident memory now. Memory shared by several of the processes is counted once.
    pub resident_bytes: u64,
}

impl Process {
    pub fn new(name: &'static str, pid: i32) -> Self {
        Self { name, pid }
    }
}

/// Reads the current usage of each process, by name.
pub fn usage(processes: &[Process]) -> BTreeMap<&'static str, ProcessUsage> {
    let parents = parents();
    processes.iter().map(|process| (process.name, tree_usage(process.pid, &parents))).collect()
}

fn tree_usage(root: i32, parents: &[(i32, i32)]) -> ProcessUsage {
    let mut members = vec![root];
    let mut next = 0;
    while let Some(&parent) = members.get(next) {
        members.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    let memory: Vec<_> = members.iter().filter_map(|pid| resident_memory(*pid)).collect();
    let shared = memory.iter().map(|memory| memory.shared_bytes).max().unwrap_or(0);
    ProcessUsage {
        cpu_s: members.iter().filter_map(|pid| cpu_s(*pid)).sum(),
        resident_bytes: memory.iter().map(|memory| memory.private_bytes).sum::<u64>() + shared,
    }
}

/// (process, parent) for every process of the machine.
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, stat_fields(pid)?.get(1)?.parse().ok()?))).collect()
}

/// The fields of /proc/PID/stat from the state on, which follows the name in parentheses.
fn stat_fields(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The sum of utime and stime, of the process itself and of the children it has waited for.
fn cpu_s(pid: i32) -> Option<f64> {
    let fields = stat_fields(pid)?;
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks as f64 / clock_ticks_per_second() as f64)
}

struct ResidentMemory {
    private_bytes: u64,
    shared_bytes: u64,
}

fn resident_memory(pid: i32) -> Option<ResidentMemory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1_024)
    };
    let shared_bytes = bytes("RssFile:")? + bytes("RssShmem:")?;
    Some(ResidentMemory { private_bytes: bytes("RssAnon:")?, shared_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_of_a_running_process_includes_its_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let usage = usage(&[Process::new("self", pid)])["self"];
        assert!(usage.resident_bytes > 1_000_000, "{usage:?}");
    }
}
