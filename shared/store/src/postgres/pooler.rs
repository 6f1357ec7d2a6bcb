//! Whether the address leads to sessions of PostgreSQL, or to a pooler that gives every transaction another
//! one.
//!
//! Such a pooler loses what belongs to a session: prepared statements, LISTEN, settings, advisory locks.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::connector::Connector;
use super::error::{Failure, POOLER, UNUSABLE};
use super::session::Session;

/// A busy pooler may happen to give two sessions their own connections once.
const ROUNDS: usize = 2;

/// Connects twice, and checks that both sessions are their own and stay the same.
///
/// # Errors
/// [`UNUSABLE`] when they are not; any other failure when the server cannot be asked.
pub(super) async fn check(connector: &Connector) -> Result<(), Failure> {
    let (first, second) = tokio::try_join!(Session::open(connector, ""), Session::open(connector, ""))?;
    for _ in 0..ROUNDS {
        let before = process_id(&first, "SELECT pg_backend_pid()").await?;
        let other = match process_id(&second, "BEGIN; SELECT pg_backend_pid()").await {
            Ok(other) => other,
            // A pooler in statement mode refuses a transaction.
            Err(failure) if failure.sqlstate.starts_with("08") => return Err(pooler()),
            Err(failure) => return Err(failure),
        };
        // After equal answers the first session may have to wait for the second.
        if before == other || before != process_id(&first, "SELECT pg_backend_pid()").await? {
            return Err(pooler());
        }
        second.batch_execute("ROLLBACK").await?;
    }
    Ok(())
}

fn pooler() -> Failure {
    Failure::new(UNUSABLE, POOLER)
}

/// The answer to a query for the id of the server's process. In the simple protocol, because a pooler may
/// break the other one.
async fn process_id(client: &Client, query: &str) -> Result<Option<String>, Failure> {
    let messages = client.simple_query(query).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
