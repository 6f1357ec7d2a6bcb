//! The snippets of the documentation that are programs.

use std::fs;

use crate::client::{Client, project};

/// The README's snippets for the first event: each one's language, and a client that is the snippet.
pub fn first_events() -> Vec<(&'static str, Client)> {
    let section = section("README.md", "Send your first event");
    vec![
        ("curl", Client::script("sh", &["-c"], snippet(&section, "sh"))),
        ("Python", Client::script("python3", &["-c"], snippet(&section, "python"))),
        ("Node", Client::script("node", &["--input-type=module", "--eval"], snippet(&section, "js"))),
    ]
}

/// The shell snippet on the page about HTTP that sends a signed request.
pub fn signed_request() -> Client {
    Client::script("sh", &["-c"], snippet(&section("docs/http-api.md", "Signing"), "sh"))
}

/// The calculation of a signature on the page about HTTP, and the result that the page gives.
pub fn known_signature() -> (Client, String) {
    let section = section("docs/http-api.md", "Signing");
    let text = snippet(&section, "python");
    let promised =
        text.lines().last().and_then(|line| line.strip_prefix("# ")).expect("the result is the last line");
    (Client::script("python3", &["-c"], text), promised.to_owned())
}

/// The text of a section.
///
/// # Panics
/// When the file has no such section.
fn section(file: &str, title: &str) -> String {
    let text = fs::read_to_string(project().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (_, rest) = text
        .split_once(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("{file} has no section {title:?}"));
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

/// The first code block of a language.
///
/// # Panics
/// When there is none.
fn snippet<'a>(section: &'a str, language: &str) -> &'a str {
    let (_, rest) = section
        .split_once(&format!("```{language}\n"))
        .unwrap_or_else(|| panic!("there is no {language} snippet in the section:\n{section}"));
    let (text, _) = rest.split_once("\n```").expect("a snippet ends");
    text
}
