//! The parameters of a URL.

/// `name=value&name=value`, with percent codes replaced. A part that does not look like a name is left out,
/// because it may belong to a password.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        is_name(name).then(|| (name.to_owned(), percent_decoded(value)))
    })
}

/// Whether the text looks like the name of a scheme or a parameter.
pub fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.');
    (1..=40).contains(&text.len()) && text.bytes().all(is_part)
}

/// The text with `%41` replaced by `A`. What is no code stays as it is.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_codes_are_replaced_and_everything_else_stays() {
        for (text, expected) in
            [("p%40w%3a%25", "p@w:%"), ("100%", "100%"), ("%4", "%4"), ("%zz+%20", "%zz+ "), ("%c3%a9", "é")]
        {
            assert_eq!(percent_decoded(text), expected);
        }
    }
}
