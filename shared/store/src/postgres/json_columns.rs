//! The type of the JSON columns of `events`. The table itself is the record of what was chosen when the
//! database was installed, so that the record can never differ from the columns.

use tokio_postgres::{GenericClient, Transaction};

use super::error::Failure;
use crate::{JsonColumns, StoreError};

/// Read by the migration that creates the columns, in its transaction.
const SETTING: &str = "millrace.json_columns";
const TYPES: &str = "
    SELECT string_agg(DISTINCT format_type(atttypid, NULL), ' and ') FROM pg_attribute
     WHERE attrelid = to_regclass('events') AND attname IN ('properties', 'context')";

/// The type of the columns; `None` when there is no table.
///
/// # Errors
/// Also when the columns have another type, or not the same.
pub(super) async fn installed(client: &impl GenericClient) -> Result<Option<JsonColumns>, Failure> {
    let types: Option<String> = client.query_one(TYPES, &[]).await?.get(0);
    let Some(types) = types else { return Ok(None) };
    types.parse().map(Some).map_err(|_| {
        let message =
            format!("the columns properties and context of events are {types}; make both jsonb or both json");
        Failure::new("42804", message)
    })
}

/// Sets the type of the columns that the migrations of this transaction create.
pub(super) async fn choose(
    transaction: &Transaction<'_>,
    columns: JsonColumns,
) -> Result<(), tokio_postgres::Error> {
    let choose = "SELECT set_config($1, $2, true)";
    transaction.execute(choose, &[&SETTING, &<&str>::from(columns)]).await.map(drop)
}

/// Checks that a database that was installed before has columns of this type.
///
/// # Errors
/// [`StoreError::Invalid`] when it has not.
pub(super) async fn check(transaction: &Transaction<'_>, wanted: JsonColumns) -> Result<(), StoreError> {
    let found = installed(transaction).await?.unwrap_or_default();
    if found == wanted {
        return Ok(());
    }
    let (found, wanted) = (<&str>::from(found), <&str>::from(wanted));
    Err(StoreError::Invalid(format!(
        "--json-columns {wanted}: this database was installed with {found} columns, and the type of stored events does not \
         change; leave the option out to keep {found}, or install into a new database to use {wanted}"
    )))
}
