//! Reads letters from the store in pages and chunks, so that there may be any number of them.

use indicatif::{ProgressBar, ProgressStyle};
use millrace_store::{DeadLetter, LetterFilter, Store};

use crate::failure::Failure;

/// Letters in one page.
const PAGE: u32 = 500;
/// Limits of a chunk, unless it is a single letter: its transaction must be short, and Ctrl-C must undo
/// little.
const CHUNK_LETTERS: usize = 500;
const CHUNK_EVENTS: u64 = 5_000;
const CHUNK_BYTES: u64 = 16 << 20;

/// Passes the letters that match the filter to `take`, at most `limit`, newest first and in pages. Letters
/// that are added meanwhile are not among them.
pub(super) async fn each_page(
    store: &dyn Store,
    filter: &LetterFilter,
    limit: usize,
    mut take: impl AsyncFnMut(&[DeadLetter]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut before, mut left) = (None, limit);
    while left > 0 {
        let most = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE);
        let page = store.dead_letters(filter, before, most).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        left -= page.len();
        take(&page).await?;
    }
    Ok(())
}

/// As [`each_page`], in chunks that fit into one transaction, with a progress bar.
pub(super) async fn each_chunk(
    store: &dyn Store,
    filter: &LetterFilter,
    limit: usize,
    mut take: impl AsyncFnMut(&[DeadLetter]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut letters = 0;
    each_page(store, filter, limit, async |page| {
        letters += page.len();
        Ok(())
    })
    .await?;
    let progress = progress(letters);
    each_page(store, filter, limit, async |page| {
        for chunk in chunks(page) {
            take(chunk).await?;
            progress.inc(chunk.len() as u64);
        }
        Ok(())
    })
    .await?;
    progress.finish_and_clear();
    Ok(())
}

pub(super) fn ids(letters: &[DeadLetter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.id).collect()
}

fn chunks(letters: &[DeadLetter]) -> Vec<&[DeadLetter]> {
    let mut chunks = Vec::new();
    let (mut start, mut events, mut bytes) = (0, 0_u64, 0_u64);
    for (index, letter) in letters.iter().enumerate() {
        events = events.saturating_add(letter.event_count);
        bytes = bytes.saturating_add(letter.payload_bytes);
        let is_full = index - start >= CHUNK_LETTERS || events > CHUNK_EVENTS || bytes > CHUNK_BYTES;
        if index > start && is_full {
            chunks.push(&letters[start..index]);
            (start, events, bytes) = (index, letter.event_count, letter.payload_bytes);
        }
    }
    if start < letters.len() {
        chunks.push(&letters[start..]);
    }
    chunks
}

/// Drawn only when standard error is a terminal.
fn progress(letters: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} letters, {eta} left")
        .expect("the template is valid");
    ProgressBar::new(letters as u64).with_style(style)
}

#[cfg(test)]
mod tests {
    use millrace_event::plan::ProjectId;
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn letter(id: i64, event_count: u64, payload_bytes: u64) -> DeadLetter {
        DeadLetter {
            id,
            project: ProjectId(1),
            project_name: None,
            batch_id: Uuid::nil(),
            received_at: OffsetDateTime::UNIX_EPOCH,
            event_index: None,
            event_count,
            sqlstate: None,
            code: None,
            reason: String::new(),
            payload_bytes,
            worker_version: String::new(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            attempted_at: None,
            redriven_at: None,
            redrive_id: None,
        }
    }

    #[test]
    fn every_letter_is_in_one_chunk_and_a_huge_one_is_alone_in_its_chunk() {
        let sizes = [(1, 1), (u64::MAX, 1), (1, 1), (1, CHUNK_BYTES + 1), (1, 1), (CHUNK_EVENTS, 1), (1, 1)];
        let letters: Vec<_> =
            (0..).zip(sizes).map(|(id, (events, bytes))| letter(id, events, bytes)).collect();
        let ids: Vec<_> = chunks(&letters).into_iter().map(ids).collect();
        assert_eq!(ids, [vec![0], vec![1], vec![2], vec![3], vec![4], vec![5], vec![6]]);
        let small: Vec<_> = (0..1_001).map(|id| letter(id, 1, 100)).collect();
        assert_eq!(chunks(&small).iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), [500, 500, 1]);
        assert!(chunks(&[]).is_empty());
    }
}
