//! The harm of mutants to what customers are billed: limits, meters, cancellations and notifications.

use serde_json::json;
use testkit::eventually;

use crate::harm::{does_harm, is_out_of_balance};
use crate::stage::{SOON, Stage};

/// The time of the events, in the month of this test or before.
const TIME: &str = "2026-11-21T08:00:00Z";

async fn create_meter(stage: &Stage) {
    stage.millrace(&["meter", "create", "shop", "calls", "--event", "tested"]).await;
}

/// Allows a customer so many calls each month.
async fn create_limit(stage: &Stage, calls: &str) {
    create_meter(stage).await;
    stage.millrace(&["limit", "set", "shop", "--meter", "calls", "--per", "month", calls]).await;
}

fn call(id: &str) -> String {
    json!({"events": [{"id": id, "name": "tested", "subject": "acme", "timestamp": TIME}]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_forgotten_at_a_rebuild_can_be_used_again() {
    does_harm("limits-forgotten-at-rebuild", async |stage, chosen| {
        create_limit(&stage, "1").await;
        let (_api, address) = stage.api(&[chosen]).await;
        assert_eq!(stage.post_body(address, "/v1/events", call("first"), &[]).await, Some(202));
        stage.drain_with(&[chosen]).await;
        stage.command(&["FLUSHALL"]).await;
        let decided = eventually(SOON, "the counters to be rebuilt", async || {
            let status = stage.post_body(address, "/v1/events", call("second"), &[]).await;
            if status == Some(503) { Err("503".to_owned()) } else { Ok(status) }
        });
        decided.await == Some(202)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_that_is_delivered_again_stays_charged_to_a_limit() {
    does_harm("limits-kept-at-redelivery", async |stage, chosen| {
        create_limit(&stage, "9").await;
        let (_api, address) = stage.api(&[]).await;
        assert_eq!(stage.post_body(address, "/v1/events", call("once"), &[]).await, Some(202));
        stage.drain().await;
        assert_eq!(stage.post_body(address, "/v1/events", call("once"), &[]).await, Some(202));
        let dying = [chosen, ("FAILPOINTS", "store::after_commit=return(kill)")];
        stage.start("stream-worker", &dying).wait_exit().await;
        stage.drain_with(&[chosen]).await;
        is_out_of_balance(&stage).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_at_the_seam_of_a_backfill_is_counted_twice() {
    does_harm("seam-counted-twice", async |stage, chosen| {
        create_meter(&stage).await;
        // As if its backfill had begun.
        let begin = "UPDATE meters SET received_from = '-infinity', counted_until = '-infinity'";
        stage.database.batch_execute(begin).await.unwrap();
        let (_api, address) = stage.api(&[]).await;
        assert_eq!(stage.post_body(address, "/v1/events", call("once"), &[]).await, Some(202));
        stage.drain_with(&[chosen]).await;
        stage.millrace(&["meter", "backfill", "shop", "calls"]).await;
        is_out_of_balance(&stage).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_event_stays_in_a_meter_that_is_not_corrected() {
    does_harm("cancels-without-meters", async |stage, chosen| {
        create_meter(&stage).await;
        let (_api, address) = stage.api(&[chosen]).await;
        assert_eq!(stage.post_body(address, "/v1/events", call("once"), &[]).await, Some(202));
        stage.drain().await;
        let cancelled = json!({"events": [{"id": "once", "timestamp": TIME}]}).to_string();
        assert_eq!(stage.post_body(address, "/v1/events/cancel", cancelled, &[]).await, Some(200));
        is_out_of_balance(&stage).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_that_nothing_has_received_counts_as_delivered() {
    does_harm("delivered-without-an-answer", async |stage, chosen| {
        create_meter(&stage).await;
        // Nothing listens there.
        let url = "http://127.0.0.1:1/";
        let set = ["threshold", "set", "shop", "one", "--meter", "calls", "--value", "1", "--url", url];
        stage.millrace(&set).await;
        // A threshold looks at periods that have not ended when it is made.
        let now = json!({"events": [{"name": "tested", "subject": "acme"}]}).to_string();
        let (_api, address) = stage.api(&[]).await;
        assert_eq!(stage.post_body(address, "/v1/events", now, &[]).await, Some(202));
        let _worker = stage.worker(&[chosen, ("NOTIFY_ALLOW_HOSTS", "127.0.0.1")]).await;
        let ended = "notifications WHERE attempts > 0 AND (error IS NOT NULL OR state = 'delivered')";
        eventually(SOON, "an attempt to end", async || stage.count(ended).await == 1).await;
        stage.count("notifications WHERE state = 'delivered'").await == 1
    })
    .await;
}
