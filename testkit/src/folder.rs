//! Temporary folders of servers. Each is locked by its test process; folders of killed processes are swept.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::mount_point::unmount_leftover;

const PREFIX: &str = "millrace-test-";
const LOCK: &str = "owner.lock";
/// The owner of a younger folder may not have locked it yet.
const SWEEP_AGE: Duration = Duration::from_secs(60);
/// The path of a Unix socket has at most 107 bytes, and servers create their sockets in these folders.
const PATH_BYTES_MAX: usize = 60;

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    inner: tempfile::TempDir,
    _lock: File,
}

impl Folder {
    /// Creates a folder that only the current user can enter.
    pub(crate) fn create() -> Self {
        static SWEPT: Once = Once::new();
        let parent = parent();
        SWEPT.call_once(|| sweep(&parent));
        let inner = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent).unwrap_or_else(|error| {
            panic!("cannot create a temporary folder in {}: {error}", parent.display())
        });
        let lock = File::create(inner.path().join(LOCK)).expect("a new folder is writable");
        flock(&lock, FlockOperation::LockExclusive).expect("a new file can be locked");
        Self { inner, _lock: lock }
    }

    /// Creates a folder that every user can enter, for servers that refuse to run as root.
    pub(crate) fn create_open() -> Self {
        let folder = Self::create();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .expect("the creator of a folder may change its permissions");
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

/// Removes the folders that no living process has locked.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
            unmount_leftover(&entry.path());
            // It fails for another user's folder and when another process sweeps the same folder.
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
