//! The Python service in `bench/peers/direct_insert`, in a virtual environment that is made when it is first needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::{Launch, Program};

use super::servers::{postgres, prepared_table};
use super::{KEY, Name, Place, Subject, Table, ready};
use crate::failure::Failure;
use crate::load::Target;
use crate::places;

/// What uvicorn says when it serves.
const RUNNING: &str = "Uvicorn running on http://";

pub(super) async fn start(place: Place<'_>) -> Result<Subject, Failure> {
    let source = places::project().join("bench/peers/direct_insert");
    let python = environment(&source.join("requirements.txt"))?;
    let server = postgres(place).await;
    let project = prepared_table(&server).await?;
    let (url, project_id) = (server.url(), project.to_string());
    let variables = [("DATABASE_URL", url.as_str()), ("API_KEY", KEY), ("PROJECT_ID", &project_id)];
    let (python, source) = (text(&python)?, text(&source)?);
    // uvloop and httptools are installed, and uvicorn takes them by itself.
    let arguments = ["-m", "uvicorn", "app:app", "--app-dir", source, "--port", "0", "--no-access-log"];
    let launch = Launch { arguments: &arguments, variables: &variables, ..Launch::default() };
    let mut program = Program::launch(python, &launch);
    let line = program.wait_for_line(RUNNING).await;
    let address = line.split(RUNNING).nth(1).and_then(|rest| rest.split_whitespace().next());
    let address = address.ok_or_else(|| Failure::new(format!("no address in {line:?}")))?.parse()?;
    let target = Target { address, key: KEY.to_owned(), days_ago: 0 };
    ready(&target, "/readyz").await;
    let table = Table::postgres(server, project).await?;
    let programs = vec![("uvicorn", program)];
    Ok(Subject { name: Name::DirectInsert, target, programs, redis: None, table, variables: Vec::new() })
}

/// The Python with exactly these packages.
fn environment(wanted: &Path) -> Result<PathBuf, Failure> {
    let folder = places::kept("direct_insert-venv")?;
    let (python, installed) = (folder.join("bin/python"), folder.join("requirements.installed"));
    if python.is_file() && fs::read(wanted)? == fs::read(&installed).unwrap_or_default() {
        return Ok(python);
    }
    eprintln!("installing the Python packages of direct_insert");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(pip).arg(wanted))?;
    fs::copy(wanted, installed)?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{command:?} failed; leave direct_insert out with --against: {complaint}")))
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::new(format!("{} is no UTF-8", path.display())))
}
