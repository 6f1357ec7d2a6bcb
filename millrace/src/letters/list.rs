//! `millrace dead-letters list`

use std::collections::BTreeMap;

use millrace_store::{DeadLetter, LetterFilter, Store};
use serde_json::json;

use super::text::{as_json, cut_table, printable, project};
use super::{ListArgs, each_page};
use crate::failure::Failure;
use crate::moment::shown;
use crate::output::{Output, grouped};

/// Reasons that are told apart at the end of a list.
const REASONS_SHOWN: usize = 20;

/// Letters and their events.
#[derive(Clone, Copy, Default, serde::Serialize)]
struct Sum {
    letters: u64,
    events: u64,
}

impl Sum {
    fn add(&mut self, letter: &DeadLetter) {
        self.letters += 1;
        self.events += letter.event_count;
    }
}

/// What a list tells.
struct Report {
    shown: Vec<DeadLetter>,
    total: Sum,
    /// The most frequent first.
    reasons: Vec<((Option<String>, String), Sum)>,
}

pub(super) async fn run(store: &dyn Store, output: &Output, arguments: &ListArgs) -> Result<(), Failure> {
    let filter = LetterFilter { also_redriven: arguments.redriven, ..arguments.filter.check(store).await? };
    let report = read(store, &filter, arguments.limit).await?;
    output.print(&report.text(), &report.json())
}

/// Reads every letter that the filter lets through, and keeps the newest.
async fn read(store: &dyn Store, filter: &LetterFilter, limit: usize) -> Result<Report, Failure> {
    let mut report = Report { shown: Vec::new(), total: Sum::default(), reasons: Vec::new() };
    let mut reasons: BTreeMap<(Option<String>, String), Sum> = BTreeMap::new();
    each_page(store, filter, usize::MAX, async |page| {
        for letter in page {
            report.total.add(letter);
            reasons.entry((letter.sqlstate.clone(), letter.reason.clone())).or_default().add(letter);
            if report.shown.len() < limit {
                report.shown.push(letter.clone());
            }
        }
        Ok(())
    })
    .await?;
    report.reasons = reasons.into_iter().collect();
    report.reasons.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.letters));
    Ok(report)
}

impl Report {
    fn text(&self) -> String {
        if self.total.letters == 0 {
            return "No dead letters.".to_owned();
        }
        let head = ["number", "project", "died at", "events", "sqlstate", "reason"];
        let rows: Vec<_> = self.shown.iter().map(row).collect();
        let mut text = cut_table(&head, &rows);
        let (letters, events) = (grouped(self.total.letters.into()), grouped(self.total.events.into()));
        text.push_str(&format!(
            "\n{} of {letters} letters shown; {events} events are in all of them.\n\n",
            rows.len()
        ));
        let reason = |((sqlstate, reason), sum): &((Option<String>, String), Sum)| {
            let sqlstate = sqlstate.clone().unwrap_or_else(|| "-".to_owned());
            vec![grouped(sum.letters.into()), grouped(sum.events.into()), sqlstate, printable(reason)]
        };
        let reasons: Vec<_> = self.reasons.iter().take(REASONS_SHOWN).map(reason).collect();
        text.push_str(&cut_table(&["letters", "events", "sqlstate", "reason"], &reasons));
        if self.reasons.len() > REASONS_SHOWN {
            text.push_str(&format!("and {} more reasons\n", self.reasons.len() - REASONS_SHOWN));
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let reason = |((sqlstate, reason), sum): &((Option<String>, String), Sum)| json!({ "sqlstate": sqlstate, "reason": reason, "letters": sum.letters, "events": sum.events });
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
        letter.sqlstate.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{is_redriven}{}", printable(&letter.reason)),
    ]
}
