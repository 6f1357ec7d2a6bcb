//! Finds what an operator has named, or says what was probably meant.

use millrace_event::plan::Plan;
use millrace_store::{ProjectInfo, Store};

use crate::failure::Failure;

/// One slip of the keyboard for so many letters, and one more, still look like a mistyped name.
const LETTERS_A_SLIP: usize = 4;

/// The project of this name.
///
/// # Errors
/// [`Failure::Refused`] with the name that was probably meant.
pub(crate) async fn project(store: &dyn Store, name: &str) -> Result<ProjectInfo, Failure> {
    let mut projects = store.projects().await?;
    match projects.iter().position(|project| project.name == name) {
        Some(at) => Ok(projects.swap_remove(at)),
        None => Err(unknown("project", name, projects.iter().map(|project| project.name.as_str()))),
    }
}

/// The plan of this name.
///
/// # Errors
/// [`Failure::Refused`] with the name that was probably meant.
pub(crate) async fn plan(store: &dyn Store, name: &str) -> Result<Plan, Failure> {
    let mut plans = store.plans().await?;
    match plans.iter().position(|plan| plan.name == name) {
        Some(at) => Ok(plans.swap_remove(at)),
        None => Err(unknown("plan", name, plans.iter().map(|plan| plan.name.as_str()))),
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let meant = nearest(name, known).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
    Failure::Refused(format!("there is no {what} named {name:?}; {meant}`millrace {what} list` shows all"))
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let slips_max = 1 + name.chars().count() / LETTERS_A_SLIP;
    let slips = |candidate: &str| strsim::osa_distance(&name.to_lowercase(), &candidate.to_lowercase());
    known
        .map(|candidate| (slips(candidate), candidate))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_taken_for_the_nearest_one() {
        let known = ["shop", "workshop", "bank"];
        let meant = |name| nearest(name, known.into_iter());
        assert_eq!(
            ["shpo", "Shop", "worksop", "bnak"].map(meant),
            ["shop", "shop", "workshop", "bank"].map(Some)
        );
        assert_eq!(meant("zork"), None);
    }
}
