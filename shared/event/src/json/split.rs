//! Finds the end of a container in the offsets of its document's structural characters.

/// The index of the offset that closes the bracket at index `opening`.
pub(super) fn closing(raw: &[u8], offsets: &[u32], opening: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, &at) in offsets.iter().enumerate().skip(opening) {
        match raw[at as usize] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}
