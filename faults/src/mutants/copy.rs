//! A copy of the project's source. A file that has not changed is not written again, so that Cargo does not
//! rebuild it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// The folders of the project that a build of the product reads. Others may contain data of a developer.
const FOLDERS: [&str; 8] =
    ["bench", "faults", "ingest-api", "millrace", "shared", "sql", "stream-worker", "testkit"];
/// The files next to them.
const FILES: [&str; 3] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];
/// Folders at any depth that are not source.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// The files that a build needs, relative to the root of the project.
fn files(root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found: BTreeSet<_> =
        FILES.into_iter().map(PathBuf::from).filter(|file| root.join(file).is_file()).collect();
    for folder in FOLDERS.map(Path::new).into_iter().filter(|folder| root.join(folder).is_dir()) {
        collect(root, folder, &mut found)?;
    }
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let is_skipped =
            name.to_string_lossy().starts_with('.') || SKIPPED.iter().any(|skipped| name == *skipped);
        let path = folder.join(&name);
        if kind.is_dir() && !is_skipped {
            collect(root, &path, found)?;
        } else if kind.is_file() {
            found.insert(path);
        }
    }
    Ok(())
}

/// Makes `target` contain exactly the files of `source`.
pub(super) fn mirror(source: &Path, target: &Path) -> io::Result<()> {
    std::fs::create_dir_all(target)?;
    let wanted = files(source)?;
    for surplus in files(target)?.difference(&wanted) {
        std::fs::remove_file(target.join(surplus))?;
    }
    for file in &wanted {
        let (content, copy) = (std::fs::read(source.join(file))?, target.join(file));
        if std::fs::read(&copy).is_ok_and(|old| old == content) {
            continue;
        }
        std::fs::create_dir_all(copy.parent().expect("a file is in a folder"))?;
        std::fs::write(copy, content)?;
    }
    Ok(())
}
