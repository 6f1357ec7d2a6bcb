//! Programs built for drills die where they are told to, and are wrong as they are told to; ordinary ones know nothing of it.

mod reached;
mod stage;
