//! The dashboards of the repository and the query of each panel. Variables and macros are replaced as
//! Grafana's data sources replace them. This module never renders a panel and never evaluates a result.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Clone, Debug)]
pub struct Dashboard {
    /// The file name without the extension.
    pub name: String,
    pub json: Value,
}

/// A panel with queries.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    /// The name of the dashboard.
    pub dashboard: &'a str,
    pub json: &'a Value,
}

/// A query of a panel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question<'a> {
    /// A PromQL range query.
    Range(&'a str),
    /// A PromQL instant query.
    Instant(&'a str),
    /// A PostgreSQL query.
    Sql(&'a str),
}

/// The time range and the selected variables.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Seconds since 1970.
    pub from: f64,
    /// Seconds since 1970.
    pub to: f64,
    /// The distance between two points of a range query.
    pub step: Duration,
    /// The scrape interval that is configured in the data source.
    pub scraped_every: Duration,
    /// Variables of the dashboard, each with its value.
    pub variables: &'a [(&'a str, &'a str)],
}

/// All dashboards of the repository, sorted by name.
///
/// # Panics
/// When a file is not JSON.
pub fn dashboards() -> Vec<Dashboard> {
    let folder = folder();
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut all: Vec<_> = files.flatten().map(|file| dashboard(&file.path())).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("grafana").join("dashboards")
}

fn dashboard(file: &Path) -> Dashboard {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Dashboard { name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), json }
}

impl Dashboard {
    /// The panels, without row headings.
    pub fn panels(&self) -> impl Iterator<Item = Panel<'_>> {
        let panels = self.json["panels"].as_array().into_iter().flatten();
        panels.filter(|json| json["type"] != "row").map(|json| Panel { dashboard: &self.name, json })
    }
}

impl<'a> Panel<'a> {
    /// `DASHBOARD: TITLE`
    pub fn name(&self) -> String {
        format!("{}: {}", self.dashboard, self.title())
    }

    pub fn title(&self) -> &'a str {
        self.json["title"].as_str().unwrap_or_default()
    }

    /// # Panics
    /// When a query is neither for Prometheus nor for PostgreSQL.
    pub fn questions(self) -> impl Iterator<Item = Question<'a>> {
        let targets = self.json["targets"].as_array().into_iter().flatten();
        targets.map(|target| match (target["expr"].as_str(), target["rawSql"].as_str()) {
            (Some(expression), None) if target["instant"] == true => Question::Instant(expression),
            (Some(expression), None) => Question::Range(expression),
            (None, Some(sql)) => Question::Sql(sql),
            _ => panic!("neither a PromQL nor an SQL query: {target}"),
        })
    }
}

impl View<'_> {
    /// The query that Prometheus receives.
    pub fn promql(&self, expression: &str) -> String {
        let seconds = |length: Duration| format!("{}s", length.as_secs());
        // At least four scrape intervals, so that a rate always has two samples.
        let rate = (self.step + self.scraped_every).max(self.scraped_every * 4);
        let range = Duration::from_secs_f64((self.to - self.from).ceil());
        let replaced = expression
            .replace("$__rate_interval", &seconds(rate))
            .replace("$__range", &seconds(range))
            .replace("$__interval", &seconds(self.step));
        self.with_variables(&replaced)
    }

    /// The query that PostgreSQL receives.
    ///
    /// # Panics
    /// When it uses a macro that is not implemented here.
    pub fn sql(&self, sql: &str) -> String {
        let (from, to) = (moment(self.from), moment(self.to));
        let replaced = self.with_variables(sql);
        let replaced = replaced
            .replace("$__timeFrom()", &format!("'{from}'"))
            .replace("$__timeTo()", &format!("'{to}'"));
        let replaced = each_macro(&replaced, "$__timeFilter", |arguments| {
            format!("{} BETWEEN '{from}' AND '{to}'", arguments[0])
        });
        let replaced = each_macro(&replaced, "$__timeGroupAlias", |arguments| {
            let seconds = seconds(arguments[1]);
            format!("floor(extract(epoch from {})/{seconds})*{seconds} AS \"time\"", arguments[0])
        });
        assert!(!replaced.contains("$__"), "a macro is not implemented: {replaced}");
        replaced
    }

    fn with_variables(&self, text: &str) -> String {
        self.variables.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}:csv}}"), value)
                .replace(&format!("${{{name}}}"), value)
                .replace(&format!("${name}"), value)
        })
    }
}

/// Replaces each `name(a, b)`. The arguments must not contain parentheses.
fn each_macro(text: &str, name: &str, replaced: impl Fn(&[&str]) -> String) -> String {
    let call = format!("{name}(");
    let mut parts = text.split(call.as_str());
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (arguments, rest) =
            part.split_once(')').unwrap_or_else(|| panic!("{name} is not closed in {text}"));
        let arguments: Vec<_> = arguments.split(',').map(str::trim).collect();
        whole.push_str(&replaced(&arguments));
        whole.push_str(rest);
    }
    whole
}

/// `'1h'` in seconds.
fn seconds(interval: &str) -> u64 {
    let text = interval.trim_matches('\'');
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => panic!("{interval} is not an interval"),
    };
    number.parse::<u64>().unwrap_or_else(|error| panic!("{interval}: {error}")) * unit
}

fn moment(seconds: f64) -> String {
    let nanoseconds = Duration::from_secs_f64(seconds).as_nanos().cast_signed();
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).expect("the year has four digits");
    moment.format(&Rfc3339).expect("a year of four digits can be formatted")
}
