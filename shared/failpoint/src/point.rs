//! The list of points. Each row is the only place where a point is defined.

macro_rules! points {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal;)*) => {
        /// A point at which a process can be stopped, and what is true when it is reached.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Point {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Point {
            /// Every point, along the path of an event.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name in `FAILPOINTS`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

points! {
    /// The API key of a request was found. The body may not have been read yet.
    AfterAuth = "api::after_auth";
    /// The batch is packed. The stream has not been called.
    AfterValidation = "api::after_validation";
    /// The epoch of the stream is trusted. The first call to admit the batch comes next.
    BeforeAdmission = "api::before_admission";
    /// The batch is in the stream, on disk. The client has no answer.
    AfterAdmission = "api::after_admission";
    /// Entries were delivered to a lane and are pending under its name. None of them was written.
    AfterRead = "lane::after_read";
    /// Every row was sent to the server. The end of the COPY was not.
    InsideCopy = "store::inside_copy";
    /// The server has confirmed the COPY. No ledger row was sent.
    AfterCopy = "store::after_copy";
    /// The server has confirmed ledger rows, undated ids and dead letters. Usage was not sent.
    AfterLedger = "store::after_ledger";
    /// The server has confirmed at least one dead letter. Usage was not sent.
    DeadLetterWritten = "store::dead_letter_written";
    /// The server has confirmed usage, the last statement. COMMIT was not sent.
    BeforeCommit = "store::before_commit";
    /// The transaction is committed. Its entries are still pending in the stream.
    AfterCommit = "store::after_commit";
    /// The entries were removed from the stream.
    AfterSettle = "lane::after_settle";
    /// The partition of a day was created and attached, in an open transaction.
    PartitionMade = "upkeep::partition_made";
    /// A partition of events was detached permanently. Its rows were not counted as retired.
    PartitionDetached = "upkeep::partition_detached";
    /// A step of a backfill has added its events to the meter, in an open transaction.
    BackfillAdded = "backfill::before_commit";
    /// A step of a backfill is committed.
    BackfillCommitted = "backfill::after_commit";
    /// Events are cancelled, and usage and meters corrected, in an open transaction.
    CancelledInTransaction = "cancel::before_commit";
    /// A cancellation is committed. Its caller has no answer.
    CancelCommitted = "cancel::after_commit";
}
