//! Faults of the disk and the clock, by a small C library that is preloaded into a process.
//!
//! The library maps the control file that this module writes, so a fault starts and ends between two calls of
//! the process, without a signal or a restart. It must never affect a process that was started without
//! [`Shim::variables`].

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::folder::Folder;
use crate::process::spawn;

const SOURCE: &str = include_str!("../shim/shim.c");
/// Byte offsets of the fields of `struct control` in shim.c. All fields are 64-bit integers.
const FSYNC_DELAY_MS_OFFSET: u64 = 0;
const DISK_ERRNO_OFFSET: u64 = 8;
const CLOCK_OFFSET_S_OFFSET: u64 = 16;
const CONTROL_BYTES: usize = 24;

/// The error of a failing disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// ENOSPC.
    Full,
    /// EIO.
    Broken,
}

/// Controls the disk and clock faults of all processes that were started with [`Shim::variables`].
#[derive(Debug)]
pub struct Shim {
    control: File,
    library: String,
    control_path: String,
    // Dropped last. A process that still runs keeps its mapping.
    _folder: Folder,
}

impl Shim {
    /// Compiles the library. Initially there are no faults.
    ///
    /// # Panics
    /// When no C compiler is installed.
    pub fn create() -> Self {
        let folder = Folder::create_open();
        let library = folder.path().join("shim.so").display().to_string();
        compile(&library);
        let control_path = folder.path().join("control");
        std::fs::write(&control_path, [0; CONTROL_BYTES]).expect("a new folder is writable");
        let control = File::options().write(true).open(&control_path).expect("a new file can be opened");
        Self { control, library, control_path: control_path.display().to_string(), _folder: folder }
    }

    /// The environment variables for the process: a `Program`, a `Redis` or a `Postgres`.
    pub fn variables(&self) -> [(&'static str, &str); 2] {
        [("LD_PRELOAD", &self.library), ("TESTKIT_SHIM", &self.control_path)]
    }

    /// Delays every fsync by this much, including one in progress. Zero ends the fault immediately.
    pub fn slow_fsync(&self, delay: Duration) {
        let delay_ms = i64::try_from(delay.as_millis()).expect("a delay fits into 64 bits");
        self.set(FSYNC_DELAY_MS_OFFSET, delay_ms);
    }

    /// Makes every write to a file and every fsync fail with this error. `None` ends the fault.
    pub fn fail_disk(&self, error: Option<DiskError>) {
        let errno = error.map_or(0, |error| match error {
            DiskError::Full => rustix::io::Errno::NOSPC.raw_os_error(),
            DiskError::Broken => rustix::io::Errno::IO.raw_os_error(),
        });
        self.set(DISK_ERRNO_OFFSET, errno.into());
    }

    /// Sets the wall clock this many seconds ahead of the machine's, or behind it when negative. The
    /// monotonic clock is not affected.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.set(CLOCK_OFFSET_S_OFFSET, seconds);
    }

    fn set(&self, offset: u64, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), offset).expect("the control file is writable");
    }
}

fn compile(library: &str) {
    let mut compiler = Command::new("cc");
    compiler.args(["-x", "c", "-O1", "-fPIC", "-shared", "-o", library, "-"]);
    compiler.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawn(compiler).unwrap_or_else(|error| {
        panic!("cannot run cc: {error}; install a C compiler (Debian: build-essential)")
    });
    let mut input = child.stdin.take().expect("standard input is piped");
    input.write_all(SOURCE.as_bytes()).expect("cc reads its input");
    drop(input);
    let output = child.wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "cannot compile shim.c: {}", String::from_utf8_lossy(&output.stderr));
}
