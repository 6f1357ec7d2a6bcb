//! A small disk that a test can fill up.
//!
//! It is a file system in memory. Use it to run out of space, never to show that something is durable.

use std::ffi::CString;
use std::fmt;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::folder::Folder;
use crate::mount_point::mount_point;

/// A file system of a fixed size. Dropping it unmounts it, even when a process still uses it.
#[derive(Debug)]
pub struct Tmpfs {
    folder: Folder,
}

/// Mounting failed: it needs root, and containers often forbid it even to root.
#[derive(Debug)]
pub struct MountError(String);

impl fmt::Display for MountError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for MountError {}

impl Tmpfs {
    /// Mounts a tmpfs of this many bytes. Every user can enter it.
    ///
    /// # Errors
    /// When this machine does not allow mounting.
    pub fn mount(bytes: u64) -> Result<Self, MountError> {
        let folder = Folder::create_open();
        let target = mount_point(folder.path());
        std::fs::create_dir(&target).expect("a new folder is writable");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", &target, "tmpfs", flags, options(bytes).as_c_str()).map_err(|error| {
            MountError(format!("cannot mount a tmpfs ({error}): run as root with CAP_SYS_ADMIN"))
        })?;
        Ok(Self { folder })
    }

    pub fn path(&self) -> PathBuf {
        mount_point(self.folder.path())
    }

    /// Changes the size.
    ///
    /// # Panics
    /// When the files need more than `bytes`.
    pub fn resize(&self, bytes: u64) {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(self.path(), flags, options(bytes).as_c_str())
            .unwrap_or_else(|error| panic!("cannot resize the tmpfs to {bytes} bytes: {error}"));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).expect("the user that mounted may unmount");
    }
}

fn options(bytes: u64) -> CString {
    CString::new(format!("size={bytes},mode=0755")).expect("a number has no zero byte")
}
