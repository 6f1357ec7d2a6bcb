//! What an acknowledgement promises.

/// How safe a batch is when it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// It is on the disk of the server. Redis must run with `appendonly yes`, `appendfsync always` and
    /// `noeviction`; otherwise batches are refused.
    Strict,
    /// At least this many replicas have it, whatever the settings of their disks.
    Replicated { replicas: u32 },
    /// Batches are accepted under any settings of Redis. If Redis dies, acknowledged batches can be lost.
    Relaxed,
}
