//! `millrace usage --meter`: the figures of a meter.

use millrace_event::printable::printable;
use millrace_store::{GroupFilter, MeterInfo, MeterQuery, MeterRow, Store};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::arguments::UsageArgs;
use super::chart::{Bar, Bars};
use super::meter_period::{MeterPeriod, micros, moment};
use crate::failure::Failure;
use crate::moment::shown;
use crate::output::{Output, grouped, grouped_decimal, table};
use crate::{find, terminal};

/// Lines of a report, at most.
const LINES_MAX: u32 = 10_000;
/// The name of the subject among the groups.
const SUBJECT: &str = "subject";
/// The length of the longest bar, before it is drawn.
const BAR_UNITS: f64 = 1e9;

struct MeterReport<'a> {
    info: &'a MeterInfo,
    period: &'a MeterPeriod,
    by_subject: bool,
    by_groups: Vec<&'a str>,
    rows: Vec<MeterRow>,
}

#[derive(Serialize)]
struct Document<'a> {
    project: &'a str,
    meter: &'a str,
    from: String,
    to: String,
    window: Option<&'static str>,
    timezone: &'a str,
    rows: Vec<DocumentRow<'a>>,
}

#[derive(Serialize)]
struct DocumentRow<'a> {
    start: String,
    end: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    groups: Map<String, Value>,
    events: u64,
    value: &'a RawValue,
}

pub(super) async fn run(
    store: &dyn Store,
    output: &Output,
    arguments: &UsageArgs,
    project: &str,
    slug: &str,
) -> Result<(), Failure> {
    let period = MeterPeriod::new(arguments, OffsetDateTime::now_utc())?;
    let info = find::meter(store, project, slug).await?;
    let query = query(arguments, &period, &info)?;
    let rows = store.meter_usage(&info.meter, &query).await?;
    if rows.len() > LINES_MAX as usize {
        let advice = "choose a later --from, a wider --window, or a --subject";
        return Err(Failure::Refused(format!("the report has more than 10,000 lines; {advice}")));
    }
    let names = query.by_groups.iter().map(|&index| info.meter.definition.groups[index].name.as_str());
    let report = MeterReport {
        info: &info,
        period: &period,
        by_subject: query.by_subject,
        by_groups: names.collect(),
        rows,
    };
    let body = if arguments.chart { report.chart() } else { report.table() };
    let text = format!(
        "{} of project {project}, from {} to {}, {}\n\n{body}",
        slug,
        period.shown(period.from),
        period.shown(period.to),
        period.zone.name()
    );
    output.print(&text, &report.document()?)
}

fn query(arguments: &UsageArgs, period: &MeterPeriod, info: &MeterInfo) -> Result<MeterQuery, Failure> {
    let groups = &info.meter.definition.groups;
    let index = |option: &str, name: &str| {
        groups.iter().position(|group| group.name == name).ok_or_else(|| {
            let names = groups.iter().map(|group| group.name.as_str());
            let known = std::iter::once(SUBJECT).chain(names).collect::<Vec<_>>().join(", ");
            Failure::Usage(format!("{option}: the meter has no group {name:?}; it has {known}"))
        })
    };
    let mut by_groups: Vec<usize> = Vec::new();
    for name in arguments.by.iter().filter(|name| *name != SUBJECT) {
        let group = index("--by", name)?;
        if !by_groups.contains(&group) {
            by_groups.push(group);
        }
    }
    let mut filters: Vec<GroupFilter> = Vec::new();
    for (name, value) in &arguments.filter {
        let group = index("--filter", name)?;
        match filters.iter_mut().find(|filter| filter.group == group) {
            Some(filter) => filter.values.push(Some(value.clone())),
            None => filters.push(GroupFilter { group, values: vec![Some(value.clone())] }),
        }
    }
    Ok(MeterQuery {
        from_us: micros(period.from),
        to_us: micros(period.to),
        window: period.window,
        time_zone: period.zone.name().to_owned(),
        subjects: arguments.subject.clone(),
        by_subject: arguments.by.iter().any(|name| name == SUBJECT),
        by_groups,
        filters,
        offset: 0,
        limit: LINES_MAX + 1,
    })
}

