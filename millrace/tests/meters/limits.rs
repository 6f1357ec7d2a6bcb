//! Limits of customers: the commands, the answers to batches over a limit, and what is left, on both stores.

use serde_json::{Value, json};
use testkit::eventually;
use testkit::http::{Answer, get, post};

use crate::installation::PATIENCE;
use crate::site::Site;

const SET: [&str; 5] = ["limit", "set", "shop", "--meter", "tokens"];

async fn left(site: &Site, subject: &str) -> Value {
    site.get(&format!("/v1/meters/tokens/limits?subject={subject}")).await["limits"].clone()
}

async fn set(site: &Site, arguments: &[&str]) {
    site.installation.text(&[&SET, arguments].concat()).await;
}

/// Waits until the API has read the limits: the customer then has one of this amount.
async fn known(site: &Site, subject: &str, limit: &Value) {
    eventually(PATIENCE, "the limit to be known", async || {
        let limits = left(site, subject).await;
        let has = limits.as_array().unwrap().iter().any(|one| one["limit"] == *limit);
        if has { Ok(()) } else { Err(limits.to_string()) }
    })
    .await;
}

fn call(id: &str, subject: &str, tokens: &Value) -> Value {
    json!({"id": id, "name": "llm_call", "subject": subject, "timestamp": "2026-10-24T21:30:00Z",
           "properties": {"tokens": tokens}})
}

async fn send(site: &Site, events: &[Value]) -> Answer {
    site.post("/v1/events", &site.key, Value::from(events.to_vec()).to_string()).await
}

fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_over_a_limit_are_refused_by_index_on_files() {
    events_over_a_limit(&Site::on_files().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_over_a_limit_are_refused_by_index_on_servers() {
    events_over_a_limit(&Site::on_servers().await).await;
}

async fn events_over_a_limit(site: &Site) {
    site.create_meters(&[]).await;
    set(site, &["--subject", "acme", "--per", "month", "10.5"]).await;
    set(site, &["--per", "day", "4"]).await;
    known(site, "acme", &json!(10.5)).await;
    known(site, "other", &json!(4)).await;
    let events = [
        call("1", "acme", &json!(3)),
        json!({"name": "llm_call", "unknown": 1}),
        call("2", "other", &json!("4")),
        call("3", "acme", &json!(8)),
        call("4", "acme", &json!(1)),
        call("5", "other", &json!(0.000_1)),
        call("6", "acme", &json!("many")),
    ];
    let refused = send(site, &events).await;
    assert_eq!((refused.status, code(&refused).as_str()), (429, "limit_exceeded"), "{refused:?}");
    let named = refused.json()["rejected"].clone();
    let indexes: Vec<_> = named.as_array().unwrap().iter().map(|one| one["index"].clone()).collect();
    // Acme has the daily limit of all others, too: 3 fits, 8 does not, 1 does.
    assert_eq!(Value::from(indexes), json!([3, 5]), "{refused:?}");
    assert_eq!((&named[0]["code"], &named[0]["field"]), (&json!("limit_exceeded"), &json!("subject")));
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3_600).contains(&retry_after), "{refused:?}");
    assert_eq!(left(site, "acme").await[0]["used"], json!(0), "nothing was charged");

    let fits: Vec<_> = [0, 1, 2, 4, 6].iter().map(|index| events[*index].clone()).collect();
    let accepted = send(site, &fits).await;
    assert_eq!((accepted.status, &accepted.json()["accepted"]), (202, &json!(4)), "{accepted:?}");
    // Repeated events: they are charged, and given back when they are found to be duplicates.
    set(site, &["--per", "day", "100"]).await;
    known(site, "other", &json!(100)).await;
    let repeated = send(site, &[call("1", "acme", &json!(3)), call("7", "acme", &json!(1.5))]).await;
    assert_eq!(repeated.status, 202, "{repeated:?}");
    site.settled("shop").await;
    let limits = left(site, "acme").await;
    let figures = |one: &Value| (one["period"].clone(), one["used"].clone(), one["remaining"].clone());
    let found: Vec<_> = limits.as_array().unwrap().iter().map(figures).collect();
    let expected = [(json!("day"), json!(5.5), json!(94.5)), (json!("month"), json!(5.5), json!(5))];
    assert_eq!(found, expected, "3, 1 and 1.5: the duplicate takes nothing");
    assert!(limits[1]["end"].as_str().unwrap().ends_with("-01T00:00:00Z"), "{limits}");

    the_audit_compares_the_counters(site).await;
    let shown =
        site.installation.json(&["limit", "show", "shop", "--meter", "tokens", "--subject", "acme"]).await;
    assert_eq!(shown["limits"], limits);
    let delete = ["limit", "delete", "shop", "--meter", "tokens", "--subject", "acme", "--per", "month"];
    site.installation.text(&delete).await;
    eventually(PATIENCE, "the limit to be gone", async || {
        let limits = left(site, "acme").await;
        if limits.as_array().unwrap().len() == 1 { Ok(()) } else { Err(limits.to_string()) }
    })
    .await;
    assert_eq!(send(site, &[call("8", "acme", &json!(90))]).await.status, 202);
    assert_eq!(site.settled("shop").await["stored"], json!(6));
}

