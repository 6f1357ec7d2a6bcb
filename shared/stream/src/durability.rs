//! What an acknowledgement promises.

/// How safe a batch is when it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// It is on the disk of the server. Redis must run with `appendonly yes`, `appendfsync always` and
    /// `noeviction`; otherwise batches are refused.
    Strict,
    /// At least this many replicas have it, with any settings of their disks. The primary must keep a file,
    /// because one that comes back empty makes its replicas empty.
    Replicated { replicas: u32 },
    /// Batches are accepted under any settings of Redis. If Redis dies, acknowledged batches can be lost.
    Relaxed,
}

/// What the check of a shard's server found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DurabilityReport {
    /// Settings and states that keep an acknowledged batch from being as durable as the stream was opened
    /// for, one sentence each. Empty when there are none.
    pub faults: Vec<String>,
    /// What the operator must know and Millrace cannot refuse, one sentence each.
    pub warnings: Vec<String>,
    /// Replicas that are attached to the server, in any state. One of them can take its place.
    pub replicas: u32,
    /// Whether the server refuses every write while too few replicas keep up with it.
    pub refuses_alone: bool,
}
