//! A small disk of one's own, to be filled up.
//!
//! It is a file system in memory, so it is gone with its machine; it serves to run out of space, never to show that
//! something is durable.

use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::folder::Folder;

/// In the folder that belongs to a [`Tmpfs`].
const MOUNT_POINT: &str = "tmpfs";

/// A file system of a fixed size, unmounted when dropped, whoever still uses it.
#[derive(Debug)]
pub struct Tmpfs {
    folder: Folder,
}

/// Why there is none: mounting needs root, and containers often forbid even that.
#[derive(Debug)]
pub struct MountError(String);

impl fmt::Display for MountError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for MountError {}

impl Tmpfs {
    /// Mounts one that holds this many bytes; every user can enter it.
    ///
    /// # Errors
    /// When this machine does not allow it.
    pub fn mount(bytes: u64) -> Result<Self, MountError> {
        let folder = Folder::create_open();
        let place = mount_point(folder.path());
        std::fs::create_dir(&place).expect("a folder can be made in our own");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", &place, "tmpfs", flags, options(bytes).as_c_str()).map_err(|error| {
            MountError(format!("a tmpfs cannot be mounted here ({error}): run as root, with CAP_SYS_ADMIN"))
        })?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        mount_point(self.folder.path())
    }

    /// Gives it another size, which must not be less than what is in it.
    ///
    /// # Panics
    /// When it is.
    pub fn resize(&self, bytes: u64) {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(self.path(), flags, options(bytes).as_c_str())
            .unwrap_or_else(|error| panic!("a tmpfs cannot be given {bytes} bytes: {error}"));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).expect("who may mount may unmount");
    }
}

/// Unmounts what a test process that was killed has left mounted in its folder.
pub(crate) fn sweep(folder: &Path) {
    // Most folders never had one, and not everybody may.
    unmount(mount_point(folder), UnmountFlags::DETACH).ok();
}

fn mount_point(folder: &Path) -> PathBuf {
    folder.join(MOUNT_POINT)
}

fn options(bytes: u64) -> CString {
    CString::new(format!("size={bytes},mode=0755")).expect("a number has no zero byte")
}
