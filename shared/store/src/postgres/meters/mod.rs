//! Meters: their definitions, what writers add to them, and what is read of them.
//!
//! A writer adds to `meter_additions` in the transaction of the events. [`figures`] moves additions to the
//! figures in bulk. A reader takes both together, so it sees each event once at any moment.

mod addition_rows;
mod additions;
mod backfill;
mod definitions;
mod erasure;
mod figures;
mod measured;
mod query;
mod retirement;
mod subtraction;
mod verification;

pub(super) use additions::{MeterStatements, add_redriven};
pub(super) use backfill::backfill;
pub(super) use definitions::{create, delete, meters};
pub(super) use erasure::{figure_row, hand_over, hand_over_quarters, hide_values};
pub(super) use figures::{faults, move_additions};
pub(super) use query::usage;
pub(super) use retirement::{retire_default, retire_partition};
pub(super) use subtraction::{incomplete_days, lock_figures, lock_moves, move_ahead, subtract};
pub(super) use verification::{check, figures, wrong_figures};
