//! The report of `millrace usage`.

use millrace_store::{Store, UsageRow};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::arguments::UsageArgs;
use super::chart::{Bar, Bars};
use super::meter;
use super::period::Period;
use super::window::Window;
use crate::failure::Failure;
use crate::moment::shown;
use crate::output::{Output, counted, grouped, table};
use crate::{find, terminal};

struct Line {
    /// The project, or the window.
    label: String,
    usage: UsageRow,
}

struct UsageReport {
    /// What a line covers: `project`, or the name of a window.
    line_unit: &'static str,
    period: Period,
    lines: Vec<Line>,
    total: UsageRow,
}

pub(crate) async fn run(store: &dyn Store, output: &Output, arguments: &UsageArgs) -> Result<(), Failure> {
    if let (Some(project), Some(slug)) = (&arguments.project, &arguments.meter) {
        return meter::run(store, output, arguments, project, slug).await;
    }
    if arguments.is_for_meters() {
        let advice =
            "--by, --subject, --filter and --timezone are for the figures of a meter; add --meter SLUG";
        return Err(Failure::Usage(advice.to_owned()));
    }
    let window = arguments.window.unwrap_or(Window::Day);
    let period = Period::new(arguments.from, arguments.to, window, OffsetDateTime::now_utc())?;
    let report = match &arguments.project {
        Some(name) => UsageReport::of_project(store, name, period).await?,
        None => UsageReport::of_all(store, period).await?,
    };
    let heading = match &arguments.project {
        Some(name) => format!("Usage of {name} by {}", report.line_unit),
        None => "Usage by project".to_owned(),
    };
    let body = if arguments.chart { report.chart(arguments.project.is_some()) } else { report.table() };
    let text = format!("{heading}, from {} to {}\n\n{body}", shown(period.from), shown(period.to));
    output.print(&text, &report.json(arguments.project.as_deref()))
}

impl UsageReport {
    async fn of_project(store: &dyn Store, name: &str, period: Period) -> Result<Self, Failure> {
        let project = find::project(store, name).await?.project;
        let rows = store.usage(project, period.from, period.to, period.window.into()).await?;
        let line = |usage: UsageRow| Line { label: period.label(usage.start), usage };
        Ok(Self::new(period.window.name(), period, rows.into_iter().map(line).collect()))
    }

    async fn of_all(store: &dyn Store, period: Period) -> Result<Self, Failure> {
        let projects = store.usage_of_all(period.from, period.to).await?;
        let lines = projects.into_iter().map(|project| Line { label: project.name, usage: project.usage });
        Ok(Self::new("project", period, lines.collect()))
    }

    fn new(line_unit: &'static str, period: Period, lines: Vec<Line>) -> Self {
        let mut total = UsageRow {
            start: period.from,
            events: 0,
            bytes: 0,
            duplicates: 0,
            dead: 0,
            conflicts: 0,
            cancelled: 0,
        };
        for Line { usage, .. } in &lines {
            total.events += usage.events;
            total.bytes += usage.bytes;
            total.duplicates += usage.duplicates;
            total.dead += usage.dead;
            total.conflicts += usage.conflicts;
            total.cancelled += usage.cancelled;
        }
        Self { line_unit, period, lines, total }
    }

    fn table(&self) -> String {
        let row = |label: &str, usage: &UsageRow| {
            let UsageRow { events, cancelled, duplicates, conflicts, dead, bytes, .. } = *usage;
            let counts = [events, cancelled, duplicates, conflicts, dead, bytes];
            std::iter::once(label.to_owned()).chain(counts.map(|count| grouped(count.into()))).collect()
        };
        let mut rows: Vec<Vec<String>> =
            self.lines.iter().map(|line| row(&line.label, &line.usage)).collect();
        rows.push(row("total", &self.total));
        table(&[self.line_unit, "events", "cancelled", "duplicates", "conflicts", "dead", "bytes"], &rows)
    }

    /// A bar for each line. The chart of a project also has the windows without events.
    fn chart(&self, by_window: bool) -> String {
        let bar = |line: &Line| Bar::of_count(line.label.clone(), line.usage.events);
        let bars = if by_window {
            let events = |start| self.lines.iter().find(|line| line.usage.start == start);
            let windows = self.period.windows().into_iter();
            windows
                .map(|start| {
                    let count = events(start).map_or(0, |line| line.usage.events);
                    Bar::of_count(self.period.label(start), count)
                })
                .collect()
        } else {
            self.lines.iter().map(bar).collect()
        };
        let drawn = Bars { columns: terminal::columns(), smooth: terminal::shows_utf8() }.draw(bars);
        format!("{drawn}\n{} in total\n", counted(self.total.events, "event"))
    }

    fn json(&self, project: Option<&str>) -> Value {
        let lines = self.lines.iter().map(|line| {
            let mut value = sums(&line.usage);
            match project {
                Some(_) => value["start"] = json!(shown(line.usage.start)),
                None => value["project"] = json!(line.label),
            }
            value
        });
        let lines: Vec<_> = lines.collect();
        let (from, to, total) = (shown(self.period.from), shown(self.period.to), sums(&self.total));
        match project {
            Some(project) => json!({
                "project": project, "from": from, "to": to, "window": self.line_unit, "total": total, "usage": lines,
            }),
            None => json!({ "from": from, "to": to, "total": total, "projects": lines }),
        }
    }
}

fn sums(usage: &UsageRow) -> Value {
    json!({
        "events": usage.events, "cancelled": usage.cancelled, "duplicates": usage.duplicates, "conflicts": usage.conflicts, "dead": usage.dead,
        "bytes": usage.bytes,
    })
}
