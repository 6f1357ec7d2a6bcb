//! The table of mutants, and the drill that must find each.

use testkit::oracle::Invariant;

use crate::row::Tier;

pub struct Mutant {
    /// The value of `MILLRACE_MUTANT`.
    pub name: &'static str,
    /// The deliberate bug.
    pub bug: &'static str,
    /// The name of the drill that must find it.
    pub drill: &'static str,
    /// The drill must report one of these invariants as violated.
    pub violates: &'static [Invariant],
    pub tier: Tier,
}

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "ack-before-commit",
        bug: "a lane settles before it writes",
        drill: "worker killed after copy",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "counter-outside-the-transaction",
        bug: "usage is added after COMMIT, on its own",
        drill: "worker killed after commit",
        violates: &[Invariant::TotalsAgree],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "no-ledger",
        bug: "an entry that is in the ledger is written again",
        drill: "worker killed after commit",
        violates: &[Invariant::TotalsAgree],
        tier: Tier::Quick,
    },
    Mutant {
        name: "written-in-two-rows",
        bug: "a batch that the ledger has in the row for its group is written again in a row of its own",
        drill: "worker killed after commit",
        violates: &[Invariant::TotalsAgree],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "meters-outside-the-transaction",
        bug: "what events add to meters is added after COMMIT, on its own",
        drill: "worker killed after commit",
        violates: &[Invariant::FiguresAgree],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "meters-count-duplicates",
        bug: "meters count every event that a transaction holds, and not only those that it stores",
        drill: "worker killed after commit",
        violates: &[Invariant::FiguresAgree],
        tier: Tier::Quick,
    },
    Mutant {
        name: "consumer-deleted-with-pending",
        bug: "a lane that stops deletes its consumer while entries are pending for it",
        drill: "workers terminated without postgres",
        violates: &[Invariant::NothingLost, Invariant::Quiet],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "failure-counts-as-poison",
        bug: "every failed write counts against its first entry",
        drill: "postgres down",
        violates: &[Invariant::PoisonSetAside],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "refund-not-gated",
        bug: "duplicates are refunded again when their entry is settled again",
        drill: "replies to settling lost",
        violates: &[Invariant::PlansExact],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "everysec",
        bug: "appendfsync everysec counts as durable",
        drill: "redis restarted without fsync",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "no-epoch-check",
        bug: "batches are admitted to a stream that was wiped",
        drill: "redis wiped",
        violates: &[Invariant::PlansExact],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "maxlen",
        bug: "the stream is trimmed as it grows",
        drill: "redis loses all keys but its entries",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "group-at-the-end",
        bug: "the consumer group begins at the end of the stream",
        drill: "redis loses all keys but its entries",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "dedupe-by-stream-id",
        bug: "an entry is recognized by its stream id alone",
        drill: "redis wiped and its clock set back",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "new-batch-id-on-retry",
        bug: "after a lost reply, admission is retried under another batch id",
        drill: "replies to admissions lost",
        violates: &[Invariant::NothingTwice, Invariant::TotalsAgree],
        tier: Tier::Quick,
    },
    Mutant {
        name: "marker-forgotten-at-settle",
        bug: "a batch is forgotten when it is settled",
        drill: "batch settled before its admission is retried",
        violates: &[Invariant::NothingTwice, Invariant::TotalsAgree],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "group-forgotten-at-settle",
        bug: "the markers of a group are deleted when one of its batches is settled",
        drill: "worker killed after commit",
        violates: &[Invariant::TotalsAgree],
        tier: Tier::Quick,
    },
    Mutant {
        name: "limits-checked-before",
        bug: "rate and quota are checked before the admission instead of in it",
        drill: "plan exact on four apis",
        violates: &[Invariant::PlansExact],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "drops-what-it-cannot-read",
        bug: "a broken call is answered as a dead letter, and its batch has no row for it",
        drill: "undeliverable calls",
        violates: &[Invariant::NothingLost],
        tier: Tier::Quick,
    },
    Mutant {
        name: "dead-calls-without-letters",
        bug: "a worker counts a broken call as dead and does not keep it",
        drill: "undeliverable calls",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "dead-calls-count-as-stored",
        bug: "a broken call is kept as a dead letter, and counted as a stored event",
        drill: "undeliverable calls",
        violates: &[Invariant::TotalsAgree],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "dead-calls-not-refunded",
        bug: "dead events stay charged to the quota",
        drill: "undeliverable calls",
        violates: &[Invariant::PlansExact],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "forgets-ids-of-by-id-projects",
        bug: "an event of a project that recognizes ids alone is recognized by its id and timestamp",
        drill: "events stamped again",
        violates: &[Invariant::NothingTwice],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "conflicts-not-counted",
        bug: "a duplicate with another payload is counted as a duplicate only",
        drill: "events stamped again",
        violates: &[Invariant::TotalsAgree],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "moves-days-without-rows",
        bug: "the rows of a new day are deleted from the default partition and not inserted",
        drill: "worker killed importing history",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "trusts-the-past",
        bug: "a stream that went back in time under its epoch is trusted, and what it lost is not named",
        drill: "replica behind, loss named",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "answers-before-replicas",
        bug: "a batch is acknowledged although no replica has confirmed it",
        drill: "replica behind, confirmations demanded",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "settles-before-the-standby",
        bug: "a lane with SETTLE_AFTER=standby settles before any standby has the commit",
        drill: "standby behind is promoted",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "commits-under-an-old-epoch",
        bug: "a lane commits entries that it read before the counters of their shard were rebuilt",
        drill: "redis wiped under paused workers",
        violates: &[Invariant::TotalsAgree, Invariant::PlansExact],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "stores-what-was-refused",
        bug: "a worker stores the batches of a group that were not admitted",
        drill: "plan exact on four apis",
        violates: &[Invariant::RefusedStaysOut, Invariant::TotalsAgree, Invariant::PlansExact],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "limits-forgotten-at-rebuild",
        bug: "the counters of limits of customers are not restored when the stream lost its data",
        drill: "customers reach their limits",
        violates: &[Invariant::LimitsExact],
        tier: Tier::Quick,
    },
    Mutant {
        name: "limits-kept-at-redelivery",
        bug: "what duplicates took of limits is not given back when their entry is delivered again",
        drill: "customers reach their limits",
        violates: &[Invariant::LimitsExact],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "seam-counted-twice",
        bug: "a worker counts all events of a meter whose backfill is under way, also those that the backfill counts",
        drill: "meters made from the first event on",
        violates: &[Invariant::FiguresAgree],
        tier: Tier::Quick,
    },
    Mutant {
        name: "cancels-without-meters",
        bug: "a cancellation corrects usage, and leaves the figures of meters as they are",
        drill: "events cancelled under load",
        violates: &[Invariant::FiguresAgree],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "delivered-without-an-answer",
        bug: "a notification counts as delivered although its receiver has not answered 2xx",
        drill: "thresholds reached under load",
        violates: &[Invariant::NotifiedOnce],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "ack-before-commit",
        bug: "a lane settles before it writes",
        drill: "embedded killed around the drain",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "counter-outside-the-transaction",
        bug: "usage is added after COMMIT, on its own",
        drill: "embedded killed around commit",
        violates: &[Invariant::TotalsAgree],
        tier: Tier::Quick,
    },
    Mutant {
        name: "drops-what-it-cannot-read",
        bug: "a broken call is answered as a dead letter, and its batch has no row for it",
        drill: "embedded with undeliverable calls",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
    Mutant {
        name: "dead-calls-without-letters",
        bug: "a worker counts a broken call as dead and does not keep it",
        drill: "embedded with undeliverable calls",
        violates: &[Invariant::NothingLost],
        tier: Tier::Nightly,
    },
];

impl Mutant {
    /// Its name, marked when it is hunted on an embedded installation. Unique.
    pub fn title(&self) -> String {
        if self.drill.starts_with("embedded") {
            format!("{}, embedded", self.name)
        } else {
            self.name.to_owned()
        }
    }
}
