//! Folders of servers: temporary, locked by the process they belong to, and swept when that process died without
//! removing them.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::tmpfs;

const PREFIX: &str = "millrace-test-";
const LOCK: &str = "owner.lock";
/// A folder younger than this may be one whose owner has not locked it yet.
const SWEEP_AGE: Duration = Duration::from_secs(60);
/// A Unix socket's path has at most 107 bytes, and servers put theirs in here.
const PATH_BYTES_MAX: usize = 60;

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    inner: tempfile::TempDir,
    _lock: File,
}

impl Folder {
    /// Makes a folder that only we, and root, can enter.
    pub(crate) fn create() -> Self {
        static SWEPT: Once = Once::new();
        let parent = parent();
        SWEPT.call_once(|| sweep(&parent));
        let inner = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent).unwrap_or_else(|error| {
            panic!("no temporary folder can be made in {}: {error}", parent.display())
        });
        let lock = File::create(inner.path().join(LOCK)).expect("a file can be made in a new folder");
        flock(&lock, FlockOperation::LockExclusive).expect("a new file can be locked");
        Self { inner, _lock: lock }
    }

    /// Makes a folder that everybody can enter: servers that refuse to run as root use what is in it.
    pub(crate) fn create_open() -> Self {
        let folder = Self::create();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a new folder is ours");
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.inner.path()
    }
}

fn parent() -> PathBuf {
    let usual = std::env::temp_dir();
    if usual.as_os_str().len() > PATH_BYTES_MAX { PathBuf::from("/tmp") } else { usual }
}

/// Removes folders whose owner is dead, which is known by their lock being free.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
            tmpfs::sweep(&entry.path());
            // Another user's folder, or one that another process is sweeping too: not ours to complain about.
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join(LOCK)) else { return false };
    let age =
        lock.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > SWEEP_AGE) && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
}
