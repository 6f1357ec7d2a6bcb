//! `millrace dead-letters redrive`

use std::collections::BTreeSet;

use indicatif::{ProgressBar, ProgressStyle};
use millrace_store::{
    DeadLetter, LetterFilter, LetterPayload, RedriveOrder, RedriveResult, Store, StoreError, rows_of_letter,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::text::{printable, project};
use super::{RedriveArgs, each_page, filter};
use crate::failure::Failure;
use crate::output::{Output, grouped};

/// What one transaction takes at most, a single letter aside: so that it is short, and what Ctrl-C undoes is little.
const LOT_LETTERS: usize = 500;
const LOT_EVENTS: u64 = 5_000;
const LOT_BYTES: u64 = 16 << 20;
/// Unreadable letters that a dry run names.
const UNREADABLE_SHOWN: usize = 20;

pub(super) async fn run(store: &dyn Store, output: &Output, arguments: &RedriveArgs) -> Result<(), Failure> {
    let filter = arguments.filter.check(store).await?;
    let words = filter::words(&filter);
    if words.is_empty() && !arguments.all {
        let advice =
            "say which letters, with --project, --since, --until, --sqlstate, --reason or --id; or --all";
        return Err(Failure::Usage(advice.to_owned()));
    }
    if !words.is_empty() && arguments.all {
        return Err(Failure::Usage("--all is every dead letter; leave it out, or the filters".to_owned()));
    }
    let limit = arguments.limit.unwrap_or(usize::MAX);
    if arguments.dry_run {
        let rehearsal = rehearse(store, &filter, limit).await?;
        return output.print(&rehearsal.text(), &rehearsal.json());
    }
    let at_most = arguments.limit.map_or(String::new(), |limit| format!(" --limit {limit}"));
    let which = if arguments.all { "--all".to_owned() } else { words };
    let unknown = |_| "unknown".to_owned();
    let order = RedriveOrder {
        id: Uuid::now_v7(),
        os_user: whoami::username().unwrap_or_else(unknown),
        host: whoami::hostname().unwrap_or_else(unknown),
        filter: format!("{which}{at_most}"),
    };
    let redriven = drive(store, &order, &filter, limit).await?;
    let mut json = json!({ "redrive_id": (redriven.letters > 0).then_some(order.id) });
    put_counts(&mut json, redriven);
    output.print(&text(redriven), &json)?;
    if redriven.refused > 0 {
        let refused = grouped(redriven.refused.into());
        return Err(Failure::Refused(format!(
            "{refused} events are still dead; `millrace dead-letters list` tells why"
        )));
    }
    Ok(())
}

async fn drive(
    store: &dyn Store,
    order: &RedriveOrder,
    filter: &LetterFilter,
    limit: usize,
) -> Result<RedriveResult, Failure> {
    let mut redriven = RedriveResult::default();
    each_lot(store, filter, limit, async |lot| {
        let more = store.redrive(order, &ids(lot)).await.map_err(|error| stopped(error, redriven))?;
        redriven += more;
        Ok(())
    })
    .await?;
    Ok(redriven)
}

/// Hands the letters that are meant to `take`, in lots that one transaction can take, and shows how far it is.
async fn each_lot(
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
        for lot in lots(page) {
            take(lot).await?;
            progress.inc(lot.len() as u64);
        }
        Ok(())
    })
    .await?;
    progress.finish_and_clear();
    Ok(())
}

fn ids(lot: &[DeadLetter]) -> Vec<i64> {
    lot.iter().map(|letter| letter.id).collect()
}

/// What was done before stays done.
fn stopped(error: StoreError, redriven: RedriveResult) -> Failure {
    let done = format!("{} letters were driven before that and stay so", grouped(redriven.letters.into()));
    Failure::Store(match error {
        StoreError::Unavailable(said) => {
            StoreError::Unavailable(format!("{said}; {done}; repeat the command for the rest"))
        }
        StoreError::Invalid(said) => StoreError::Invalid(format!("{said}; {done}")),
        other @ (StoreError::Refused { .. } | StoreError::SchemaOutdated(_)) => other,
    })
}

/// Cuts letters into what one transaction takes.
fn lots(letters: &[DeadLetter]) -> Vec<&[DeadLetter]> {
    let mut lots = Vec::new();
    let (mut start, mut events, mut bytes) = (0, 0_u64, 0_u64);
    for (at, letter) in letters.iter().enumerate() {
        events = events.saturating_add(letter.event_count);
        bytes = bytes.saturating_add(letter.payload_bytes);
        if at > start && (at - start >= LOT_LETTERS || events > LOT_EVENTS || bytes > LOT_BYTES) {
            lots.push(&letters[start..at]);
            (start, events, bytes) = (at, letter.event_count, letter.payload_bytes);
        }
    }
    if start < letters.len() {
        lots.push(&letters[start..]);
    }
    lots
}

