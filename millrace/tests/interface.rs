//! The OpenAPI document says what a server does: Schemathesis makes requests from the document, valid and
//! invalid ones, and compares every answer with it. What it cannot know of the interface is in
//! `testkit/schemathesis/hooks.py`.

mod installation;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use installation::{Installation, Service};
use testkit::http::{get, post};

/// Only a defect takes this long.
const DEADLINE: Duration = Duration::from_secs(600);

/// The root of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A program of the Python environment in `.test/schemathesis`.
fn installed(name: &str) -> PathBuf {
    let program = root().join(".test/schemathesis/bin").join(name);
    assert!(program.is_file(), "{} is missing: ./test installs it", program.display());
    program
}

async fn finished(mut command: tokio::process::Command, folder: &Path) -> Output {
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output()).await;
    output.expect("it ends in time").expect("it starts")
}

fn assert_success(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}

/// Runs every check of Schemathesis, with valid and invalid requests, and without a random choice: what it
/// finds, it finds again. `examples` bounds the requests of one operation that it makes up.
async fn schemathesis_finds_nothing(installation: &Installation, service: &Service, examples: &str) {
    // The first project has a plan that never limits Schemathesis: a 429 would hide the rest.
    let key = service.key();
    let meter =
        ["meter", "create", "default", "tokens", "--event", "llm_call", "--group-by", "model=$.model"];
    installation.text(&meter).await;
    installation.text(&["project", "create", "managed", "--plan", "pro"]).await;
    installation.text(&["meter", "create", "managed", "tokens", "--event", "llm_call"]).await;
    let admin_key = installation.json(&["admin-key", "create", "interface"]).await["key"].clone();
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let batch = post(service.address, "/v1/events", &headers, r#"{"events":[{"name":"first"}]}"#).await;
    let mut command = tokio::process::Command::new(installed("schemathesis"));
    command
        .arg("--config-file")
        .arg(root().join("testkit/schemathesis/schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", service.url()), "--no-color", "--continue-on-failure"])
        .args(["--checks", "all", "--mode", "all", "--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--generation-deterministic", "--max-examples", examples])
        .env("SCHEMATHESIS_HOOKS", root().join("testkit/schemathesis/hooks.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("MILLRACE_KEY", &key)
        .env("MILLRACE_ADMIN_KEY", admin_key.as_str().unwrap())
        .env("MILLRACE_BATCH", batch.json()["batch_id"].as_str().unwrap())
        .env("MILLRACE_METER", "tokens")
        .env("NO_PROXY", "127.0.0.1");
    let output = finished(command, &installation.home()).await;
    assert_success(&output);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("No issues found"), "{report}");
    for phase in ["Examples", "Coverage", "Fuzzing", "Stateful"] {
        assert!(report.contains(&format!("✅ {phase}")), "{phase} compared nothing:\n{report}");
    }
}

#[tokio::test]
async fn the_document_is_valid_openapi() {
    let installation = Installation::on_files();
    let service = installation.serve().await;
    let file = installation.home().join("openapi.json");
    std::fs::write(&file, get(service.address, "/openapi.json", &[]).await.body).unwrap();
    let mut command = tokio::process::Command::new(installed("openapi-spec-validator"));
    command.args(["--schema", "3.1"]).arg(&file);
    assert_success(&finished(command, &installation.home()).await);
}

#[tokio::test]
async fn an_installation_on_files_does_what_the_document_says() {
    let installation = Installation::on_files();
    let service = installation.serve().await;
    schemathesis_finds_nothing(&installation, &service, "12").await;
}

#[tokio::test]
async fn an_installation_on_servers_does_what_the_document_says() {
    let installation = Installation::on_servers().await;
    let service = installation.serve().await;
    schemathesis_finds_nothing(&installation, &service, "4").await;
}
