//! Every relative link of a Markdown page leads to a file of the project, and every anchor to a heading in
//! that file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

#[test]
fn every_relative_link_leads_to_a_file_and_to_a_heading() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit is in the project's folder");
    let pages = pages(project);
    assert!(pages.len() > 15, "the pages were not found: {pages:?}");
    let mut complaints = Vec::new();
    let mut links_found = 0;
    for page in &pages {
        let text = fs::read_to_string(project.join(page)).expect("a page can be read");
        for link in links(&text) {
            links_found += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = page.parent().unwrap_or(Path::new(""));
            let target = if path.is_empty() { page.clone() } else { normalized(&folder.join(path)) };
            if !project.join(&target).exists() {
                complaints.push(format!("{}: {link}: there is no such file", page.display()));
            } else if !anchor.is_empty() && target.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(project.join(&target)).expect("a page can be read");
                if !anchors(&text).contains(anchor) {
                    complaints.push(format!("{}: {link}: there is no such heading", page.display()));
                }
            }
        }
    }
    assert!(links_found > 100, "the links were not found");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The Markdown pages that Git knows.
fn pages(project: &Path) -> Vec<PathBuf> {
    let listed =
        Command::new("git").args(["ls-files", "*.md"]).current_dir(project).output().expect("git runs");
    String::from_utf8_lossy(&listed.stdout).lines().map(PathBuf::from).collect()
}

/// The targets of a page's links, those to other sites left out.
fn links(text: &str) -> Vec<String> {
    let prose = without_code(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets.filter(|link| !link.contains("://") && !link.starts_with("mailto:")).map(str::to_owned).collect()
}

/// The anchors that GitHub makes of a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = without_code(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn without_code(text: &str) -> String {
    let mut is_code = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    };
    text.lines().filter(is_prose).collect::<Vec<_>>().join("\n")
}

/// The path with every `..` resolved, without asking the file system.
fn normalized(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normalized.pop()),
            Component::CurDir => {}
            other => normalized.push(other),
        }
    }
    normalized
}

#[test]
fn an_anchor_is_written_as_github_writes_it() {
    assert_eq!(anchor("What is promised, and on which terms"), "what-is-promised-and-on-which-terms");
    assert_eq!(anchor("`millrace` on files"), "millrace-on-files");
}
