//! `millrace dead-letters list`

use std::collections::BTreeMap;

use clap::Args;
use millrace_event::printable::printable;
use millrace_settings::number;
use millrace_store::{DeadLetter, LetterFilter, Store};
use serde_json::json;

use super::filter::FilterArgs;
use super::pages::each_page;
use super::text::{as_json, project};
use crate::failure::Failure;
use crate::moment::shown;
use crate::output::{Output, counted, cut_table, grouped};

/// Reasons shown below a list.
const REASONS_SHOWN: usize = 20;

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Show at most this many letters; the counts by reason include all of them
    #[arg(long, value_name = "N", default_value = "20", value_parser = number(0..=1_000_000_usize))]
    limit: usize,
    /// Include letters that were redriven
    #[arg(long)]
    redriven: bool,
}

#[derive(Clone, Copy, Default, serde::Serialize)]
struct LetterCount {
    letters: u64,
    events: u64,
}

impl LetterCount {
    fn add(&mut self, letter: &DeadLetter) {
        self.letters += 1;
        self.events += letter.event_count;
    }
}

/// What letters have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LetterReason {
    sqlstate: Option<String>,
    code: Option<String>,
    reason: String,
}

impl LetterReason {
    fn of(letter: &DeadLetter) -> Self {
        let DeadLetter { sqlstate, code, reason, .. } = letter.clone();
        Self { sqlstate, code, reason }
    }

    /// The SQLSTATE, or the code of a call.
    fn code(&self) -> String {
        self.sqlstate.as_ref().or(self.code.as_ref()).map_or_else(|| "-".to_owned(), |code| printable(code))
    }
}

struct LetterList {
    shown: Vec<DeadLetter>,
    total: LetterCount,
    /// The most frequent first.
    reasons: Vec<(LetterReason, LetterCount)>,
}

pub(super) async fn run(store: &dyn Store, output: &Output, arguments: &ListArgs) -> Result<(), Failure> {
    let filter = LetterFilter { also_redriven: arguments.redriven, ..arguments.filter.resolve(store).await? };
    let list = read(store, &filter, arguments.limit).await?;
    output.print(&list.text(), &list.json())
}

/// Reads every letter that matches the filter, and keeps the newest.
async fn read(store: &dyn Store, filter: &LetterFilter, limit: usize) -> Result<LetterList, Failure> {
    let mut list = LetterList { shown: Vec::new(), total: LetterCount::default(), reasons: Vec::new() };
    let mut reasons: BTreeMap<LetterReason, LetterCount> = BTreeMap::new();
    each_page(store, filter, usize::MAX, async |page| {
        for letter in page {
            list.total.add(letter);
            reasons.entry(LetterReason::of(letter)).or_default().add(letter);
            if list.shown.len() < limit {
                list.shown.push(letter.clone());
            }
        }
        Ok(())
    })
    .await?;
    list.reasons = reasons.into_iter().collect();
    list.reasons.sort_by_key(|(_, count)| std::cmp::Reverse(count.letters));
    Ok(list)
}

impl LetterList {
    fn text(&self) -> String {
        if self.total.letters == 0 {
            return "No dead letters.".to_owned();
        }
        let head = ["number", "project", "created", "events", "code", "reason"];
        let rows: Vec<_> = self.shown.iter().map(row).collect();
        let mut text = cut_table(&head, &rows);
        let LetterCount { letters, events } = self.total;
        let (letters, events) = (counted(letters, "letter"), counted(events, "event"));
        text.push_str(&format!("\n{} of {letters} shown ({events} in all letters).\n\n", rows.len()));
        let reason = |(reason, count): &(LetterReason, LetterCount)| {
            let (letters, events) = (grouped(count.letters.into()), grouped(count.events.into()));
            vec![letters, events, reason.code(), printable(&reason.reason)]
        };
        let reasons: Vec<_> = self.reasons.iter().take(REASONS_SHOWN).map(reason).collect();
        text.push_str(&cut_table(&["letters", "events", "code", "reason"], &reasons));
        if self.reasons.len() > REASONS_SHOWN {
            text.push_str(&format!(
                "and {}\n",
                counted((self.reasons.len() - REASONS_SHOWN) as u64, "more reason")
            ));
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let reason = |(reason, count): &(LetterReason, LetterCount)| {
            let (LetterReason { sqlstate, code, reason }, LetterCount { letters, events }) = (reason, count);
            json!({ "sqlstate": sqlstate, "code": code, "reason": reason, "letters": letters, "events": events })
        };
        json!({
            "letters": self.shown.iter().map(as_json).collect::<Vec<_>>(),
            "total": self.total,
            "reasons": self.reasons.iter().map(reason).collect::<Vec<_>>(),
        })
    }
}

fn row(letter: &DeadLetter) -> Vec<String> {
    let is_redriven = if letter.redriven_at.is_some() { "redriven; " } else { "" };
    vec![
        letter.id.to_string(),
        project(letter),
        shown(letter.created_at),
        grouped(letter.event_count.into()),
        LetterReason::of(letter).code(),
        format!("{is_redriven}{}", printable(&letter.reason)),
    ]
}
