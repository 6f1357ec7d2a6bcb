//! Poolers between the store and PostgreSQL.

use millrace_store::postgres::{PostgresOptions, PostgresSource, PostgresStore};
use millrace_store::{Operators, StoreError};
use testkit::{PgBouncer, Postgres};

async fn check(url: &str) -> Result<(), StoreError> {
    let source = PostgresSource::Settings { url: Some(url.into()), environment: Default::default() };
    PostgresStore::for_command(PostgresOptions { source, pool_size: 1, application: "millrace-test" })
        .check_server()
        .await
}

#[tokio::test]
async fn only_a_pooler_that_keeps_sessions_is_accepted() {
    let server = Postgres::start().await;
    for mode in ["session", "transaction", "statement"] {
        let pooler = PgBouncer::start(&server, mode).await;
        // Connections that the pooler has already, as in a busy installation.
        check(&pooler.url()).await.err();
        match (mode, check(&pooler.url()).await) {
            ("session", Ok(())) => {}
            ("transaction" | "statement", Err(StoreError::Unusable(text))) => {
                assert!(text.contains("set pool_mode = session"), "{text}");
            }
            (mode, checked) => panic!("{mode}: {checked:?}"),
        }
    }
}
