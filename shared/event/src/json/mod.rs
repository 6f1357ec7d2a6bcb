//! A JSON parser that keeps the bytes each value was written in.
//!
//! simd-json finds every structural character with SIMD, checks the grammar and unescapes strings. It does
//! not keep how a number was written, and a number of 40 digits must reach PostgreSQL with all of them, so
//! values are taken from the body's own bytes.
//!
//! A body that simd-json refuses is taken apart by [`outline`], so that its valid events can be read, and
//! [`repaired`] repairs what has one clear meaning, for dialects that ask for it.
//!
//! Apart from [`repaired`], this module must never change the bytes of a value, except for U+0000, which
//! PostgreSQL cannot store and which becomes U+FFFD.

mod fault;
mod names;
mod number;
mod open_string;
mod parser;
mod readings;
mod repair;
mod scan;
mod seen_names;
mod value;

pub use fault::{Fault, Unstorable, check_grammar};
pub use names::with_last_of_equal_names;
pub(crate) use number::check_number;
pub use parser::{parse, parse_nested, without_byte_order_mark};
pub use repair::repaired;
pub use scan::{Elements, Outline, outline, root_member, strings_of_members, unescaped};
pub use value::{Container, Document, Value};
