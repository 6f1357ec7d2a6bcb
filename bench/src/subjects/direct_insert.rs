//! The Python service in `bench/peers/direct_insert`, in a virtual environment that is created on first use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::{Launch, Program};

use super::name::SubjectName;
use super::servers::{key, postgres, prepare_database};
use super::subject::{Subject, wait_until_ready};
use super::table::EventsTable;
use crate::error::BenchError;
use crate::load::Target;
use crate::paths;

/// The line that uvicorn prints when it is ready.
const RUNNING: &str = "Uvicorn running on http://";

pub(super) async fn start() -> Result<Subject, BenchError> {
    let source = paths::repository().join("bench/peers/direct_insert");
    let python = prepare_environment(&source.join("requirements.txt"))?;
    let server = postgres(None).await;
    let project = prepare_database(&server).await?;
    let (url, project_id) = (server.url(), project.to_string());
    let key = key(0);
    let variables = [("DATABASE_URL", url.as_str()), ("API_KEY", &key), ("PROJECT_ID", &project_id)];
    let (python, source) = (utf8(&python)?, utf8(&source)?);
    // uvicorn uses uvloop and httptools when they are installed, as they are here.
    let arguments = ["-m", "uvicorn", "app:app", "--app-dir", source, "--port", "0", "--no-access-log"];
    let launch = Launch { arguments: &arguments, variables: &variables, ..Launch::default() };
    let mut program = Program::launch(python, &launch);
    let line = program.wait_for_line(RUNNING).await;
    let address = line.split(RUNNING).nth(1).and_then(|rest| rest.split_whitespace().next());
    let no_address = || BenchError::new(format!("uvicorn printed no address in {line:?}"));
    let address = address.ok_or_else(no_address)?.parse()?;
    let target = Target::new(address, key.as_str());
    wait_until_ready(&target, "/readyz").await;
    let table = EventsTable::postgres(server, project).await?;
    let programs = vec![("uvicorn", program)];
    Ok(Subject::on_postgres(SubjectName::DirectInsert, target, programs, table))
}

/// Returns the Python of a virtual environment with exactly the packages in `requirements`.
fn prepare_environment(requirements: &Path) -> Result<PathBuf, BenchError> {
    let folder = paths::kept_folder("direct_insert-venv")?;
    let (python, installed) = (folder.join("bin/python"), folder.join("requirements.installed"));
    let wanted = fs::read(requirements)?;
    if python.is_file() && fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    eprintln!("installing the Python packages of direct_insert into {}", folder.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(pip).arg(requirements))?;
    fs::copy(requirements, installed)?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), BenchError> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(BenchError::new(format!(
        "cannot install direct_insert, {command:?} failed; choose other subjects with --against to run without it: {stderr}"
    )))
}

fn utf8(path: &Path) -> Result<&str, BenchError> {
    path.to_str().ok_or_else(|| BenchError::new(format!("the path {} is not UTF-8", path.display())))
}
