//! A request to admit a batch, the stream's decision, and the state of a batch in the stream.

use millrace_event::Outcome;
use millrace_event::entry::NewBatch;
use millrace_event::limit::Amount;
use millrace_event::plan::{LimitState, Plan, ProjectId};

/// A request to admit one batch.
///
/// The stream remembers an admitted batch while it is pending and for at least 15 seconds after it was
/// settled, so that a client that lost the answer can send the batch again.
#[derive(Clone, Debug)]
pub struct Admission<'a> {
    pub batch: &'a NewBatch,
    /// The plan to check the batch against.
    pub plan: &'a Plan,
    /// A digest of the request body, for a batch with an `Idempotency-Key`. The batch id is then remembered
    /// for 24 hours after the batch was settled, and the same id with another digest is a
    /// [`Decision::Conflict`].
    pub digest: Option<[u8; 16]>,
    /// The client waits for the outcome (`Prefer: wait`): it is kept for a minute after the batch was
    /// settled.
    pub awaited: bool,
}

/// The answer to an [`Admission`]. Every decision except `Admitted` leaves the stream unchanged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The batch is on disk and charged.
    Admitted {
        /// The time on the stream's clock at which the batch is metered, in milliseconds since 1970.
        received_ms: u64,
        /// The state after the charge.
        limit_state: LimitState,
    },
    /// This batch id was admitted before, and the digests do not differ: give the first answer again.
    Repeated {
        /// When the batch was admitted, in milliseconds since 1970.
        received_ms: u64,
        limit_state: LimitState,
    },
    /// This batch id was admitted before with another body.
    Conflict { limit_state: LimitState },
    /// The backlog has no room for the batch.
    BacklogFull { limit_state: LimitState },
    /// The project is over its rate limit.
    RateLimited {
        /// Microseconds until the next batch of this project can pass.
        wait_us: u64,
        limit_state: LimitState,
    },
    /// The batch has more events than the month's quota has left.
    QuotaExceeded { limit_state: LimitState },
    /// A customer of the batch has less left of a limit than the batch takes.
    LimitExceeded {
        limit_state: LimitState,
        /// What was used of the counter of each charge of the batch, in their order.
        used: Vec<Amount>,
    },
    /// The stream's epoch is not the trusted one. No batch is admitted until its counters are rebuilt.
    EpochChanged,
}

/// The state of a batch, as far as the stream remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BatchState {
    /// Admitted and not settled.
    Pending {
        project: ProjectId,
        /// Events in the batch.
        count: u32,
    },
    /// Settled a short time ago.
    Settled { project: ProjectId, outcome: Outcome },
    /// Never admitted, or settled and forgotten: ask the store.
    Unknown,
}
