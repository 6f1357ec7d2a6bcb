//! Reads a URL, or `name=value` pairs, into the parameters of libpq.

use millrace_address::{is_name, percent_decoded, query_pairs};

pub(super) const FORM: &str = "expected postgres://USER:PASSWORD@HOST:PORT/DATABASE";
const ESCAPE: &str =
    "write special characters in the password as percent codes, such as %40 for @ and %3F for ?";

pub(super) type Pairs = Vec<(String, String)>;

/// The parameters of a URL or of `name=value` pairs. A later value of a name replaces an earlier one.
///
/// # Errors
/// When the text is neither. Never repeats a part of it.
pub(super) fn parse(text: &str) -> Result<Pairs, String> {
    match text.split_once("://") {
        Some(("postgres" | "postgresql", rest)) => of_url(rest),
        // A value may contain the characters.
        Some((before, _)) if !before.contains('=') => {
            Err(format!("{FORM}: it does not begin with postgres://"))
        }
        _ => of_words(text),
    }
}

fn of_url(rest: &str) -> Result<Pairs, String> {
    let (user, after_user) = rest.split_once('@').map_or((None, rest), |(user, after)| (Some(user), after));
    let (place, query) = after_user.split_once('?').unwrap_or((after_user, ""));
    if query.contains('@') {
        return Err(format!("{FORM}: {ESCAPE}"));
    }
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    let mut pairs = Pairs::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            pairs.push((name.to_owned(), value));
        }
    };
    if let Some(user) = user {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        add("user", percent_decoded(name));
        add("password", percent_decoded(password));
    }
    let places: Vec<(&str, &str)> = hosts.split(',').map(host_and_port).collect();
    let join =
        |parts: Vec<String>| if parts.iter().all(String::is_empty) { String::new() } else { parts.join(",") };
    add("host", join(places.iter().map(|(host, _)| percent_decoded(host)).collect()));
    add("port", join(places.iter().map(|(_, port)| (*port).to_owned()).collect()));
    add("dbname", percent_decoded(database));
    pairs.extend(query_pairs(query));
    Ok(pairs)
}

/// `HOST:PORT` or `[HOST]:PORT`.
fn host_and_port(text: &str) -> (&str, &str) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return (host, rest.strip_prefix(':').unwrap_or(rest));
    }
    text.split_once(':').unwrap_or((text, ""))
}

/// `name=value name='value'`, where a backslash escapes the next character.
fn of_words(text: &str) -> Result<Pairs, String> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(FORM)?;
        let name = name.trim();
        if !is_name(name) {
            return Err(FORM.to_owned());
        }
        let (value, left) =
            word(after.trim_start()).ok_or_else(|| format!("{FORM}: a quote is not closed"))?;
        pairs.push((name.to_owned(), value));
        rest = left.trim_start();
    }
    Ok(pairs)
}

/// The first value and the text after it. `None` when a quote is not closed.
fn word(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            space if !quoted && space.is_whitespace() => return Some((value, &text[at..])),
            other => value.push(other),
        }
    }
    (!quoted).then_some((value, ""))
}

/// The pairs as a text that the client library parses.
pub(super) fn to_words<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    pairs.map(|(name, value)| format!("{name}='{}' ", quoted(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let pairs = parse(text).expect(text);
        pairs.iter().map(|(name, value)| format!("{name}={value};")).collect()
    }

    #[test]
    fn a_url_and_pairs_are_read_as_libpq_reads_them() {
        for (text, expected) in [
            ("postgres://u:p%40%3A@h:1/d", "user=u;password=p@:;host=h;port=1;dbname=d;"),
            (
                "postgresql://h1:1,[::1]:2,h3/d?sslmode=require",
                "host=h1,::1,h3;port=1,2,;dbname=d;sslmode=require;",
            ),
            ("postgres://%2Frun%2Fpg/d", "host=/run/pg;dbname=d;"),
            (
                "postgres:///d?host=/run/pg&options=-c%20jit%3Doff",
                "dbname=d;host=/run/pg;options=-c jit=off;",
            ),
            ("host=h user = u password='a\\'b c' port=1", "host=h;user=u;password=a'b c;port=1;"),
            (r"password=a\ b host=http://x", "password=a b;host=http://x;"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_neither_a_url_nor_pairs_is_refused_without_repeating_it() {
        for text in ["er2", "host='er2", "hunt://er2@h/d", "a b=er2", "postgres://u:p@hunt?er2=x@h/d"] {
            let refused = parse(text).expect_err(text);
            assert!(refused.starts_with(FORM) && !refused.contains("er2"), "{refused}");
        }
    }

    #[test]
    fn a_value_survives_the_way_to_the_client_library() {
        let words = to_words([("user", r"a'b\c d"), ("host", "h")].into_iter());
        assert_eq!(shown(&words), r"user=a'b\c d;host=h;");
    }
}