impl MeterReport<'_> {
    /// What a line is about: its window, subject and groups.
    fn keys(&self, row: &MeterRow) -> Vec<String> {
        let window = self.period.window.map(|window| self.period.label(window, row.start_us));
        let subject = row.subject.as_deref().map(|subject| named(subject, "(no subject)"));
        let groups = row.groups.iter().map(|value| named(value.as_deref().unwrap_or_default(), "(none)"));
        window.into_iter().chain(subject).chain(groups).collect()
    }

    fn table(&self) -> String {
        if self.rows.is_empty() {
            return "There are no figures in this period.".to_owned();
        }
        let window = self.period.window.map(<&'static str>::from);
        let subject = self.by_subject.then_some(SUBJECT);
        let keys = window.into_iter().chain(subject).chain(self.by_groups.iter().copied());
        let head: Vec<&str> = keys.chain(["events", self.info.meter.definition.aggregation.into()]).collect();
        let line = |row: &MeterRow| {
            let figures = [grouped(row.events.into()), grouped_decimal(&row.value)];
            self.keys(row).into_iter().chain(figures).collect()
        };
        table(&head, &self.rows.iter().map(line).collect::<Vec<Vec<String>>>())
    }

    /// A bar for each line. A chart of windows alone also has those without events.
    fn chart(&self) -> String {
        // A bar is a drawing: only its length is rounded.
        let size = |row: &MeterRow| row.value.parse().unwrap_or(0.0_f64).max(0.0);
        let most = self.rows.iter().map(size).fold(0.0, f64::max);
        let units = |row: &MeterRow| if most > 0.0 { (size(row) / most * BAR_UNITS) as u64 } else { 0 };
        let bar = |label: String, row: &MeterRow| Bar {
            label,
            number: grouped_decimal(&row.value),
            size: units(row),
        };
        let bars = match self.period.window {
            Some(window) if !self.by_subject && self.by_groups.is_empty() => {
                let at = |start: i64| self.rows.iter().find(|row| row.start_us == start);
                let windows = self.period.windows(window).into_iter().map(micros);
                windows
                    .map(|start| {
                        let label = self.period.label(window, start);
                        match at(start) {
                            Some(row) => bar(label, row),
                            None => Bar { label, number: "0".to_owned(), size: 0 },
                        }
                    })
                    .collect()
            }
            _ => self.rows.iter().map(|row| bar(self.keys(row).join("  "), row)).collect(),
        };
        Bars { columns: terminal::columns(), smooth: terminal::shows_utf8() }.draw(bars)
    }

    fn document(&self) -> Result<Document<'_>, Failure> {
        let row = |row| self.document_row(row);
        Ok(Document {
            project: &self.info.project_name,
            meter: &self.info.meter.definition.slug,
            from: shown(self.period.from),
            to: shown(self.period.to),
            window: self.period.window.map(Into::into),
            timezone: self.period.zone.name(),
            rows: self.rows.iter().map(row).collect::<Result<_, _>>()?,
        })
    }

    fn document_row<'a>(&self, row: &'a MeterRow) -> Result<DocumentRow<'a>, Failure> {
        let groups = self.by_groups.iter().zip(&row.groups);
        // All digits of the number, which a float would round.
        let value = serde_json::from_str(&row.value);
        Ok(DocumentRow {
            start: shown(moment(row.start_us)),
            end: shown(moment(row.end_us)),
            subject: row.subject.as_deref(),
            groups: groups.map(|(name, value)| ((*name).to_owned(), Value::from(value.clone()))).collect(),
            events: row.events,
            value: value.map_err(|_| Failure::Refused(format!("the figure {:?} is no number", row.value)))?,
        })
    }
}

fn named(text: &str, without: &str) -> String {
    if text.is_empty() { without.to_owned() } else { printable(text) }
}
