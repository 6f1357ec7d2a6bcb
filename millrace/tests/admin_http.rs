//! `/v1/admin`: a program manages projects, keys, plans and meters over HTTP, on files and on servers.

mod installation;

use installation::{Installation, Service};
use serde_json::{Value, json};
use testkit::http::{Answer, HttpClient};

/// Each promise, on files and on servers.
macro_rules! promises {
    ($($promise:ident),+ $(,)?) => {
        mod on_files {
            $(#[tokio::test]
            async fn $promise() {
                let installation = super::Installation::on_files();
                super::$promise(&installation, &installation.serve().await).await;
            })+
        }
        mod on_servers {
            $(#[tokio::test]
            async fn $promise() {
                let installation = super::Installation::on_servers().await;
                super::$promise(&installation, &installation.serve().await).await;
            })+
        }
    };
}

promises! {
    a_program_makes_a_project_that_sends_and_is_metered_at_once,
    a_project_is_listed_shown_and_changed,
    a_key_is_rotated_and_revoked,
    a_plan_is_created_and_changed,
    only_a_live_admin_key_manages_and_it_does_nothing_else,
    what_is_wrong_is_answered_with_the_field_and_changes_nothing,
}

/// A program with an admin key.
struct Manager {
    client: HttpClient,
    authorization: String,
}

impl Manager {
    async fn of(installation: &Installation, service: &Service) -> Self {
        let key = installation.json(&["admin-key", "create", "billing"]).await["key"].clone();
        Self::with(service, key.as_str().unwrap())
    }

    fn with(service: &Service, key: &str) -> Self {
        Self { client: HttpClient::new(service.address), authorization: format!("Bearer {key}") }
    }

    async fn send(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", self.authorization.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.client.send(method, path, &headers, body).await.unwrap()
    }

    /// The body of an answer with this status.
    async fn does(&mut self, method: &str, path: &str, body: Value, status: u16) -> Value {
        let answer = self.send(method, path, &body).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.json());
        answer.json()
    }
}

async fn a_program_makes_a_project_that_sends_and_is_metered_at_once(
    installation: &Installation,
    service: &Service,
) {
    let mut manager = Manager::of(installation, service).await;
    let body =
        json!({ "name": "acme / EU", "plan": "free", "scope": "full", "store_ip": true, "oldest_s": 86_400 });
    let created = manager.does("POST", "/v1/admin/projects", body, 201).await;
    assert_eq!(
        (&created["project"]["name"], &created["project"]["live_keys"]),
        (&json!("acme / EU"), &json!(1))
    );
    assert_eq!(created["project"]["policy"]["store_ip"], true);
    assert_eq!(created["project"]["policy"]["oldest_s"], 86_400);
    let meter = json!({ "slug": "tokens", "event": "llm_call", "aggregation": "sum", "value": "$.tokens", "groups": { "model": "$.model" } });
    let meters = "/v1/admin/projects/acme%20%2F%20EU/meters";
    let metered = manager.does("POST", meters, meter.clone(), 201).await;
    assert_eq!((&metered["slug"], &metered["backfill"]), (&json!("tokens"), &json!("complete")));
    assert_eq!(manager.does("POST", meters, meter, 409).await["code"], "conflict");

    let key = created["key"]["key"].as_str().unwrap();
    service.answers(key, "the new key to work", |answer| answer.status == 200).await;
    let mut client = Manager::with(service, key);
    let event =
        json!({ "name": "llm_call", "subject": "u1", "properties": { "tokens": 7, "model": "large" } });
    client.does("POST", "/v1/events?wait=stored", json!({ "events": [event] }), 202).await;
    let figures = || async {
        let text = installation.json(&["usage", "acme / EU", "--meter", "tokens", "--by", "subject"]).await;
        text["rows"][0]["value"] == 7
    };
    testkit::eventually(std::time::Duration::from_secs(60), "the event to be metered", async || {
        figures().await.then_some(())
    })
    .await;
    assert_eq!(manager.does("GET", meters, Value::Null, 200).await["meters"][0]["slug"], "tokens");
    let one = format!("{meters}/tokens");
    assert_eq!(manager.does("DELETE", &one, Value::Null, 200).await, json!({ "deleted": "tokens" }));
    manager.does("DELETE", &one, Value::Null, 404).await;
}