/// What is recorded is changed behind the program's back, and restored.
async fn the_audit_compares_the_counters(site: &Site) {
    let audit = async || {
        let finished = site.installation.run(&["audit", "--quick", "--json"]).await;
        (finished.code, serde_json::from_str::<Value>(&finished.stdout).unwrap()["limits"].clone())
    };
    let counters = json!({"compared": 3, "moving": 0, "violations": []});
    assert_eq!(audit().await, (Some(0), counters));
    let change = |sign: char| {
        let of_acme = "WHERE subject = 'acme' AND period = 'month'";
        [
            format!("UPDATE limit_usage SET used = used {sign} 2 {of_acme}"),
            format!("UPDATE limit_usage SET units = units {sign} 2 {of_acme}"),
        ]
    };
    let [postgresql, sqlite] = change('+');
    site.write(&postgresql, &sqlite).await;
    let (code, limits) = audit().await;
    assert_eq!((code, limits["violations"].as_array().map(Vec::len)), (Some(1), Some(1)), "{limits}");
    let wrong = &limits["violations"][0];
    let named =
        ["meter", "subject", "period", "expected", "found"].map(|member| wrong[member].as_str().unwrap());
    assert_eq!(named, ["tokens", "acme", "month", "7.5", "5.5"]);
    let text = site.installation.run(&["audit", "--quick"]).await.stdout;
    assert!(
        text.contains("customer acme: the limit of tokens per month is charged 5.5 in the stream"),
        "{text}"
    );
    let [postgresql, sqlite] = change('-');
    site.write(&postgresql, &sqlite).await;
    assert_eq!(audit().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_a_customer_over_its_limit_comes_back_later() {
    let site = Site::on_files().await;
    let create = ["meter", "create", "shop", "tokens", "--event", "Used"];
    site.installation.text(&create).await;
    set(&site, &["--per", "month", "1"]).await;
    known(&site, "acme", &json!(1)).await;
    let basic = "Basic ".to_owned() + &base64_of(&format!("{}:", site.key));
    let segment = async |id: &str| {
        let body = json!({"batch": [{"type": "track", "event": "Used", "userId": "acme", "messageId": id}]});
        let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
        post(site.address, "/v1/batch", &headers, body.to_string()).await
    };
    assert_eq!(segment("1").await.status, 200);
    let refused = segment("2").await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_learns_no_limit_of_a_customer() {
    let site = Site::on_files().await;
    site.create_meters(&[]).await;
    set(&site, &["--per", "hour", "1"]).await;
    known(&site, "acme", &json!(1)).await;
    let created = site.installation.json(&["key", "create", "shop", "--scope", "write"]).await;
    let key = created["key"].as_str().unwrap();
    let bearer = format!("Bearer {key}");
    let body = Value::from(vec![call("1", "acme", &json!(2))]).to_string();
    let refused = eventually(PATIENCE, "the key to be known", async || {
        let answer = post(site.address, "/v1/events", &[("authorization", &bearer)], body.clone()).await;
        if answer.status == 429 { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!((refused.json().get("rejected"), code(&refused).as_str()), (None, "limit_exceeded"));
    let path = "/v1/meters/tokens/limits?subject=acme";
    let answer = get(site.address, path, &[("authorization", &bearer)]).await;
    assert_eq!(answer.status, 403, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_limit_or_question_is_named_with_what_would_be_right() {
    let site = Site::on_files().await.with_a_bill().await;
    let commands = &site.installation;
    let of = |meter: &'static str, amount: &'static str| {
        ["limit", "set", "shop", "--meter", meter, "--per", "day", amount]
    };
    commands.fails(&of("users", "5"), 1, "only count and sum").await;
    commands.fails(&of("tokns", "5"), 1, "did you mean \"tokens\"").await;
    commands.fails(&of("tokens", "1e6"), 2, "plain notation").await;
    commands.fails(&of("tokens", "0.0000000001"), 2, "9 digits").await;
    commands
        .fails(&["limit", "delete", "shop", "--meter", "tokens", "--per", "day"], 1, "no such limit")
        .await;
    let listed = commands.json(&["limit", "list", "shop"]).await;
    assert_eq!(listed["limits"], json!([]));
    let bearer = format!("Bearer {}", site.key);
    for (path, status, text) in [
        ("/v1/meters/tokens/limits", 400, "subject"),
        ("/v1/meters/tokens/limits?subject=", 400, "subject"),
        ("/v1/meters/tokens/limits?subject=a&per=day", 400, "subject"),
        ("/v1/meters/none/limits?subject=a", 404, "no such meter"),
    ] {
        let answer = get(site.address, path, &[("authorization", bearer.as_str())]).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.json()["message"].as_str().unwrap().contains(text), "{path}: {answer:?}");
    }
    assert_eq!(left(&site, "acme").await, json!([]));
}
