//! A copy of the project's source. A file that has not changed is not written again, so that Cargo does not
//! rebuild it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Folders that are no source.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// Every file of the project, relative to its root.
pub(super) fn files(root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    collect(root, Path::new(""), &mut found)?;
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
