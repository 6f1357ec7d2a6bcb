//! The conformance suite of the store: the promises of every implementation of the traits.
//!
//! The promises in [`suite`] use the traits and a [`suite::Harness`], which creates an empty store and reads
//! its tables. They are checked for PostgreSQL with jsonb and with json columns, and for SQLite. Further
//! tests apply to only one of them: killed sessions, locks, partitions and rejected rows in PostgreSQL;
//! killed processes and files of SQLite.

#[path = "../helpers/mod.rs"]
mod helpers;
mod postgres;
#[macro_use]
mod promises;
mod sqlite;
mod suite;

/// Declares a test for each promise.
macro_rules! promises {
    ($harness:path: $($topic:ident { $($promise:ident),+ $(,)? })+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let harness = $harness().await;
                crate::suite::$topic::$promise(&harness).await;
            }
        )+)+
    };
}

mod on_postgres {
    every_promise!(promises crate::postgres::harness);
}

/// The type of the JSON columns changes nothing else.
mod on_postgres_with_json {
    promises_of_events!(promises crate::postgres::harness_with_json);
}

mod on_sqlite {
    every_promise!(promises crate::sqlite::harness);
}