async fn a_project_is_listed_shown_and_changed(installation: &Installation, service: &Service) {
    let mut manager = Manager::of(installation, service).await;
    for name in ["a", "b", "c"] {
        manager.does("POST", "/v1/admin/projects", json!({ "name": name, "plan": "free" }), 201).await;
    }
    let names = |page: &Value| -> Vec<String> {
        let projects = page["projects"].as_array().unwrap();
        projects.iter().map(|project| project["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = manager.does("GET", "/v1/admin/projects?limit=2", Value::Null, 200).await;
    assert_eq!((names(&first), &first["next_after"]), (vec!["a".to_owned(), "b".to_owned()], &json!("b")));
    let last = manager.does("GET", "/v1/admin/projects?limit=2&after=b", Value::Null, 200).await;
    assert_eq!(
        (names(&last), &last["next_after"]),
        (vec!["c".to_owned(), "default".to_owned()], &Value::Null)
    );

    let taken = manager.does("POST", "/v1/admin/projects", json!({ "name": "a", "plan": "pro" }), 409).await;
    assert!(taken["message"].as_str().unwrap().contains("\"a\""), "{taken}");
    let change = json!({ "plan": "pro", "dedupe": "id", "newest_s": 60 });
    let changed = manager.does("PATCH", "/v1/admin/projects/a", change, 200).await;
    assert_eq!((&changed["plan"], &changed["policy"]["dedupe"]), (&json!("pro"), &json!("id")));
    let back = manager.does("PATCH", "/v1/admin/projects/a", json!({ "newest_s": null }), 200).await;
    assert_eq!((&back["plan"], &back["policy"]["newest_s"]), (&json!("pro"), &Value::Null));
    assert_eq!(manager.does("GET", "/v1/admin/projects/a", Value::Null, 200).await, back);
    let listed = installation.json(&["project", "list"]).await;
    assert_eq!(listed["projects"][0]["policy"], back["policy"], "the command line shows the same");
}

async fn a_key_is_rotated_and_revoked(installation: &Installation, service: &Service) {
    let mut manager = Manager::of(installation, service).await;
    manager.does("POST", "/v1/admin/projects", json!({ "name": "shop", "plan": "pro" }), 201).await;
    let keys = "/v1/admin/projects/shop/keys";
    let options = json!({ "scope": "write", "origins": ["https://shop.example"], "signed": false });
    let created = manager.does("POST", keys, options, 201).await;
    let number = created["key_id"].as_i64().unwrap();
    let rotate = format!("/v1/admin/keys/{number}/rotate");
    let rotated = manager.does("POST", &rotate, json!({ "overlap_s": 0 }), 201).await;
    assert_eq!((&rotated["project"], &rotated["rotated"]), (&json!("shop"), &json!(number)));
    manager.does("POST", &rotate, json!({}), 409).await;
    let listed = manager.does("GET", keys, Value::Null, 200).await;
    let listed = listed["keys"].as_array().unwrap();
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(
        (&listed[2]["scope"], &listed[2]["origins"][0]),
        (&json!("write"), &json!("https://shop.example"))
    );
    assert!(listed.iter().all(|key| key.get("key").is_none()), "no key is shown again: {listed:?}");
    let new = rotated["key_id"].as_i64().unwrap();
    let one = format!("/v1/admin/keys/{new}");
    assert_eq!(manager.does("DELETE", &one, Value::Null, 200).await, json!({ "revoked": new }));
    manager.does("DELETE", &one, Value::Null, 404).await;
    manager.does("POST", "/v1/admin/keys/987654/rotate", json!({}), 404).await;
}

async fn a_plan_is_created_and_changed(installation: &Installation, service: &Service) {
    let mut manager = Manager::of(installation, service).await;
    let path = "/v1/admin/plans/starter";
    let missing = manager.does("PUT", path, json!({ "burst": 5 }), 422).await;
    assert_eq!(missing["field"], "requests_per_minute");
    let created =
        manager.does("PUT", path, json!({ "requests_per_minute": 60, "events_per_month": 1000 }), 201).await;
    assert_eq!((&created["burst"], &created["events_per_month"]), (&json!(60), &json!(1_000)));
    let changed = manager.does("PUT", path, json!({ "events_per_month": null }), 200).await;
    assert_eq!((&changed["requests_per_minute"], &changed["events_per_month"]), (&json!(60), &Value::Null));
    let listed = manager.does("GET", "/v1/admin/plans", Value::Null, 200).await;
    assert!(listed["plans"].as_array().unwrap().contains(&changed), "{listed}");
}

async fn only_a_live_admin_key_manages_and_it_does_nothing_else(
    installation: &Installation,
    service: &Service,
) {
    let created = installation.json(&["admin-key", "create", "billing"]).await;
    let mut manager = Manager::with(service, created["key"].as_str().unwrap());
    manager.does("GET", "/v1/admin/projects", Value::Null, 200).await;
    for (method, path) in
        [("POST", "/v1/events"), ("GET", "/v1/usage"), ("GET", "/v1/meters"), ("GET", "/v1/limits")]
    {
        let answer = manager.send(method, path, &Value::Null).await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
    let mut project = Manager::with(service, &service.key());
    let refused = project.does("GET", "/v1/admin/projects", Value::Null, 403).await;
    assert!(refused["message"].as_str().unwrap().contains("admin-key create"), "{refused}");
    for key in ["mka_0123456789abcdef0123456789abcdef", "mk_unknown-unknown", "mka_"] {
        let answer = Manager::with(service, key).send("GET", "/v1/admin/plans", &Value::Null).await;
        assert_eq!((answer.status, answer.header("www-authenticate").is_some()), (401, true), "{key}");
    }
    let number = created["admin_key_id"].to_string();
    assert!(installation.text(&["admin-key", "list"]).await.contains("billing"));
    installation.text(&["admin-key", "revoke", &number]).await;
    // From the next request on.
    manager.does("GET", "/v1/admin/projects", Value::Null, 401).await;
    installation.fails(&["admin-key", "revoke", &number], 1, "there is no live admin key").await;
    installation
        .fails(&["admin-key", "create", "x", "--key", "mk_short"], 2, "--key: an admin key begins with mka_")
        .await;
}

async fn what_is_wrong_is_answered_with_the_field_and_changes_nothing(
    installation: &Installation,
    service: &Service,
) {
    let mut manager = Manager::of(installation, service).await;
    let projects = "/v1/admin/projects";
    for (body, field) in [
        (json!({ "plan": "free" }), "name"),
        (json!({ "name": 7, "plan": "free" }), "name"),
        (json!({ "name": "x" }), "plan"),
        (json!({ "name": "x", "plan": "gold" }), "plan"),
        (json!({ "name": "x", "plan": "free", "dedupe": "no" }), "dedupe"),
        (json!({ "name": "x", "plan": "free", "scope": "admin" }), "scope"),
        (json!({ "name": "x", "plan": "free", "oldest_s": -1 }), "oldest_s"),
        (json!({ "name": "x", "plan": "free", "origins": "https://a.example" }), "origins"),
    ] {
        assert_eq!(manager.does("POST", projects, body.clone(), 422).await["field"], field, "{body}");
    }
    for body in [
        json!({ "name": "x", "plan": "free", "nmae": "y" }),
        json!({ "name": " x", "plan": "free" }),
        json!({ "name": "x", "plan": "free", "key": "short" }),
        json!({ "name": "x", "plan": "free", "key": "mka_0123456789abcdef0123456789abcdef" }),
        json!({ "name": "x", "plan": "free", "origins": ["no origin"] }),
    ] {
        let refused = manager.does("POST", projects, body.clone(), 422).await;
        assert_eq!(refused["code"], "invalid_field", "{body}");
    }
    assert_eq!(manager.does("POST", projects, json!([]), 400).await["code"], "invalid_json");
    manager.does("PATCH", "/v1/admin/projects/default", json!({}), 422).await;
    manager.does("PATCH", "/v1/admin/projects/nothing", json!({ "plan": "pro" }), 404).await;
    manager.does("GET", "/v1/admin/projects/%ff", Value::Null, 404).await;
    manager.does("GET", "/v1/admin/projects?limit=0", Value::Null, 400).await;
    manager.does("PUT", projects, json!({}), 405).await;
    let meters = "/v1/admin/projects/default/meters";
    for (body, field) in [
        (json!({ "slug": "UP", "event": "e" }), "slug"),
        (json!({ "slug": "s", "event": "e", "aggregation": "sum" }), "value"),
        (json!({ "slug": "s", "event": "e", "value": "$.x" }), "value"),
        (json!({ "slug": "s", "event": "e", "aggregation": "median" }), "aggregation"),
        (json!({ "slug": "s", "event": "e", "groups": { "a": "b c" } }), "groups"),
    ] {
        assert_eq!(manager.does("POST", meters, body.clone(), 422).await["field"], field, "{body}");
    }
    let big = json!({ "name": "x".repeat(70_000), "plan": "free" });
    assert_eq!(manager.send("POST", projects, &big).await.status, 413);
    let listed = installation.json(&["project", "list"]).await;
    assert_eq!(listed["projects"].as_array().unwrap().len(), 1, "{listed}");
}
