//! Every state a model can reach, nearest first.
//!
//! A breadth-first search: the first counterexample found is a shortest one. What the states mean is none of
//! its business.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// What is searched.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Step: Copy + Debug;

    fn start(&self) -> Self::State;
    /// Every step that is possible here, and where it leads.
    fn steps(&self, state: &Self::State) -> Vec<(Self::Step, Self::State)>;
    /// Whether a step is a fault: none is needed to get anywhere.
    fn is_fault(&self, step: Self::Step) -> bool;
    /// What must never be, and is.
    fn breach(&self, state: &Self::State) -> Option<&'static str>;
    /// Everything is done, and as it should be.
    fn is_done(&self, state: &Self::State) -> bool;
}

/// What a search has found.
#[derive(Debug)]
pub struct Found {
    pub states: usize,
    pub counterexample: Option<Counterexample>,
}

#[derive(Debug)]
pub struct Counterexample {
    pub breach: &'static str,
    pub steps: Vec<String>,
}

/// Looks for a state that is in breach; then, when there is none, for one from which nothing leads to the end
/// without a further fault.
pub fn search<M: Model>(model: &M) -> Found {
    let mut reached = Reached::<M> { states: vec![model.start()], came_by: vec![None] };
    let mut numbers = HashMap::from([(model.start(), 0)]);
    let mut faultless_into: Vec<Vec<usize>> = vec![Vec::new()];
    let mut at = 0;
    while at < reached.states.len() {
        if let Some(breach) = model.breach(&reached.states[at]) {
            return reached.found(Some((breach, at)));
        }
        for (step, next) in model.steps(&reached.states[at]) {
            let number = *numbers.entry(next).or_insert_with_key(|next| {
                reached.states.push(next.clone());
                reached.came_by.push(Some((at, step)));
                faultless_into.push(Vec::new());
                reached.states.len() - 1
            });
            if !model.is_fault(step) {
                faultless_into[number].push(at);
            }
        }
        at += 1;
    }
    let stuck = first_stuck(&reached.states, |state| model.is_done(state), &faultless_into);
    reached.found(stuck.map(|at| ("stuck: nothing leads to the end from here", at)))
}

/// Walks back from all ends; who is not met cannot get to one.
fn first_stuck<S>(
    states: &[S],
    is_done: impl Fn(&S) -> bool,
    faultless_into: &[Vec<usize>],
) -> Option<usize> {
    let mut ends: Vec<usize> = (0..states.len()).filter(|&at| is_done(&states[at])).collect();
    let mut gets_there = vec![false; states.len()];
    while let Some(at) = ends.pop() {
        if !std::mem::replace(&mut gets_there[at], true) {
            ends.extend(&faultless_into[at]);
        }
    }
    gets_there.iter().position(|gets_there| !gets_there)
}

struct Reached<M: Model> {
    states: Vec<M::State>,
    came_by: Vec<Option<(usize, M::Step)>>,
}

impl<M: Model> Reached<M> {
    fn found(&self, breach: Option<(&'static str, usize)>) -> Found {
        let counterexample = breach.map(|(breach, mut at)| {
            let mut steps = Vec::new();
            while let Some((before, step)) = self.came_by[at] {
                steps.push(format!("{step:?}"));
                at = before;
            }
            steps.reverse();
            Counterexample { breach, steps }
        });
        Found { states: self.states.len(), counterexample }
    }
}
