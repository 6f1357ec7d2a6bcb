//! `/v1/admin`: a program manages projects, keys, plans, meters, limits and thresholds over HTTP, on files
//! and on servers.

mod installation;

use std::time::Duration;

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
    a_limit_is_set_listed_and_removed_and_the_command_line_shows_the_same,
    a_threshold_is_set_shown_and_deleted_and_its_secret_is_answered_once,
    only_a_live_admin_key_manages_and_it_does_nothing_else,
    what_is_wrong_is_answered_with_the_field_and_changes_nothing,
}

/// Only a defect takes this long.
const MINUTE: Duration = Duration::from_secs(60);

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
    testkit::eventually(MINUTE, "the event to be metered", async || figures().await.then_some(())).await;
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

async fn a_limit_is_set_listed_and_removed_and_the_command_line_shows_the_same(
    installation: &Installation,
    service: &Service,
) {
    let mut manager = Manager::of(installation, service).await;
    let meter = json!({ "slug": "tokens", "event": "call", "aggregation": "sum", "value": "$.tokens" });
    manager.does("POST", "/v1/admin/projects/default/meters", meter, 201).await;
    let limits = "/v1/admin/projects/default/limits";
    let limit = |subject: Option<&str>, amount: Value| {
        let mut limit = json!({ "meter": "tokens", "period": "month", "limit": amount });
        if let Some(subject) = subject {
            limit["subject"] = json!(subject);
        }
        limit
    };
    manager.does("PUT", limits, limit(None, json!(7)), 200).await;
    let set = manager.does("PUT", limits, limit(Some("acme/eu"), json!("2.50")), 200).await;
    assert_eq!((&set["subject"], &set["limit"]), (&json!("acme/eu"), &json!(2.5)));
    let again = manager.does("PUT", limits, limit(Some("acme/eu"), json!("2.5")), 200).await;
    assert_eq!((&again["limit"], &again["period"]), (&set["limit"], &json!("month")));
    let all = installation.json(&["limit", "list", "default"]).await["limits"].clone();
    let first = manager.does("GET", &format!("{limits}?limit=1"), Value::Null, 200).await;
    assert_eq!((&first["limits"][0], &first["next_after"]), (&all[0], &json!("tokens/month/")));
    let rest = manager.does("GET", &format!("{limits}?limit=1&after=tokens/month/"), Value::Null, 200).await;
    assert_eq!((&rest["limits"][0], &rest["next_after"]), (&all[1], &Value::Null));
    let of_one = manager.does("GET", &format!("{limits}?subject=acme/eu"), Value::Null, 200).await;
    assert_eq!(of_one["limits"], rest["limits"]);

    let mut client = Manager::with(service, &service.key());
    let event = |tokens| json!({ "events": [{ "name": "call", "subject": "acme/eu", "properties": { "tokens": tokens } }] });
    let refused = || async {
        let mut client = Manager::with(service, &service.key());
        (client.send("POST", "/v1/events", &event(3)).await.status == 429).then_some(())
    };
    testkit::eventually(MINUTE, "the limit to hold", refused).await;
    client.does("POST", "/v1/events?wait=stored", event(2), 202).await;

    for (query, status) in
        [("meter=tokens&period=year", 400), ("period=month", 400), ("meter=tokens&period=day", 404)]
    {
        manager.does("DELETE", &format!("{limits}?{query}"), Value::Null, status).await;
    }
    let one = format!("{limits}?meter=tokens&period=month&subject=acme%2Feu");
    let removed = json!({ "meter": "tokens", "period": "month", "subject": "acme/eu" });
    assert_eq!(manager.does("DELETE", &one, Value::Null, 200).await["deleted"], removed);
    manager.does("DELETE", &one, Value::Null, 404).await;
    for (change, status, field) in [
        (json!({ "limit": 2.5 }), 422, "limit"),
        (json!({ "limit": "1e6" }), 422, "limit"),
        (json!({ "limit": "1000000000000000" }), 422, "limit"),
        (json!({ "period": "week" }), 422, "period"),
        (json!({ "meter": "none" }), 404, ""),
        (json!({ "subject": "" }), 422, ""),
        (json!({ "subject": "a\u{0}" }), 422, ""),
    ] {
        let mut body = limit(Some("x"), json!(1));
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = manager.does("PUT", limits, body, status).await;
        assert_eq!(refused["field"].as_str().unwrap_or_default(), field, "{change}: {refused}");
    }
    manager.does("GET", "/v1/admin/projects/none/limits", Value::Null, 404).await;
}

