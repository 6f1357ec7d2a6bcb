//! The commands for projects, keys, plans and usage, next to a service on files and on servers: what they
//! print, what they refuse, and that the service applies it.

mod installation;

use installation::{Installation, Service};
use serde_json::{Value, json};
use testkit::http::{Answer, get};
use time::format_description::well_known::Rfc3339;
use time::macros::offset;
use time::{Duration, OffsetDateTime};

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
    projects_are_listed_and_moved_between_plans,
    a_rotated_key_works_next_to_the_new_one_until_its_overlap_ends,
    a_key_has_a_scope_and_origins_and_so_has_the_one_that_replaces_it,
    the_policy_of_a_project_is_set_and_shown,
    plans_are_created_and_changed_and_the_service_applies_them,
    usage_is_reported_by_window_and_by_project,
    periods_of_usage_next_to_each_other_count_an_event_once,
}

fn is_refused(answer: &Answer) -> bool {
    answer.status == 401 && answer.json()["detail"] == "the key is not known"
}

/// A key that requires signatures is refused for another reason.
fn is_accepted(answer: &Answer) -> bool {
    answer.status == 200 || (answer.status == 401 && !is_refused(answer))
}

/// The words of the line that begins with this one.
fn line<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = words.filter(|words| words.first() == Some(&first));
    found.next().unwrap_or_else(|| panic!("no line begins with {first:?}:\n{text}"))
}

async fn projects_are_listed_and_moved_between_plans(installation: &Installation, service: &Service) {
    let shop = installation.json(&["project", "create", "shop", "--plan", "free"]).await;
    installation.json(&["key", "create", "shop"]).await;
    let listed = installation.text(&["project", "list"]).await;
    let head = "project number plan keys created last used dedupe oldest newest out of bounds addresses";
    assert_eq!(line(&listed, "project").join(" "), head);
    let words = line(&listed, "shop");
    assert_eq!((&words[1..4], words[5]), (["2", "free", "2"].as_slice(), "never"), "{listed}");
    assert_eq!(words[6..10], ["id-and-timestamp", "none", "none", "receive-time"], "{listed}");
    assert_eq!(line(&listed, "default")[..4], ["default", "1", "enterprise", "2"]);

    let moved = installation.json(&["project", "plan", "shop", "pro"]).await;
    assert_eq!(moved, json!({ "project": "shop", "plan": "pro", "before": "free" }));
    let key = shop["key"].as_str().unwrap();
    let follows = |answer: &Answer| is_accepted(answer) && answer.json()["plan"] == "pro";
    service.answers(key, "the new plan to be in force", follows).await;
    let listed = installation.json(&["project", "list"]).await;
    let project = &listed["projects"][1];
    assert_eq!(
        (&project["project"], &project["plan"], &project["live_keys"]),
        (&json!("shop"), &json!("pro"), &json!(2))
    );

    for (arguments, says) in [
        (["project", "plan", "shpo", "pro"], "no project named \"shpo\"; did you mean \"shop\"?"),
        (["project", "plan", "shop", "por"], "no plan named \"por\"; did you mean \"pro\"?"),
        (["project", "plan", "shop", "diamond"], "no plan named \"diamond\"; `millrace plan list` shows all"),
        (["project", "create", "new", "--plan=gold"], "`millrace plan list`"),
    ] {
        installation.fails(&arguments, 1, says).await;
    }
    installation.fails(&["key", "create", "Sho"], 1, "did you mean \"shop\"?").await;
}

