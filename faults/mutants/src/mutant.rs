//! Which bug this process has.

use std::fmt;

const VARIABLE: &str = "MILLRACE_MUTANT";
/// Names of the patches that were applied to the source of this program, separated by commas. Set by the
/// build of the patched copy; an ordinary build has no patch.
const PATCHES: Option<&str> = option_env!("MILLRACE_PATCHES");

/// A bug that a wrapper around a trait of the product makes. Bugs that no wrapper can make are patches of the
/// source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// The writer settles entries before it stores them. A process that dies in between loses them.
    AckBeforeCommit,
    /// The writer commits entries that were read before the counters of their shard were rebuilt. The
    /// rebuild did not count them.
    CommitsUnderAnOldEpoch,
    /// The writer recognizes an entry by its stream id alone, and takes another entry with this id for
    /// stored.
    DedupeByStreamId,
    /// `appendfsync everysec` counts as durable, so Redis answers before the data is on disk.
    Everysec,
    /// The consumer group begins at the end of the stream. Entries before it are never delivered.
    GroupAtTheEnd,
    /// A lane that stops deletes its consumer while entries are pending for it. They are never delivered
    /// again.
    ConsumerDeletedWithPending,
    /// The stream is trimmed as it grows. Entries that no worker has read are lost.
    Maxlen,
    /// After a lost answer, admission is repeated under another batch id. The batch is stored and charged
    /// twice.
    NewBatchIdOnRetry,
    /// A batch is forgotten when it is settled. A client that repeats it is charged again.
    MarkerForgottenAtSettle,
    /// The markers of a group are deleted when one of its batches is settled, although others are pending.
    GroupForgottenAtSettle,
    /// Rate and quota are checked before the admission instead of in it. Concurrent requests all pass.
    LimitsCheckedBefore,
    /// The counters of limits are not restored when a stream lost its data. Customers may use everything
    /// again.
    LimitsForgottenAtRebuild,
    /// What duplicates took of limits is not given back when their entry was written before.
    LimitsKeptAtRedelivery,
    /// Every failed write counts against its first entry, so an outage of the database dead-letters good
    /// events.
    FailureCountsAsPoison,
}

impl Mutant {
    const ALL: [(Self, &str); 14] = [
        (Self::AckBeforeCommit, "ack-before-commit"),
        (Self::CommitsUnderAnOldEpoch, "commits-under-an-old-epoch"),
        (Self::DedupeByStreamId, "dedupe-by-stream-id"),
        (Self::Everysec, "everysec"),
        (Self::GroupAtTheEnd, "group-at-the-end"),
        (Self::ConsumerDeletedWithPending, "consumer-deleted-with-pending"),
        (Self::Maxlen, "maxlen"),
        (Self::NewBatchIdOnRetry, "new-batch-id-on-retry"),
        (Self::MarkerForgottenAtSettle, "marker-forgotten-at-settle"),
        (Self::GroupForgottenAtSettle, "group-forgotten-at-settle"),
        (Self::LimitsCheckedBefore, "limits-checked-before"),
        (Self::LimitsForgottenAtRebuild, "limits-forgotten-at-rebuild"),
        (Self::LimitsKeptAtRedelivery, "limits-kept-at-redelivery"),
        (Self::FailureCountsAsPoison, "failure-counts-as-poison"),
    ];

    /// The bug that `MILLRACE_MUTANT` names. `None` without the variable, and for a patch, which reads the
    /// variable itself.
    ///
    /// # Errors
    /// [`UnknownMutant`] when neither a wrapper nor a patch has the name: a misspelt drill would prove
    /// nothing.
    pub fn chosen() -> Result<Option<Self>, UnknownMutant> {
        let name = std::env::var(VARIABLE).unwrap_or_default();
        let wrapper = Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(mutant, _)| mutant);
        let is_known = name.is_empty() || wrapper.is_some() || patches().any(|patch| patch == name);
        if is_known { Ok(wrapper) } else { Err(UnknownMutant { name }) }
    }
}

fn patches() -> impl Iterator<Item = &'static str> {
    PATCHES.unwrap_or_default().split(',').filter(|name| !name.is_empty())
}

/// `MILLRACE_MUTANT` names no mutant of this program.
#[derive(Debug)]
pub struct UnknownMutant {
    name: String,
}

impl fmt::Display for UnknownMutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<_> = Mutant::ALL.into_iter().map(|(_, name)| name).chain(patches()).collect();
        write!(f, "{VARIABLE}={:?}: no such mutant; expected one of: {}", self.name, known.join(", "))
    }
}

impl std::error::Error for UnknownMutant {}
