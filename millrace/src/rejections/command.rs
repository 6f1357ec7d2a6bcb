//! The command: its options, and the questions to the store.

use std::collections::BTreeMap;

use clap::Args;
use millrace_settings::number;
use millrace_store::{RejectionKind, SAMPLES_KEPT, Store};
use time::OffsetDateTime;

use super::report::RejectionsReport;
use crate::failure::Failure;
use crate::find;
use crate::moment::TimeArgument;
use crate::output::Output;
use crate::usage::{Period, Window};

pub(crate) const EXAMPLES: &str = "\
Examples:
  millrace rejections                                  every project, the last 24 hours
  millrace rejections --project shop --limit 3         one project, with its last three samples
  millrace rejections --project shop --from 7d --json  by the hour, for a program";

#[derive(Args, Clone, Debug)]
pub(crate) struct RejectionsArgs {
    /// What was refused of this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Start of the counts: a day (2026-11-21), a full hour (2026-11-21T14:00:00Z), or a duration before now
    /// in whole hours (7d). Default: 24 hours before the end
    #[arg(long, value_name = "WHEN")]
    from: Option<TimeArgument>,
    /// End of the counts, not included, in the same formats. Default: the end of this hour
    #[arg(long, value_name = "WHEN")]
    to: Option<TimeArgument>,
    /// Show at most this many samples, the last ones, whenever they were refused
    #[arg(long, value_name = "N", default_value = "10", value_parser = number(0..=SAMPLES_KEPT))]
    limit: u32,
}

pub(crate) async fn run(
    store: &dyn Store,
    output: &Output,
    arguments: &RejectionsArgs,
) -> Result<(), Failure> {
    let period = period(arguments, OffsetDateTime::now_utc())?;
    let project = match &arguments.project {
        Some(name) => Some(find::project(store, name).await?.project),
        None => None,
    };
    let names: BTreeMap<_, _> =
        store.projects().await?.into_iter().map(|info| (info.project, info.name)).collect();
    let report = RejectionsReport {
        project: arguments.project.clone(),
        period,
        names,
        counts: store.rejections(project, period.from, period.to).await?,
        samples: store.rejection_samples(project, RejectionKind::ALL, arguments.limit).await?,
    };
    output.print(&report.text(), &report.json())
}

fn period(arguments: &RejectionsArgs, now: OffsetDateTime) -> Result<Period, Failure> {
    let period = Period::new(arguments.from, arguments.to, Window::Hour, now);
    if arguments.from.is_some() {
        return period;
    }
    let period = period?;
    Ok(Period { from: period.to - time::Duration::DAY, ..period })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 14:30:05 UTC);

    fn hours(from: Option<&str>, to: Option<&str>) -> Result<(OffsetDateTime, OffsetDateTime), String> {
        let when = |text: &str| text.parse().expect("a time");
        let (from, to) = (from.map(when), to.map(when));
        let arguments = RejectionsArgs { project: None, from, to, limit: 1 };
        let period = period(&arguments, NOW).map_err(|failure| failure.to_string())?;
        Ok((period.from, period.to))
    }

    #[test]
    fn the_default_is_the_24_hours_before_the_end() {
        let end = datetime!(2026-11-21 15:00 UTC);
        assert_eq!(hours(None, None), Ok((datetime!(2026-11-20 15:00 UTC), end)));
        let midnight = datetime!(2026-11-20 0:00 UTC);
        assert_eq!(hours(None, Some("2026-11-20")), Ok((datetime!(2026-11-19 0:00 UTC), midnight)));
        assert_eq!(hours(Some("2h"), None), Ok((datetime!(2026-11-21 12:00 UTC), end)));
        let refused = hours(Some("2026-11-21T12:10:00Z"), None).unwrap_err();
        assert!(refused.contains("--from") && refused.contains("2026-11-21T12:00:00Z"), "{refused}");
    }
}