async fn a_rotated_key_works_next_to_the_new_one_until_its_overlap_ends(
    installation: &Installation,
    service: &Service,
) {
    let shop = installation.json(&["project", "create", "shop", "--plan", "pro", "--signed"]).await;
    let rotated = installation.json(&["key", "rotate", "3", "--overlap", "1h"]).await;
    assert_eq!(
        (&rotated["project"], &rotated["rotated"], &rotated["key_id"]),
        (&json!("shop"), &json!(3), &json!(4))
    );
    assert!(
        rotated["signing_secret"].as_str().unwrap().starts_with("whsec_"),
        "the new key is signed too: {rotated}"
    );
    let (old, new) = (shop["key"].as_str().unwrap(), rotated["key"].as_str().unwrap());
    service.answers(new, "the new key to be accepted", is_accepted).await;
    service.answers(old, "the old key to be accepted", is_accepted).await;

    let chosen = "the-third-key-of-the-shop";
    let printed = installation.text(&["key", "rotate", "4", "--overlap", "0", "--key", chosen]).await;
    assert!(printed.starts_with("Key 4 of project shop is refused from now on."), "{printed}");
    assert!(printed.contains(&format!("Key 5: {chosen}\n")), "{printed}");
    assert!(
        printed.contains("Save both now") && printed.contains("Only a hash of the key is stored"),
        "{printed}"
    );
    service.answers(new, "a key without overlap to be refused", is_refused).await;
    service.answers(chosen, "its successor to be accepted", is_accepted).await;

    let ends = rotated["rotated_expires_at"].as_str().unwrap();
    installation.fails(&["key", "rotate", "3"], 1, &format!("rotated already and expires at {ends}")).await;
    installation.fails(&["key", "rotate", "4"], 1, "key 4 has expired").await;
    installation.text(&["key", "revoke", "3"]).await;
    service.answers(old, "a revoked key to be refused", is_refused).await;
    installation.fails(&["key", "rotate", "3"], 1, "key 3 is revoked; create a new one").await;
    installation.fails(&["key", "rotate", "99"], 1, "`millrace key list` shows all").await;

    let listed = installation.text(&["key", "list", "shop"]).await;
    let words = line(&listed, "3");
    assert_eq!((words[1], words[2], words[5], words[7]), ("shop", "full", ends, "yes"), "{listed}");
    assert_ne!(words[6], "no", "it is revoked: {listed}");
    assert_eq!(line(&listed, "5")[5..], ["never", "no", "yes", "any"], "{listed}");
    assert!(!listed.contains("mk_") && !listed.contains(chosen), "a key is shown once:\n{listed}");
    let all = installation.json(&["key", "list"]).await;
    assert_eq!(all["keys"].as_array().unwrap().len(), 5);
    assert_eq!((&all["keys"][2]["expires_at"], &all["keys"][4]["signed"]), (&json!(ends), &json!(true)));
}

async fn a_key_has_a_scope_and_origins_and_so_has_the_one_that_replaces_it(
    installation: &Installation,
    service: &Service,
) {
    let origins = ["--origin", "https://b.example", "--origin", "HTTP://LocalHost:80/"];
    let create = [&["key", "create", "default", "--scope", "write"], &origins[..]].concat();
    let made = installation.json(&create).await;
    let expected = json!(["http://localhost", "https://b.example"]);
    let refused = |answer: &Answer| answer.status == 403 && answer.json()["code"] == "forbidden";
    service.answers(made["key"].as_str().unwrap(), "the key to be known and refused", refused).await;
    let rotated = installation.json(&["key", "rotate", &made["key_id"].to_string()]).await;
    service.answers(rotated["key"].as_str().unwrap(), "the new key to be refused", refused).await;
    let listed = installation.json(&["key", "list"]).await;
    for key in [&made["key_id"], &rotated["key_id"]] {
        let keys = listed["keys"].as_array().unwrap();
        let key = keys.iter().find(|listed| listed["key_id"] == *key).unwrap();
        assert_eq!((&key["scope"], &key["origins"]), (&json!("write"), &expected), "{listed}");
    }
    let text = installation.text(&["key", "list"]).await;
    let words = line(&text, &rotated["key_id"].to_string());
    assert_eq!(
        (words[2], &words[8..]),
        ("write", ["http://localhost", "https://b.example"].as_slice()),
        "{text}"
    );
    let first = line(&text, "2");
    assert_eq!(first[2], "write", "the first start made a key for web pages: {text}");
    let project = ["project", "create", "site", "--plan", "free", "--scope", "read"];
    let site = installation.text(&project).await;
    assert!(
        site.contains("This key reads usage, limits, batches and rejections, and sends nothing."),
        "{site}"
    );
}

