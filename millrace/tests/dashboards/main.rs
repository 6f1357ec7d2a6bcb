//! The dashboards as an operator sees them: every question that a panel asks, put to a real Prometheus and a real PostgreSQL
//! under a load that goes wrong in the usual ways, is answered; and the answers are what was sent.

mod draw;
mod load;
mod stage;

use std::time::Duration;

use load::{Load, Sent};
use stage::{PATIENCE, PROJECTS, Stage, TRIAL_EVENTS};
use testkit::grafana::{Dashboard, Panel, Question, dashboards};
use testkit::{QueryTime, eventually};

/// Questions, by their places in a panel, that have no answer while all is well, with the reason. They must be answered
/// without complaint all the same.
const MAY_BE_EMPTY: &[(&str, usize, &str)] = &[
    ("pipeline: Errors by route", 1, "no route fails"),
    ("pipeline: Redis", 1, "this Redis has no limit of memory to be shown"),
];
const STEP: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_shows_something_and_what_it_shows_is_true() {
    let (stage, dashboards) = (Stage::start().await, dashboards());
    let load = Load::start(stage.api, 10);
    eventually(PATIENCE, "every panel to have something to draw", async || {
        // What is redriven is refused again, which stands in the history of redrives.
        stage.operate(&["dead-letters", "redrive", "--all"]).await;
        let empty = unanswered(&stage, &dashboards).await;
        if empty.is_empty() { Ok(()) } else { Err(format!("nothing in {empty:?}")) }
    })
    .await;
    let sent = load.stop().await;
    stage.drained(sent.accepted).await;

    rates_add_up_to_what_was_sent(&stage, &dashboards, sent).await;
    figures_are_what_was_sent(&stage, &dashboards, sent).await;
    quotas_are_told(&stage, &dashboards).await;
    let view = stage.view_of_one();
    for panel in dashboards.iter().flat_map(Dashboard::panels) {
        // Most have nothing of one project; none may fail.
        stage.empty_questions(panel, &view).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_grafana_asks_as_reads_nothing_secret_and_writes_nothing() {
    let stage = Stage::start().await;
    for sql in [
        "SELECT * FROM api_keys",
        "SELECT signing_secrets FROM api_keys",
        "SELECT properties FROM events",
        "SELECT payload FROM dead_letters",
        "INSERT INTO plans VALUES ('mine', 1, 1, 1, 1)",
        "DELETE FROM projects",
        "CREATE TABLE mine (n integer)",
    ] {
        let refused = stage.rows(sql).await.err().unwrap_or_else(|| panic!("{sql} was allowed"));
        assert!(refused.contains("permission denied") || refused.contains("read-only"), "{refused}");
    }
}

/// Questions that have nothing to draw though they should.
async fn unanswered(stage: &Stage, dashboards: &[Dashboard]) -> Vec<String> {
    let view = stage.view(STEP);
    let mut empty = Vec::new();
    for panel in dashboards.iter().flat_map(Dashboard::panels) {
        for at in stage.empty_questions(panel, &view).await {
            if !MAY_BE_EMPTY.iter().any(|(name, place, _)| *name == panel.name() && *place == at) {
                empty.push(format!("{}, question {at}", panel.name()));
            }
        }
    }
    empty
}

fn panel<'a>(dashboards: &'a [Dashboard], name: &str) -> Panel<'a> {
    let found = dashboards.iter().flat_map(Dashboard::panels).find(|panel| panel.name() == name);
    found.unwrap_or_else(|| panic!("there is no panel {name}"))
}

/// The newest value of a question to Prometheus that has one series, by the place of the question.
async fn newest(stage: &Stage, panel: Panel<'_>, at: usize) -> f64 {
    let question = panel.questions().nth(at).unwrap();
    let series = stage.ask(question, &stage.view(STEP)).await.unwrap().course();
    series[0].samples.last().unwrap().value
}

