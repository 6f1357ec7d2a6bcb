//! Starts a subject by its name.

use super::data::Data;
use super::name::SubjectName;
use super::subject::Subject;
use super::{direct_insert, embedded, millrace, peer};
use crate::error::BenchError;

/// Starts a subject, and returns when it accepts requests. Only Millrace on servers can start with data.
///
/// # Errors
/// When a program cannot be started, or a server rejects a statement.
pub async fn start(name: SubjectName, data: &Data<'_>) -> Result<Subject, BenchError> {
    match name {
        SubjectName::Embedded => embedded::start().await,
        SubjectName::DirectInsert => direct_insert::start().await,
        SubjectName::UnnestInRequest | SubjectName::CopyInRequest | SubjectName::Outbox => {
            peer::start(name).await
        }
        SubjectName::Millrace
        | SubjectName::MillraceJson
        | SubjectName::MillraceTls
        | SubjectName::MillraceReplicated => millrace::start(name, data).await,
    }
}
