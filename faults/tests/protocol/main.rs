//! The protocol on paper: every order of its steps, with crashes and lost answers anywhere among them.
//!
//! What this shows is that the protocol is right, never that the programs follow it; the drills are for that.

mod model;
mod mutant;
mod search;
mod state;

use model::Protocol;
use mutant::Mutant;
use search::search;

#[test]
fn no_order_of_steps_crashes_and_lost_answers_loses_or_doubles_anything() {
    let found = search(&Protocol { mutant: None });
    println!("{} states", found.states);
    assert!(found.counterexample.is_none(), "{:#?}", found.counterexample);
    assert!(found.states > 10_000, "only {} states were seen", found.states);
}

#[test]
fn a_protocol_with_any_one_thing_wrong_is_found_out() {
    for (mutant, expected) in Mutant::ALL {
        let found = search(&Protocol { mutant: Some(mutant) });
        let counterexample =
            found.counterexample.unwrap_or_else(|| panic!("{mutant:?} survived {} states", found.states));
        let steps = counterexample.steps.len();
        println!("{mutant:?}: {} after {steps} steps, {} states", counterexample.breach, found.states);
        assert!(counterexample.breach.starts_with(expected), "{mutant:?}: {counterexample:#?}");
    }
}