async fn a_threshold_is_set_shown_and_deleted_and_its_secret_is_answered_once(
    installation: &Installation,
    service: &Service,
) {
    let mut manager = Manager::of(installation, service).await;
    let authorization = manager.authorization.clone();
    let admin_key = authorization.trim_start_matches("Bearer ");
    manager
        .does("PUT", "/v1/admin/plans/ten", json!({ "requests_per_minute": 60, "events_per_month": 10 }), 201)
        .await;
    let created =
        manager.does("POST", "/v1/admin/projects", json!({ "name": "shop", "plan": "ten" }), 201).await;
    let thresholds = "/v1/admin/projects/shop/thresholds";
    let (most, much) = (format!("{thresholds}/most"), format!("{thresholds}/much"));
    let of_quota = json!({ "quota_percent": 20, "url": "https://hooks.invalid/in" });
    let set = manager.does("PUT", &most, of_quota.clone(), 200).await;
    assert!(set["signing_secret"].as_str().unwrap().starts_with("whsec_"), "{set}");
    let again = manager.does("PUT", &most, of_quota, 200).await;
    assert_eq!((&again["signing_secret"], &again["created_at"]), (&Value::Null, &set["created_at"]));
    let of_meter =
        json!({ "meter": "calls", "value": "1.50", "period": "day", "url": "http://hooks.invalid/" });
    assert_eq!(manager.does("PUT", &much, of_meter.clone(), 422).await["code"], "invalid_field");
    let meter = json!({ "slug": "calls", "event": "call" });
    manager.does("POST", "/v1/admin/projects/shop/meters", meter, 201).await;
    let other = manager.does("PUT", &much, of_meter, 200).await;
    assert_eq!((&other["value"], &other["subject"]), (&json!("1.5"), &Value::Null));
    let listed = manager.does("GET", thresholds, Value::Null, 200).await;
    assert_eq!(listed, installation.json(&["threshold", "list", "shop"]).await);
    assert_eq!(manager.does("GET", &most, Value::Null, 200).await, listed["thresholds"][0]);
    assert!(listed["thresholds"][0].get("signing_secret").is_none(), "{listed}");

    let key = created["key"]["key"].as_str().unwrap();
    service.answers(key, "the new key to work", |answer| answer.status == 200).await;
    let events = json!({ "events": [{ "name": "a" }, { "name": "b" }] });
    Manager::with(service, key).does("POST", "/v1/events?wait=stored", events, 202).await;
    let log = "/v1/admin/projects/shop/notifications";
    let reached = testkit::eventually(MINUTE, "the notification", async || {
        let mut manager = Manager::with(service, admin_key);
        let page = manager.does("GET", &format!("{log}?limit=1"), Value::Null, 200).await;
        page["notifications"].get(0).cloned().map(|notification| (notification, page["next_before"].clone()))
    })
    .await;
    let (notification, next) = &reached;
    assert_eq!((&notification["threshold"], &notification["value"]), (&json!("most"), &json!("2")));
    assert_eq!(*next, Value::Null);
    let before = format!("{log}?before={}&state=dead", notification["notification_id"]);
    assert_eq!(manager.does("GET", &before, Value::Null, 200).await["notifications"], json!([]));
    for query in ["before=0", "state=open", "limit=0", "from=1"] {
        manager.does("GET", &format!("{log}?{query}"), Value::Null, 400).await;
    }

    assert_eq!(manager.does("DELETE", &most, Value::Null, 200).await, json!({ "deleted": "most" }));
    manager.does("DELETE", &most, Value::Null, 404).await;
    manager.does("GET", &most, Value::Null, 404).await;
    for (body, field) in [
        (json!({ "quota_percent": 5 }), "url"),
        (json!({ "quota_percent": 5, "url": "ftp://a.example" }), "url"),
        (json!({ "quota_percent": 0, "url": "https://a.example" }), "quota_percent"),
        (json!({ "quota_percent": 5, "meter": "calls", "url": "https://a.example" }), "quota_percent"),
        (json!({ "value": 5, "url": "https://a.example" }), "meter"),
        (json!({ "meter": "calls", "value": 0, "url": "https://a.example" }), "value"),
        (json!({ "meter": "a", "value": 5, "limit_percent": 5, "url": "http://a" }), "limit_percent"),
    ] {
        assert_eq!(manager.does("PUT", &most, body.clone(), 422).await["field"], field, "{body}");
    }
    manager
        .does(
            "PUT",
            &format!("{thresholds}/UP"),
            json!({ "quota_percent": 5, "url": "https://a.example" }),
            422,
        )
        .await;
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
