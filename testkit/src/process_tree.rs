//! The children of a process, found in /proc.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// The processes whose parent is `parent`.
pub(crate) fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_child = |folder: &PathBuf| stat_field(folder, 1) == Some(parent.as_raw_nonzero().to_string());
    let pid = |folder: PathBuf| folder.file_name()?.to_str()?.parse().ok().and_then(Pid::from_raw);
    processes.flatten().map(|entry| entry.path()).filter(is_child).filter_map(pid).collect()
}

/// False also for a zombie: it is dead, and only waits for its parent to read the exit status.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let state = stat_field(&PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero())), 0);
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// Sends a signal to a process that is not a child of the test process and may have ended.
pub(crate) fn signal_process(pid: Pid, signal: Signal) {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot signal process {}: {error}", pid.as_raw_nonzero()),
    }
}

/// A field of /proc/PID/stat, counted from the process state, which follows the name in parentheses.
fn stat_field(folder: &Path, field: usize) -> Option<String> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(field).map(str::to_owned)
}
