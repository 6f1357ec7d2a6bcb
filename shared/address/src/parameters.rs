//! The parameters of a URL.

/// `name=value&name=value`. A part that does not look like a name is left out, because it may belong to a
/// password.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        is_name(name).then(|| (name.to_owned(), value.replace("%20", " ").replace("%3D", "=")))
    })
}

/// Whether the text looks like the name of a scheme or a parameter.
pub fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.');
    (1..=40).contains(&text.len()) && text.bytes().all(is_part)
}
