//! The rows of the store against the events that were posted: I1 to I4, I7 and I10.

use serde_json::Value;

use super::client::Project;
use super::events::Event;
use super::evidence::{Evidence, StoredEvent};
use super::judge::{Findings, Invariant};

/// Compares every row of a project with what was posted. Returns how many events are stored.
pub(super) async fn compare(evidence: &dyn Evidence, project: &Project, findings: &mut Findings) -> u64 {
    let mut found =
        vec![0_u8; usize::try_from(project.history.count()).expect("they were numbered in memory")];
    let mut stored = 0;
    let mut visit = |row: StoredEvent| {
        stored += 1;
        let number = row.number.and_then(|number| u64::try_from(number).ok());
        let place = number.and_then(|number| found.get_mut(usize::try_from(number).ok()?));
        let (Some(number), Some(place)) = (number, place) else {
            let said = format!("{}: a row that nobody posted: {}", project.name, row.event_id);
            return findings.add(Invariant::NothingInvented, said);
        };
        *place = place.saturating_add(1);
        if let Some(difference) = difference(&project.history.source.event(number), &row) {
            findings.add(Invariant::EqualAsSent, format!("{} event {number}: {difference}", project.name));
        }
    };
    evidence.events(project.id, &mut visit).await;
    let dead = read_letters(evidence, project, &mut found, findings).await;
    weigh(project, &found, findings);
    if dead != project.history.dead() {
        let expected = project.history.dead();
        let said = format!("{}: {dead} dead letters, {expected} poison events were forced in", project.name);
        findings.add(Invariant::PoisonSetAside, said);
    }
    stored
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
    evidence: &dyn Evidence,
    project: &Project,
    found: &mut [u8],
    findings: &mut Findings,
) -> u64 {
    let mut dead = 0;
    for letter in evidence.letters(project.id).await {
        dead += letter.events;
        let number = number_in(&letter.payload);
        if let Some(place) = number.and_then(|number| found.get_mut(usize::try_from(number).ok()?)) {
            *place = place.saturating_add(1);
            let said = format!(
                "{}: event {number:?} is storable and was dead-lettered: {}",
                project.name, letter.reason
            );
            findings.add(Invariant::PoisonSetAside, said);
        }
    }
    dead
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

fn difference(event: &Event, row: &StoredEvent) -> Option<String> {
    let json =
        |text: &Option<String>| text.as_deref().map(|text| serde_json::from_str(text).unwrap_or(Value::Null));
    let expected_client_id = event.id.as_deref().filter(|_| event.uuid.is_none());
    let checks = [
        ("id", event.uuid.is_none_or(|uuid| uuid == row.event_id)),
        ("client id", row.client_id.as_deref() == expected_client_id),
        ("timestamp", row.time_us == event.time_us.unwrap_or(row.received_us)),
        ("name", row.name == event.name),
        ("subject", row.subject.as_deref() == event.subject.as_deref()),
        ("properties", json(&row.properties).as_ref() == Some(&event.properties)),
        ("context", json(&row.context) == event.context),
    ];
    let wrong: Vec<_> = checks.iter().filter(|(_, equal)| !equal).map(|(what, _)| *what).collect();
    (!wrong.is_empty()).then(|| format!("stored with another {}", wrong.join(", ")))
}
