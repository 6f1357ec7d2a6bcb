//! The suite's harness for PostgreSQL, and the tests that apply only to PostgreSQL.

mod announced;
mod environment;
mod history;
mod json_columns;
mod kills;
mod ledger_speed;
mod limit_speed;
mod lookups;
mod metered;
mod pooler;
mod redrive;
mod rejected;
mod speed;
mod standbys;
pub mod tables;
mod threshold_speed;
mod tls;
mod tls_sessions;
mod upkeep;

use std::sync::{Arc, Weak};

use millrace_store::{JsonColumns, SharedStore};
use testkit::Postgres;
use tokio::sync::Mutex;
use tokio_postgres::Config;

pub use self::tables::Tables as PostgresHarness;
use self::tables::Tables;
use crate::helpers::postgres_store;

/// Concurrent tests share a server. It stops when the last of them ends.
static SERVER: Mutex<Weak<Postgres>> = Mutex::const_new(Weak::new());

pub async fn harness() -> PostgresHarness {
    harness_with(JsonColumns::Jsonb).await
}

/// A database that was installed with columns of the type json.
pub async fn harness_with_json() -> PostgresHarness {
    harness_with(JsonColumns::Json).await
}

async fn harness_with(columns: JsonColumns) -> PostgresHarness {
    let mut shared = SERVER.lock().await;
    let server = match shared.upgrade() {
        Some(server) => server,
        None => {
            let server = Arc::new(Postgres::start().await);
            *shared = Arc::downgrade(&server);
            server
        }
    };
    drop(shared);
    let tables = Tables::create_with(server.create_database().await.config(), columns).await;
    Tables { server: Some(server), ..tables }
}

pub fn store(config: Config) -> SharedStore {
    postgres_store(config)
}
