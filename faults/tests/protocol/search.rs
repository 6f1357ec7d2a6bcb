//! A search of every state that a model can reach.
//!
//! The search is breadth-first, so the first counterexample is a shortest one. It must not depend on the
//! meaning of the states.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

pub trait Model {
    type State: Clone + Eq + Hash;
    type Step: Copy + Debug;

    fn start(&self) -> Self::State;
    /// Every possible step from this state, and the state that it leads to.
    fn steps(&self, state: &Self::State) -> Vec<(Self::Step, Self::State)>;
    /// Whether a step is a fault. The model must be able to finish without one.
    fn is_fault(&self, step: Self::Step) -> bool;
    /// The promise that this state breaks.
    fn breach(&self, state: &Self::State) -> Option<&'static str>;
    /// Whether all work is done.
    fn is_done(&self, state: &Self::State) -> bool;
}

#[derive(Debug)]
pub struct SearchResult {
    pub states: usize,
    pub counterexample: Option<Counterexample>,
}

#[derive(Debug)]
pub struct Counterexample {
    pub breach: &'static str,
    pub steps: Vec<String>,
}

/// Searches for a state that breaks a promise. If there is none, searches for a state from which no steps
/// without faults lead to the end.
pub fn search<M: Model>(model: &M) -> SearchResult {
    let mut graph = Graph::<M>::new(model.start());
    let mut at = 0;
    while at < graph.nodes.len() {
        let state = graph.nodes[at].state.clone();
        if let Some(breach) = model.breach(&state) {
            return graph.result(Some((breach, at)));
        }
        for (step, next) in model.steps(&state) {
            let to = graph.index_of(next, at, step);
            if !model.is_fault(step) {
                graph.nodes[to].faultless_from.push(at);
            }
        }
        at += 1;
    }
    let stuck = graph.first_stuck(model);
    graph.result(stuck.map(|at| ("stuck: no steps without faults lead to the end", at)))
}

struct Node<M: Model> {
    state: M::State,
    /// The node and step by which the search found it first. `None` for the start.
    found_by: Option<(usize, M::Step)>,
    /// The nodes from which a step without a fault leads here.
    faultless_from: Vec<usize>,
}

struct Graph<M: Model> {
    nodes: Vec<Node<M>>,
    indices: HashMap<M::State, usize>,
}

impl<M: Model> Graph<M> {
    fn new(start: M::State) -> Self {
        let node = Node { state: start.clone(), found_by: None, faultless_from: Vec::new() };
        Self { nodes: vec![node], indices: HashMap::from([(start, 0)]) }
    }

    /// The index of the node of a state. A new state gets a new node.
    fn index_of(&mut self, state: M::State, from: usize, step: M::Step) -> usize {
        if let Some(&index) = self.indices.get(&state) {
            return index;
        }
        let index = self.nodes.len();
        self.indices.insert(state.clone(), index);
        self.nodes.push(Node { state, found_by: Some((from, step)), faultless_from: Vec::new() });
        index
    }

    /// Walks back from all ends. A node that is not visited cannot reach an end.
    fn first_stuck(&self, model: &M) -> Option<usize> {
        let mut open: Vec<usize> =
            (0..self.nodes.len()).filter(|&at| model.is_done(&self.nodes[at].state)).collect();
        let mut reaches_an_end = vec![false; self.nodes.len()];
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut reaches_an_end[at], true) {
                open.extend(&self.nodes[at].faultless_from);
            }
        }
        reaches_an_end.iter().position(|reaches| !reaches)
    }

    fn result(&self, breach: Option<(&'static str, usize)>) -> SearchResult {
        let counterexample = breach.map(|(breach, at)| Counterexample { breach, steps: self.steps_to(at) });
        SearchResult { states: self.nodes.len(), counterexample }
    }

    fn steps_to(&self, mut at: usize) -> Vec<String> {
        let mut steps = Vec::new();
        while let Some((from, step)) = self.nodes[at].found_by {
            steps.push(format!("{step:?}"));
            at = from;
        }
        steps.reverse();
        steps
    }
}
