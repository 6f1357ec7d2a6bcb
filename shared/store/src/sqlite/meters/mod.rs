//! Meters: their definitions, what writers add to them, and what is read of them. A writer updates the
//! figures at once. SQLite has neither decimal numbers nor time zones, so sums and windows are made here.

mod addition;
mod backfill;
mod definitions;
mod erasure;
mod events;
mod query;
mod retirement;
mod subtraction;
mod verification;

pub(super) use addition::{KnownMeters, MeterDefinitions, add};
pub(super) use backfill::backfill;
pub(super) use definitions::{create, delete, meters};
pub(super) use erasure::{figure_rows, hand_over, hand_over_quarters, hide_values, quarters};
pub(super) use query::{faults, usage};
pub(super) use retirement::{remove_deleted, retire};
pub(super) use subtraction::subtract;
pub(super) use verification::{check, wrong_figures};
