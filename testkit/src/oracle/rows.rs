//! Compares the rows and dead letters of the store with the posted events: I1 to I4, I7 and I10.

use serde_json::Value;

use super::events::Event;
use super::evidence::{Evidence, StoredEvent};
use super::findings::{Findings, Invariant};
use super::project::Project;

/// Compares every row of a project with the posted event. Returns the number of stored events.
pub(super) async fn compare(evidence: &dyn Evidence, project: &Project, findings: &mut Findings) -> u64 {
    let mut found =
        vec![0_u8; usize::try_from(project.history.count()).expect("the events of a drill fit into memory")];
    let mut stored = 0;
    let mut visit = |row: StoredEvent| {
        stored += 1;
        let number = row.number.and_then(|number| u64::try_from(number).ok());
        let times = number.and_then(|number| found.get_mut(usize::try_from(number).ok()?));
        let (Some(number), Some(times)) = (number, times) else {
            let said = format!("{}: a row of an event that was never posted: {}", project.name, row.event_id);
            return findings.add(Invariant::NothingInvented, said);
        };
        *times = times.saturating_add(1);
        if let Some(difference) = difference(&project.history.source.event(number), &row) {
            findings.add(Invariant::EqualAsSent, format!("{} event {number}: {difference}", project.name));
        }
    };
    evidence.events(project.id, &mut visit).await;
    let dead = read_letters(evidence, project, &mut found, findings).await;
    compare_with_history(project, &found, findings);
    if dead != project.history.dead() {
        let expected = project.history.dead();
        let said =
            format!("{}: {dead} dead letters, but the drill wrote {expected} poison events", project.name);
        findings.add(Invariant::PoisonSetAside, said);
    }
    stored
}

/// Compares how often each event was found with the responses.
fn compare_with_history(project: &Project, found: &[u8], findings: &mut Findings) {
    for (number, &times) in found.iter().enumerate() {
        let outcome = project.history.outcome(number as u64).expect("the number was reserved");
        let event = format!(
            "{} event {number} ({:?})",
            project.name,
            project.history.source.event(number as u64).kind
        );
        match times {
            0 if outcome.must_be_stored() => {
                findings.add(Invariant::NothingLost, format!("{event}: acknowledged, but not stored"))
            }
            0 => {}
            _ if outcome.may_be_stored() => {}
            _ if outcome.refused => {
                findings.add(Invariant::RefusedStaysOut, format!("{event}: got 4xx, but is stored"))
            }
            _ => findings.add(Invariant::NothingInvented, format!("{event}: stored before it was posted")),
        }
        if times > 1 {
            findings.add(Invariant::NothingTwice, format!("{event}: stored {times} times"));
        }
    }
}

/// Counts dead letters. A dead-lettered event of the oracle is a violation; it counts as stored, so that it
/// is not also reported as lost.
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
        if let Some(times) = number.and_then(|number| found.get_mut(usize::try_from(number).ok()?)) {
            *times = times.saturating_add(1);
            let said = format!(
                "{}: event {number:?} is valid, but was dead-lettered: {}",
                project.name, letter.reason
            );
            findings.add(Invariant::PoisonSetAside, said);
        }
    }
    dead
}

/// The property `n` of the first event in a dead letter.
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
    (!wrong.is_empty()).then(|| format!("stored with a different {}", wrong.join(", ")))
}
