//! What processes take of the machine, as /proc tells it.

use std::collections::BTreeMap;
use std::fs;

use rustix::param::clock_ticks_per_second;

/// A process with all its children, under one name.
#[derive(Clone, Debug)]
pub struct Process {
    name: &'static str,
    pid: i32,
}

/// What one has taken.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Taken {
    /// Seconds of processor time since it began, those of children that have ended included.
    pub cpu_s: f64,
    /// Memory it has now. What several processes of it share is counted once.
    pub resident_bytes: u64,
}

impl Process {
    /// The one with this id.
    pub fn new(name: &'static str, pid: i32) -> Self {
        Self { name, pid }
    }
}

/// Looks at all of them.
pub fn look(processes: &[Process]) -> BTreeMap<&'static str, Taken> {
    let parents = parents();
    processes.iter().map(|process| (process.name, taken(process.pid, &parents))).collect()
}

fn taken(root: i32, parents: &[(i32, i32)]) -> Taken {
    let mut members = vec![root];
    let mut at = 0;
    while let Some(&parent) = members.get(at) {
        members.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    let own: Vec<_> = members.iter().filter_map(|pid| status(*pid)).collect();
    let shared = own.iter().map(|memory| memory.shared).max().unwrap_or(0);
    Taken {
        cpu_s: members.iter().filter_map(|pid| cpu_s(*pid)).sum(),
        resident_bytes: own.iter().map(|memory| memory.private).sum::<u64>() + shared,
    }
}

/// Every process with its parent.
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?))).collect()
}

/// The fields of /proc/PID/stat from the state on, which follows the name in parentheses.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// utime, stime, and the same of children that were waited for.
fn cpu_s(pid: i32) -> Option<f64> {
    let fields = stat(pid)?;
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks as f64 / clock_ticks_per_second() as f64)
}

struct Memory {
    private: u64,
    shared: u64,
}

fn status(pid: i32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1_024)
    };
    let shared = bytes("RssFile:")? + bytes("RssShmem:")?;
    Some(Memory { private: bytes("RssAnon:")?, shared })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_ours_has_taken_something() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let seen = look(&[Process::new("self", pid)])["self"];
        assert!(seen.resident_bytes > 1_000_000, "{seen:?}");
    }
}
