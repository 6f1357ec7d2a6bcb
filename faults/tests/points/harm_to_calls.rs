//! The harm of the mutants that concern calls of SDKs, ids and days. See [`crate::harm`].

use serde_json::json;
use testkit::eventually;

use crate::harm::{MutantVariable, does_harm, is_out_of_balance, used};
use crate::stage::{SOON, Stage};

/// Posts a good and a broken call to an API, and has a worker drain the stream.
async fn good_and_broken_call(stage: &Stage, chosen: MutantVariable) {
    let (_api, address) = stage.api(&[chosen]).await;
    assert_eq!(stage.post_calls(address).await, Some(200));
    stage.drain_with(&[chosen]).await;
    assert_eq!(stage.count("events WHERE client_id = 'good'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_call_without_a_row_in_its_batch_is_lost() {
    does_harm("drops-what-it-cannot-read", async |stage, chosen| {
        good_and_broken_call(&stage, chosen).await;
        stage.count("dead_letters").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_call_that_is_only_counted_is_lost() {
    does_harm("dead-calls-without-letters", async |stage, chosen| {
        good_and_broken_call(&stage, chosen).await;
        stage.count("dead_letters").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_call_that_counts_as_stored_is_no_row() {
    does_harm("dead-calls-count-as-stored", async |stage, chosen| {
        good_and_broken_call(&stage, chosen).await;
        is_out_of_balance(&stage).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_call_that_is_not_refunded_stays_charged() {
    does_harm("dead-calls-not-refunded", async |stage, chosen| {
        good_and_broken_call(&stage, chosen).await;
        used(&stage).await == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_stamped_again_is_stored_again_when_its_id_is_forgotten() {
    does_harm("forgets-ids-of-by-id-projects", async |stage, chosen| {
        stage.millrace(&["project", "set", "shop", "--dedupe", "id"]).await;
        let (_api, address) = stage.api(&[]).await;
        for time in ["2026-11-21T08:00:00Z", "2026-11-21T08:00:01Z"] {
            let event = json!({"id": "once", "name": "tested", "timestamp": time});
            let body = json!({"events": [event]}).to_string();
            assert_eq!(stage.post_body(address, "/v1/events", body, &[]).await, Some(202));
        }
        stage.drain_with(&[chosen]).await;
        stage.count("events").await == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_with_another_payload_is_not_seen_when_it_is_not_counted() {
    does_harm("conflicts-not-counted", async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        for name in ["bought", "sold"] {
            let event = json!({"id": "once", "name": name, "timestamp": "2026-11-21T08:00:00Z"});
            let body = json!({"events": [event]}).to_string();
            assert_eq!(stage.post_body(address, "/v1/events", body, &[]).await, Some(202));
        }
        stage.drain_with(&[chosen]).await;
        stage.count("batches WHERE duplicate > 0 AND conflict = 0").await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_made_without_its_rows_loses_them() {
    does_harm("moves-days-without-rows", async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        assert_eq!(stage.post(address).await, Some(202));
        stage.drain().await;
        // As if no day had been made for the event.
        let day = stage.partition();
        let remove = format!(
            "BEGIN; ALTER TABLE events DETACH PARTITION {day}; INSERT INTO events SELECT * FROM {day};
             DROP TABLE {day}; COMMIT"
        );
        stage.database.batch_execute(&remove).await.unwrap();
        assert_eq!(stage.count("events_default").await, 1);
        let _worker = stage.worker(&[chosen]).await;
        let is_made = format!("pg_class WHERE relname = '{day}'");
        eventually(SOON, "the day to be made", async || stage.count(&is_made).await == 1).await;
        stage.count("events").await == 0
    })
    .await;
}
