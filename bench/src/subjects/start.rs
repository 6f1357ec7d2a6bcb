//! Starts a subject by its name.

use std::path::Path;

use super::name::SubjectName;
use super::subject::Subject;
use super::{copy_in_request, direct_insert, embedded, millrace};
use crate::error::BenchError;

/// Starts a subject, and returns when it accepts requests. PostgreSQL keeps its data in `data_folder`, or in
/// a temporary folder when it is `None`; the embedded subject ignores it.
///
/// # Errors
/// When a program cannot be started, or a server rejects a statement.
pub async fn start(name: SubjectName, data_folder: Option<&Path>) -> Result<Subject, BenchError> {
    match name {
        SubjectName::Millrace => millrace::start(data_folder).await,
        SubjectName::Embedded => embedded::start().await,
        SubjectName::DirectInsert => direct_insert::start(data_folder).await,
        SubjectName::CopyInRequest => copy_in_request::start(data_folder).await,
    }
}
