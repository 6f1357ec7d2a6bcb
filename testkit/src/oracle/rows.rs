//! Compares the rows and dead letters of the store with the posted events: I1 to I4, I7 and I10.

use serde_json::Value;

use super::events::{Event, EventKind};
use super::evidence::{Evidence, StoredEvent};
use super::findings::{Findings, Invariant};
use super::project::Project;

/// Compares every row of a project with the posted event. `named_loss` is how many acknowledged events are
/// missing, if any may be. Returns the number of stored events.
pub(super) async fn compare(
    evidence: &dyn Evidence,
    project: &Project,
    named_loss: Option<u64>,
    findings: &mut Findings,
) -> u64 {
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
        let versions = project.history.versions(number);
        if versions[0].kind == EventKind::Undeliverable {
            let said = format!("{}: call {number} is stored, but no event can be made of it", project.name);
            return findings.add(Invariant::PoisonSetAside, said);
        }
        let differences: Vec<_> = versions.iter().map_while(|version| difference(version, &row)).collect();
        if differences.len() == versions.len() {
            let said = format!("{} event {number}: {}", project.name, differences.join(", or "));
            findings.add(Invariant::EqualAsSent, said);
        }
    };
    evidence.events(project.id, &mut visit).await;
    let dead = read_letters(evidence, project, &mut found, findings).await;
    compare_with_history(project, &found, named_loss, findings);
    if dead != project.history.dead() {
        let expected = project.history.dead();
        let said =
            format!("{}: {dead} dead letters, but the drill wrote {expected} poison events", project.name);
        findings.add(Invariant::PoisonSetAside, said);
    }
    stored
}

/// Compares how often each event was found with the responses.
fn compare_with_history(project: &Project, found: &[u8], named_loss: Option<u64>, findings: &mut Findings) {
    let mut missing = 0;
    for (number, &times) in found.iter().enumerate() {
        let outcome = project.history.outcome(number as u64).expect("the number was reserved");
        let kind = project.history.event(number as u64).kind;
        let event = format!("{} event {number} ({kind:?})", project.name);
        match times {
            0 if outcome.must_be_stored() && named_loss.is_some() => missing += 1,
            0 if outcome.must_be_stored() => {
                let absent = match kind {
                    EventKind::Undeliverable => "no dead letter",
                    _ => "not stored",
                };
                findings.add(Invariant::NothingLost, format!("{event}: acknowledged, but {absent}"))
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
    if let Some(named) = named_loss.filter(|named| *named != missing) {
        let said = format!(
            "{}: {missing} acknowledged events are missing, but {named} are named as lost",
            project.name
        );
        findings.add(Invariant::NothingLost, said);
    }
}

/// Counts the dead letters of events that drills wrote into the stream. A call that cannot be delivered
/// counts as found. A dead-lettered event of the oracle is a violation; it counts as stored, so that it is
/// not also reported as lost.
async fn read_letters(
    evidence: &dyn Evidence,
    project: &Project,
    found: &mut [u8],
    findings: &mut Findings,
) -> u64 {
    let mut dead = 0;
    for letter in evidence.letters(project.id).await {
        let number = number_in(&letter.payload).filter(|number| *number < project.history.count());
        let Some(number) = number else {
            dead += letter.events;
            continue;
        };
        let times = &mut found[usize::try_from(number).expect("the events of a drill fit into memory")];
        *times = times.saturating_add(1);
        if project.history.event(number).kind != EventKind::Undeliverable {
            dead += letter.events;
            let said = format!(
                "{}: event {number} is valid, but was dead-lettered: {}",
                project.name, letter.reason
            );
            findings.add(Invariant::PoisonSetAside, said);
            continue;
        }
        let broken = project.history.source.broken_call(number);
        let is_equal = letter.payload == broken.text && letter.code.as_deref() == Some(broken.code);
        if !is_equal || letter.events != 1 {
            let said = format!("{} call {number}: another text or code in its dead letter", project.name);
            findings.add(Invariant::EqualAsSent, said);
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