async fn the_policy_of_a_project_is_set_and_shown(installation: &Installation, _service: &Service) {
    let create = [
        "project", "create", "shop", "--plan", "pro", "--dedupe", "id", "--oldest", "365d", "--newest", "36h",
    ];
    let made = installation.json(&create).await;
    let policy = json!({
        "dedupe": "id", "oldest_s": 31_536_000, "newest_s": 129_600, "out_of_bounds": "receive-time",
        "store_ip": false,
    });
    assert_eq!(made["policy"], policy);
    let listed = installation.text(&["project", "list"]).await;
    assert_eq!(
        line(&listed, "shop")[6..],
        ["id", "365d", "1d", "12h", "receive-time", "not", "stored"],
        "{listed}"
    );
    let set = ["project", "set", "shop", "--oldest", "none", "--out-of-bounds", "refuse"];
    let text = installation.text(&set).await;
    assert!(text.starts_with("Changed shop. A repeated event is recognized by its id alone."), "{text}");
    assert!(text.contains("more than 1d 12h after its receipt is refused."), "{text}");
    let again = installation.json(&["project", "set", "shop", "--dedupe", "id-and-timestamp"]).await;
    assert_eq!(
        again["before"],
        json!({
            "dedupe": "id", "oldest_s": null, "newest_s": 129_600, "out_of_bounds": "refuse", "store_ip": false,
        })
    );
    let listed = installation.json(&["project", "list"]).await;
    assert_eq!(listed["projects"][1]["policy"], again["policy"]);
    installation.fails(&["project", "set", "shpo", "--dedupe", "id"], 1, "did you mean \"shop\"?").await;
}

async fn plans_are_created_and_changed_and_the_service_applies_them(
    installation: &Installation,
    service: &Service,
) {
    installation.fails(&["plan", "set", "hobby", "--burst", "9"], 1, "add --requests-per-minute").await;
    let created = installation.text(&["plan", "set", "hobby", "--requests-per-minute", "60"]).await;
    assert!(
        created.starts_with(
            "Created plan hobby: 60 requests per minute, 60 in a burst; unlimited events per month"
        ),
        "{created}"
    );
    assert!(created.contains("millrace project plan PROJECT hobby"), "{created}");
    let shop = installation.json(&["project", "create", "shop", "--plan", "hobby"]).await;
    let changed = ["plan", "set", "hobby", "--events-per-month", "50000", "--events-per-batch", "20"];
    let changed = installation.json(&changed).await;
    assert_eq!(
        (&changed["before"]["events_per_month"], &changed["projects"]),
        (&Value::Null, &json!(["shop"]))
    );
    let plan = json!({
        "plan": "hobby", "requests_per_minute": 60, "burst": 60, "events_per_month": 50_000, "events_per_batch": 20,
    });
    assert_eq!(changed["plan"], plan, "other limits stay");
    let follows = |answer: &Answer| {
        is_accepted(answer)
            && answer.json()["events"]["per_month"] == 50_000
            && answer.json()["batch"]["events_max"] == 20
    };
    service.answers(shop["key"].as_str().unwrap(), "the changed plan to be in force", follows).await;

    let listed = installation.text(&["plan", "list"]).await;
    assert_eq!(line(&listed, "hobby"), ["hobby", "60", "60", "50,000", "20", "shop"]);
    assert_eq!(
        line(&listed, "enterprise"),
        ["enterprise", "10,000", "10,000", "unlimited", "1,000", "default"]
    );
    assert_eq!(line(&listed, "pro").last(), Some(&"-"), "no project is on it");
    installation.json(&["plan", "set", "hobby", "--events-per-month", "unlimited"]).await;
    let listed = installation.json(&["plan", "list"]).await;
    assert_eq!(
        (&listed["plans"][0]["plan"], &listed["plans"][0]["events_per_month"]),
        (&json!("hobby"), &Value::Null)
    );
}

