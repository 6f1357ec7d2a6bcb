//! The result of looking for the end of a message.

/// What a scanner finds at the start of the buffered bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scan {
    /// A complete message of this many bytes.
    Complete(usize),
    /// The start of a message.
    Partial,
    /// Bytes that are not in this protocol.
    Garbage,
}
