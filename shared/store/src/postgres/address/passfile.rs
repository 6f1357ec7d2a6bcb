//! The password file of libpq: `HOST:PORT:DATABASE:USER:PASSWORD` in each line.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What a line must match.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password of the first line that matches. A file that does not exist has none. One that others may read
/// is not used, and the log says so.
pub(super) fn password(path: &Path, wanted: Wanted<'_>) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let shown = path.display();
    if !metadata.is_file() {
        tracing::warn!("the password file {shown} is not used, because it is not a plain file");
        return None;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            "the password file {shown} is not used, because others may read it: run chmod 600 {shown}"
        );
        return None;
    }
    match std::fs::read_to_string(path) {
        Ok(text) => find(&text, wanted),
        Err(error) => {
            tracing::warn!(%error, "the password file {shown} cannot be read");
            None
        }
    }
}

fn find(text: &str, wanted: Wanted<'_>) -> Option<String> {
    let port = wanted.port.to_string();
    let keys = [wanted.host, &port, wanted.database, wanted.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for key in keys {
            let (field, after) = field(rest)?;
            if field != "*" && unescaped(field) != key {
                return None;
            }
            rest = after;
        }
        Some(unescaped(rest)).filter(|password| !password.is_empty())
    })
}

/// The text up to the next colon without a backslash, and the text after it.
fn field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            ':' if !escaped => return Some((&text[..at], &text[at + 1..])),
            character => escaped = character == '\\' && !escaped,
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' { characters.next().unwrap_or('\\') } else { character });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\n\
                        h:5432:d:u:exact\n\
                        h:*:*:u:any\\:port\n\
                        short:line\n\
                        \\:\\:1:5432:*:*:six\\\\\n\
                        /run/pg:*:*:*:socket\n\
                        *:*:*:last:p a s s\n";

    #[test]
    fn the_first_line_that_matches_counts_with_its_wildcards_and_escapes() {
        for ((host, port, database, user), expected) in [
            (("h", 5432, "d", "u"), Some("exact")),
            (("h", 5433, "d", "u"), Some("any:port")),
            (("h", 5432, "e", "u"), Some("any:port")),
            (("::1", 5432, "e", "x"), Some("six\\")),
            (("/run/pg", 1, "e", "x"), Some("socket")),
            (("other", 1, "e", "last"), Some("p a s s")),
            (("other", 1, "e", "x"), None),
        ] {
            let wanted = Wanted { host, port, database, user };
            assert_eq!(find(FILE, wanted).as_deref(), expected, "{host} {port} {database} {user}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        let wanted = Wanted { host: "h", port: 1, database: "d", user: "u" };
        for (mode, expected) in
            [(0o600, Some("secret")), (0o640, None), (0o604, None), (0o400, Some("secret"))]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(password(&path, wanted).as_deref(), expected, "{mode:o}");
        }
    }
}
