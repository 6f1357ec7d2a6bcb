//! What a batch asks of the stream, and what the stream decides.

use millrace_event::Outcome;
use millrace_event::entry::PackedBatch;
use millrace_event::plan::{LimitState, Plan, ProjectId};

/// One batch that asks to be let in. Once admitted it is remembered while it is pending and for some seconds after it was
/// settled, so that whoever lost the answer can ask again.
#[derive(Clone, Debug)]
pub struct Admission<'a> {
    /// The batch as it will stand in the stream: batch id, project, count, rows.
    pub packed: &'a PackedBatch,
    /// The plan to check it against.
    pub plan: &'a Plan,
    /// For a batch with an `Idempotency-Key`: a digest of the request body. The batch id is then remembered for 24
    /// hours after it was settled, and the same id with another digest is a [`Decision::Conflict`].
    pub digest: Option<[u8; 16]>,
    /// The client waits for the outcome (`Prefer: wait`): keep it for a minute after the batch was settled.
    pub awaited: bool,
}

/// What became of an [`Admission`]. Everything but `Admitted` has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// On disk, charged, will be stored. `received_ms` is the stream's clock, and the time the batch is metered at.
    Admitted {
        /// Milliseconds since 1970.
        received_ms: u64,
        /// After the charge.
        limit_state: LimitState,
    },
    /// This batch id was admitted before, with the same digest: give the first answer again.
    Repeated {
        /// When it was admitted, milliseconds since 1970.
        received_ms: u64,
        /// Unchanged by this request.
        limit_state: LimitState,
    },
    /// This batch id was admitted before with another body.
    Conflict {
        /// Unchanged by this request.
        limit_state: LimitState,
    },
    /// Too many events wait to be stored.
    BacklogFull {
        /// Unchanged by this request.
        limit_state: LimitState,
    },
    /// Over the rate limit.
    RateLimited {
        /// Microseconds in which nothing of this project can pass.
        wait_us: u64,
        /// Unchanged by this request.
        limit_state: LimitState,
    },
    /// The batch does not fit into the month's quota.
    QuotaExceeded {
        /// Unchanged by this request.
        limit_state: LimitState,
    },
    /// The stream is not the one whose counters we trust: nothing is admitted until they are rebuilt.
    EpochChanged,
}

/// Where a batch is, as far as the stream remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BatchState {
    /// Admitted by this project, not settled.
    Pending {
        /// Whose batch it is.
        project: ProjectId,
        /// Events in it.
        count: u32,
    },
    /// Settled a short time ago.
    Settled {
        /// Whose batch it was.
        project: ProjectId,
        /// Its outcome.
        outcome: Outcome,
    },
    /// Never admitted, or settled and forgotten: ask the store.
    Unknown,
}
