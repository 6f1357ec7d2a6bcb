//! A primary with a standby: which of the two takes what does not go through the pool of a service.

use std::time::Duration;

use millrace_store::postgres::{PostgresOptions, PostgresSource, PostgresStore};
use millrace_store::{KeyOptions, Ledger, Operators, PolicyChange, StoreError};
use testkit::{Postgres, eventually};
use tokio_postgres::Client;

use crate::helpers::postgres_store;
use crate::suite::*;

/// Only a defect takes this long.
const SOON: Duration = Duration::from_secs(120);
/// Without preference, a command would find the primary this often by luck in one of 65,536 runs.
const COMMANDS: usize = 16;

/// A primary with tables, its standby, and the address of both.
async fn pair() -> (Postgres, Postgres, PostgresSource) {
    let primary = Postgres::start().await;
    postgres_store(primary.config()).migrate().await.expect("an empty database can be migrated");
    let standby = primary.start_standby().await;
    let both = primary.url_with(&standby).as_str().into();
    (primary, standby, both)
}

async fn days_of_events(server: &Client) -> i64 {
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass";
    server.query_one(days, &[]).await.expect("a count").get(0)
}

/// Fails because the old primary is there and the new one is not.
async fn is_refused<T: std::fmt::Debug>(call: impl Future<Output = Result<T, StoreError>>) {
    match call.await {
        Err(StoreError::Unavailable(text)) => assert!(text.contains("is an old primary"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_and_migrations_change_nothing_on_an_old_primary_that_returns() {
    let (mut old, mut new, both) = pair().await;
    let store =
        PostgresStore::new(PostgresOptions { source: both, pool_size: 4, application: "millrace-test" });
    old.kill().await;
    new.promote().await;
    let timeline = async || store.servers().await.is_ok_and(|server| server.unwrap().timeline == Some(2));
    eventually(SOON, "the new primary to be seen", timeline).await;
    old.restart().await;
    let operator = old.connect().await;
    let last = "SELECT max(inhrelid::regclass::text) FROM pg_inherits
                 WHERE inhparent = 'events'::regclass AND inhrelid <> 'events_default'::regclass";
    let last: String = operator.query_one(last, &[]).await.expect("a partition").get(0);
    operator.batch_execute(&format!("DROP TABLE {last}")).await.expect("dropped");
    let days = days_of_events(&operator).await;

    for _ in 0..COMMANDS {
        store.upkeep(&keep_all()).await.expect("the new primary takes it");
        store.migrate().await.expect("the new primary takes it");
    }
    assert!(days_of_events(&new.connect().await).await > days);
    new.kill().await;
    is_refused(store.upkeep(&keep_all())).await;
    is_refused(store.migrate()).await;
    is_refused(store.distribute()).await;
    is_refused(store.check_schema()).await;
    assert_eq!(days_of_events(&operator).await, days, "upkeep makes no partition on the old primary");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_given_both_servers_uses_the_primary() {
    let (_primary, standby, both) = pair().await;
    for number in 0..COMMANDS {
        let options = PostgresOptions { source: both.clone(), pool_size: 1, application: "millrace" };
        let command = PostgresStore::for_command(options);
        command.migrate().await.expect("the primary takes a migration");
        let (name, change) = (format!("p{number}"), PolicyChange::default());
        command.create_project(&name, "pro", &change, &KeyOptions::default()).await.expect("created");
        assert_eq!(command.projects().await.expect("listed").len(), number + 1, "nothing of the past");
    }
    let options = PostgresOptions { source: standby.config().into(), pool_size: 1, application: "millrace" };
    PostgresStore::for_command(options).projects().await.expect("a command may read from a standby alone");
}
