//! `millrace dead-letters redrive --dry-run`

use std::collections::BTreeSet;

use millrace_event::printable::printable;
use millrace_store::{DeadLetter, LetterFilter, LetterPayload, Store, rows_of_letter};
use serde_json::{Value, json};

use super::pages::{each_chunk, ids};
use super::text::project;
use crate::failure::Failure;
use crate::output::counted;

/// Unreadable letters that are named.
const UNREADABLE_SHOWN: usize = 20;

/// What a redrive would try.
#[derive(Default)]
pub(super) struct Rehearsal {
    letters: u64,
    events: u64,
    projects: BTreeSet<String>,
    /// Number and reason of each letter that cannot be read.
    unreadable: Vec<(i64, String)>,
}

impl Rehearsal {
    pub(super) async fn of(store: &dyn Store, filter: &LetterFilter, limit: usize) -> Result<Self, Failure> {
        let mut rehearsal = Self::default();
        each_chunk(store, filter, limit, async |chunk| {
            for LetterPayload { id, payload } in store.letter_payloads(&ids(chunk)).await? {
                let letter = chunk.iter().find(|letter| letter.id == id).expect("only these were read");
                rehearsal.add(letter, &payload);
            }
            Ok(())
        })
        .await?;
        Ok(rehearsal)
    }

    fn add(&mut self, letter: &DeadLetter, payload: &[u8]) {
        self.letters += 1;
        self.events += letter.event_count;
        self.projects.insert(project(letter));
        let rows = rows_of_letter(
            letter.project,
            letter.event_index,
            letter.event_count,
            letter.code.as_deref(),
            payload,
        );
        self.unreadable.extend(rows.err().map(|reason| (letter.id, reason)));
    }

    pub(super) fn text(&self) -> String {
        if self.letters == 0 {
            return "There is nothing to redrive.".to_owned();
        }
        let projects = Vec::from_iter(self.projects.iter().map(String::as_str)).join(", ");
        let mut text = format!(
            "Would redrive {}, with {} of {projects}.\n",
            counted(self.letters, "letter"),
            counted(self.events, "event"),
        );
        let unreadable = self.unreadable.len();
        if unreadable == 0 {
            text.push_str("All of them can be read. Only the database can say whether they can be stored.\n");
            return text;
        }
        let letters = counted(unreadable as u64, "letter");
        text.push_str(&format!("{letters} cannot be read and would remain dead:\n"));
        for (id, reason) in self.unreadable.iter().take(UNREADABLE_SHOWN) {
            text.push_str(&format!("  {id}: {}\n", printable(reason)));
        }
        if unreadable > UNREADABLE_SHOWN {
            text.push_str(&format!("  and {} more\n", unreadable - UNREADABLE_SHOWN));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let unreadable = |(id, reason): &(i64, String)| json!({ "id": id, "why": reason });
        json!({
            "dry_run": true,
            "letters": self.letters,
            "events": self.events,
            "projects": self.projects,
            "unreadable": self.unreadable.iter().map(unreadable).collect::<Vec<_>>(),
        })
    }
}
