//! The protocols that a proxy understands and the two directions of a connection.

/// The protocol on the wire. Only traps depend on it; `Plain` has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// Uninterpreted bytes.
    Plain,
    /// RESP2 or RESP3.
    Redis,
    /// The PostgreSQL protocol, version 3.
    Postgres,
}

/// The direction in which bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}
