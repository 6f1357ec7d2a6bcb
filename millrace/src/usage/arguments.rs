//! The options of `millrace usage`.

use clap::Args;

use super::window::Window;
use crate::moment::TimeArgument;

pub(crate) const EXAMPLES: &str = "\
Examples:
  millrace usage                                every project, this month
  millrace usage shop --from 7d --chart         the last seven days and today, as bars
  millrace usage shop --window hour             today by the hour
  millrace usage --from 2026-10-01 --to 2026-11-01 --json
  millrace usage shop --meter tokens --by subject                 this month, one line for each customer
  millrace usage shop --meter tokens --subject acme --timezone Europe/Berlin --chart
  millrace usage shop --meter tokens --by subject --by model --filter region=eu --from 2026-10-01 --to 2026-11-01";

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct UsageArgs {
    /// The project's name; without it, one line for each project
    pub(super) project: Option<String>,
    /// Start of the report: a day (2026-11-01), a time at a full hour UTC (RFC 3339), or a duration before
    /// now in whole windows (7d). Default: start of the current month (day for hourly, year for monthly).
    /// With --meter, a time may be at a quarter of an hour, and a day begins in the time zone
    #[arg(long, value_name = "WHEN")]
    pub(super) from: Option<TimeArgument>,
    /// End of the report, not included, in the same formats. Default: end of the current hour; with --meter,
    /// of the current quarter of an hour
    #[arg(long, value_name = "WHEN")]
    pub(super) to: Option<TimeArgument>,
    /// Time that one line of a project covers. Default: day; with --by, the whole period
    #[arg(long, value_enum)]
    pub(super) window: Option<Window>,
    /// Draw a bar chart of the events, or of the figures of the meter, instead of a table
    #[arg(long)]
    pub(super) chart: bool,
    /// Show the figures of this meter of the project
    #[arg(long, value_name = "SLUG", requires = "project")]
    pub(super) meter: Option<String>,
    /// With --meter: one line for each subject, or for each value of a group; repeat it for both
    #[arg(long, value_name = "subject|GROUP")]
    pub(super) by: Vec<String>,
    /// With --meter: only this subject; repeat it for more
    #[arg(long, value_name = "SUBJECT")]
    pub(super) subject: Vec<String>,
    /// With --meter: only events with this value of a group; repeat it for more
    #[arg(long, value_name = "GROUP=VALUE", value_parser = filter)]
    pub(super) filter: Vec<(String, String)>,
    /// With --meter: time zone in which days and months begin, such as Europe/Berlin. Default: UTC
    #[arg(long, value_name = "ZONE")]
    pub(super) timezone: Option<String>,
}

impl UsageArgs {
    /// Whether an option needs `--meter`.
    pub(super) fn is_for_meters(&self) -> bool {
        let Self { by, subject, filter, timezone, .. } = self;
        !by.is_empty() || !subject.is_empty() || !filter.is_empty() || timezone.is_some()
    }
}

/// Reads `NAME=VALUE`.
fn filter(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or("expected the name of a group and a value, such as model=gpt-4")?;
    Ok((name.to_owned(), value.to_owned()))
}
