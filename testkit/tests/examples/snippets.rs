//! The snippets that the README gives a newcomer for the first event.

use std::fs;

use crate::client::{Client, project};

const SECTION: &str = "\n## Send your first event\n";

/// Each snippet's language, and a client that is the snippet.
///
/// # Panics
/// When the README has no such section, or a language is missing in it.
pub fn first_events() -> Vec<(&'static str, Client)> {
    let readme = fs::read_to_string(project().join("README.md")).expect("there is a README");
    let (_, section) = readme.split_once(SECTION).expect("the README has the section on the first event");
    let section = section.split("\n## ").next().unwrap_or_default();
    let snippet = |language: &str| {
        let (_, rest) = section
            .split_once(&format!("```{language}\n"))
            .unwrap_or_else(|| panic!("the README has no {language} snippet"));
        let (text, _) = rest.split_once("\n```").expect("a snippet ends");
        text
    };
    vec![
        ("curl", Client::script("sh", &["-c"], snippet("sh"))),
        ("Python", Client::script("python3", &["-c"], snippet("python"))),
        ("Node", Client::script("node", &["--input-type=module", "--eval"], snippet("js"))),
    ]
}
