//! `millrace meter list`

use millrace_store::{MeterInfo, Store};
use serde_json::json;

use super::show;
use crate::failure::Failure;
use crate::find;
use crate::output::{Output, cut_table};

pub(super) async fn run(store: &dyn Store, output: &Output, project: Option<&str>) -> Result<(), Failure> {
    let project = match project {
        Some(name) => Some(find::project(store, name).await?.project),
        None => None,
    };
    let infos = store.meters(project).await?;
    let row = |info: &MeterInfo| {
        let definition = &info.meter.definition;
        vec![
            info.project_name.clone(),
            definition.slug.clone(),
            show::what_it_makes(definition),
            show::groups(definition),
            show::backfill(&info.meter).to_owned(),
        ]
    };
    let text = if infos.is_empty() {
        "There is no meter. Create one: millrace meter create shop calls --event api_call".to_owned()
    } else {
        let rows: Vec<_> = infos.iter().map(row).collect();
        cut_table(&["project", "meter", "figure", "by", "backfill"], &rows)
    };
    output.print(&text, &json!({ "meters": infos.iter().map(show::json).collect::<Vec<_>>() }))
}
