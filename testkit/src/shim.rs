//! A machine whose disk and clock obey: a small C library loaded in front of a process.
//!
//! The library maps the control file that is written here, so a fault begins and ends between two calls of the process,
//! without a signal or a restart. It must never fault a process that was not given [`Shim::variables`].

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::folder::Folder;
use crate::server::spawn;

const SOURCE: &str = include_str!("../shim/shim.c");
/// Where `struct control` of the source has its fields, 64-bit integers all.
const FSYNC_DELAY_MS_AT: u64 = 0;
const DISK_ERRNO_AT: u64 = 8;
const CLOCK_OFFSET_S_AT: u64 = 16;
const CONTROL_BYTES: usize = 24;

/// How a disk refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// ENOSPC: no space is left.
    Full,
    /// EIO: it is broken.
    Broken,
}

/// Faults of disk and clock for the processes that were started with its variables.
#[derive(Debug)]
pub struct Shim {
    control: File,
    library: String,
    control_path: String,
    // Dropped last; a process that still runs keeps what it has mapped.
    _folder: Folder,
}

impl Shim {
    /// Compiles the library; until told otherwise it changes nothing.
    ///
    /// # Panics
    /// When there is no C compiler.
    pub fn create() -> Self {
        let folder = Folder::create_open();
        let library = folder.path().join("shim.so").display().to_string();
        compile(&library);
        let control_path = folder.path().join("control");
        std::fs::write(&control_path, [0; CONTROL_BYTES]).expect("a file can be written in our own folder");
        let control = File::options().write(true).open(&control_path).expect("a file of ours can be opened");
        Self { control, library, control_path: control_path.display().to_string(), _folder: folder }
    }

    /// What to start a process with: one of our programs, a Redis or a PostgreSQL.
    pub fn variables(&self) -> [(&'static str, &str); 2] {
        [("LD_PRELOAD", &self.library), ("TESTKIT_SHIM", &self.control_path)]
    }

    /// From now on an fsync takes this much longer, also one that has begun; zero makes the disk fast again at once.
    pub fn slow_fsync(&self, delay: Duration) {
        let delay_ms = i64::try_from(delay.as_millis()).expect("no test waits for millions of years");
        self.set(FSYNC_DELAY_MS_AT, delay_ms);
    }

    /// From now on writes to files and fsyncs fail so; `None` mends the disk.
    pub fn fail_disk(&self, error: Option<DiskError>) {
        let errno = error.map_or(0, |error| match error {
            DiskError::Full => rustix::io::Errno::NOSPC.raw_os_error(),
            DiskError::Broken => rustix::io::Errno::IO.raw_os_error(),
        });
        self.set(DISK_ERRNO_AT, errno.into());
    }

    /// From now on the wall clock is this many seconds ahead of the machine's, or behind it. The monotonic clock goes on.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.set(CLOCK_OFFSET_S_AT, seconds);
    }

    fn set(&self, at: u64, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), at).expect("a file of ours can be written");
    }
}

fn compile(library: &str) {
    let mut compiler = Command::new("cc");
    compiler.args(["-x", "c", "-O1", "-fPIC", "-shared", "-o", library, "-"]);
    compiler.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawn(compiler)
        .unwrap_or_else(|error| panic!("cc cannot run: {error}; install it (Debian: build-essential)"));
    let mut input = child.stdin.take().expect("standard input is piped");
    input.write_all(SOURCE.as_bytes()).expect("cc reads its input");
    drop(input);
    let output = child.wait_with_output().expect("a child can be waited for");
    assert!(output.status.success(), "shim.c: {}", String::from_utf8_lossy(&output.stderr));
}