/// Seen at a terminal only.
fn progress(letters: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} letters, {eta} to go")
        .expect("the template is right");
    ProgressBar::new(letters as u64).with_style(style)
}

fn text(redriven: RedriveResult) -> String {
    if redriven.letters == 0 {
        return "There was nothing to redrive.".to_owned();
    }
    let [letters, stored, duplicate, refused] =
        [redriven.letters, redriven.stored, redriven.duplicate, redriven.refused]
            .map(|count| grouped(count.into()));
    format!(
        "Drove {letters} letters again: {stored} events stored, {duplicate} were there already, {refused} are still dead."
    )
}

/// Adds what became of letters to a document.
pub(super) fn put_counts(document: &mut Value, redriven: RedriveResult) {
    document["letters"] = json!(redriven.letters);
    document["stored"] = json!(redriven.stored);
    document["duplicate"] = json!(redriven.duplicate);
    document["refused"] = json!(redriven.refused);
}

/// What a redrive would try.
#[derive(Default)]
struct Rehearsal {
    letters: u64,
    events: u64,
    projects: BTreeSet<String>,
    /// The letters that cannot be read, and why.
    unreadable: Vec<(i64, String)>,
}

async fn rehearse(store: &dyn Store, filter: &LetterFilter, limit: usize) -> Result<Rehearsal, Failure> {
    let mut rehearsal = Rehearsal::default();
    each_lot(store, filter, limit, async |lot| {
        for LetterPayload { id, payload } in store.letter_payloads(&ids(lot)).await? {
            let letter = lot.iter().find(|letter| letter.id == id).expect("only these were asked for");
            rehearsal.add(letter, &payload);
        }
        Ok(())
    })
    .await?;
    Ok(rehearsal)
}

impl Rehearsal {
    fn add(&mut self, letter: &DeadLetter, payload: &[u8]) {
        self.letters += 1;
        self.events += letter.event_count;
        self.projects.insert(project(letter));
        let rows = rows_of_letter(letter.project, letter.event_index, letter.event_count, payload);
        self.unreadable.extend(rows.err().map(|why| (letter.id, why)));
    }

    fn text(&self) -> String {
        if self.letters == 0 {
            return "There is nothing to redrive.".to_owned();
        }
        let projects = Vec::from_iter(self.projects.iter().map(String::as_str)).join(", ");
        let (letters, events) = (grouped(self.letters.into()), grouped(self.events.into()));
        let mut text = format!("Would drive {letters} letters again, with {events} events of {projects}.\n");
        if self.unreadable.is_empty() {
            text.push_str("All of them can be read; whether they can be stored, the database will say.\n");
            return text;
        }
        text.push_str(&format!("{} letters cannot be read and would stay dead:\n", self.unreadable.len()));
        for (id, why) in self.unreadable.iter().take(UNREADABLE_SHOWN) {
            text.push_str(&format!("  {id}: {}\n", printable(why)));
        }
        if self.unreadable.len() > UNREADABLE_SHOWN {
            text.push_str(&format!("  and {} more\n", self.unreadable.len() - UNREADABLE_SHOWN));
        }
        text
    }

    fn json(&self) -> Value {
        let unreadable = |(id, why): &(i64, String)| json!({ "id": id, "why": why });
        json!({
            "dry_run": true,
            "letters": self.letters,
            "events": self.events,
            "projects": self.projects,
            "unreadable": self.unreadable.iter().map(unreadable).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use millrace_event::plan::ProjectId;
    use time::OffsetDateTime;

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
    fn every_letter_is_in_one_lot_and_a_huge_one_alone() {
        let sizes = [(1, 1), (u64::MAX, 1), (1, 1), (1, LOT_BYTES + 1), (1, 1), (LOT_EVENTS, 1), (1, 1)];
        let letters: Vec<_> =
            (0..).zip(sizes).map(|(id, (events, bytes))| letter(id, events, bytes)).collect();
        let ids: Vec<Vec<_>> =
            lots(&letters).iter().map(|lot| lot.iter().map(|letter| letter.id).collect()).collect();
        assert_eq!(ids, [vec![0], vec![1], vec![2], vec![3], vec![4], vec![5], vec![6]]);
        let small: Vec<_> = (0..1_001).map(|id| letter(id, 1, 100)).collect();
        assert_eq!(lots(&small).iter().map(|lot| lot.len()).collect::<Vec<_>>(), [500, 500, 1]);
        assert!(lots(&[]).is_empty());
    }
}
