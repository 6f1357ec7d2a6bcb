//! Every query of every dashboard, run on a real Prometheus and a real PostgreSQL under a load with errors,
//! returns data, and the data matches what was sent.

mod draw;
mod installation;
mod load;

use std::time::Duration;

use installation::{Installation, PATIENCE, PROJECTS, Rows, TRIAL_EVENTS};
use load::{EventCounts, Load};
use testkit::grafana::{Dashboard, Panel, Question, dashboards};
use testkit::{QueryTime, eventually};

/// Queries that may return nothing: panel, index of the query, reason. They must still run without an error.
const MAY_BE_EMPTY: &[(&str, usize, &str)] = &[
    ("customers: Gone customers", 0, "every customer still sends events"),
    ("customers: Events that are not counted", 0, "every event has a value"),
    ("pipeline: Errors by route", 1, "no request is answered 5xx"),
    ("pipeline: Redis", 1, "this Redis has no memory limit"),
];
const STEP: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_shows_data_and_the_data_matches_what_was_sent() {
    let (installation, dashboards) = (Installation::start().await, dashboards());
    let load = Load::start(installation.api, 10);
    eventually(PATIENCE, "every panel to have data", async || {
        // The events are refused again. The redrive is in the history, which a panel shows.
        installation.operate(&["dead-letters", "redrive", "--all"]).await;
        let empty = empty_queries(&installation, &dashboards).await;
        if empty.is_empty() { Ok(()) } else { Err(format!("no data for {empty:?}")) }
    })
    .await;
    eventually(PATIENCE, "a project to use up its quota", async || load.is_quota_used()).await;
    let sent = load.stop().await;
    installation.wait_until_drained(sent.accepted).await;

    check_metrics(&installation, &dashboards, sent).await;
    check_tables(&installation, &dashboards, sent).await;
    check_quotas(&installation, &dashboards).await;
    let view = installation.view_of_one();
    for panel in dashboards.iter().flat_map(Dashboard::panels) {
        // Many have no data of one project, but none may fail.
        installation.empty_questions(panel, &view).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_role_of_grafana_reads_no_secrets_and_writes_nothing() {
    let installation = Installation::start().await;
    for sql in [
        "SELECT * FROM api_keys",
        "SELECT signing_secrets FROM api_keys",
        "SELECT properties FROM events",
        "SELECT payload FROM dead_letters",
        "INSERT INTO plans VALUES ('mine', 1, 1, 1, 1)",
        "DELETE FROM projects",
        "CREATE TABLE mine (n integer)",
    ] {
        let refused = installation.rows(sql).await.err().unwrap_or_else(|| panic!("{sql} was allowed"));
        assert!(refused.contains("permission denied") || refused.contains("read-only"), "{refused}");
    }
}

/// The queries that return nothing although they should return data.
async fn empty_queries(installation: &Installation, dashboards: &[Dashboard]) -> Vec<String> {
    let view = installation.view(STEP);
    let mut empty = Vec::new();
    for panel in dashboards.iter().flat_map(Dashboard::panels) {
        for index in installation.empty_questions(panel, &view).await {
            let is_allowed =
                |(name, allowed, _): &(&str, usize, &str)| *name == panel.name() && *allowed == index;
            if !MAY_BE_EMPTY.iter().any(is_allowed) {
                empty.push(format!("{}, query {index}", panel.name()));
            }
        }
    }
    empty
}

fn panel<'a>(dashboards: &'a [Dashboard], name: &str) -> Panel<'a> {
    let found = dashboards.iter().flat_map(Dashboard::panels).find(|panel| panel.name() == name);
    found.unwrap_or_else(|| panic!("there is no panel {name}"))
}

/// The latest value of the panel's first query, which returns one series.
async fn latest(installation: &Installation, panel: Panel<'_>) -> f64 {
    let question = panel.questions().next().unwrap();
    let series = installation.ask(question, &installation.view(STEP)).await.unwrap().series();
    series[0].samples.last().unwrap().value
}

/// The values of a query that returns one series, one for each second, without infinities and gaps.
async fn finite_values(installation: &Installation, question: Question<'_>) -> Vec<f64> {
    let series = installation.ask(question, &installation.view(STEP)).await.unwrap().series();
    series[0].samples.iter().map(|sample| sample.value).filter(|value| value.is_finite()).collect()
}

