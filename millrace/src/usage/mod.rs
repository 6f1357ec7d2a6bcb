//! `millrace usage`: what was stored and is billed, as a table, a chart, or JSON.

mod chart;
mod period;

use clap::{Args, ValueEnum};
use millrace_store::{Store, UsageRow, UsageWindow};
use serde_json::{Value, json};
use time::OffsetDateTime;

use self::chart::Bars;
use self::period::Period;
use crate::failure::Failure;
use crate::moment::{When, shown};
use crate::output::{Output, grouped, table};
use crate::{find, terminal};

/// How it is used.
pub(crate) const EXAMPLES: &str = "\
Examples:
  millrace usage                                every project, this month
  millrace usage shop --from 7d --chart         the last seven days and today, as bars
  millrace usage shop --window hour             today by the hour
  millrace usage --from 2026-10-01 --to 2026-11-01 --json";

/// What to report.
#[derive(Args, Clone, Debug)]
pub(crate) struct UsageArgs {
    /// The project; without one, a line for each project
    project: Option<String>,
    /// Begin here: a day (2026-11-01), a moment (RFC 3339) or a span back in whole windows (7d). By default with the
    /// month; of hours, with the day; of months, with the year
    #[arg(long, value_name = "WHEN")]
    from: Option<When>,
    /// End before this moment, written in the same ways; by default now
    #[arg(long, value_name = "WHEN")]
    to: Option<When>,
    /// What a line of a project stands for
    #[arg(long, value_enum, default_value_t = Window::Day)]
    window: Window,
    /// Draw bars of the events instead of a table
    #[arg(long)]
    chart: bool,
}

/// See [`UsageWindow`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Window {
    Hour,
    Day,
    Month,
}

impl Window {
    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl From<Window> for UsageWindow {
    fn from(window: Window) -> Self {
        match window {
            Window::Hour => Self::Hour,
            Window::Day => Self::Day,
            Window::Month => Self::Month,
        }
    }
}

/// What was counted of a project or in a window.
struct Line {
    label: String,
    usage: UsageRow,
}

/// What is reported.
struct Report {
    /// What a line stands for.
    of: &'static str,
    period: Period,
    lines: Vec<Line>,
    total: UsageRow,
}

/// Prints the usage of one project or of all.
pub(crate) async fn run(store: &dyn Store, output: &Output, arguments: &UsageArgs) -> Result<(), Failure> {
    let now = OffsetDateTime::now_utc();
    let period = Period::new(arguments.from, arguments.to, arguments.window, now)?;
    let report = match &arguments.project {
        Some(name) => Report::of_project(store, name, period).await?,
        None => Report::of_all(store, period).await?,
    };
    let heading = match &arguments.project {
        Some(name) => format!("Usage of {name} by {}", report.of),
        None => "Usage by project".to_owned(),
    };
    let body = if arguments.chart { report.chart(arguments.project.is_some()) } else { report.table() };
    let text = format!("{heading}, from {} to {}\n\n{body}", shown(period.from), shown(period.to));
    output.print(&text, &report.json(arguments.project.as_deref()))
}

impl Report {
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

    fn new(of: &'static str, period: Period, lines: Vec<Line>) -> Self {
        let mut total = UsageRow { start: period.from, events: 0, bytes: 0, duplicates: 0, dead: 0 };
        for Line { usage, .. } in &lines {
            total.events += usage.events;
            total.bytes += usage.bytes;
            total.duplicates += usage.duplicates;
            total.dead += usage.dead;
        }
        Self { of, period, lines, total }
    }

    fn table(&self) -> String {
        let row = |label: &str, usage: &UsageRow| {
            let counts = [usage.events, usage.duplicates, usage.dead, usage.bytes];
            std::iter::once(label.to_owned()).chain(counts.map(|count| grouped(count.into()))).collect()
        };
        let mut rows: Vec<Vec<String>> =
            self.lines.iter().map(|line| row(&line.label, &line.usage)).collect();
        rows.push(row("total", &self.total));
        table(&[self.of, "events", "duplicates", "dead", "bytes"], &rows)
    }

    /// A bar for each line; of a project also for the windows in which nothing came.
    fn chart(&self, by_window: bool) -> String {
        let bar = |line: &Line| (line.label.clone(), line.usage.events);
        let bars = if by_window {
            let events = |start| self.lines.iter().find(|line| line.usage.start == start);
            let windows = self.period.windows().into_iter();
            windows
                .map(|start| (self.period.label(start), events(start).map_or(0, |line| line.usage.events)))
                .collect()
        } else {
            self.lines.iter().map(bar).collect()
        };
        let drawn = Bars { columns: terminal::columns(), smooth: terminal::shows_utf8() }.draw(bars);
        format!("{drawn}\n{} events in all\n", grouped(self.total.events.into()))
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
                "project": project, "from": from, "to": to, "window": self.of, "total": total, "usage": lines,
            }),
            None => json!({ "from": from, "to": to, "total": total, "projects": lines }),
        }
    }
}

fn sums(usage: &UsageRow) -> Value {
    json!({
        "events": usage.events, "duplicates": usage.duplicates, "dead": usage.dead, "bytes": usage.bytes,
    })
}