async fn usage_is_reported_by_window_and_by_project(installation: &Installation, service: &Service) {
    let shop = installation.json(&["project", "create", "shop", "--plan", "pro"]).await;
    let event = r#"{"id":"a","timestamp":"2026-11-20T00:00:00Z","name":"n"}"#;
    service.store(shop["key"].as_str().unwrap(), &format!("[{event},{event},{{\"name\":\"n\"}}]")).await;

    let all = installation.json(&["usage", "--from", "1d"]).await;
    let project = |name: &str| {
        all["projects"].as_array().unwrap().iter().find(|usage| usage["project"] == name).cloned()
    };
    let (used, unused) = (project("shop").unwrap(), project("default").unwrap());
    assert_eq!((&used["events"], &used["duplicates"], &unused["events"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!(
        all["total"],
        json!({ "events": 2, "cancelled": 0, "duplicates": 1, "conflicts": 0, "dead": 0, "bytes": used["bytes"] })
    );

    let by_hour = installation.json(&["usage", "shop", "--from", "1d", "--window", "hour"]).await;
    assert_eq!((&by_hour["window"], &by_hour["total"]), (&json!("hour"), &all["total"]));
    assert_eq!(by_hour["usage"].as_array().unwrap().len(), 1, "{by_hour}");
    let table = installation.text(&["usage", "shop", "--from", "1d"]).await;
    assert!(table.starts_with("Usage of shop by day, from "), "{table}");
    assert_eq!(
        line(&table, "day"),
        ["day", "events", "cancelled", "duplicates", "conflicts", "dead", "bytes"]
    );
    assert_eq!(line(&table, "total")[1..5], ["2", "0", "1", "0"]);

    let chart = installation.text(&["usage", "shop", "--from", "3d", "--chart"]).await;
    let days: Vec<_> = chart.lines().filter(|line| line.starts_with("20")).collect();
    assert_eq!(days.len(), 4, "the chart has days without events:\n{chart}");
    assert!(
        chart.contains(&format!("  2  {}", "#".repeat(65))),
        "80 columns where there is no terminal:\n{chart}"
    );
    assert!(chart.ends_with("2 events in total\n"), "{chart}");
    let by_project = installation.text(&["usage", "--from", "1d", "--chart"]).await;
    assert!(
        line(&by_project, "shop")[2].starts_with('#') && line(&by_project, "default").len() == 2,
        "{by_project}"
    );
    installation.fails(&["usage", "shap"], 1, "did you mean \"shop\"?").await;
}

async fn periods_of_usage_next_to_each_other_count_an_event_once(
    installation: &Installation,
    service: &Service,
) {
    let key = installation.project("shop", "pro").await;
    service.store(&key, r#"[{"name":"a"},{"name":"b"},{"name":"c"}]"#).await;
    let bearer = format!("Bearer {key}");
    let usage = async |query: &str| {
        get(service.address, &format!("/v1/usage?{query}"), &[("authorization", &bearer)]).await
    };
    let default = usage("").await.json();
    let end = OffsetDateTime::parse(default["to"].as_str().unwrap(), &Rfc3339).unwrap();
    assert_eq!((end.truncate_to_hour(), &default["total"]["events"]), (end, &json!(3)), "{default}");

    let minutes = |minutes: i64| (end - Duration::minutes(minutes)).format(&Rfc3339).unwrap();
    for (from, to, field) in [(60, 59, "to"), (59, 58, "from"), (1, 0, "from")] {
        let (from, to) = (minutes(from), minutes(to));
        let refused = usage(&format!("from={from}&to={to}")).await;
        let message = format!("{field} must be at a full hour UTC: use {} or {}", minutes(60), minutes(0));
        assert_eq!((refused.status, &refused.json()["message"]), (400, &json!(message)), "{refused:?}");
        assert_eq!(refused.json()["code"], "invalid_parameter");
        installation
            .fails(&["usage", "shop", "--from", &from, "--to", &to], 2, &format!("--{message}"))
            .await;
    }

    // Limits of the pieces, in hours before the end of the default period, in an offset of half an hour.
    let at = |hours: i64| (end - Duration::hours(hours)).to_offset(offset!(+05:30)).format(&Rfc3339).unwrap();
    for window in ["hour", "day", "month"] {
        let (mut by_request, mut by_command) = (0, 0);
        for piece in [40, 25, 24, 7, 1, 0, -1, -2].windows(2) {
            let (from, to) = (at(piece[0]), at(piece[1]));
            let answer = usage(&format!("from={from}&to={to}&window={window}")).await.json();
            for (limit, sent) in [("from", &from), ("to", &to)] {
                let shown = OffsetDateTime::parse(answer[limit].as_str().unwrap(), &Rfc3339).unwrap();
                assert_eq!(shown, OffsetDateTime::parse(sent, &Rfc3339).unwrap(), "used as it is given");
            }
            by_request += answer["total"]["events"].as_u64().unwrap();
            let report = ["usage", "shop", "--from", &from, "--to", &to, "--window", window];
            let report = installation.json(&report).await;
            assert_eq!((&report["from"], &report["total"]), (&answer["from"], &answer["total"]));
            by_command += report["total"]["events"].as_u64().unwrap();
        }
        assert_eq!((by_request, by_command), (3, 3), "{window}");
    }
}
