//! Several faults at once.

use crate::matrix::{Row, Tier};
use crate::nemesis;

pub(super) const ROWS: &[Row] = &[Row {
    name: nemesis::ROW,
    target: "everything",
    fault: "two or three random faults at once, for ten minutes or as long as asked for",
    expected: "all invariants",
    tier: Tier::Nightly,
    hold: |drill| Box::pin(nemesis::torment(drill, nemesis::NIGHTLY)),
}];
