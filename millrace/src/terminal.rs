//! The terminal: its width, and whether it shows more than ASCII.

use std::io::{IsTerminal, stdout};

/// Assumed when standard output is not a terminal, or has no width.
const COLUMNS: usize = 80;

/// Columns of the terminal behind standard output.
pub(crate) fn columns() -> usize {
    terminal_size::terminal_size_of(stdout()).map_or(COLUMNS, |(width, _)| usize::from(width.0))
}

/// Whether standard output is a terminal with a UTF-8 locale.
pub(crate) fn shows_utf8() -> bool {
    let variables = ["LC_ALL", "LC_CTYPE", "LANG"].map(|name| std::env::var(name).unwrap_or_default());
    stdout().is_terminal() && is_utf8(&variables)
}

/// The first variable that is set decides.
fn is_utf8(variables: &[String]) -> bool {
    let locale = variables.iter().find(|locale| !locale.is_empty()).map(|locale| locale.to_lowercase());
    locale.is_some_and(|locale| locale.contains("utf-8") || locale.contains("utf8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_locale_that_is_set_decides() {
        let is_utf8 = |variables: [&str; 3]| is_utf8(&variables.map(str::to_owned));
        assert!(is_utf8(["", "", "en_US.UTF-8"]) && is_utf8(["C.utf8", "C", ""]));
        assert!(!is_utf8(["C", "", "en_US.UTF-8"]) && !is_utf8(["", "", ""]));
    }
}
