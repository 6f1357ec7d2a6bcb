//! Every relative link of a Markdown page leads to a file of the project, and every anchor to a heading in
//! that file. Every drill and every test that a page cites by name exists.

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

#[test]
fn every_drill_and_every_test_that_a_page_cites_exists() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit is in the project's folder");
    let read = |file: &PathBuf| fs::read_to_string(project.join(file)).expect("a file can be read");
    let code: String = files(project, "*.rs").iter().map(read).collect();
    let drills: String = files(project, "faults/src/drills/*.rs").iter().map(read).collect();
    let (mut complaints, mut found) = (Vec::new(), 0);
    for page in pages(project) {
        let text = without_code(&read(&page));
        let drill_rows = citations(&text, "drill", '*').map(|name| (format!("name: \"{name}\""), &drills));
        let functions = citations(&text, "test", '`').map(|name| (format!("fn {name}("), &code));
        for (expected, place) in drill_rows.chain(functions) {
            found += 1;
            if !place.contains(&expected) {
                complaints.push(format!("{}: there is no {expected}", page.display()));
            }
        }
    }
    assert!(found > 15, "the citations were not found");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The names in lists such as `drills *a*, *b*`, where `mark` is around each name.
fn citations(text: &str, noun: &str, mark: char) -> impl Iterator<Item = String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut names = Vec::new();
    for noun in [format!("{noun} {mark}"), format!("{noun}s {mark}")] {
        for (at, _) in text.match_indices(&noun) {
            let mut rest = &text[at + noun.len()..];
            while let Some((name, after)) = rest.split_once(mark) {
                names.push(name.to_owned());
                let Some(next) = after.strip_prefix(", ").and_then(|next| next.strip_prefix(mark)) else {
                    break;
                };
                rest = next;
            }
        }
    }
    names.into_iter()
}

/// The Markdown pages that Git knows.
fn pages(project: &Path) -> Vec<PathBuf> {
    files(project, "*.md")
}

/// The files that Git knows, of a pattern.
fn files(project: &Path, pattern: &str) -> Vec<PathBuf> {
    let listed =
        Command::new("git").args(["ls-files", pattern]).current_dir(project).output().expect("git runs");
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

#[test]
fn a_list_of_names_is_read_to_its_end_and_emphasis_alone_is_no_citation() {
    let text = "*Nothing* is lost: drills *one two*, *three*, tests `a_b`, `c`; the drill\n *four* and *Redis' word*";
    assert_eq!(citations(text, "drill", '*').collect::<Vec<_>>(), ["four", "one two", "three"]);
    assert_eq!(citations(text, "test", '`').collect::<Vec<_>>(), ["a_b", "c"]);
}
