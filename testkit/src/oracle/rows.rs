//! The rows of the store against the events that were posted: I1 to I4, I7 and I10.

use std::pin::pin;

use futures_util::TryStreamExt;
use serde_json::Value;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use super::client::Project;
use super::events::Event;
use super::judge::{Findings, Invariant};

const EVENTS: &str = "
    SELECT (properties->>'n')::bigint, event_id, (extract(epoch FROM timestamp) * 1000000)::bigint,
           (extract(epoch FROM received_at) * 1000000)::bigint, name, subject, client_id, properties::text, context::text
      FROM events WHERE project_id = $1";
const DEAD_LETTERS: &str = "
    SELECT event_count, payload, reason FROM dead_letters WHERE project_id = $1 AND redriven_at IS NULL";

/// Compares every row of a project with what was posted. Returns how many events are stored.
pub(super) async fn compare(
    database: &Client,
    project: &Project,
    findings: &mut Findings,
) -> Result<u64, Error> {
    let mut found =
        vec![0_u8; usize::try_from(project.history.count()).expect("they were numbered in memory")];
    let mut stored = 0;
    let mut rows = pin!(database.query_raw(EVENTS, [project.id]).await?);
    while let Some(row) = rows.try_next().await? {
        stored += 1;
        let number = row.get::<_, Option<i64>>(0).and_then(|number| u64::try_from(number).ok());
        let place = number.and_then(|number| found.get_mut(usize::try_from(number).ok()?));
        let (Some(number), Some(place)) = (number, place) else {
            let said = format!("{}: a row that nobody posted: {}", project.name, row.get::<_, Uuid>(1));
            findings.add(Invariant::NothingInvented, said);
            continue;
        };
        *place = place.saturating_add(1);
        if let Some(difference) = difference(&project.history.source.event(number), &row) {
            findings.add(Invariant::EqualAsSent, format!("{} event {number}: {difference}", project.name));
        }
    }
    let dead = read_letters(database, project, &mut found, findings).await?;
    weigh(project, &found, findings);
    if dead != project.history.dead() {
        let expected = project.history.dead();
        let said = format!("{}: {dead} dead letters, {expected} poison events were forced in", project.name);
        findings.add(Invariant::PoisonSetAside, said);
    }
    Ok(stored)
}

/// How often each event was found, against what was answered.
fn weigh(project: &Project, found: &[u8], findings: &mut Findings) {
    for (number, &times) in found.iter().enumerate() {
        let fate = project.history.fate(number as u64).expect("the number was given out");
        let of = format!(
            "{} event {number} ({:?})",
            project.name,
            project.history.source.event(number as u64).kind
        );
        match times {
            0 if fate.is_owed() => {
                findings.add(Invariant::NothingLost, format!("{of}: acknowledged and not stored"))
            }
            0 => {}
            _ if fate.is_possible() => {}
            _ if fate.refused => {
                findings.add(Invariant::RefusedStaysOut, format!("{of}: answered 4xx and stored"))
            }
            _ => findings.add(Invariant::NothingInvented, format!("{of}: stored before it was posted")),
        }
        if times > 1 {
            findings.add(Invariant::NothingTwice, format!("{of}: stored {times} times"));
        }
    }
}

/// Counts dead letters; one that holds an event of ours counts as that event stored, as far as losing it goes.
async fn read_letters(
    database: &Client,
    project: &Project,
    found: &mut [u8],
    findings: &mut Findings,
) -> Result<u64, Error> {
    let mut dead = 0;
    for row in database.query(DEAD_LETTERS, &[&project.id]).await? {
        dead += u64::try_from(row.get::<_, i64>(0)).unwrap_or_default();
        let (payload, reason): (&[u8], &str) = (row.get(1), row.get(2));
        let number = number_in(payload);
        if let Some(place) = number.and_then(|number| found.get_mut(usize::try_from(number).ok()?)) {
            *place = place.saturating_add(1);
            let said =
                format!("{}: event {number:?} is storable and was dead-lettered: {reason}", project.name);
            findings.add(Invariant::PoisonSetAside, said);
        }
    }
    Ok(dead)
}

/// The `n` of an event's properties, wherever they stand in a dead letter.
fn number_in(payload: &[u8]) -> Option<u64> {
    const MARK: &[u8] = b"\"n\":";
    let at = payload.windows(MARK.len()).position(|part| part == MARK)? + MARK.len();
    let digits: String = payload[at..]
        .iter()
        .map(|&byte| char::from(byte))
        .skip_while(|c| *c == ' ')
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

fn difference(event: &Event, row: &Row) -> Option<String> {
    let (event_id, time_us, received_us): (Uuid, i64, i64) = (row.get(1), row.get(2), row.get(3));
    let (name, subject, client_id): (&str, Option<&str>, Option<&str>) = (row.get(4), row.get(5), row.get(6));
    let json =
        |at| row.get::<_, Option<&str>>(at).map(|text| serde_json::from_str(text).unwrap_or(Value::Null));
    let expected_client_id = event.id.as_deref().filter(|_| event.uuid.is_none());
    let checks = [
        ("id", event.uuid.is_none_or(|uuid| uuid == event_id)),
        ("client id", client_id == expected_client_id),
        ("timestamp", time_us == event.time_us.unwrap_or(received_us)),
        ("name", name == event.name),
        ("subject", subject == event.subject.as_deref()),
        ("properties", json(7).as_ref() == Some(&event.properties)),
        ("context", json(8) == event.context),
    ];
    let wrong: Vec<_> = checks.iter().filter(|(_, equal)| !equal).map(|(what, _)| *what).collect();
    (!wrong.is_empty()).then(|| format!("stored with another {}", wrong.join(", ")))
}
