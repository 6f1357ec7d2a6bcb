//! What a team that knows PostgreSQL writes first: one prepared INSERT of the whole batch inside the request,
//! with an array for each column.

use std::time::{Duration, SystemTime};

use deadpool_postgres::ClientWrapper;
use millrace_event::event::Batch;
use millrace_event::row::{self, EventTime, Row};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::error::BenchError;

const INSERT: &str = "
    INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, client_id, properties, context)
    SELECT $1, timestamp, event_id, now(), name, subject, client_id, properties::jsonb, context::jsonb
      FROM unnest($2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
           AS new (timestamp, event_id, name, subject, client_id, properties, context)
    ON CONFLICT DO NOTHING";

/// The columns of a batch.
#[derive(Default)]
struct Columns<'a> {
    times: Vec<SystemTime>,
    ids: Vec<Uuid>,
    names: Vec<&'a str>,
    subjects: Vec<Option<&'a str>>,
    client_ids: Vec<Option<&'a str>>,
    properties: Vec<Option<&'a str>>,
    contexts: Vec<Option<&'a str>>,
}

pub(super) async fn store(client: &ClientWrapper, batch: &Batch) -> Result<(), BenchError> {
    let (mut columns, mut project) = (Columns::default(), 0);
    for row in row::split(&batch.rows) {
        let event = Row::read(row?)?;
        project = event.project.0;
        columns.times.push(match event.time {
            EventTime::At(us) => SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(us)?),
            _ => SystemTime::now(),
        });
        columns.ids.push(event.event_id);
        columns.names.push(event.name);
        columns.subjects.push(event.subject);
        columns.client_ids.push(event.client_id);
        columns.properties.push(event.properties.map(std::str::from_utf8).transpose()?);
        columns.contexts.push(event.context.map(std::str::from_utf8).transpose()?);
    }
    let Columns { times, ids, names, subjects, client_ids, properties, contexts } = &columns;
    let parameters: [&(dyn ToSql + Sync); 8] =
        [&project, times, ids, names, subjects, client_ids, properties, contexts];
    client.execute(&client.prepare_cached(INSERT).await?, &parameters).await?;
    Ok(())
}
