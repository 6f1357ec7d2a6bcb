//! Rules for the text of the sources, as far as a program can check them.

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a source file.
const LINES_MAX: usize = 400;
/// The most lines of README.md.
const README_LINES_MAX: usize = 200;
/// The most columns of a comment, which rustfmt does not wrap. The same as `max_width` in rustfmt.toml.
const COMMENT_COLUMNS_MAX: usize = 110;
/// Folders and files with generated or foreign text. The checksums of a lock file can spell any word.
const SKIPPED: &[&str] =
    &["target", ".git", ".test", ".build", "node_modules", "__pycache__", "Cargo.lock", "package-lock.json"];

/// Kinds of files with prose, by extension.
const PROSE: &[&str] =
    &["rs", "md", "lua", "sql", "py", "ts", "tsx", "js", "mjs", "html", "sh", "yml", "yaml", "toml"];
/// Migrations that were released. Their checksums are stored, so their text cannot change.
const RELEASED_MIGRATIONS: &[&str] = &["0001_", "0002_", "0003_"];

/// Written in halves, so that this file passes its own test.
fn forbidden() -> Vec<(String, &'static str)> {
    let words = [
        ("TO", "DO", "finish it, or write down in ARCHITECTURE.md that it is absent on purpose"),
        ("FIX", "ME", "fix it"),
        ("XX", "X", "say what you mean"),
        ("db", "g!(", "use a log line"),
        ("/wo", "rk/", "a path of one machine"),
        ("/ro", "ot/", "a path of one machine"),
        ("/ho", "me/", "a path of one machine"),
    ];
    words.iter().map(|(head, tail, reason)| (format!("{head}{tail}"), *reason)).collect()
}

/// Archaic and ambiguous words, in halves, with plain ones to use instead. A `*` matches the rest of a word.
const REFUSED: &[(&str, &str, &str)] = &[
    ("no", "body", "no one, no process"),
    ("who", "ever", "the client that, any process that"),
    ("whom", "ever", "anyone whom"),
    ("what", "ever", "any"),
    ("an", "ew", "again"),
    ("for", " ever", "forever, indefinitely"),
    ("me", "nd", "fix, repair"),
    ("me", "nds", "fixes, repairs"),
    ("me", "nded", "fixed, repaired"),
    ("me", "nding", "fixing, repairing"),
    ("be", "side", "next to"),
    ("of", " ours", "our"),
    ("goes", " on", "continues"),
    ("go", " on", "continue"),
    ("is", " told", "receives, learns"),
    ("are", " told", "receive, learn"),
    ("le", "st", "so that … not"),
    ("whi", "lst", "while"),
    ("hith", "erto", "until now"),
    ("hence", "forth", "from now on"),
    ("when", "ce", "from where"),
    ("there", "of", "of it"),
    ("there", "in", "in it"),
    ("bu", "ry", "dead-letter, hide"),
    ("bu", "ries", "dead-letters, hides"),
    ("bu", "ried", "dead-lettered, hidden"),
    ("cond", "emn*", "reject"),
    ("acq", "uit*", "clear"),
    ("conv", "ict*", "count against, reject"),
    ("do", "om*", "fail"),
    ("per", "ish*", "end, be lost"),
];

