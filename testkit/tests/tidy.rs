//! The style of the house, as far as a program can judge it.

use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this can no longer be held in the head.
const LINES_MAX: usize = 400;
/// Folders and files that hold nothing we wrote. The checksums of a lock file spell any word at all.
const NOT_OURS: &[&str] =
    &["target", ".git", ".test", ".build", "node_modules", "__pycache__", "Cargo.lock", "package-lock.json"];

/// Written in halves, so that this file passes its own test.
fn forbidden() -> Vec<(String, &'static str)> {
    let words = [
        ("TO", "DO", "finish it, or write down in ARCHITECTURE.md that it is absent on purpose"),
        ("FIX", "ME", "fix it"),
        ("XX", "X", "say what is meant"),
        ("db", "g!(", "a log line says it better"),
        ("/wo", "rk/", "a path of one machine"),
        ("/ro", "ot/", "a path of one machine"),
        ("/ho", "me/", "a path of one machine"),
    ];
    words.iter().map(|(head, tail, reason)| (format!("{head}{tail}"), *reason)).collect()
}

#[test]
fn no_source_file_is_too_long_to_be_held_in_the_head() {
    let complaints = complaints(|file, text| {
        let lines = text.lines().count();
        (is_rust(file) && lines > LINES_MAX).then(|| format!("{lines} lines, {LINES_MAX} are the limit"))
    });
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn every_module_begins_by_saying_what_it_is() {
    let complaints = complaints(|file, text| {
        (is_rust(file) && !text.starts_with("//! ")).then(|| "does not begin with //!".to_owned())
    });
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn no_file_has_a_forbidden_word() {
    let forbidden = forbidden();
    let complaints = complaints(|_, text| {
        let (word, reason) = forbidden.iter().find(|(word, _)| text.contains(word))?;
        Some(format!("{word:?}: {reason}"))
    });
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn no_program_unwraps() {
    let complaints = complaints(|file, text| {
        let is_program = is_rust(file) && file.components().any(|part| part.as_os_str() == "src");
        // Unit tests stand last in a file.
        let program = text.split("#[cfg(test)]").next().unwrap_or_default();
        let found = program.lines().position(|line| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains(".unwrap()")
        });
        found.filter(|_| is_program).map(|line| format!("line {}: expect(\"why it cannot fail\")", line + 1))
    });
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn every_setting_stands_in_the_readme() {
    let readme = fs::read_to_string(project().join("README.md")).expect("there is a README");
    let complaints = complaints(|file, text| {
        let settings = text.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next());
        let missing: Vec<_> = settings.filter(|setting| !readme.contains(&format!("`{setting}`"))).collect();
        (is_rust(file) && !missing.is_empty()).then(|| format!("README.md does not tell of {missing:?}"))
    });
    assert_eq!(complaints, Vec::<String>::new());
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit lies in the project")
}

/// What a rule has to say of every text file of the project.
fn complaints(rule: impl Fn(&Path, &str) -> Option<String>) -> Vec<String> {
    let project = project();
    let mut files = Vec::new();
    collect(project, &mut files);
    assert!(files.iter().filter(|file| is_rust(file)).count() > 20, "the project's sources were not found");
    let judge = |file: &PathBuf| {
        let text = fs::read_to_string(file).ok()?;
        let shown = file.strip_prefix(project).unwrap_or(file).display().to_string();
        rule(file, &text).map(|complaint| format!("{shown}: {complaint}"))
    };
    files.iter().filter_map(judge).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project can be read").flatten() {
        let path = entry.path();
        let is_ours = !NOT_OURS.iter().any(|name| entry.file_name() == *name);
        if path.is_dir() && is_ours {
            collect(&path, files);
        } else if path.is_file() && is_ours {
            files.push(path);
        }
    }
}
