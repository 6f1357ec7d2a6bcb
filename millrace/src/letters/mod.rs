//! `millrace dead-letters`: lists, shows and redrives the events that could not be stored.
//!
//! These commands must never decide what becomes of an event. The store decides, in the transaction that also
//! counts the event; the commands select letters, print them, and pass them to the store in small chunks.

mod command;
mod filter;
mod history;
mod list;
mod pages;
mod redrive;
mod rehearsal;
mod show;
mod text;

pub(crate) use self::command::{LettersCommand, run};
