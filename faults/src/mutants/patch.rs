//! Patches in the unified diff format. Line numbers are ignored: the old lines of each hunk must occur
//! exactly once in the file, so a patch survives changes elsewhere in it.

use std::fmt;
use std::path::{Path, PathBuf};

/// A deliberate bug as a change of the product's source.
#[derive(Debug)]
pub struct Patch {
    /// The name of the mutant: that of the file, without its extension.
    pub name: String,
    file: PathBuf,
    hunks: Vec<Hunk>,
}

#[derive(Debug)]
struct Hunk {
    /// Relative to the root of the project.
    target: PathBuf,
    old: String,
    new: String,
}

impl Patch {
    /// All patches of a folder, by name.
    ///
    /// # Errors
    /// [`PatchError`] when a file cannot be read or contains no hunk.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, PatchError> {
        let failed = |error| PatchError::new(folder, format!("cannot be read: {error}"));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "patch") {
                files.push(file);
            }
        }
        files.sort();
        files.into_iter().map(Self::read).collect()
    }

    fn read(file: PathBuf) -> Result<Self, PatchError> {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| PatchError::new(&file, format!("cannot be read: {error}")))?;
        let hunks = hunks(&text);
        if hunks.is_empty() {
            return Err(PatchError::new(&file, "contains no hunk of a unified diff".to_owned()));
        }
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, file, hunks })
    }

    /// The files that it changes, relative to the root of the project.
    pub fn targets(&self) -> impl Iterator<Item = &Path> {
        self.hunks.iter().map(|hunk| hunk.target.as_path())
    }

    /// The new lines of all hunks.
    pub fn added(&self) -> String {
        self.hunks.iter().map(|hunk| hunk.new.as_str()).collect()
    }

    /// Changes the files below `root`.
    ///
    /// # Errors
    /// [`PatchError`] when the old lines of a hunk do not occur exactly once.
    pub fn apply(&self, root: &Path) -> Result<(), PatchError> {
        for hunk in &self.hunks {
            let target = root.join(&hunk.target);
            let failed = |error| self.error(hunk, &format!("cannot be changed: {error}"));
            let text = std::fs::read_to_string(&target).map_err(failed)?;
            let changed = self.changed(hunk, &text)?;
            std::fs::write(&target, changed).map_err(failed)?;
        }
        Ok(())
    }

    fn changed(&self, hunk: &Hunk, text: &str) -> Result<String, PatchError> {
        let begins_line = |at: usize| at == 0 || text.as_bytes()[at - 1] == b'\n';
        let matches: Vec<_> =
            text.match_indices(&hunk.old).map(|(at, _)| at).filter(|at| begins_line(*at)).collect();
        match matches[..] {
            [at] => Ok([&text[..at], &hunk.new, &text[at + hunk.old.len()..]].concat()),
            [] => Err(self.error(hunk, "does not contain the old lines")),
            _ => Err(self.error(hunk, "contains the old lines more than once")),
        }
    }

    fn error(&self, hunk: &Hunk, problem: &str) -> PatchError {
        let Hunk { target, old, .. } = hunk;
        PatchError::new(
            &self.file,
            format!("{} {problem}:\n{old}update the patch to match the product", target.display()),
        )
    }
}

/// Everything before the first `---` is a description.
fn hunks(text: &str) -> Vec<Hunk> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut target = None;
    for line in text.lines() {
        if line.starts_with("--- ") {
            target = None;
        } else if let Some(path) = line.strip_prefix("+++ ") {
            target = Some(PathBuf::from(path.strip_prefix("b/").unwrap_or(path)));
        } else if let Some(target) = &target {
            if line.starts_with("@@") {
                hunks.push(Hunk { target: target.clone(), old: String::new(), new: String::new() });
            } else if let Some(hunk) = hunks.last_mut() {
                hunk.push(line);
            }
        }
    }
    hunks
}

impl Hunk {
    fn push(&mut self, line: &str) {
        // Editors strip the space of an empty context line.
        let (kind, content) = line.split_at_checked(1).unwrap_or((" ", ""));
        for side in match kind {
            "-" => vec![&mut self.old],
            "+" => vec![&mut self.new],
            _ => vec![&mut self.old, &mut self.new],
        } {
            side.push_str(content);
            side.push('\n');
        }
    }
}

/// A patch that cannot be used. The text names the file that must be updated.
#[derive(Debug)]
pub struct PatchError {
    file: PathBuf,
    problem: String,
}

impl PatchError {
    fn new(file: &Path, problem: String) -> Self {
        Self { file: file.to_owned(), problem }
    }
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problem)
    }
}

impl std::error::Error for PatchError {}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "Why.\n\n--- a/x.rs\n+++ b/x.rs\n@@ -7,2 +7,3 @@\n one\n-two\n+2\n+3\n";

    fn patch() -> Patch {
        Patch { name: "test".to_owned(), file: PathBuf::from("test.patch"), hunks: hunks(DIFF) }
    }

    fn applied_to(text: &str) -> Result<String, PatchError> {
        let patch = patch();
        patch.changed(&patch.hunks[0], text)
    }

    #[test]
    fn a_hunk_applies_wherever_its_old_lines_are() {
        assert_eq!(applied_to("zero\none\ntwo\nthree\n").unwrap(), "zero\none\n2\n3\nthree\n");
        assert_eq!(applied_to("one\ntwo\n").unwrap(), "one\n2\n3\n");
    }

    #[test]
    fn a_patch_that_no_longer_fits_names_itself_and_the_file() {
        for text in ["one\n", "one\ntwo\none\ntwo\n", "everyone\ntwo\n"] {
            let error = applied_to(text).unwrap_err().to_string();
            assert!(error.contains("test.patch") && error.contains("x.rs"), "{text:?}: {error}");
        }
    }
}
