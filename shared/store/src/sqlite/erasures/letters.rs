//! Takes the events of a subject out of dead letters.

use rusqlite::{Connection, Error, Row, params};

use super::super::clock::micros;
use super::orders::{self, Counted, subject};
use crate::erasures::{LETTERS_MAX, LetterErasure, LetterRead, erase_from_letter};
use crate::{Erasure, ErasurePlace, ErasureStep, StoreError};
use millrace_event::plan::ProjectId;

const READ: &str = "
    SELECT dead_letter_id, project_id, event_index, event_count, code, payload, redriven_at IS NOT NULL, received_at
      FROM dead_letters
     WHERE dead_letter_id > ?1 AND project_id IN (0, ?2) AND received_at < ?3
     ORDER BY dead_letter_id LIMIT ?4";
const REMOVE: &str = "DELETE FROM dead_letters WHERE dead_letter_id = ?1";
const REWRITE: &str = "UPDATE dead_letters SET payload = ?2, event_count = ?3 WHERE dead_letter_id = ?1";
const RETIRE: &str = "
    INSERT INTO retired AS r (project_id, what, day, count)
    VALUES (?1, 'dead_letters', strftime('%Y-%m-%d', ?2 / 1000000, 'unixepoch'), ?3)
    ON CONFLICT (project_id, what, day) DO UPDATE SET count = r.count + excluded.count";

pub(super) fn step(
    transaction: &Connection,
    erasure: &Erasure,
    after: i64,
) -> Result<ErasureStep, StoreError> {
    let parameters = params![after, erasure.project.0, micros(erasure.received_before), LETTERS_MAX];
    let letters: Vec<(LetterRead, bool, i64)> = transaction
        .prepare_cached(READ)?
        .query_map(parameters, |row| Ok((letter(row)?, row.get(6)?, row.get(7)?)))?
        .collect::<Result<_, _>>()?;
    let mut step = ErasureStep::default();
    for (letter, is_redriven, received_us) in &letters {
        let gone = match erase_from_letter(letter, subject(erasure)?) {
            LetterErasure::Kept => continue,
            LetterErasure::Unreadable => {
                step.unreadable += 1;
                continue;
            }
            LetterErasure::Deleted => {
                transaction.execute(REMOVE, [letter.id])?;
                letter.event_count
            }
            LetterErasure::Rewritten { payload, event_count } => {
                transaction.execute(REWRITE, params![letter.id, payload, event_count.cast_signed()])?;
                letter.event_count - event_count
            }
        };
        step.dead_letters += gone;
        // A redriven letter counts no events.
        if !is_redriven {
            transaction.execute(RETIRE, params![letter.project.0, received_us, gone.cast_signed()])?;
        }
    }
    orders::add(transaction, erasure, Counted { dead_letters: step.dead_letters, ..Counted::default() })?;
    let last = letters.last().filter(|_| letters.len() as i64 == LETTERS_MAX);
    step.next = Some(match last {
        Some((letter, ..)) => ErasurePlace::Letters { after: letter.id },
        None => ErasurePlace::Events { after: None },
    });
    Ok(step)
}

/// Reads number, project, index, count, code and payload.
pub(super) fn letter(row: &Row<'_>) -> Result<LetterRead, Error> {
    Ok(LetterRead {
        id: row.get(0)?,
        project: ProjectId(row.get(1)?),
        event_index: row.get(2)?,
        event_count: row.get::<_, i64>(3)?.unsigned_abs(),
        code: row.get(4)?,
        payload: row.get(5)?,
    })
}
