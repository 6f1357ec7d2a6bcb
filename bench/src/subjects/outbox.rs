//! A queue without a queue server: requests are inserted into an ordinary table, as the extension pgmq does,
//! and a worker moves them into `events` with `DELETE … RETURNING` and `SKIP LOCKED`, in one statement.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::error::BenchError;

/// `outbox_progress` is for the benchmark, which must know how many events were moved. Each connection of the
/// worker has a row of its own, so that none waits for another.
pub(super) const CREATE: &str = "
    CREATE TABLE outbox (
        message_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        enqueued_at timestamptz NOT NULL DEFAULT now(),
        events      bigint NOT NULL,
        message     jsonb NOT NULL);
    CREATE TABLE outbox_progress (connection integer PRIMARY KEY, events bigint NOT NULL)";
/// Events that were moved.
pub(super) const SETTLED: &str = "SELECT coalesce(sum(events), 0) FROM outbox_progress";
const ENQUEUE: &str = "INSERT INTO outbox (events, message) VALUES ($1, $2::text::jsonb)";
const MOVE: &str = "
    WITH taken AS (
        DELETE FROM outbox
         WHERE message_id IN (SELECT message_id FROM outbox ORDER BY message_id LIMIT $2 FOR UPDATE SKIP LOCKED)
        RETURNING enqueued_at, events, message),
    moved AS (
        INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, properties, context)
        SELECT $1, (event ->> 'timestamp')::timestamptz, (event ->> 'id')::uuid, enqueued_at, event ->> 'name',
               event ->> 'subject', event -> 'properties', event -> 'context'
          FROM taken, jsonb_array_elements(message -> 'events') AS event
        ON CONFLICT DO NOTHING)
    INSERT INTO outbox_progress AS p SELECT $3, sum(events)::bigint FROM taken HAVING count(*) > 0
        ON CONFLICT (connection) DO UPDATE SET events = p.events + excluded.events";
/// Requests that one statement moves, at most.
const MESSAGES_MAX: i64 = 100;
/// As many as stream-worker has lanes.
const CONNECTIONS: i32 = 2;
/// How long a connection waits after it found nothing.
const IDLE: Duration = Duration::from_millis(10);

/// Enqueues a request. `body` was validated.
pub(super) async fn store(client: &ClientWrapper, body: &[u8], events: u32) -> Result<(), BenchError> {
    let statement = client.prepare_cached(ENQUEUE).await?;
    client.execute(&statement, &[&i64::from(events), &std::str::from_utf8(body)?]).await?;
    Ok(())
}

/// Moves requests until the process is killed.
///
/// # Errors
/// When PostgreSQL fails.
pub async fn drain(database_url: &str, project: i64) -> Result<(), BenchError> {
    let mut connections = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (client, connection) = tokio_postgres::connect(database_url, NoTls).await?;
        tokio::spawn(connection);
        connections.spawn(move_all(client, project, number));
    }
    while let Some(ended) = connections.join_next().await {
        ended??;
    }
    Ok(())
}

async fn move_all(client: Client, project: i64, number: i32) -> Result<(), BenchError> {
    let statement = client.prepare(MOVE).await?;
    loop {
        if client.execute(&statement, &[&project, &MESSAGES_MAX, &number]).await? == 0 {
            tokio::time::sleep(IDLE).await;
        }
    }
}
