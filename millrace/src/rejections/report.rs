//! The report, as text and as JSON. Pure.

use std::collections::BTreeMap;

use millrace_event::plan::ProjectId;
use millrace_event::printable::{printable, text_of_bytes};
use millrace_store::{RejectionCount, RejectionKind, RejectionSample};
use serde_json::{Value, json};

use crate::moment::shown;
use crate::output::{cut_table, grouped};
use crate::usage::Period;

/// Bytes shown of a payload; --json has all of it.
const PAYLOAD_BYTES_SHOWN: usize = 1_000;

pub(super) struct RejectionsReport {
    /// The project that was asked for. `None` is every project.
    pub(super) project: Option<String>,
    pub(super) period: Period,
    pub(super) names: BTreeMap<ProjectId, String>,
    pub(super) counts: Vec<RejectionCount>,
    /// Newest first.
    pub(super) samples: Vec<RejectionSample>,
}

impl RejectionsReport {
    pub(super) fn text(&self) -> String {
        let whose = self.project.as_ref().map(|name| format!(" of {}", printable(name))).unwrap_or_default();
        let (from, to) = (shown(self.period.from), shown(self.period.to));
        let mut text = format!("Refused{whose} from {from} to {to}\n\n");
        if self.counts.is_empty() {
            text.push_str("Nothing was refused.\n");
        } else {
            text.push_str(&self.table());
        }
        match self.samples.len() {
            0 => {}
            1 => text.push_str("\nThe last sample:\n"),
            many => text.push_str(&format!("\nThe last {many} samples, whenever they were refused:\n")),
        }
        for sample in &self.samples {
            text.push_str(&self.sample(sample));
        }
        text
    }

    /// One line for each project, kind and code, the largest count first.
    fn table(&self) -> String {
        let mut sums: BTreeMap<(ProjectId, RejectionKind, &str), u64> = BTreeMap::new();
        for row in &self.counts {
            *sums.entry((row.project, row.kind, &row.code)).or_default() += row.count;
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let row = |((project, kind, code), count): &((ProjectId, RejectionKind, &str), u64)| {
            vec![self.name(*project), kind.name().to_owned(), grouped((*count).into()), printable(code)]
        };
        let rows: Vec<_> = sums.iter().map(row).collect();
        cut_table(&["project", "what", "count", "reason"], &rows)
    }

    fn sample(&self, sample: &RejectionSample) -> String {
        let RejectionSample { project, at, kind, code, field, message, payload } = sample;
        let field = field.as_ref().filter(|field| !message.starts_with(*field));
        let field = field.map(|field| format!("{}: ", printable(field))).unwrap_or_default();
        let (name, kind, code) = (self.name(*project), kind.name(), printable(code));
        let mut text = format!("\n{}  {name}  {kind}  {code}\n  {field}{}\n", shown(*at), printable(message));
        if let Some(payload) = payload.as_deref().filter(|payload| !payload.is_empty()) {
            let is_cut = payload.len() > PAYLOAD_BYTES_SHOWN;
            let mut beginning = text_of_bytes(&payload[..payload.len().min(PAYLOAD_BYTES_SHOWN)]);
            if is_cut {
                beginning.push('…');
            }
            text.push_str(&format!("  {}\n", printable(&beginning)));
        }
        text
    }

    /// The name of a project, or its number if it is gone.
    fn name(&self, project: ProjectId) -> String {
        self.names.get(&project).map_or_else(|| format!("({project})"), |name| printable(name))
    }

    /// As the answer of the API, with the project of each count and sample.
    pub(super) fn json(&self) -> Value {
        let count = |row: &RejectionCount| {
            json!({
                "project": self.names.get(&row.project), "project_id": row.project, "hour": shown(row.hour),
                "kind": row.kind, "code": row.code, "count": row.count,
            })
        };
        let sample = |sample: &RejectionSample| {
            let mut value = json!({
                "project": self.names.get(&sample.project), "project_id": sample.project, "at": shown(sample.at),
                "kind": sample.kind, "code": sample.code, "message": sample.message,
            });
            if let Some(field) = &sample.field {
                value["field"] = json!(field);
            }
            if let Some(payload) = &sample.payload {
                value["payload"] = json!(text_of_bytes(payload));
            }
            value
        };
        json!({
            "from": shown(self.period.from),
            "to": shown(self.period.to),
            "counts": self.counts.iter().map(count).collect::<Vec<_>>(),
            "samples": self.samples.iter().map(sample).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;
    use crate::usage::Window;

    const NOON: OffsetDateTime = datetime!(2026-11-26 12:00 UTC);

    fn report() -> RejectionsReport {
        let count = |project, hour, code: &str, count| RejectionCount {
            hour: NOON + time::Duration::hours(hour),
            project: ProjectId(project),
            kind: RejectionKind::Event,
            code: code.to_owned(),
            count,
        };
        let hostile = RejectionSample {
            project: ProjectId(1),
            at: NOON,
            kind: RejectionKind::Event,
            code: "unknown_field".to_owned(),
            field: Some("\u{1b}[31mred".to_owned()),
            message: "unknown field; put custom data into properties".to_owned(),
            payload: Some(b"{\"\x1b]0;title\x07\":\"\xff\xc2\x9b\",\n\"b\":\"\xe2\x80\xae\"}".to_vec()),
        };
        RejectionsReport {
            project: None,
            period: Period { from: NOON, to: NOON + time::Duration::DAY, window: Window::Hour },
            names: BTreeMap::from([(ProjectId(1), "sh\u{9b}op".to_owned())]),
            counts: vec![count(1, 0, "too_deep", 2), count(9, 1, "too_deep", 40), count(1, 2, "too_deep", 3)],
            samples: vec![hostile],
        }
    }

    #[test]
    fn counts_are_summed_and_samples_are_shown_without_control_characters() {
        let text = report().text();
        let expected = "\
Refused from 2026-11-26T12:00:00Z to 2026-11-27T12:00:00Z

project     what   count  reason
(9)         event     40  too_deep
sh\\u{9b}op  event      5  too_deep

The last sample:

2026-11-26T12:00:00Z  sh\\u{9b}op  event  unknown_field
  \\u{1b}[31mred: unknown field; put custom data into properties
  {\"\\u{1b}]0;title\\u{7}\":\"\\xff\\u{9b}\",\\n\"b\":\"\\u{202e}\"}
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_long_payload_is_cut_in_the_text_and_whole_in_json() {
        let mut report = report();
        report.samples[0].payload = Some("é".repeat(2_000).into_bytes());
        let text = report.text();
        assert!(text.contains("é…\n") && text.len() < 1_600, "{text}");
        assert_eq!(report.json()["samples"][0]["payload"], "é".repeat(2_000));
    }
}
