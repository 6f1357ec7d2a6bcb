//! Reads what is stored of a subject. Changes nothing.

use millrace_event::plan::ProjectId;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::cancellations::COLUMNS;
use super::super::{meters, rejections};
use super::events::{query, walked};
use super::index;
use super::letters::letter;
use crate::erasures::{self, LETTERS_MAX, LetterErasure, LetterRead, WALKED_MAX, erase_from_letter};
use crate::{RecordsPlace, RejectionKind, StoreError, SubjectRecords};

const LETTERS: &str = "
    SELECT dead_letter_id, project_id, event_index, event_count, code, payload, received_at, reason FROM dead_letters
     WHERE dead_letter_id > ?1 AND project_id = ?2 ORDER BY dead_letter_id LIMIT ?3";
const AT: &str = "strftime('%Y-%m-%dT%H:%M:%SZ', AT / 1000000, 'unixepoch')";
const REST: [&str; 4] = [
    "SELECT json_object('record', 'limit', 'meter', m.slug, 'period', l.period,
                        'amount', l.units || printf('.%09d', l.billionths))
       FROM customer_limits l JOIN meters m USING (meter_id) WHERE l.project_id = ?1 AND l.subject = ?2",
    "SELECT json_object('record', 'limit_usage', 'meter', m.slug, 'period', u.period, 'ends_at', <u.ends_at>,
                        'used', u.units || printf('.%09d', u.billionths))
       FROM limit_usage u JOIN meters m USING (meter_id) WHERE u.project_id = ?1 AND u.subject = ?2",
    "SELECT json_object('record', 'threshold', 'name', name, 'period', period, 'value', value)
       FROM thresholds WHERE project_id = ?1 AND subject = ?2",
    "SELECT json_object('record', 'notification', 'name', name, 'meter', meter, 'period_start', <period_start>,
                        'period_end', <period_end>, 'threshold', threshold, 'value', value,
                        'created_at', <created_at>, 'state', state)
       FROM notifications WHERE project_id = ?1 AND subject = ?2",
];
/// Events of one page, at most, where an index leads to them.
const EVENTS_MAX: i64 = 1_000;

pub(super) fn page(
    connection: &Connection,
    project: ProjectId,
    subject: &str,
    place: &RecordsPlace,
) -> Result<SubjectRecords, StoreError> {
    match place {
        RecordsPlace::Events { after } => events(connection, project, subject, *after),
        RecordsPlace::Letters { after } => letters(connection, project, subject, *after),
        RecordsPlace::Figures { meter, after_us } => {
            figures(connection, project, subject, (*meter, *after_us))
        }
        RecordsPlace::Rest => rest(connection, project, subject),
    }
}

fn events(
    connection: &Connection,
    project: ProjectId,
    subject: &str,
    after: Option<(i64, Uuid)>,
) -> Result<SubjectRecords, StoreError> {
    let (after_us, after_id) = after.unwrap_or((i64::MIN, Uuid::nil()));
    let select = format!(
        "SELECT {COLUMNS} FROM events e WHERE e.project_id = ?1 AND (e.timestamp, e.event_id) > (?2, ?3)"
    );
    let bytes = after_id.as_bytes();
    let (found, last) = if index::exists(connection)? {
        let select = format!("{select} AND e.subject = ?4 ORDER BY e.timestamp, e.event_id LIMIT ?5");
        let parameters = params![project.0, after_us, bytes, subject, EVENTS_MAX];
        let found = query(connection, &select, parameters)?;
        let last = found.last().filter(|_| found.len() as i64 == EVENTS_MAX);
        let last = last.map(|event| (event.timestamp_us, event.event_id));
        (found, last)
    } else {
        let (last, read) = walked(connection, project.0, (after_us, after_id))?;
        let (last_us, last_id) = last.unwrap_or((i64::MIN, Uuid::nil()));
        let select = format!(
            "{select} AND (e.timestamp, e.event_id) <= (?4, ?5) AND e.subject = ?6
              ORDER BY e.timestamp, e.event_id"
        );
        let parameters = params![project.0, after_us, bytes, last_us, last_id.as_bytes(), subject];
        (query(connection, &select, parameters)?, last.filter(|_| read == WALKED_MAX.unsigned_abs()))
    };
    let next = match last {
        Some(after) => RecordsPlace::Events { after: Some(after) },
        None => RecordsPlace::Letters { after: i64::MIN },
    };
    Ok(SubjectRecords { records: found.iter().map(erasures::event).collect(), next: Some(next) })
}

