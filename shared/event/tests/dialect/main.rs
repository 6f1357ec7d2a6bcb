//! What the dialects accept and reject, without a server. The store's tests show that PostgreSQL stores what
//! is accepted.

mod accepted;
mod bodies;
mod new_format;
mod properties;
mod rejected;
mod segment;
