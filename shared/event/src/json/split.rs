//! Cuts a body that the parser has refused into its events, by brackets alone.

/// The byte ranges of the elements of an array, found by brackets without checking the grammar, so that the
/// invalid element can be found.
///
/// `envelope` names the member of a root object that holds the array; a root array is taken as it is. `None`
/// if there is no such array.
pub fn element_ranges(
    raw: &[u8],
    offsets: &[u32],
    envelope: Option<&str>,
) -> Option<Vec<std::ops::Range<usize>>> {
    let byte = |index: usize| offsets.get(index).map(|at| raw[*at as usize]);
    let opening = match byte(0)? {
        b'[' => 0,
        b'{' => array_of_member(raw, offsets, envelope?)?,
        _ => return None,
    };
    let mut ranges = Vec::new();
    let mut index = opening + 1;
    while byte(index)? != b']' {
        let start = offsets[index] as usize;
        let last = if matches!(byte(index)?, b'{' | b'[') { closing(raw, offsets, index)? } else { index };
        let end = *offsets.get(last + 1)? as usize;
        ranges.push(start..start + raw[start..end].trim_ascii_end().len());
        index = match byte(last + 1)? {
            b',' => last + 2,
            b']' => last + 1,
            _ => return None,
        };
    }
    Some(ranges)
}

/// The index of the offset that opens the array of a root object's member.
fn array_of_member(raw: &[u8], offsets: &[u32], member: &str) -> Option<usize> {
    let mut index = 1;
    let mut depth = 1_usize;
    while depth > 0 {
        let at = *offsets.get(index)? as usize;
        match raw[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' if depth == 1 => {
                let name = raw[at + 1..].get(..member.len() + 1)?;
                let named = &name[..member.len()] == member.as_bytes() && name[member.len()] == b'"';
                let opens = offsets.get(index + 2).is_some_and(|at| raw[*at as usize] == b'[');
                if named && opens && raw[*offsets.get(index + 1)? as usize] == b':' {
                    return Some(index + 2);
                }
            }
            _ => {}
        }
        index += 1;
    }
    None
}

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
