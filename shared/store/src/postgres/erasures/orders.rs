//! Records of erasures.

use millrace_event::plan::ProjectId;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::super::copy::Instant;
use crate::erasures::{check, check_kind, kind_of, new_pseudonym, not_open};
use crate::{Erasure, ErasureOrder, StoreError};

const COLUMNS: &str =
    "erasure_id, project_id, kind, subject, pseudonym, received_before, events, dead_letters, samples,
    done_by, started_at, finished_at";
const BEGIN: &str = "
    INSERT INTO erasures AS e (project_id, kind, subject, pseudonym, received_before, done_by)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (project_id, subject) WHERE subject IS NOT NULL DO UPDATE
       SET received_before = CASE WHEN e.kind = excluded.kind
                                  THEN greatest(e.received_before, excluded.received_before)
                                  ELSE e.received_before END";
const ADD: &str = "
    UPDATE erasures SET events = events + $2, cancelled = cancelled + $3, dead_letters = dead_letters + $4,
           samples = samples + $5
     WHERE erasure_id = $1 AND subject IS NOT NULL";

/// What a transaction adds to the record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) events: i64,
    /// Events that were cancelled and deleted.
    pub(super) cancelled: i64,
    pub(super) dead_letters: i64,
    pub(super) samples: i64,
}

pub(super) async fn begin(client: &Client, order: &ErasureOrder) -> Result<Erasure, StoreError> {
    check(order)?;
    let before = Instant::from(order.received_before);
    let (kind, pseudonym) = (<&str>::from(order.kind), new_pseudonym());
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&order.project.0, &kind, &order.subject, &pseudonym, &before, &order.by];
    let row = client.query_one(&format!("{BEGIN} RETURNING {COLUMNS}"), &parameters).await?;
    check_kind(order, row.get("kind"))?;
    erasure(&row)
}

/// Adds to the record, and fails when the erasure was finished meanwhile.
pub(super) async fn add(transaction: &Client, erasure: &Erasure, counted: Counted) -> Result<(), StoreError> {
    let Counted { events, cancelled, dead_letters, samples } = counted;
    let parameters: [&(dyn ToSql + Sync); 5] = [&erasure.id, &events, &cancelled, &dead_letters, &samples];
    match transaction.execute(ADD, &parameters).await? {
        0 => Err(not_open()),
        _ => Ok(()),
    }
}

pub(super) async fn finish(transaction: &Client, erasure: &Erasure) -> Result<Erasure, StoreError> {
    let finish = format!(
        "UPDATE erasures SET subject = NULL, finished_at = now() WHERE erasure_id = $1 AND subject IS NOT NULL
         RETURNING {COLUMNS}"
    );
    let row = transaction.query_opt(&finish, &[&erasure.id]).await?;
    row.as_ref().map_or_else(|| Err(not_open()), self::erasure)
}

pub(super) async fn list(
    client: &Client,
    project: Option<ProjectId>,
    limit: u32,
) -> Result<Vec<Erasure>, StoreError> {
    let select = format!(
        "SELECT {COLUMNS} FROM erasures WHERE $1::bigint IS NULL OR project_id = $1
          ORDER BY erasure_id DESC LIMIT $2"
    );
    let project = project.map(|project| project.0);
    client.query(&select, &[&project, &i64::from(limit)]).await?.iter().map(erasure).collect()
}

fn erasure(row: &Row) -> Result<Erasure, StoreError> {
    let count = |column: &str| row.get::<_, i64>(column).unsigned_abs();
    Ok(Erasure {
        id: row.get("erasure_id"),
        project: ProjectId(row.get("project_id")),
        kind: kind_of(row.get("kind"))?,
        subject: row.get("subject"),
        pseudonym: row.get("pseudonym"),
        received_before: row.get::<_, Instant>("received_before").into(),
        events: count("events"),
        dead_letters: count("dead_letters"),
        samples: count("samples"),
        by: row.get("done_by"),
        started_at: row.get::<_, Instant>("started_at").into(),
        finished_at: row.get::<_, Option<Instant>>("finished_at").map(Into::into),
    })
}

/// The subject of an erasure that is not finished.
pub(super) fn subject(erasure: &Erasure) -> Result<&str, StoreError> {
    erasure.subject.as_deref().ok_or_else(not_open)
}