/// The numbers of a question that has one series, one for each second.
async fn finite(stage: &Stage, question: Question<'_>) -> Vec<f64> {
    let series = stage.ask(question, &stage.view(STEP)).await.unwrap().course();
    series[0].samples.iter().map(|sample| sample.value).filter(|value| value.is_finite()).collect()
}

/// What was counted is what was sent, to the event; and a rate drawn each second adds up to what its counter has grown by
/// since Prometheus first saw it, once the rate is down to 0 again: before, part of the growth is still to be drawn.
async fn rates_add_up_to_what_was_sent(stage: &Stage, dashboards: &[Dashboard], sent: Sent) {
    let counter = "sum(millrace_admitted_events_total)";
    eventually(PATIENCE, "what was counted to be what was sent", async || {
        let series = stage.prometheus.ask(counter, QueryTime::At(stage::now())).await?;
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
        eventually(PATIENCE, name, async || newest(stage, panel(dashboards, name), 0).await == 0.0).await;
        let drawn = panel(dashboards, name).questions().next().unwrap();
        let sum: f64 = finite(stage, drawn).await.iter().sum();
        let counted = finite(stage, Question::Range(counter)).await;
        let share = sum / (counted[counted.len() - 1] - counted[0]);
        assert!((0.8..1.2).contains(&share), "{name} adds up to {share} of what its counter grew by");
    }
    for name in ["overview: Errors", "overview: Oldest pending", "overview: Conservation"] {
        eventually(PATIENCE, name, async || newest(stage, panel(dashboards, name), 0).await == 0.0).await;
    }
    for name in ["overview: Durability", "overview: Epoch"] {
        assert_eq!(newest(stage, panel(dashboards, name), 0).await, 1.0, "{name}");
    }
    assert_eq!(newest(stage, panel(dashboards, "overview: Instances"), 0).await, 2.0);
}

/// What PostgreSQL tells is exact.
async fn figures_are_what_was_sent(stage: &Stage, dashboards: &[Dashboard], sent: Sent) {
    let view = stage.view(STEP);
    let ask = async |name: &str| {
        let question = panel(dashboards, name).questions().next().unwrap();
        stage.ask(question, &view).await.unwrap().rows()
    };
    assert_eq!(ask("projects: Projects").await.number(0, "projects"), PROJECTS.len() as f64);
    let dead = ask("projects: Dead letters waiting").await.number(0, "events");
    assert_eq!(dead, sent.poisoned as f64);
    let books = ask("projects: Conservation by project").await;
    let sum = |column: &str| (0..books.rows.len()).map(|row| books.number(row, column)).sum::<f64>();
    assert_eq!((sum("lost"), sum("not metered")), (0.0, 0.0));
    assert_eq!(sum("accepted"), sent.accepted as f64);
    assert_eq!(sum("dead"), sent.poisoned as f64);
    let stored = ask("projects: Events this month").await.number(0, "events");
    assert_eq!(stored, sum("accepted") - sum("duplicate") - sum("dead"));
    let letters = ask("projects: Dead letters").await;
    let waiting: f64 = (0..letters.rows.len()).map(|row| letters.number(row, "waiting")).sum();
    assert_eq!(waiting, sent.poisoned as f64);
}

/// Who has used up its month stands first, and what is left of it is nothing.
async fn quotas_are_told(stage: &Stage, dashboards: &[Dashboard]) {
    let view = stage.view(STEP);
    let mut questions = panel(dashboards, "projects: Usage and limits").questions();
    let table = stage.ask(questions.next().unwrap(), &view).await.unwrap().rows();
    assert_eq!(table.rows[0][0].as_deref(), Some("trial"));
    assert_eq!(table.number(0, "quota"), TRIAL_EVENTS as f64);
    assert!(table.number(0, "used of quota") > 0.9 && table.number(0, "at its end") >= 1.0);
    let near = panel(dashboards, "projects: Near their quota").questions().next().unwrap();
    assert!(stage.ask(near, &view).await.unwrap().rows().number(0, "projects") >= 1.0);
}
