//! `millrace meter`: manages meters, the figures of customers.

mod backfill;
mod command;
mod create;
mod list;
mod show;

pub(crate) use self::command::{MeterCommand, run};