fn letters(
    connection: &Connection,
    project: ProjectId,
    subject: &str,
    after: i64,
) -> Result<SubjectRecords, StoreError> {
    let mut statement = connection.prepare_cached(LETTERS)?;
    let rows = statement.query_map(params![after, project.0, LETTERS_MAX], |row| {
        Ok((letter(row)?, row.get(6)?, row.get(7)?))
    })?;
    let rows: Vec<(LetterRead, i64, String)> = rows.collect::<Result<_, _>>()?;
    let mut page = SubjectRecords::default();
    for (letter, received_us, reason) in &rows {
        match erase_from_letter(letter, subject) {
            LetterErasure::Kept | LetterErasure::Unreadable => {}
            LetterErasure::Deleted | LetterErasure::Rewritten { .. } => {
                page.records.push(erasures::dead_letter(letter, *received_us, reason, subject));
            }
        }
    }
    page.next = Some(match rows.last().filter(|_| rows.len() as i64 == LETTERS_MAX) {
        Some((last, ..)) => RecordsPlace::Letters { after: last.id },
        None => RecordsPlace::Figures { meter: 0, after_us: i64::MIN },
    });
    Ok(page)
}

/// Figures of whole quarters.
fn figures(
    connection: &Connection,
    project: ProjectId,
    subject: &str,
    (from, after_us): (i64, i64),
) -> Result<SubjectRecords, StoreError> {
    let infos = meters::meters(connection, Some(project))?;
    let next = infos.into_iter().filter(|info| info.meter.id.0 >= from).min_by_key(|info| info.meter.id.0);
    let Some(info) = next else {
        return Ok(SubjectRecords { records: Vec::new(), next: Some(RecordsPlace::Rest) });
    };
    let id = info.meter.id.0;
    let after_us = if id == from { after_us } else { i64::MIN };
    let quarters = meters::quarters(connection, &info.meter, subject, after_us)?;
    let rows = meters::figure_rows(connection, &info.meter, subject, &quarters)?;
    let slug = &info.meter.definition.slug;
    let next = match quarters.last() {
        Some(last) => RecordsPlace::Figures { meter: id, after_us: *last },
        None => RecordsPlace::Figures { meter: id + 1, after_us: i64::MIN },
    };
    let records = rows.iter().map(|figure| erasures::figure(slug, figure)).collect();
    Ok(SubjectRecords { records, next: Some(next) })
}

/// Limits, thresholds, notifications and samples, which are few.
fn rest(connection: &Connection, project: ProjectId, subject: &str) -> Result<SubjectRecords, StoreError> {
    let mut page = SubjectRecords::default();
    for select in REST {
        let mut sql = select.to_owned();
        for column in ["u.ends_at", "period_start", "period_end", "created_at"] {
            sql = sql.replace(&format!("<{column}>"), &AT.replace("AT", column));
        }
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![project.0, subject], |row| row.get::<_, String>(0))?;
        for row in rows {
            page.records.extend(serde_json::from_str(&row?).ok());
        }
    }
    let samples = rejections::samples(connection, Some(project), RejectionKind::ALL, u32::MAX)?;
    let found = samples
        .iter()
        .filter(|sample| erasures::is_in_sample(subject, sample.payload.as_deref(), &sample.message));
    page.records.extend(found.map(erasures::sample));
    Ok(page)
}
