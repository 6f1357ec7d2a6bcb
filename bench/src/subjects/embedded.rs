//! Millrace in one process, on two SQLite files.

use testkit::{Program, eventually};

use super::name::SubjectName;
use super::servers::UNLIMITED;
use super::subject::Subject;
use super::table::EventsTable;
use crate::error::BenchError;
use crate::load::Target;
use crate::timeouts::PROCESS_READY;

const KEY_LINE: &str = "  Key ";

pub(super) async fn start() -> Result<Subject, BenchError> {
    let folder = tempfile::Builder::new().prefix("millrace-bench-").tempdir()?;
    let path = folder.path().to_str().ok_or_else(|| {
        BenchError::new(format!(
            "the path of the temporary folder {} is not UTF-8; set TMPDIR to another folder",
            folder.path().display()
        ))
    })?;
    let variables = vec![("DATA_DIR", path.to_owned())];
    let settings = [("DATA_DIR", path), ("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")];
    let mut program = Program::start("millrace", &settings);
    let line = program.wait_for_line("/v1/events").await;
    let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/v1/events"));
    let no_address = || BenchError::new(format!("millrace printed no address in {line:?}"));
    let address = address.ok_or_else(no_address)?.parse()?;
    let line = program.wait_for_line(KEY_LINE).await;
    let key = line.trim_start_matches(KEY_LINE).trim().to_owned();
    let target = Target::new(address, key);
    rusqlite::Connection::open(folder.path().join("events.db"))?.execute(UNLIMITED, [])?;
    wait_until_unlimited(&target).await;
    let table = EventsTable::sqlite(folder)?;
    Ok(Subject {
        name: SubjectName::Embedded,
        target,
        programs: vec![("millrace", program)],
        redis: None,
        replica: None,
        table,
        variables,
        _files: None,
    })
}

/// Waits until the program uses the changed plan. Panics when it does not in time.
async fn wait_until_unlimited(target: &Target) {
    let authorization = format!("Bearer {}", target.key());
    eventually(PROCESS_READY, "the changed plan to be in use", async || {
        let answer =
            testkit::http::get(target.address, "/v1/limits", &[("authorization", &authorization)]).await;
        let per_minute = answer.json()["requests"]["per_minute"].as_u64();
        if per_minute > Some(1_000_000) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}
