//! Metrics have the right values: each request, batch, event and lost connection is counted once.

use std::time::Duration;

use testkit::http::raw;

use crate::installation::Installation;
use crate::page::MetricsPage;
use crate::traffic::{post_until, use_everything};

/// One lane, so that the lane that lost its connection gets the next event.
const ONE_LANE: [(&str, &str); 1] = [("WORKER_LANES", "1")];

#[tokio::test]
async fn requests_batches_and_events_are_counted_once_each_where_they_belong() {
    let installation = Installation::on_files();
    let service = installation.serve().await;
    use_everything(service.address, &service.key()).await;
    let page = MetricsPage::when(service.metrics, "millrace_settled_entries_total", 2.0).await;
    for (series, value) in [
        (r#"millrace_http_requests_total{route="/v1/events",status="200"}"#, 2.0),
        (r#"millrace_http_requests_total{route="/v1/t",status="400"}"#, 1.0),
        (r#"millrace_http_requests_total{route="/v1/usage",status="200"}"#, 1.0),
        (r#"millrace_http_requests_total{route="unmatched",status="404"}"#, 1.0),
        (r#"millrace_http_requests_total{route="/v1/batches/{id}",status="503"}"#, 0.0),
        (r#"millrace_http_request_duration_seconds_count{route="/v1/events"}"#, 2.0),
        ("millrace_http_requests_in_flight", 0.0),
        ("millrace_http_requests_abandoned_total", 0.0),
        (r#"millrace_http_refusals_total{code="invalid_json"}"#, 1.0),
        (r#"millrace_http_refusals_total{code="not_found"}"#, 1.0),
        (r#"millrace_http_refusals_total{code="rate_limited"}"#, 0.0),
        (r#"millrace_admissions_total{verdict="admitted"}"#, 2.0),
        ("millrace_admitted_events_total", 2.0),
        ("millrace_batch_events_count", 2.0),
        (r#"millrace_refused_events_total{code="invalid_length"}"#, 2.0),
        ("millrace_stored_events_total", 1.0),
        ("millrace_duplicate_events_total", 1.0),
        ("millrace_dead_events_total", 0.0),
        ("millrace_freshness_seconds_count", 2.0),
        (r#"millrace_lane_phase_duration_seconds_count{phase="copy"}"#, 2.0),
        (r#"millrace_lane_phase_duration_seconds_count{phase="commit"}"#, 2.0),
        (r#"millrace_lane_phase_duration_seconds_count{phase="settle"}"#, 2.0),
        ("millrace_lanes", 2.0),
        ("millrace_durability_strict", 1.0),
        ("millrace_stream_connected", 1.0),
        ("millrace_epoch_trusted", 1.0),
        ("millrace_epoch_rebuilds_total", 0.0),
    ] {
        assert_eq!(page.value(series), Some(value), "{series} in\n{}", page.text);
    }
    let page =
        MetricsPage::when(service.metrics, r#"millrace_conservation_events{part="accepted"}"#, 2.0).await;
    for (part, events) in [("stored", 1.0), ("duplicate", 1.0), ("dead", 0.0), ("pending", 0.0)] {
        let series = format!(r#"millrace_conservation_events{{part="{part}"}}"#);
        assert_eq!(page.value(&series), Some(events), "{series}");
    }
    assert_eq!(page.value("millrace_conservation_broken_projects"), Some(0.0));
    assert!(page.value(r#"millrace_folder_file_bytes{file="events.db"}"#).unwrap() > 0.0);
    assert!(page.value("millrace_folder_free_bytes") <= page.value("millrace_folder_size_bytes"));
}

#[tokio::test]
async fn a_project_near_the_end_of_its_month_is_counted_and_never_named() {
    let installation = Installation::on_servers().await;
    installation.text(&["migrate"]).await;
    let limits = ["--requests-per-minute", "100", "--events-per-month", "10"];
    installation.text(&[&["plan", "set", "tiny"], &limits[..]].concat()).await;
    let key = installation.project("secretive", "tiny").await;
    let idle = installation.project("idle", "tiny").await;
    let mut api = installation.program("ingest-api", &[]);
    let event = r#"{"name":"a"}"#;
    post_until(api.address().await, &key, &format!("[{}]", [event; 9].join(",")), 202).await;
    post_until(api.address().await, &idle, event, 202).await;

    let mut worker = installation.program("stream-worker", &ONE_LANE);
    let page = MetricsPage::when(
        worker.metrics_address().await,
        r#"millrace_quota_projects{used_percent="90"}"#,
        1.0,
    )
    .await;
    assert_eq!(page.value(r#"millrace_quota_projects{used_percent="80"}"#), Some(1.0));
    assert_eq!(page.value(r#"millrace_quota_projects{used_percent="100"}"#), Some(0.0));
    for page in [page, MetricsPage::scrape(api.metrics_address().await).await] {
        assert!(!page.text.contains("secretive"), "{}", page.text);
    }
}

#[tokio::test]
async fn clients_that_leave_and_connections_that_are_lost_are_counted() {
    let mut installation = Installation::on_servers().await;
    installation.text(&["migrate"]).await;
    let key = installation.project("shop", "pro").await;
    let mut api = installation.program("ingest-api", &[]);
    let (address, metrics) = (api.address().await, api.metrics_address().await);
    post_until(address, &key, r#"{"name":"a"}"#, 202).await;
    // No worker runs yet, so a client that asks to wait gets no answer.
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {key}\r\nprefer: wait=60\r\n\
         content-type: application/json\r\ncontent-length: 12\r\n\r\n{{\"name\":\"a\"}}"
    );
    raw(address, request.as_bytes(), Duration::from_millis(500)).await;
    let page = MetricsPage::when(metrics, "millrace_http_requests_abandoned_total", 1.0).await;
    assert_eq!(page.value("millrace_http_requests_in_flight"), Some(0.0));
    assert_eq!(page.value("millrace_stream_connected"), Some(1.0));

    let mut worker = installation.program("stream-worker", &ONE_LANE);
    let of_worker = worker.metrics_address().await;
    let page = MetricsPage::when(of_worker, "millrace_stored_events_total", 2.0).await;
    assert_eq!(page.value("millrace_stream_connected"), Some(1.0));
    installation.postgres().restart_fast().await;
    installation.redis().kill().await;
    installation.redis().restart().await;
    post_until(address, &key, r#"{"name":"a"}"#, 202).await;
    MetricsPage::when(of_worker, "millrace_stored_events_total", 3.0).await;
    MetricsPage::when(metrics, "millrace_stream_reconnects_total", 1.0).await;
    MetricsPage::when(of_worker, "millrace_stream_reconnects_total", 1.0).await;
    MetricsPage::when(of_worker, r#"millrace_store_reconnects_total{connection="lane"}"#, 1.0).await;
    MetricsPage::when(metrics, r#"millrace_store_reconnects_total{connection="listener"}"#, 1.0).await;
    MetricsPage::when(metrics, r#"millrace_store_reconnects_total{connection="pool"}"#, 1.0).await;
}
