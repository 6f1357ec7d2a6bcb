//! Mutants: the product with one deliberate bug that a drill must find. A harness that passes a mutant would
//! pass a real bug too.
//!
//! Most bugs are wrappers around the traits of stream, reader and writer, in the program `mutant`
//! (`faults/mutants/`). The others are patches of the product's source (`faults/mutants/patches/`), each
//! active only while `MILLRACE_MUTANT` names it. [`build`] applies all patches to a copy of the source and
//! builds one program `mutant` from it, which takes the place of all three programs of the product in a
//! drill.
//!
//! This module must never change the source itself.

mod build;
mod catalogue;
mod copy;
mod hunt;
mod patch;

pub use build::build;
pub use catalogue::{MUTANTS, Mutant};
pub use hunt::{Hunt, hunt};
pub use patch::{Patch, PatchError};
