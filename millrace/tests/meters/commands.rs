//! The commands for meters.

use millrace_event::meter::{Aggregation, MeterDefinition};
use millrace_store::sqlite::SqliteStore;
use millrace_store::{MeterStart, Meters};
use serde_json::{Value, json};

use crate::bill::rows_without;
use crate::site::Site;

/// The end of the period is that of the events, so that the report does not depend on the clock.
const PERIOD: [&str; 4] = ["--from", "2026-10-24", "--to", "2026-10-27"];

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_counts_stored_events_and_can_be_repeated_on_files() {
    a_backfill_counts_stored_events(&Site::on_files().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_counts_stored_events_and_can_be_repeated_on_servers() {
    a_backfill_counts_stored_events(&Site::on_servers().await).await;
}

async fn a_backfill_counts_stored_events(site: &Site) {
    site.store_events().await;
    let commands = &site.installation;
    let create = ["meter", "create", "shop", "late", "--event", "llm_call"];
    commands.text(&create).await;
    let usage = [&["usage", "shop", "--by", "subject", "--meter", "late"][..], &PERIOD].concat();
    assert_eq!(commands.json(&usage).await["rows"], json!([]), "it counts what is received from now on");
    site.create_meters(&["--backfill"]).await;
    let usage = [&["usage", "shop", "--by", "subject", "--meter", "calls"][..], &PERIOD].concat();
    let counted = json!([{"subject": "", "events": 1}, {"subject": "acme", "events": 5}, {"subject": "globex", "events": 2}]);
    let rows = async || rows_without(&commands.json(&usage).await, &["start", "end", "value"]);
    assert_eq!(rows().await, counted);
    let again = commands.json(&["meter", "backfill", "shop", "calls"]).await;
    assert_eq!((&again["events"], &again["backfill"]), (&json!(0), &json!("complete")));
    assert_eq!(rows().await, counted, "nothing is counted twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_was_interrupted_is_shown_so_and_continued() {
    let site = Site::on_files().await;
    site.store_events().await;
    let store = SqliteStore::open(&site.installation.data()).unwrap();
    let calls = MeterDefinition {
        slug: "calls".to_owned(),
        event: "llm_call".to_owned(),
        aggregation: Aggregation::Count,
        value: None,
        groups: Vec::new(),
    };
    let info = store.create_meter("shop", &calls, MeterStart::FirstEvent).await.unwrap();
    // As far as a command comes before it is killed.
    assert!(!store.backfill(info.meter.id, 3).await.unwrap().is_last());
    drop(store);

    let commands = &site.installation;
    let shown = commands.text(&["meter", "show", "shop", "calls"]).await;
    let says = "running: events before 2026-10-25T01:15:00Z are counted; the rest waits for `millrace meter backfill shop calls`";
    assert!(shown.contains(says), "{shown}");
    let events = async || {
        let usage = [&["usage", "shop", "--meter", "calls", "--window", "month"][..], &PERIOD].concat();
        commands.json(&usage).await["rows"][0]["events"].clone()
    };
    assert_eq!(events().await, 3);
    let continued = commands.json(&["meter", "backfill", "shop", "calls"]).await;
    assert_eq!((&continued["events"], events().await), (&json!(6), json!(8)), "the ninth has another name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_is_printed_by_customer_window_and_group() {
    let site = Site::on_files().await.with_a_bill().await;
    let usage = async |more: &[&str]| {
        let arguments = [&["usage", "shop", "--meter", "tokens"][..], &PERIOD, more].concat();
        site.installation.text(&arguments).await
    };
    assert_eq!(
        usage(&["--by", "subject", "--by", "model"]).await,
        "\
tokens of project shop, from 2026-10-24 00:00 to 2026-10-27 00:00, UTC

subject       model   events                    sum
(no subject)  a            1                   3.25
acme          a            2                    0.3
acme          b            1  9,007,199,254,740,993
globex        a            1                    1.5
globex        (none)       1                      2
"
    );
    assert_eq!(
        usage(&["--timezone", "Europe/Berlin", "--subject", "globex", "--chart"]).await,
        "\
tokens of project shop, from 2026-10-24 00:00 to 2026-10-27 00:00, Europe/Berlin

2026-10-24    0
2026-10-25  1.5  ###############################################
2026-10-26    2  ###############################################################
"
    );
    let filtered = usage(&["--filter", "model=b", "--window", "month", "--json"]).await;
    assert!(filtered.contains("\"value\": 9007199254740993\n"), "all digits: {filtered}");
    let filtered: Value = serde_json::from_str(&filtered).unwrap();
    assert_eq!((&filtered["window"], &filtered["rows"][0]["events"]), (&json!("month"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_are_listed_shown_and_deleted() {
    let site = Site::on_files().await.with_a_bill().await;
    let commands = &site.installation;
    let list = commands.json(&["meter", "list"]).await;
    assert_eq!(list["meters"].as_array().map(Vec::len), Some(3), "{list}");
    let shown = commands.text(&["meter", "list", "shop"]).await;
    assert!(shown.contains("sum of $.tokens of llm_call"), "{shown}");
    let tokens = commands.text(&["meter", "show", "shop", "tokens"]).await;
    for says in ["model=$.model", "backfill  complete", "value_not_a_number", r#""many""#] {
        assert!(tokens.contains(says), "{says:?} is not in\n{tokens}");
    }
    let faults = commands.json(&["meter", "show", "shop", "tokens"]).await["faults"].clone();
    assert_eq!(faults.as_array().map(Vec::len), Some(2), "{faults}");

    commands.fails(&["meter", "delete", "shop", "tokens"], 2, "add --yes").await;
    commands.json(&["meter", "delete", "shop", "tokens", "--yes"]).await;
    commands.fails(&["meter", "show", "shop", "tokens"], 1, "there is no meter named \"tokens\"").await;
    commands.fails(&["usage", "shop", "--meter", "call"], 1, "did you mean \"calls\"?").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_meters_and_questions_are_refused_with_the_argument_and_the_fix() {
    let site = Site::on_files().await.with_a_bill().await;
    let create = |more: &[&'static str]| [&["meter", "create", "shop"], more].concat();
    for (arguments, code, says) in [
        (create(&["Tokens", "--event", "x"]), 2, "SLUG: the slug \"Tokens\" is not usable; use up to 64"),
        (
            create(&["x", "--event", "x", "--aggregation", "sum"]),
            2,
            "--value: the aggregation sum needs a value",
        ),
        (
            create(&["x", "--event", "x", "--value", "$.a"]),
            2,
            "--value: the aggregation count takes no value",
        ),
        (create(&["x", "--event", "x", "--aggregation", "median"]), 2, "unique_count"),
        (create(&["x", "--event", "x", "--value", "tokens"]), 2, "write $.NAME for a property"),
        (create(&["x", "--event", "x", "--group-by", "model"]), 2, "model='$.model'"),
        (create(&["x", "--event", "x", "--group-by", "a b=$.c"]), 2, "--group-by: the group \"a b\""),
        (
            create(&["x", "--event", "x", "--group-by", "subject=$.c"]),
            2,
            "--group-by: a group cannot have the name subject",
        ),
        (create(&["calls", "--event", "x"]), 1, "choose another slug"),
        (vec!["meter", "create", "shap", "x", "--event", "x"], 1, "did you mean \"shop\"?"),
        (vec!["usage", "shop", "--by", "subject"], 2, "add --meter SLUG"),
        (vec!["usage", "--meter", "tokens"], 2, "PROJECT"),
        (
            vec!["usage", "shop", "--meter", "tokens", "--by", "color"],
            2,
            "--by: the meter has no group \"color\"; it has subject, model",
        ),
        (
            vec!["usage", "shop", "--meter", "tokens", "--filter", "color=red"],
            2,
            "--filter: the meter has no group",
        ),
        (
            vec!["usage", "shop", "--meter", "tokens", "--timezone", "Berlin"],
            2,
            "--timezone: expected a name",
        ),
        (
            vec!["usage", "shop", "--meter", "tokens", "--from", "2026-10-24T00:05:00Z"],
            2,
            "--from must be at a quarter",
        ),
    ] {
        site.installation.fails(&arguments, code, says).await;
    }
}
