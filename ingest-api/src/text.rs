//! Text from clients and operators, cut to a length that the status page can hold.

/// Longest name or message on the status page, in bytes.
const TEXT_BYTES_MAX: usize = 300;

/// The beginning of a text, at most 300 bytes, cut between characters.
pub fn clip(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
