//! Touches the free memory of the machine before a measurement.
//!
//! A virtual machine gets its memory from its host page by page, when a page is first used. A database that
//! writes new files uses new pages all the time, so a run that follows a quiet time would measure the host.
//! Pages that were used once and are free again cost nothing.

use std::fs;
use std::process::{Command, Stdio};

use crate::error::BenchError;

const CHUNK_BYTES: u64 = 64 << 20;
/// Left alone: the kernel itself needs some, and other processes start meanwhile.
const LEFT_BYTES: u64 = 512 << 20;

/// Writes to all free memory in a process of its own, which then ends.
///
/// # Errors
/// When this program cannot be started again.
pub async fn touch_free() -> Result<(), BenchError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("touch-memory").stdin(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    if status.success() {
        return Ok(());
    }
    Err(BenchError::new(format!(
        "cannot touch the free memory ({status}); pass --no-memory-touch to run without it"
    )))
}

/// Writes to the memory that is free now, and keeps it until this process ends.
pub fn touch() {
    let free = free_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let chunks = free.saturating_sub(LEFT_BYTES) / CHUNK_BYTES;
    let touched: Vec<Vec<u8>> = (0..chunks).map(|_| vec![1; CHUNK_BYTES as usize]).collect();
    // Otherwise the compiler may leave out what nothing reads.
    std::hint::black_box(&touched);
}

/// The value of `MemFree` in the text of /proc/meminfo. Memory of the page cache was used before.
fn free_bytes(meminfo: &str) -> u64 {
    let free = meminfo.lines().find_map(|line| line.strip_prefix("MemFree:")?.trim().strip_suffix(" kB"));
    free.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_memory_is_read_from_the_text_of_the_kernel() {
        assert_eq!(free_bytes("MemTotal:  200 kB\nMemFree:         100 kB\nMemAvailable: 150 kB\n"), 102_400);
        assert_eq!(free_bytes(""), 0);
        assert!(free_bytes(&fs::read_to_string("/proc/meminfo").unwrap()) > 0);
    }
}
