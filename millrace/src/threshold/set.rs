//! `millrace threshold set`

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};
use ingest_api::documents;
use millrace_event::meter::Decimal;
use millrace_event::webhook::Endpoint;
use millrace_store::{Store, ThresholdDefinition, ThresholdPeriod, ThresholdRule};
use serde_json::json;
use strum::VariantArray;

use super::show;
use crate::failure::Failure;
use crate::find;
use crate::output::Output;

pub(super) const EXAMPLES: &str = "\
Examples:
  millrace threshold set shop most-of-quota --quota 80% --url https://example.com/hook
  millrace threshold set shop much --meter tokens --per month --value 1000000 --url https://example.com/hook
  millrace threshold set shop near --meter tokens --limit 90% --url https://example.com/hook
  millrace threshold set shop acme --meter tokens --subject acme --per day --value 50000 --url https://example.com/hook";

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("compared").args(["value", "limit"])))]
pub(crate) struct SetArgs {
    /// The project's name
    project: String,
    /// Name of the threshold in its project: a-z, 0-9, '_' and '-'
    name: String,
    /// Share of the plan's events per month, from 1% to 100%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    #[arg(required_unless_present = "meter", conflicts_with_all = ["meter", "subject", "per", "value", "limit"])]
    quota: Option<u8>,
    /// Slug of a meter, with count, sum, max or unique_count
    #[arg(long, value_name = "SLUG", requires = "compared")]
    meter: Option<String>,
    /// Only this subject; without it, the threshold holds for each subject
    #[arg(long, requires = "meter")]
    subject: Option<String>,
    /// The period of the figure, in UTC and by event time; with --limit, that of the limit
    #[arg(long, value_name = "PERIOD", default_value = "month", value_parser = period(), requires = "meter")]
    per: ThresholdPeriod,
    /// The figure that causes the notification: a number greater than 0
    #[arg(long, value_name = "NUMBER", value_parser = number, requires = "meter")]
    value: Option<Decimal>,
    /// Share of the limit that a customer has for this meter and period, from 1% to 100%
    #[arg(long, value_name = "PERCENT", value_parser = percent, requires = "meter")]
    limit: Option<u8>,
    /// Where notifications are sent: https://, or http:// inside a network that you trust
    #[arg(long, value_parser = url)]
    url: String,
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.trim().strip_suffix('%').unwrap_or(text).parse().ok();
    let expected = || "expected a percentage from 1% to 100%, such as 80%".to_owned();
    number.filter(|percent| (1..=100).contains(percent)).ok_or_else(expected)
}

fn number(text: &str) -> Result<Decimal, String> {
    let expected =
        || "expected a number greater than 0 in plain notation, such as 1000000 or 12.5".to_owned();
    Decimal::of_text(text).filter(|number| *number > Decimal::default()).ok_or_else(expected)
}

fn url(text: &str) -> Result<String, String> {
    Endpoint::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn period() -> impl TypedValueParser<Value = ThresholdPeriod> {
    let names = ThresholdPeriod::VARIANTS.iter().map(<&'static str>::from);
    PossibleValuesParser::new(names).map(|name| name.parse().expect("one of the names"))
}

pub(super) async fn run(store: &dyn Store, output: &Output, arguments: SetArgs) -> Result<(), Failure> {
    let SetArgs { project, name, quota, meter, subject, per, value, limit, url } = arguments;
    let period = per;
    let rule = match (quota, meter, value, limit) {
        (Some(percent), ..) => ThresholdRule::Quota { percent },
        (None, Some(slug), Some(value), _) => ThresholdRule::Meter { slug, subject, period, value },
        (None, Some(slug), None, Some(percent)) => ThresholdRule::Limit { percent, slug, subject, period },
        _ => {
            let expected = "name what is compared: --quota, or --meter with --value or --limit";
            return Err(Failure::Usage(expected.to_owned()));
        }
    };
    if let Some(slug) = rule.meter() {
        find::meter(store, &project, slug).await?;
    }
    find::project(store, &project).await?;
    let update = store.set_threshold(&project, &ThresholdDefinition { name, rule, url }).await?;
    let mut text = format!("Set a threshold.\n\n{}", show::text(&update.info));
    if let Some(secret) = &update.secret {
        text.push_str(&format!(
            "\nSigning secret of project {project}: {secret}\nSave it now; it is not shown again. It is stored as it is, \
             to sign notifications. Check their signatures with a library of Standard Webhooks.\n"
        ));
    }
    let mut document = documents::threshold(&update.info);
    document["signing_secret"] = json!(update.secret);
    output.print(&text, &document)
}
