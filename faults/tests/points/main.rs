//! Programs built for drills stop at the failpoints that a test names. Mutants do the harm of their bug.
//! Ordinary programs contain neither.

mod harm;
mod harm_to_calls;
mod harm_to_customers;
mod reached;
mod stage;
