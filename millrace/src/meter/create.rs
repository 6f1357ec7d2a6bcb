//! `millrace meter create`

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use millrace_event::meter::{Aggregation, DefinitionError, Group, MeterDefinition, Path};
use millrace_store::{MeterStart, Store};
use strum::VariantArray;

use super::{backfill, show};
use crate::failure::Failure;
use crate::find;
use crate::output::Output;

pub(super) const EXAMPLES: &str = "\
Examples:
  millrace meter create shop calls --event api_call
  millrace meter create shop tokens --event llm_call --aggregation sum --value '$.tokens' --group-by model='$.model'
  millrace meter create shop users --event login --aggregation unique_count --value subject --backfill

Paths:
  $.tokens, $.usage.total, $['a b']             a property
  context.library.name                          a member of the context
  subject, name, client_id                      a column";

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The project's name
    project: String,
    /// Name of the meter in its project: a-z, 0-9, '_' and '-'
    slug: String,
    /// Name of the events that it counts
    #[arg(long, value_name = "NAME")]
    event: String,
    /// How it makes one figure of many events
    #[arg(long, default_value = "count", value_parser = aggregation())]
    aggregation: Aggregation,
    /// Path of the value, which every aggregation but count needs
    #[arg(long, value_name = "PATH")]
    value: Option<Path>,
    /// A value by which figures are kept apart; repeat it for more, at most 8
    #[arg(long, value_name = "NAME=PATH", value_parser = group)]
    group_by: Vec<Group>,
    /// Also count the events that are stored already
    #[arg(long)]
    backfill: bool,
}

fn aggregation() -> impl TypedValueParser<Value = Aggregation> {
    let names = Aggregation::VARIANTS.iter().map(<&'static str>::from);
    PossibleValuesParser::new(names).map(|name| name.parse().expect("one of the names"))
}

fn group(text: &str) -> Result<Group, String> {
    let (name, path) =
        text.split_once('=').ok_or("expected a name and a path, such as model='$.model'".to_owned())?;
    let path = path.parse().map_err(|error: millrace_event::meter::PathError| error.to_string())?;
    Ok(Group { name: name.to_owned(), path })
}

pub(super) async fn run(store: &dyn Store, output: &Output, arguments: &CreateArgs) -> Result<(), Failure> {
    let definition = MeterDefinition {
        slug: arguments.slug.clone(),
        event: arguments.event.clone(),
        aggregation: arguments.aggregation,
        value: arguments.value.clone(),
        groups: arguments.group_by.clone(),
    };
    definition.check().map_err(|error| Failure::Usage(format!("{}: {error}", argument_of(&error))))?;
    find::project(store, &arguments.project).await?;
    let start = if arguments.backfill { MeterStart::FirstEvent } else { MeterStart::Now };
    let info = store.create_meter(&arguments.project, &definition, start).await?;
    if arguments.backfill {
        return backfill::run(store, output, &info).await;
    }
    let text =
        format!("Created a meter. It counts events that are received from now on.\n\n{}", show::text(&info));
    output.print(&text, &show::json(&info))
}

/// The argument that an error is about.
fn argument_of(error: &DefinitionError) -> &'static str {
    match error {
        DefinitionError::Slug(_) => "SLUG",
        DefinitionError::Event => "--event",
        DefinitionError::NoValue(_) | DefinitionError::ValueOfCount => "--value",
        DefinitionError::TooManyGroups
        | DefinitionError::GroupIsSubject
        | DefinitionError::GroupName(_)
        | DefinitionError::GroupTwice(_) => "--group-by",
    }
}
