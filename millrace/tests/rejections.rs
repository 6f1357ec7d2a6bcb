//! What was refused, as the command line and the API show it: the same, after a graceful restart, on files
//! and on servers.

mod installation;

use installation::{Installation, PATIENCE, Service};
use serde_json::{Value, json};
use testkit::eventually;
use testkit::http::{get, post};

async fn refuse(service: &Service, bearer: &str) {
    let headers = [("authorization", bearer)];
    for (body, status) in [
        (r#"[{"name":"good"},{"name":5},{"name":"","x":1}]"#, 202),
        ("[{\"name\":\"a\",\"\u{9b}31m\":1}]", 422),
        ("{", 400),
    ] {
        let answer = post(service.address, "/v1/events", &headers, body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
}

/// Without what only the command line shows, because it is for all projects.
fn as_the_api(mut report: Value) -> Value {
    for list in ["counts", "samples"] {
        for row in report[list].as_array_mut().unwrap() {
            let row = row.as_object_mut().unwrap();
            assert_eq!(row.shift_remove("project"), Some(json!("shop")));
            row.shift_remove("project_id");
        }
    }
    report
}

async fn the_command_and_the_api_show_the_same_after_a_restart(installation: &Installation) {
    let service = installation.serve().await;
    let key = installation.project("shop", "pro").await;
    let bearer = format!("Bearer {key}");
    service.answers(&key, "the key to be accepted", |answer| answer.status == 200).await;
    refuse(&service, &bearer).await;
    // The stop writes what the last seconds refused.
    service.interrupt().await;
    let service = installation.serve().await;
    service.answers(&key, "the key to be accepted", |answer| answer.status == 200).await;
    refuse(&service, &bearer).await;
    let count = |report: &Value, code: &str| -> u64 {
        let rows = report["counts"].as_array().unwrap();
        rows.iter().filter(|row| row["code"] == code).map(|row| row["count"].as_u64().unwrap()).sum()
    };
    let codes = ["invalid_type", "unknown_field", "invalid_json", "no_valid_event"];
    let arguments = ["rejections", "--project", "shop", "--limit", "100"];
    let report = eventually(PATIENCE, "both refusals to be written", async || {
        let report = installation.json(&arguments).await;
        let counts = codes.map(|code| count(&report, code));
        if counts == [2, 4, 2, 2] { Ok(report) } else { Err(format!("{report}")) }
    })
    .await;
    let path = "/v1/rejections?limit=100";
    let answer = get(service.address, path, &[("authorization", &bearer)]).await.json();
    assert_eq!(as_the_api(report.clone()), answer);
    assert_eq!(answer["samples"].as_array().unwrap().len(), 8, "{answer}");

    let text = installation.text(&["rejections", "--limit", "2"]).await;
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["shop", "event", "4", "unknown_field"]), "{text}");
    assert!(rows.contains(&vec!["shop", "request", "2", "invalid_json"]), "{text}");
    assert!(text.contains("\nThe last 2 samples"), "{text}");
    let json = installation.text(&[&arguments[..], &["--json"]].concat()).await;
    let text = installation.text(&arguments).await + &json;
    assert!(text.contains(r#"{"name":5}"#) && !text.contains('\u{9b}'), "{text:?}");
}

#[tokio::test]
async fn the_command_and_the_api_show_the_same_after_a_restart_on_files() {
    the_command_and_the_api_show_the_same_after_a_restart(&Installation::on_files()).await;
}

#[tokio::test]
async fn the_command_and_the_api_show_the_same_after_a_restart_on_servers() {
    the_command_and_the_api_show_the_same_after_a_restart(&Installation::on_servers().await).await;
}

#[tokio::test]
async fn a_wrong_option_is_refused_with_advice() {
    let installation = Installation::on_files();
    let service = installation.serve().await;
    let printed = installation.text(&["rejections"]).await;
    assert!(printed.contains("Nothing was refused."), "{printed}");
    let empty = installation.json(&["rejections"]).await;
    assert_eq!((&empty["counts"], &empty["samples"]), (&json!([]), &json!([])));
    installation.fails(&["rejections", "--project", "defualt"], 1, "did you mean \"default\"?").await;
    for (arguments, says) in [
        (["--from", "2026-11-20T10:20:00Z"], "2026-11-20T10:00:00Z or 2026-11-20T11:00:00Z"),
        (["--to", "2001-01-01T00:00:00+05:30"], "--to"),
        (["--limit", "101"], "--limit"),
    ] {
        installation.fails(&[&["rejections"][..], &arguments].concat(), 2, says).await;
    }
    service.interrupt().await;
}
