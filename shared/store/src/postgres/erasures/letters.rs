//! Takes the events of a subject out of dead letters.

use tokio_postgres::types::ToSql;

use super::super::copy::Instant;
use super::orders::{self, Counted, subject};
use crate::erasures::{LETTERS_MAX, LetterErasure, LetterRead, erase_from_letter};
use crate::{Erasure, ErasurePlace, ErasureStep, StoreError};
use millrace_event::plan::ProjectId;

/// A letter that a redrive holds is waited for: its events are stored then.
const READ: &str = "
    SELECT dead_letter_id, project_id, event_index, event_count, code, payload, redriven_at IS NOT NULL,
           (received_at AT TIME ZONE 'UTC')::date - date '1970-01-01'
      FROM dead_letters
     WHERE dead_letter_id > $1 AND project_id IN (0, $2) AND received_at < $3
     ORDER BY dead_letter_id LIMIT $4 FOR UPDATE";
const REMOVE: &str = "DELETE FROM dead_letters WHERE dead_letter_id = $1";
const REWRITE: &str = "UPDATE dead_letters SET payload = $2, event_count = $3 WHERE dead_letter_id = $1";
const RETIRE: &str = "
    INSERT INTO retired AS r (project_id, what, day, count)
    VALUES ($1, 'dead_letters', date '1970-01-01' + $2::int, $3)
    ON CONFLICT (project_id, what, day) DO UPDATE SET count = r.count + excluded.count";

pub(super) async fn step(
    client: &mut deadpool_postgres::Client,
    erasure: &Erasure,
    after: i64,
) -> Result<ErasureStep, StoreError> {
    let transaction = client.transaction().await?;
    let before = Instant::from(erasure.received_before);
    let parameters: [&(dyn ToSql + Sync); 4] = [&after, &erasure.project.0, &before, &LETTERS_MAX];
    let rows = transaction.query(READ, &parameters).await?;
    let mut step = ErasureStep::default();
    for row in &rows {
        let letter = LetterRead {
            id: row.get(0),
            project: ProjectId(row.get(1)),
            event_index: row.get::<_, Option<i32>>(2).map(i32::cast_unsigned),
            event_count: row.get::<_, i64>(3).unsigned_abs(),
            code: row.get(4),
            payload: row.get(5),
        };
        let gone = match erase_from_letter(&letter, subject(erasure)?) {
            LetterErasure::Kept => continue,
            LetterErasure::Unreadable => {
                step.unreadable += 1;
                continue;
            }
            LetterErasure::Deleted => {
                transaction.execute(REMOVE, &[&letter.id]).await?;
                letter.event_count
            }
            LetterErasure::Rewritten { payload, event_count } => {
                transaction.execute(REWRITE, &[&letter.id, &payload, &event_count.cast_signed()]).await?;
                letter.event_count - event_count
            }
        };
        step.dead_letters += gone;
        // A redriven letter counts no events.
        if !row.get::<_, bool>(6) {
            let parameters: [&(dyn ToSql + Sync); 3] =
                [&letter.project.0, &row.get::<_, i32>(7), &gone.cast_signed()];
            transaction.execute(RETIRE, &parameters).await?;
        }
    }
    let counted = Counted { dead_letters: step.dead_letters.cast_signed(), ..Counted::default() };
    orders::add(transaction.client(), erasure, counted).await?;
    transaction.commit().await?;
    // Until there are no more: a redrive that was waited for may have added letters.
    step.next = Some(match rows.last() {
        Some(row) => ErasurePlace::Letters { after: row.get(0) },
        None => ErasurePlace::Events { after: None },
    });
    Ok(step)
}
