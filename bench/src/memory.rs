//! Memory as it is on a machine that has been running for a while: all of it used, most of it for pages of files.
//!
//! A virtual machine gets its memory from the host page by page, when it first touches it, and that costs more than to
//! copy the page. Whoever writes into tables pays for it as long as there is memory that nobody has used yet: a third of
//! PostgreSQL's rate was seen to go, a minute after a start that looked well. So a file fills the memory before; its pages
//! are the first to go when others are wanted. What this room must never do: leave less than the subjects need.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};

use crate::failure::Failure;

/// What stays free, in bytes: for processes, which must not have to wait for pages of ours to go.
const LEFT_FREE: u64 = 3 << 30;
const PIECE: usize = 1 << 20;

/// A file, on the disk as long as this lives.
#[derive(Debug)]
pub struct Filling {
    file: File,
    bytes: u64,
}

impl Filling {
    /// Writes a file as large as the memory that is free, or as half of the free disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create() -> Result<Self, Failure> {
        let folder = std::env::temp_dir();
        let disk = rustix::fs::statvfs(&folder).map_err(std::io::Error::from)?;
        let bytes = available().saturating_sub(LEFT_FREE).min(disk.f_bavail * disk.f_frsize / 2);
        let mut file = tempfile::tempfile_in(folder)?;
        let piece = vec![0; PIECE];
        for _ in 0..bytes / PIECE as u64 {
            file.write_all(&piece)?;
        }
        // Dirty pages would have to be written by whoever wants their place.
        file.sync_all()?;
        Ok(Self { file, bytes })
    }

    /// Reads it again, so that what was freed since is used again.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn renew(&mut self) -> Result<(), Failure> {
        self.file.rewind()?;
        let mut piece = vec![0; PIECE];
        while self.file.read(&mut piece)? > 0 {}
        Ok(())
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What the kernel could give away, in bytes.
fn available() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line =
        meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    line.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
}