#[test]
fn no_source_file_has_more_than_400_lines() {
    let complaints = complaints(|file, text| {
        let lines = text.lines().count();
        (is_rust(file) && lines > LINES_MAX).then(|| vec![format!("{lines} lines; split it by concept")])
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_readme_has_at_most_200_lines() {
    let readme = fs::read_to_string(project().join("README.md")).expect("there is a README");
    let lines = readme.lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines; move details to docs/");
}

#[test]
fn every_module_begins_with_a_comment_that_says_what_it_is() {
    let complaints = complaints(|file, text| {
        (is_rust(file) && !text.starts_with("//! ")).then(|| vec!["does not begin with //!".to_owned()])
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn no_comment_is_wider_than_110_columns() {
    let complaints = complaints(|file, text| {
        let is_wide =
            |line: &str| line.trim_start().starts_with("//") && line.chars().count() > COMMENT_COLUMNS_MAX;
        let wide = text.lines().enumerate().filter(|(_, line)| is_wide(line));
        let shown =
            |(index, line): (usize, &str)| format!("line {}: {} columns", index + 1, line.chars().count());
        is_rust(file).then(|| wide.map(shown).collect())
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn no_file_contains_a_forbidden_text() {
    let forbidden = forbidden();
    let complaints = complaints(|_, text| {
        let found = forbidden.iter().filter(|(word, _)| text.contains(word));
        Some(found.map(|(word, reason)| format!("{word:?}: {reason}")).collect())
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn no_file_contains_a_refused_word() {
    let refused = refused();
    let complaints = complaints(|file, text| {
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_released =
            extension == "sql" && RELEASED_MIGRATIONS.iter().any(|start| name.starts_with(start));
        (PROSE.contains(&extension) && !is_released).then(|| refused_in(text, &refused))
    });
    assert!(complaints.is_empty(), "{} in all:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn refused_words_are_found_in_prose_in_names_and_across_lines() {
    let refused = refused();
    let lines = |text: &str| refused_in(text, &refused).len();
    for (head, tail, _) in REFUSED {
        let word = format!("{head}{tail}").replace('*', "");
        assert_eq!(lines(&format!("x {} y", word.to_uppercase())), 1, "{word}");
        assert_eq!(lines(&format!("fn a_{}_b()", word.replace(' ', "_"))), 1, "{word}");
        assert_eq!(lines(&format!("/// x {}", word.replace(' ', "\n    /// "))), 1, "{word}");
        assert_eq!(lines(&format!("x{word}")), 0, "a part of another word");
    }
    assert_eq!(lines("is it told; go, on; for every; there in a list"), 0);
}

#[test]
fn no_log_line_repeats_its_field_in_its_text() {
    let complaints = complaints(|file, text| {
        if !is_rust(file) {
            return None;
        }
        let repeats = |log: &&str| {
            let end = log.find(");").unwrap_or(log.len());
            ["error", "reason", "message", "faults"].iter().any(|field| {
                let (log, shown) = (&log[..end], format!("{{{field}}}"));
                log.contains(&shown)
                    && (log.contains(&format!("%{field}")) || log.contains(&format!("?{field}")))
            })
        };
        let logs = text.split("tracing::").skip(1).filter(repeats);
        Some(
            logs.map(|log| format!("a log line shows a field twice: {}", log.lines().next().unwrap_or(log)))
                .collect(),
        )
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn no_program_unwraps() {
    let complaints = complaints(|file, text| {
        let is_program = is_rust(file) && file.components().any(|part| part.as_os_str() == "src");
        // Unit tests are at the end of a file.
        let program = text.split("#[cfg(test)]").next().unwrap_or_default();
        let unwraps = program.lines().enumerate().filter(|(_, line)| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains(".unwrap()")
        });
        let shown = |(index, _)| format!("line {}: use expect(\"why it cannot fail\")", index + 1);
        is_program.then(|| unwraps.map(shown).collect())
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// A refused phrase: its words, whether the last one is only the start of a word, and what to write instead.
struct RefusedPhrase {
    words: Vec<String>,
    is_prefix: bool,
    instead: &'static str,
}

fn refused() -> Vec<RefusedPhrase> {
    let phrase = |(head, tail, instead): &(&str, &str, &'static str)| {
        let text = format!("{head}{tail}");
        let words = text.trim_end_matches('*').split(' ').map(str::to_owned).collect();
        RefusedPhrase { words, is_prefix: text.ends_with('*'), instead }
    };
    REFUSED.iter().map(phrase).collect()
}

/// Each refused phrase in a text, with its line. A phrase may be part of a name, and may continue on the next
/// line.
fn refused_in(text: &str, refused: &[RefusedPhrase]) -> Vec<String> {
    let text = text.to_lowercase();
    let words = words(&text);
    let mut found = Vec::new();
    for (index, &(start, word)) in words.iter().enumerate() {
        for phrase in refused {
            let rest = &words[index..];
            if !phrase.begins(&text, rest) {
                continue;
            }
            let line = 1 + text[..start].matches('\n').count();
            found.push(format!("line {line}: {:?}; write {}", word_or_phrase(word, phrase), phrase.instead));
        }
    }
    found
}

fn word_or_phrase(word: &str, phrase: &RefusedPhrase) -> String {
    if phrase.words.len() == 1 { word.to_owned() } else { phrase.words.join(" ") }
}

impl RefusedPhrase {
    /// Whether these words of a text begin with the phrase, with nothing but spaces and comment marks in
    /// between.
    fn begins(&self, text: &str, words: &[(usize, &str)]) -> bool {
        if words.len() < self.words.len() {
            return false;
        }
        let is_same = |(expected, (_, word)): (&String, &(usize, &str))| {
            if self.is_prefix { word.starts_with(expected.as_str()) } else { word == expected }
        };
        let is_separator = |c: char| c.is_whitespace() || "_-/!#*>".contains(c);
        let are_close = words[..self.words.len()].windows(2).all(|pair| {
            let end = pair[0].0 + pair[0].1.len();
            text[end..pair[1].0].chars().all(is_separator)
        });
        self.words.iter().zip(words).all(is_same) && are_close
    }
}

/// The words of a text, with their positions.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (position, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_alphabetic(), start) {
            (true, None) => start = Some(position),
            (false, Some(begin)) => {
                words.push((begin, &text[begin..position]));
                start = None;
            }
            _ => {}
        }
    }
    words
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit is in the project")
}

/// The complaints of a rule about the text files of the project. The rule returns `None` for files that it
/// does not check.
fn complaints(rule: impl Fn(&Path, &str) -> Option<Vec<String>>) -> Vec<String> {
    let project = project();
    let mut files = Vec::new();
    collect(project, &mut files);
    assert!(files.iter().filter(|file| is_rust(file)).count() > 20, "the project's sources were not found");
    let check = |file: &PathBuf| {
        let text = fs::read_to_string(file).ok()?;
        let name = file.strip_prefix(project).unwrap_or(file).display().to_string();
        let complaints = rule(Path::new(&name), &text)?;
        Some(complaints.into_iter().map(|complaint| format!("{name}: {complaint}")).collect::<Vec<_>>())
    };
    files.iter().filter_map(check).flatten().collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project can be read").flatten() {
        let path = entry.path();
        let is_checked = !SKIPPED.iter().any(|name| entry.file_name() == *name);
        if path.is_dir() && is_checked {
            collect(&path, files);
        } else if path.is_file() && is_checked {
            files.push(path);
        }
    }
}
