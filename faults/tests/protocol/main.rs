//! A model of the protocol, in which every order of steps, crashes and lost answers is searched.
//!
//! The search proves that the protocol is correct, not that the programs follow it. That is what the drills
//! test.
//!
//! The crate `stateright` also searches the states of a model. It is not used here, because it does not check
//! that every reachable state can still finish without another fault, which is how a stuck entry is result.

mod model;
mod mutant;
mod search;
mod state;

use model::Protocol;
use mutant::Mutant;
use search::search;

#[test]
fn no_order_of_steps_crashes_and_lost_answers_loses_or_duplicates_an_event() {
    let result = search(&Protocol { mutant: None });
    println!("{} states", result.states);
    assert!(result.counterexample.is_none(), "{:#?}", result.counterexample);
    assert!(result.states > 10_000, "only {} states were found", result.states);
}

#[test]
fn a_protocol_with_one_bug_has_a_counterexample() {
    for (mutant, expected) in Mutant::ALL {
        let result = search(&Protocol { mutant: Some(mutant) });
        let counterexample = result
            .counterexample
            .unwrap_or_else(|| panic!("{mutant:?} has no counterexample in {} states", result.states));
        let steps = counterexample.steps.len();
        println!("{mutant:?}: {} after {steps} steps, {} states", counterexample.breach, result.states);
        assert!(counterexample.breach.starts_with(expected), "{mutant:?}: {counterexample:#?}");
    }
}
