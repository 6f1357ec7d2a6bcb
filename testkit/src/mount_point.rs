//! The place inside a server's folder where a tmpfs is mounted, and its removal.

use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

const NAME: &str = "tmpfs";

pub(crate) fn mount_point(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Unmounts the tmpfs that a killed test process has left in its folder.
pub(crate) fn unmount_leftover(folder: &Path) {
    // It fails for most folders, which never had a tmpfs, and for users who may not unmount.
    unmount(mount_point(folder), UnmountFlags::DETACH).ok();
}
