//! Finds a project, a plan, a meter or a threshold by its name, and suggests the nearest name when there is
//! none.

use millrace_event::plan::Plan;
use millrace_store::{MeterInfo, ProjectInfo, Store, ThresholdInfo};

use crate::failure::Failure;

/// A name with one mistyped letter in this many, and one more, is still suggested.
const LETTERS_PER_TYPO: usize = 4;

/// # Errors
/// When there is no project of this name; the error suggests a similar one.
pub(crate) async fn project(store: &dyn Store, name: &str) -> Result<ProjectInfo, Failure> {
    let mut projects = store.projects().await?;
    match projects.iter().position(|project| project.name == name) {
        Some(index) => Ok(projects.swap_remove(index)),
        None => Err(unknown("project", name, projects.iter().map(|project| project.name.as_str()))),
    }
}

/// # Errors
/// When there is no plan of this name; the error suggests a similar one.
pub(crate) async fn plan(store: &dyn Store, name: &str) -> Result<Plan, Failure> {
    let mut plans = store.plans().await?;
    match plans.iter().position(|plan| plan.name == name) {
        Some(index) => Ok(plans.swap_remove(index)),
        None => Err(unknown("plan", name, plans.iter().map(|plan| plan.name.as_str()))),
    }
}

/// # Errors
/// When there is no such project, or it has no meter with this slug; the error suggests a similar one.
pub(crate) async fn meter(store: &dyn Store, project: &str, slug: &str) -> Result<MeterInfo, Failure> {
    let mut infos = store.meters(Some(self::project(store, project).await?.project)).await?;
    match infos.iter().position(|info| info.meter.definition.slug == slug) {
        Some(index) => Ok(infos.swap_remove(index)),
        None => Err(unknown("meter", slug, infos.iter().map(|info| info.meter.definition.slug.as_str()))),
    }
}

/// # Errors
/// When there is no such project, or it has no threshold of this name; the error suggests a similar one.
pub(crate) async fn threshold(
    store: &dyn Store,
    project: &str,
    name: &str,
) -> Result<ThresholdInfo, Failure> {
    let mut infos = store.thresholds(Some(self::project(store, project).await?.project)).await?;
    match infos.iter().position(|info| info.definition.name == name) {
        Some(index) => Ok(infos.swap_remove(index)),
        None => Err(unknown("threshold", name, infos.iter().map(|info| info.definition.name.as_str()))),
    }
}

fn unknown<'a>(kind: &str, name: &str, names: impl Iterator<Item = &'a str>) -> Failure {
    let suggestion = nearest(name, names).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
    Failure::Refused(format!(
        "there is no {kind} named {name:?}; {suggestion}`millrace {kind} list` shows all"
    ))
}

fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typos_max = 1 + name.chars().count() / LETTERS_PER_TYPO;
    let typos = |candidate: &str| strsim::osa_distance(&name.to_lowercase(), &candidate.to_lowercase());
    names
        .map(|candidate| (typos(candidate), candidate))
        .filter(|(typos, _)| *typos <= typos_max)
        .min_by_key(|(typos, _)| *typos)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_for_a_mistyped_one() {
        let names = ["shop", "workshop", "bank"];
        let suggested = |name| nearest(name, names.into_iter());
        assert_eq!(
            ["shpo", "Shop", "worksop", "bnak"].map(suggested),
            ["shop", "shop", "workshop", "bank"].map(Some)
        );
        assert_eq!(suggested("zork"), None);
    }
}