/// The counter equals the accepted events. The rates of all seconds add up to the counter's growth since the
/// first scrape; a rate is complete when it is back at 0.
async fn check_metrics(installation: &Installation, dashboards: &[Dashboard], sent: EventCounts) {
    let counter = "sum(millrace_admitted_events_total)";
    eventually(PATIENCE, "the counter to equal the accepted events", async || {
        let series = installation.prometheus.ask(counter, QueryTime::At(installation::now())).await?;
        let counted = series[0].samples[0].value;
        if counted == sent.accepted as f64 {
            Ok(())
        } else {
            Err(format!("{counted} instead of {}", sent.accepted))
        }
    })
    .await;
    for (name, counter) in [
        ("overview: Accepted", "sum(millrace_admitted_events_total)"),
        ("overview: Stored", "sum(millrace_stored_events_total)"),
    ] {
        eventually(PATIENCE, name, async || latest(installation, panel(dashboards, name)).await == 0.0).await;
        let rate = panel(dashboards, name).questions().next().unwrap();
        let sum: f64 = finite_values(installation, rate).await.iter().sum();
        let counted = finite_values(installation, Question::Range(counter)).await;
        let share = sum / (counted[counted.len() - 1] - counted[0]);
        assert!((0.8..1.2).contains(&share), "{name} adds up to {share} of what its counter grew by");
    }
    for name in ["overview: Errors", "overview: Oldest pending", "overview: Conservation"] {
        eventually(PATIENCE, name, async || latest(installation, panel(dashboards, name)).await == 0.0).await;
    }
    for name in ["overview: Durability", "overview: Epoch"] {
        assert_eq!(latest(installation, panel(dashboards, name)).await, 1.0, "{name}");
    }
    assert_eq!(latest(installation, panel(dashboards, "overview: Instances")).await, 2.0);
}

/// The data from PostgreSQL is exact.
async fn check_tables(installation: &Installation, dashboards: &[Dashboard], sent: EventCounts) {
    let view = installation.view(STEP);
    let ask = async |name: &str| {
        let question = panel(dashboards, name).questions().next().unwrap();
        installation.ask(question, &view).await.unwrap().rows()
    };
    assert_eq!(ask("projects: Projects").await.number(0, "projects"), PROJECTS.len() as f64);
    let dead = ask("projects: Dead letters waiting").await.number(0, "events");
    assert_eq!(dead, sent.poison as f64);
    let ledger = ask("projects: Conservation by project").await;
    let sum = |column: &str| (0..ledger.rows.len()).map(|row| ledger.number(row, column)).sum::<f64>();
    assert_eq!((sum("lost"), sum("not metered")), (0.0, 0.0));
    assert_eq!(sum("accepted"), sent.accepted as f64);
    assert_eq!(sum("dead"), sent.poison as f64);
    let stored = ask("projects: Events this month").await.number(0, "events");
    assert_eq!(stored, sum("accepted") - sum("duplicate") - sum("dead"));
    check_customers(&ask, installation).await;
    let letters = ask("projects: Dead letters").await;
    let waiting: f64 = (0..letters.rows.len()).map(|row| letters.number(row, "waiting")).sum();
    assert_eq!(waiting, sent.poison as f64);
}

/// The figures of the meter equal the stored events, once the worker has moved them.
async fn check_customers(ask: &impl AsyncFn(&str) -> Rows, installation: &Installation) {
    let stored = "SELECT count(*)::float8, sum((properties ->> 'revenue')::numeric)::float8 FROM events
                   WHERE project_id = 1 AND name = 'order_completed'";
    let stored = installation.postgres.connect().await.query_one(stored, &[]).await.unwrap();
    let expected: (f64, f64) = (stored.get(0), stored.get(1));
    eventually(PATIENCE, "the figures to equal the events", async || {
        let all = ask("customers: All customers").await;
        assert_eq!((all.rows.len(), all.rows[0][0].as_deref()), (1, Some("customer-4711")));
        let shown = (all.number(0, "events"), all.number(0, "value"));
        if shown == expected { Ok(()) } else { Err(format!("{shown:?} instead of {expected:?}")) }
    })
    .await;
    for (panel, count) in [("Customers", 1.0), ("New in this time", 1.0), ("Gone in this time", 0.0)] {
        assert_eq!(ask(&format!("customers: {panel}")).await.number(0, "customers"), count, "{panel}");
    }
}

/// The project that has used up its quota is the first in the table.
async fn check_quotas(installation: &Installation, dashboards: &[Dashboard]) {
    let view = installation.view(STEP);
    let mut questions = panel(dashboards, "projects: Usage and limits").questions();
    let table = installation.ask(questions.next().unwrap(), &view).await.unwrap().rows();
    assert_eq!(table.rows[0][0].as_deref(), Some("trial"));
    assert_eq!(table.number(0, "quota"), TRIAL_EVENTS as f64);
    assert!(table.number(0, "used of quota") > 0.9 && table.number(0, "at its end") >= 1.0);
    let near = panel(dashboards, "projects: Near their quota").questions().next().unwrap();
    assert!(installation.ask(near, &view).await.unwrap().rows().number(0, "projects") >= 1.0);
}
