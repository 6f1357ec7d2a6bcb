//! The whole pipeline with real processes: what is answered 2xx is stored once and metered once. (What happens
//! when something breaks is shown by the drills.)

mod flow;
mod limits;
mod poison;
mod redrive;
mod stack;
