//! Help texts as sentences of a page.

use clap::Arg;

/// The first line of every generated page.
pub(super) const NOTICE: &str = "<!-- Made from the programs. Do not edit: run \
                                 `UPDATE_DOCS=1 cargo test -p millrace --bin millrace reference`. -->";
/// The width of generated prose.
const COLUMNS: usize = 120;

/// The help of an argument, as a sentence.
pub(super) fn sentence(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string);
    let help = help.unwrap_or_else(|| panic!("{arg} has no help"));
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}.", help.trim_end_matches('.'))
}

/// Paragraphs, wrapped.
pub(super) fn wrapped(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let mut lines = vec![String::new()];
        for word in paragraph.split_whitespace() {
            let last = lines.last_mut().expect("there is a line");
            if last.is_empty() {
                last.push_str(word);
            } else if last.chars().count() + 1 + word.chars().count() <= COLUMNS {
                last.push_str(&format!(" {word}"));
            } else {
                lines.push(word.to_owned());
            }
        }
        lines.join("\n")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
