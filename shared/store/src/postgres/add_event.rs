//! Stores one event with an INSERT: of a redrive, and where a COPY does not say why it failed.

use millrace_event::row::{EventTime, Row};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, GenericClient, Statement};

use super::copy::Instant;

/// A json value is stored as it is in a column of that type, and parsed for one of the type jsonb.
pub(super) const ADD_EVENT: &str = "
    INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, client_id, properties, context)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::json, $9::text::json) ON CONFLICT DO NOTHING";

/// Stores one event that was received at this time, with the statement made of [`ADD_EVENT`]. False when its
/// key is stored already.
pub(super) async fn add_event(
    client: &impl GenericClient,
    statement: &Statement,
    event: &Row<'_>,
    received_at: Instant,
) -> Result<bool, Error> {
    let timestamp = match event.time {
        EventTime::At(us) => Instant(us),
        EventTime::Anonymous | EventTime::Undated | EventTime::Undeliverable => received_at,
    };
    let text = |json: Option<&[u8]>| json.map(|json| String::from_utf8_lossy(json).into_owned());
    let (properties, context) = (text(event.properties), text(event.context));
    let parameters: [&(dyn ToSql + Sync); 9] = [
        &event.project.0,
        &timestamp,
        &event.event_id,
        &received_at,
        &event.name,
        &event.subject,
        &event.client_id,
        &properties,
        &context,
    ];
    Ok(client.execute(statement, &parameters).await? == 1)
}
