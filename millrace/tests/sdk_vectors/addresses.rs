//! The addresses of clients, when an operator changes the choice of a project while programs run.

use serde_json::{Value, json};
use testkit::eventually;
use testkit::http::post;

use crate::installation::{Installation, PATIENCE, Service};

const PROXIED: [(&str, &str); 1] = [("x-forwarded-for", "198.51.100.1, 203.0.113.9, 127.0.0.1")];

/// Sends an event until the row of the last one has this address, .
async fn until_addressed(installation: &Installation, service: &Service, key: &str, expected: Value) {
    let mut sent = 0;
    eventually(PATIENCE, "the choice to be applied", async || {
        sent += 1;
        let name = format!("{expected} {sent}");
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30"), PROXIED[0]];
        let answer = post(service.address, "/v1/events", &headers, json!({ "name": name }).to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let found = context_of(installation, &name)["ip"].clone();
        if found == expected { Ok(()) } else { Err(format!("{found} is not {expected}")) }
    })
    .await;
}

fn context_of(installation: &Installation, name: &str) -> Value {
    let store = rusqlite::Connection::open(installation.data().join("events.db")).unwrap();
    let read = "SELECT context FROM events WHERE name = ?1";
    let context: Option<String> = store.query_row(read, [name], |row| row.get(0)).unwrap();
    context.map_or(Value::Null, |context| serde_json::from_str(&context).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_stores_the_address_behind_trusted_proxies_while_its_owner_wants_it() {
    let installation = Installation::on_files();
    let program = installation.program("millrace", &[("TRUSTED_PROXIES", "127.0.0.0/8")]);
    let service = Service::of(program).await;
    let key = installation.project("shop", "enterprise").await;
    service.answers(&key, "the key to be known", |answer| answer.status == 200).await;
    until_addressed(&installation, &service, &key, Value::Null).await;

    let set = installation.json(&["project", "set", "shop", "--store-ip"]).await;
    assert_eq!((&set["before"]["store_ip"], &set["policy"]["store_ip"]), (&json!(false), &json!(true)));
    until_addressed(&installation, &service, &key, json!("203.0.113.9")).await;
    let listed = installation.text(&["project", "list"]).await;
    assert!(
        listed.lines().any(|line| line.starts_with("shop ") && line.trim_end().ends_with(" stored")),
        "{listed}"
    );

    let said = installation.text(&["project", "set", "shop", "--store-ip", "off"]).await;
    assert!(said.contains("Addresses of clients are not stored"), "{said}");
    until_addressed(&installation, &service, &key, Value::Null).await;
}
