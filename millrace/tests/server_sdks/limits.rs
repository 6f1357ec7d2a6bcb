//! The SDKs at the limits of the server itself, with its own answers: a project over its rate, and a backlog
//! that is full. Each SDK waits and comes back, and accepted calls are not sent again.

use serde_json::{Value, json};
use testkit::{HttpProxy, HttpProxyCounts, eventually};

use crate::installation::PATIENCE;
use crate::program::*;
use crate::site::Site;

/// So many events fill the backlog.
const BACKLOG_EVENTS: usize = 500;
/// Most refused requests for each call of a program. An SDK that does not wait exceeds it within a moment.
const REFUSALS_MAX: usize = 2;

/// Makes both tests of each SDK.
macro_rules! sdks {
    ($($name:ident => $interpreter:ident, $sdk:literal;)*) => {
        mod over_the_rate_of_its_project {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::every_call_is_stored_once_over_the_rate(super::$interpreter, $sdk).await;
            })*
        }

        mod while_the_backlog_is_full {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::every_call_is_stored_once_after_a_full_backlog(super::$interpreter, $sdk).await;
            })*
        }
    };
}

sdks! {
    each_call_of_segments_sdk_for_python_is_stored_once => PYTHON, "segment";
    each_call_of_segments_former_sdk_for_python_is_stored_once => OLD_PYTHON, "analytics";
    each_call_of_segments_sdk_for_node_is_stored_once => NODE, "segment";
    each_call_of_rudderstacks_sdk_for_python_is_stored_once => PYTHON, "rudder";
    each_call_of_rudderstacks_sdk_for_node_is_stored_once => NODE, "rudder";
    each_call_of_posthogs_sdk_for_python_is_stored_once => POSTHOG_PYTHON, "posthog";
    each_call_of_posthogs_sdk_for_python_in_version_1_is_stored_once => POSTHOG_PYTHON, "posthog-v1";
    each_call_of_posthogs_sdk_for_node_is_stored_once => POSTHOG_NODE, "posthog";
    each_call_of_openmeters_sdk_for_python_is_stored_once => METERING_PYTHON, "openmeter";
    each_call_of_openmeters_sdk_for_node_is_stored_once => METERING_NODE, "openmeter";
    each_call_of_the_package_cloudevents_for_python_is_stored_once => CLOUDEVENTS_PYTHON, "cloudevents";
    each_call_of_the_package_cloudevents_for_node_is_stored_once => METERING_NODE, "cloudevents";
    each_call_of_lagos_sdk_for_python_is_stored_once => METERING_PYTHON, "lago";
    each_call_of_lagos_sdk_for_node_is_stored_once => METERING_NODE, "lago";
    each_call_of_amplitudes_sdk_for_python_is_stored_once => ANALYTICS_PYTHON, "amplitude";
    each_call_of_amplitudes_sdk_for_node_is_stored_once => ANALYTICS_NODE, "amplitude";
    each_call_of_mixpanels_sdk_for_python_is_stored_once => ANALYTICS_PYTHON, "mixpanel";
    each_call_of_mixpanels_sdk_for_node_is_stored_once => ANALYTICS_NODE, "mixpanel";
    each_event_of_snowplows_tracker_for_python_is_stored_once => SNOWPLOW_PYTHON, "snowplow";
    each_event_of_snowplows_tracker_for_node_is_stored_once => SNOWPLOW_NODE, "snowplow";
    each_call_of_jitsus_sdk_for_node_is_stored_once => JITSU_NODE, "jitsu";
    each_record_of_opentelemetrys_exporter_for_python_is_stored_once => OTEL_PYTHON, "otel";
    each_record_of_opentelemetrys_exporter_for_node_is_stored_once => OTEL_NODE, "otel";
}

/// A request every two seconds, until the SDK was refused. Then its project gets a higher rate: RudderStack's
/// SDK for Node sends eight requests together, and gives each up after three refusals.
async fn every_call_is_stored_once_over_the_rate(interpreter: Interpreter, sdk: &str) {
    let site = Site::on_files().await;
    let slow = ["plan", "set", "slow", "--requests-per-minute", "30", "--burst", "1"];
    site.installation.text(&slow).await;
    site.installation.text(&["project", "plan", "shop", "slow"]).await;
    eventually(PATIENCE, "the new plan to be in force", async || {
        let limits = site.get("/v1/limits").await;
        if limits["plan"] == "slow" { Ok(()) } else { Err(limits.to_string()) }
    })
    .await;
    let proxy = HttpProxy::start(site.address, &[]).await;
    let raised = async {
        until_refused(&proxy).await;
        site.installation.text(&["project", "plan", "shop", "enterprise"]).await;
    };
    let host = format!("http://{}", proxy.address());
    let (expected, ()) = tokio::join!(run(interpreter, sdk, &host, &site.key), raised);
    check(&site, &expected, sdk, proxy.counts()).await;
}

/// The worker stands still until the SDK was refused.
async fn every_call_is_stored_once_after_a_full_backlog(interpreter: Interpreter, sdk: &str) {
    let max = BACKLOG_EVENTS.to_string();
    let mut site = Site::on_servers_with(&[("BACKLOG_EVENTS_MAX", &max)]).await;
    let filler = site.project(FILLER, &[]).await;
    site.worker().pause();
    let fill = json!(vec![json!({ "name": FILLER }); BACKLOG_EVENTS]).to_string();
    let answer = site.post("/v1/events", &filler, fill).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let proxy = HttpProxy::start(site.address, &[]).await;
    let (host, key) = (format!("http://{}", proxy.address()), site.key.clone());
    let resumed = async {
        until_refused(&proxy).await;
        site.worker().resume();
    };
    let (expected, ()) = tokio::join!(run(interpreter, sdk, &host, &key), resumed);
    check(&site, &expected, sdk, proxy.counts()).await;
}

async fn until_refused(proxy: &HttpProxy) {
    eventually(PATIENCE, "the SDK to be refused", async || {
        let counts = proxy.counts();
        if counts.refused_by_server > 0 { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
}

async fn check(site: &Site, expected: &[Value], sdk: &str, counts: HttpProxyCounts) {
    let accepted = counts.received - counts.refused_by_server;
    assert!(counts.refused_by_server > 0, "{sdk} was never over the limit: {counts:?}");
    let refusals_max = (REFUSALS_MAX * expected.len()) as u64;
    assert!(counts.refused_by_server <= refusals_max, "{sdk} did not wait: {counts:?}");
    let balance = check_stored(site, expected, 0).await;
    assert_eq!(balance["duplicate"], 0, "{sdk} sent accepted calls again: {balance}");
    println!("{sdk}: {accepted} requests accepted, {} refused", counts.refused_by_server);
}
