//! Fills the page cache before a measurement, as on a server that has run for some days.
//!
//! A virtual machine gets its memory from its host page by page, when a page is first used, and gives pages
//! that are free back to it after seconds (free page reporting). Such a page takes 10 µs, which is half a
//! processor for a database that writes 200 MB/s to new files. Pages of the cache are not free: the kernel
//! takes the oldest of them for new files, at no such cost.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::BenchError;

const CHUNK_BYTES: usize = 1 << 20;

/// A file of holes, which takes no room on disk, as large as the memory of this machine. The cache keeps what
/// fits of it.
#[derive(Clone, Debug)]
pub struct Filler {
    file: Arc<File>,
    bytes: u64,
}

impl Filler {
    /// The file is in the temporary folder and has no name. It ends with the last clone.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn new() -> Result<Self, BenchError> {
        Self::of(memory_bytes(&fs::read_to_string("/proc/meminfo")?))
    }

    fn of(bytes: u64) -> Result<Self, BenchError> {
        let file = tempfile::tempfile().and_then(|file| file.set_len(bytes).map(|()| file));
        let file = file.map_err(|error| {
            BenchError::new(format!(
                "cannot create a file of holes in {}: {error}; pass --no-cache-fill to run without it",
                std::env::temp_dir().display()
            ))
        })?;
        Ok(Self { file: Arc::new(file), bytes })
    }

    /// Reads the file, so that no memory is free. Takes up to half a minute. Returns the bytes read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn fill(&self) -> Result<u64, BenchError> {
        let filler = self.clone();
        tokio::task::spawn_blocking(move || filler.read()).await?
    }

    fn read(&self) -> Result<u64, BenchError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut read = 0;
        while read < self.bytes {
            match self.file.read_at(&mut chunk, read)? {
                0 => break,
                bytes => read += bytes as u64,
            }
        }
        Ok(read)
    }
}

/// Fills the page cache, unless the run does without.
///
/// # Errors
/// As [`Filler::fill`].
pub async fn fill(filler: Option<&Filler>) -> Result<(), BenchError> {
    if let Some(filler) = filler {
        filler.fill().await?;
    }
    Ok(())
}

/// The value of `MemTotal` in the text of /proc/meminfo.
fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    total.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_read_from_the_text_of_the_kernel() {
        assert_eq!(memory_bytes("MemFree: 100 kB\nMemTotal:         200 kB\n"), 204_800);
        assert_eq!(memory_bytes(""), 0);
        assert!(memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap()) > 0);
    }

    #[tokio::test]
    async fn all_of_the_file_is_read_each_time() {
        let bytes = 3 * CHUNK_BYTES as u64 + 5;
        let filler = Filler::of(bytes).unwrap();
        assert_eq!(filler.fill().await.unwrap(), bytes);
        assert_eq!(filler.fill().await.unwrap(), bytes);
    }
}
