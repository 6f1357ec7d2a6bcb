//! The reports of meters over HTTP.

use serde_json::{Value, json};
use testkit::http::{Answer, get};

use crate::bill::{PERIOD, rows_without};
use crate::site::Site;

async fn ask(site: &Site, path: &str, more: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {}", site.key);
    get(site.address, path, &[&[("authorization", bearer.as_str())], more].concat()).await
}

async fn tokens(site: &Site, query: &str) -> Value {
    site.get(&format!("/v1/meters/tokens/query?{PERIOD}&{query}")).await
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_exact_by_window_zone_subject_and_group_on_files() {
    figures_are_exact(&Site::on_files().await.with_a_bill().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_exact_by_window_zone_subject_and_group_on_servers() {
    figures_are_exact(&Site::on_servers().await.with_a_bill().await).await;
}

async fn figures_are_exact(site: &Site) {
    let days = ask(
        site,
        "/v1/meters/tokens/query?from=2026-10-24&to=2026-10-27&window=day&timezone=Europe/Berlin",
        &[],
    )
    .await;
    assert!(text(&days).contains(r#""value":9007199254740997.95}"#), "all digits: {days:?}");
    let days = days.json();
    assert_eq!(
        rows_without(&days, &["value"]),
        json!([
            {"start": "2026-10-23T22:00:00Z", "end": "2026-10-24T22:00:00Z", "events": 1},
            {"start": "2026-10-24T22:00:00Z", "end": "2026-10-25T23:00:00Z", "events": 4},
            {"start": "2026-10-25T23:00:00Z", "end": "2026-10-26T23:00:00Z", "events": 1},
        ])
    );
    assert_eq!(
        (&days["from"], &days["timezone"], &days["window"]),
        (&json!("2026-10-23T22:00:00Z"), &json!("Europe/Berlin"), &json!("day"))
    );

    let hours = site
        .get("/v1/meters/calls/query?from=2026-10-25T00:00:00Z&to=2026-10-25T02:00:00Z&window=hour&timezone=Europe/Berlin")
        .await;
    assert_eq!(
        rows_without(&hours, &["value"]),
        json!([
            {"start": "2026-10-25T00:00:00Z", "end": "2026-10-25T01:00:00Z", "events": 1},
            {"start": "2026-10-25T01:00:00Z", "end": "2026-10-25T02:00:00Z", "events": 1},
        ]),
        "the hour that is repeated when clocks are set back is two hours"
    );

    let groups = tokens(site, "group_by=subject&group_by=model").await;
    let row = |subject: &str, model: Option<&str>, events: u64| json!({"subject": subject, "groups": {"model": model}, "events": events});
    assert_eq!(
        rows_without(&groups, &["start", "end", "value"]),
        json!([
            row("", Some("a"), 1),
            row("acme", Some("a"), 2),
            row("acme", Some("b"), 1),
            row("globex", Some("a"), 1),
            row("globex", None, 1),
        ])
    );
    assert_eq!(groups["rows"][1]["value"], json!(0.3), "0.1 + 0.2");

    for (query, events) in [
        ("subject=acme&subject=globex", json!([5])),
        ("filter[model]=a", json!([4])),
        ("filter%5Bmodel%5D=b&filter[model]", json!([2])),
        ("filter[model]=c", json!([])),
        ("subject=initech", json!([])),
    ] {
        let found = tokens(site, query).await;
        let found: Vec<_> =
            found["rows"].as_array().unwrap().iter().map(|row| row["events"].clone()).collect();
        assert_eq!(Value::from(found), events, "{query}");
    }
    let users = site.get(&format!("/v1/meters/users/query?{PERIOD}")).await;
    assert_eq!(rows_without(&users, &["start", "end"]), json!([{"events": 7, "value": 2}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_has_pages_and_a_form_for_spreadsheets_on_files() {
    pages_and_tables(&Site::on_files().await.with_a_bill().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_has_pages_and_a_form_for_spreadsheets_on_servers() {
    pages_and_tables(&Site::on_servers().await.with_a_bill().await).await;
}

async fn pages_and_tables(site: &Site) {
    let all = tokens(site, "group_by=subject,model").await;
    assert_eq!(all["next_offset"], Value::Null);
    let (mut paged, mut offset) = (Vec::new(), Some(0));
    while let Some(from) = offset {
        let page = tokens(site, &format!("group_by=subject,model&limit=2&offset={from}")).await;
        paged.extend(page["rows"].as_array().unwrap().iter().cloned());
        offset = page["next_offset"].as_u64();
    }
    assert_eq!(Value::from(paged), all["rows"]);

    let path = format!("/v1/meters/tokens/query?{PERIOD}&group_by=subject,model&limit=3");
    let by_header = ask(site, &path, &[("accept", "text/csv")]).await;
    let table = "start,end,subject,model,events,value\r\n\
        2026-10-23T22:00:00Z,2026-10-26T23:00:00Z,,a,1,3.25\r\n\
        2026-10-23T22:00:00Z,2026-10-26T23:00:00Z,acme,a,2,0.3\r\n\
        2026-10-23T22:00:00Z,2026-10-26T23:00:00Z,acme,b,1,9007199254740993\r\n";
    assert_eq!(text(&by_header), table);
    assert!(by_header.header("content-type").unwrap().starts_with("text/csv"), "{by_header:?}");
    assert_eq!(by_header.header("next-offset"), Some("3"));
    let by_parameter = ask(site, &format!("{path}&format=csv"), &[("accept", "application/json")]).await;
    assert_eq!(text(&by_parameter), table);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_is_shown_with_what_it_does_not_count_and_only_to_its_project() {
    let site = Site::on_files().await.with_a_bill().await;
    let list = site.get("/v1/meters").await;
    let slugs: Vec<_> = list["meters"].as_array().unwrap().iter().map(|meter| &meter["slug"]).collect();
    assert_eq!(slugs, ["calls", "tokens", "users"]);
    let tokens = site.get("/v1/meters/tokens").await;
    let expected = json!({"aggregation": "sum", "event": "llm_call", "value": "$.tokens", "groups": {"model": "$.model"},
        "backfill": "complete"});
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&tokens[member], value, "{tokens}");
    }
    let faults: Vec<_> = tokens["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (&fault["fault"], &fault["events"]))
        .collect();
    assert_eq!(faults, [(&json!("value_missing"), &json!(1)), (&json!("value_not_a_number"), &json!(1))]);
    assert!(tokens["faults"][1]["sample"].as_str().unwrap().contains("many"), "{tokens}");

    let other = site.project("other", &[]).await;
    let writer = site.installation.json(&["key", "create", "shop", "--scope", "write"]).await["key"].clone();
    let of = |key: &str| format!("Bearer {key}");
    for path in [
        "/v1/meters/tokens",
        "/v1/meters/tokens/query",
        "/api/v1/meters/tokens",
        "/api/v1/meters/tokens/query",
    ] {
        let answer = get(site.address, path, &[("authorization", &of(&other))]).await;
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("not_found")), "{path}");
        testkit::eventually(crate::installation::PATIENCE, "the key to be known", async || {
            let answer = get(site.address, path, &[("authorization", &of(writer.as_str().unwrap()))]).await;
            if answer.status == 403 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
    let none = get(site.address, "/v1/meters", &[("authorization", &of(&other))]).await;
    assert_eq!(none.json(), json!({"meters": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_question_is_refused_with_the_parameter_and_the_reason() {
    let site = Site::on_files().await.with_a_bill().await;
    for (path, field, says) in [
        ("/v1/meters/tokens/query?group_by=color", "group_by", "it has subject, model"),
        ("/v1/meters/tokens/query?filter[color]=red", "filter", "it has subject, model"),
        ("/v1/meters/tokens/query?window=week", "window", "minute, hour, day or month"),
        ("/v1/meters/tokens/query?window=minute", "from", "more than 2000 windows"),
        ("/v1/meters/tokens/query?from=2026-10-24T00:05:00Z", "from", "2026-10-24T00:15:00Z"),
        ("/v1/meters/tokens/query?timezone=Berlin", "timezone", "IANA"),
        ("/v1/meters/tokens/query?groupBy=model", "query", "group_by"),
        ("/v1/meters?page=1", "query", "none"),
        ("/v1/meters/tokens?from=2026-10-24", "query", "none"),
        ("/api/v1/meters/tokens/query?windowSize=WEEK", "windowSize", "HOUR, DAY or MONTH"),
        ("/api/v1/meters/tokens/query?filterGroupBy[color]=red", "filterGroupBy", "it has subject, model"),
    ] {
        let answer = ask(&site, path, &[]).await;
        let problem = answer.json();
        assert_eq!(
            (answer.status, &problem["code"]),
            (400, &json!("invalid_parameter")),
            "{path}: {problem}"
        );
        assert_eq!(problem["field"], field, "{path}: {problem}");
        assert!(problem["message"].as_str().unwrap().contains(says), "{path}: {problem}");
    }
    let absent = ask(&site, "/v1/meters/absent/query", &[]).await;
    assert_eq!((absent.status, &absent.json()["code"]), (404, &json!("not_found")));
}
