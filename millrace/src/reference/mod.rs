//! The pages of the documentation that are made from the command lines of the programs, and the test that
//! they are current.
//!
//! After a change of a setting or a command: `UPDATE_DOCS=1 cargo test -p millrace --bin millrace reference`.

mod commands;
mod configuration;
mod text;

use std::path::Path;

const UPDATE: &str = "UPDATE_DOCS=1 cargo test -p millrace --bin millrace reference";

#[test]
fn the_page_of_the_settings_is_current() {
    is_current("configuration.md", &configuration::page());
}

#[test]
fn the_page_of_the_commands_is_current() {
    is_current("cli.md", &commands::page());
}

/// Compares a page with the file, or writes the file when `UPDATE_DOCS` is set.
fn is_current(name: &str, page: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, page).expect("the documentation can be written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let difference = page.lines().zip(written.lines()).find(|(page, written)| page != written);
    assert!(
        page == written,
        "docs/{name} does not match the programs. To update it: {UPDATE}\nfirst difference: {difference:#?}"
    );
}
