//! The whole pipeline with real processes: what is answered 2xx is stored once and metered once, whatever dies.

mod faults;
mod flow;
mod limits;
mod poison;
mod stack;
