//! Millrace in one process, on two SQLite files.

use testkit::{Program, eventually};

use super::servers::UNLIMITED;
use super::{Name, Subject, Table};
use crate::failure::Failure;
use crate::load::Target;
use crate::patience::SOON;

const KEY_LINE: &str = "  Key ";

pub(super) async fn start() -> Result<Subject, Failure> {
    let folder = tempfile::Builder::new().prefix("millrace-bench-").tempdir()?;
    let path =
        folder.path().to_str().ok_or_else(|| Failure::new("the temporary folder has no UTF-8 name"))?;
    let variables = vec![("DATA_DIR", path.to_owned())];
    let settings = [("DATA_DIR", path), ("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")];
    let mut program = Program::start("millrace", &settings);
    let line = program.wait_for_line("/v1/events").await;
    let address = line.split("http://").nth(1).and_then(|rest| rest.strip_suffix("/v1/events"));
    let address = address.ok_or_else(|| Failure::new(format!("no address in {line:?}")))?.parse()?;
    let line = program.wait_for_line(KEY_LINE).await;
    let key = line.trim_start_matches(KEY_LINE).trim().to_owned();
    let target = Target { address, key, days_ago: 0 };
    rusqlite::Connection::open(folder.path().join("events.db"))?.execute(UNLIMITED, [])?;
    unlimited(&target).await;
    let table = Table::sqlite(folder)?;
    Ok(Subject {
        name: Name::Embedded,
        target,
        programs: vec![("millrace", program)],
        redis: None,
        table,
        variables,
    })
}

/// Waits until the changed plan is in force.
async fn unlimited(target: &Target) {
    let authorization = format!("Bearer {}", target.key);
    eventually(SOON, "the changed plan to be in force", async || {
        let answer =
            testkit::http::get(target.address, "/v1/limits", &[("authorization", &authorization)]).await;
        let per_minute = answer.json()["requests"]["per_minute"].as_u64();
        if per_minute > Some(1_000_000) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}
