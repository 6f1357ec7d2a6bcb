//! `millrace subject`: erases, anonymizes and exports what is stored of a person.

mod command;
mod erase;
mod export;
mod list;
mod settled;

pub(crate) use self::command::{SubjectCommand, run};
