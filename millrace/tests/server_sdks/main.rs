//! The SDKs for Python and Node, with calls of every kind that they let pass, through a network with faults:
//! each call is one row with the right values or one dead letter, and no SDK reports an error. A new SDK is a
//! test here and a row in `limits.rs`.

#[path = "../installation/mod.rs"]
mod installation;
#[path = "../edge/site.rs"]
#[allow(dead_code, reason = "shared with the target edge, which uses more of it")]
mod site;

mod limits;
mod program;

use program::*;
use site::Site;

/// Beyond this, a body is larger than those of native events may be.
const LARGE: u64 = 4_194_304;

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_segments_sdk_for_python_is_its_row_or_its_dead_letter_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, PYTHON, "segment").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_segments_sdk_for_python_is_its_row_or_its_dead_letter_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, PYTHON, "segment").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_segments_former_sdk_for_python_is_its_row_or_its_dead_letter() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, OLD_PYTHON, "analytics").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_rudderstacks_sdk_for_python_is_its_row_or_its_dead_letter_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, PYTHON, "rudder").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_rudderstacks_sdk_for_python_is_its_row_or_its_dead_letter_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, PYTHON, "rudder-uncompressed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_four_megabytes_of_rudderstacks_sdk_for_python_are_stored() {
    let largest =
        every_call_is_its_row_or_its_dead_letter(Site::on_files().await, PYTHON, "rudder-large").await;
    assert!(largest > LARGE, "{largest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_segments_sdk_for_node_is_its_row_or_its_dead_letter_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, NODE, "segment").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_segments_sdk_for_node_is_its_row_or_its_dead_letter_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, NODE, "segment").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_rudderstacks_sdk_for_node_is_its_row_or_its_dead_letter_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, NODE, "rudder").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_rudderstacks_sdk_for_node_is_its_row_or_its_dead_letter_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, NODE, "rudder-uncompressed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_four_megabytes_of_rudderstacks_sdk_for_node_are_stored() {
    let largest =
        every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, NODE, "rudder-large").await;
    assert!(largest > LARGE, "{largest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_posthogs_sdk_for_python_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, POSTHOG_PYTHON, "posthog").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_posthogs_sdk_for_python_is_its_row_without_compression_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, POSTHOG_PYTHON, "posthog-uncompressed")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_posthogs_sdk_for_python_is_its_row_in_version_1_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, POSTHOG_PYTHON, "posthog-v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_posthogs_sdk_for_python_is_its_row_in_version_1_with_gzip_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, POSTHOG_PYTHON, "posthog-v1-gzip").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_posthogs_sdk_for_node_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, POSTHOG_NODE, "posthog").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_posthogs_sdk_for_node_is_its_row_without_compression_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, POSTHOG_NODE, "posthog-uncompressed")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_posthogs_sdk_for_node_is_its_row_in_version_1_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, POSTHOG_NODE, "posthog-v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_openmeters_sdk_for_python_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, METERING_PYTHON, "openmeter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_openmeters_sdk_for_python_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, METERING_PYTHON, "openmeter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_openmeters_sdk_for_node_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, METERING_NODE, "openmeter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_the_package_cloudevents_for_python_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, CLOUDEVENTS_PYTHON, "cloudevents")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_the_package_cloudevents_for_node_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, METERING_NODE, "cloudevents").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_lagos_sdk_for_python_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, METERING_PYTHON, "lago").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_lagos_sdk_for_python_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, METERING_PYTHON, "lago").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_lagos_sdk_for_node_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, METERING_NODE, "lago").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_amplitudes_sdk_for_python_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, ANALYTICS_PYTHON, "amplitude").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_amplitudes_sdk_for_python_with_batches_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, ANALYTICS_PYTHON, "amplitude-batch")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_amplitudes_sdk_for_node_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, ANALYTICS_NODE, "amplitude").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_amplitudes_sdk_for_node_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, ANALYTICS_NODE, "amplitude").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_mixpanels_sdk_for_python_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, ANALYTICS_PYTHON, "mixpanel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_mixpanels_sdk_for_node_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, ANALYTICS_NODE, "mixpanel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_mixpanels_sdk_for_node_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, ANALYTICS_NODE, "mixpanel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_jitsus_sdk_for_node_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, JITSU_NODE, "jitsu").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_jitsus_sdk_for_node_by_the_routes_of_browsers_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, JITSU_NODE, "jitsu-browser").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_snowplows_tracker_for_python_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, SNOWPLOW_PYTHON, "snowplow").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_snowplows_tracker_for_python_by_get_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, SNOWPLOW_PYTHON, "snowplow-get").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_snowplows_tracker_for_python_without_base64_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, SNOWPLOW_PYTHON, "snowplow-plain")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_snowplows_tracker_for_node_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, SNOWPLOW_NODE, "snowplow").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_snowplows_tracker_for_node_by_get_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, SNOWPLOW_NODE, "snowplow-get").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_of_snowplows_tracker_for_node_without_base64_is_its_row_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, SNOWPLOW_NODE, "snowplow-plain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_log_record_of_opentelemetrys_sdk_for_python_is_its_row_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, OTEL_PYTHON, "otel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_log_record_of_opentelemetrys_sdk_for_python_is_its_row_with_gzip_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, OTEL_PYTHON, "otel-gzip").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_log_record_of_opentelemetrys_sdk_for_node_is_its_row_in_json_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, OTEL_NODE, "otel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_log_record_of_opentelemetrys_sdk_for_node_is_its_row_in_json_with_gzip_on_files() {
    every_call_is_its_row_or_its_dead_letter(Site::on_files().await, OTEL_NODE, "otel-gzip").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_log_record_of_opentelemetrys_sdk_for_node_is_its_row_in_protobuf_on_servers() {
    every_call_is_its_row_or_its_dead_letter(Site::on_servers().await, OTEL_NODE, "otel-proto").await;
}
