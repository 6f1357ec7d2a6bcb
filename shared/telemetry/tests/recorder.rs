//! Tables of metrics: the series that are visible, and the values that are recorded in them. The recorder is
//! global, so every test uses metrics that no other test changes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use metrics_exporter_prometheus::PrometheusHandle;
use millrace_telemetry::metrics::{self, Program, Values, at_scrape, install};

const STATUSES: &[&str] = &["200", "404", "500", "503"];
const COLORS: &[&str] = &["red", "blue"];
const SHAPES: &[&str] = &["round", "square", "flat"];

millrace_telemetry::metrics_table! {
Api on Either {
    REQUESTS: counter "test_requests_total" { route: Values::Routes, status: Values::These(STATUSES) }
        "Requests"
    REQUEST_DURATION: latency "test_request_duration_seconds" { route: Values::Routes }
        "Duration of requests"
    PIECES: counter "test_pieces_total" { color: Values::These(COLORS), shape: Values::These(SHAPES) }
        "Pieces"
    SUMMED: counter "test_summed_total" { color: Values::These(COLORS) }
        "Counted in two series"
    RAISED: counter "test_raised_total" {}
        "Counted elsewhere"
    LEVEL: gauge "test_level" {}
        "Set by a test"
    NEVER_SET: gauge "test_never_set" { color: Values::These(COLORS) }
        "Never set"
    SIZE: sizes "test_size" {}
        "Recorded by a test"
}
Worker on Either {
    WORK: counter "test_work_total" {}
        "Work of another program"
}
Any on Either {
    SHARED: counter "test_shared_total" {}
        "Shown by every program"
}
}

/// The recorder of this test's process, which is the API with two routes.
fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        install(&[METRICS, metrics::METRICS], &[Program::Api], &["/v1/events", "unmatched"]).unwrap()
    })
}

fn samples(name: &str) -> Vec<String> {
    let page = recorder().render();
    let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let mut samples: Vec<_> = page.lines().filter(is_of).map(str::to_owned).collect();
    samples.sort();
    samples
}

#[test]
fn a_counter_is_visible_at_0_before_it_counts() {
    assert_eq!(samples("test_shared_total"), ["test_shared_total 0"]);
    assert!(recorder().render().contains("# HELP test_shared_total Shown by every program"));
}

#[test]
fn a_counter_by_route_is_visible_at_start_only_for_failures() {
    let expected = [
        r#"test_requests_total{route="/v1/events",status="500"} 0"#,
        r#"test_requests_total{route="/v1/events",status="503"} 0"#,
        r#"test_requests_total{route="unmatched",status="500"} 0"#,
        r#"test_requests_total{route="unmatched",status="503"} 0"#,
    ];
    assert_eq!(samples("test_requests_total"), expected);
    assert!(samples("test_request_duration_seconds_count").is_empty());
}

#[test]
fn a_gauge_is_visible_only_after_it_was_set() {
    assert!(samples("test_never_set").is_empty());
    recorder();
    LEVEL.set(2.0);
    LEVEL.add(-0.5);
    assert_eq!(samples("test_level"), ["test_level 1.5"]);
}

#[test]
fn a_metric_of_another_program_is_neither_shown_nor_recorded() {
    recorder();
    WORK.increment(1);
    assert!(samples("test_work_total").is_empty());
    assert_eq!(WORK.total(), 0);
    assert!(WORK.with(&[]).is_none());
}

#[test]
fn each_combination_of_label_values_is_its_own_series() {
    recorder();
    let mut count = 0;
    for color in COLORS {
        for shape in SHAPES {
            count += 1;
            PIECES.increment_with(&[color, shape], count);
            let index = usize::try_from(count).unwrap() - 1;
            assert_eq!(PIECES.at(index).unwrap().total(), count, "the last label varies fastest");
        }
    }
    let expected = [
        r#"test_pieces_total{color="blue",shape="flat"} 6"#,
        r#"test_pieces_total{color="blue",shape="round"} 4"#,
        r#"test_pieces_total{color="blue",shape="square"} 5"#,
        r#"test_pieces_total{color="red",shape="flat"} 3"#,
        r#"test_pieces_total{color="red",shape="round"} 1"#,
        r#"test_pieces_total{color="red",shape="square"} 2"#,
    ];
    assert_eq!(samples("test_pieces_total"), expected);
    assert!(PIECES.at(6).is_none());
}

#[test]
fn the_total_of_a_counter_is_the_sum_of_its_series() {
    recorder();
    assert_eq!(SUMMED.total(), 0);
    SUMMED.increment_with(&["red"], 3);
    SUMMED.increment_with(&["blue"], 4);
    assert_eq!(SUMMED.total(), 7);
}

#[test]
fn a_counter_that_is_set_to_a_total_never_decreases() {
    recorder();
    RAISED.set_total(&[], 9);
    RAISED.set_total(&[], 5);
    assert_eq!(samples("test_raised_total"), ["test_raised_total 9"]);
    assert_eq!(RAISED.total(), 9);
}

#[test]
fn a_histogram_has_the_buckets_of_its_kind() {
    recorder();
    SIZE.record(10.0);
    let buckets = samples("test_size_bucket");
    assert_eq!(buckets.len(), metrics::SIZES.len() + 1);
    assert!(buckets.contains(&r#"test_size_bucket{le="1"} 0"#.to_owned()), "{buckets:?}");
    assert!(buckets.contains(&r#"test_size_bucket{le="10"} 1"#.to_owned()), "{buckets:?}");
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "is not a label value of test_pieces_total")]
fn an_unknown_label_value_panics_in_a_debug_build() {
    recorder();
    PIECES.increment_with(&["green", "round"], 1);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "label values of test_pieces_total")]
fn a_missing_label_value_panics_in_a_debug_build() {
    recorder();
    PIECES.increment(1);
}

#[test]
fn a_sampler_is_called_before_each_scrape_until_it_ends() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    recorder();
    at_scrape(|| CALLS.fetch_add(1, Ordering::Relaxed) == 0);
    for _ in 0..4 {
        metrics::sample();
    }
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
    assert!(!samples("process_start_time_seconds").is_empty(), "the process's own values are read, too");
}

#[test]
fn the_build_is_shown_with_its_version() {
    let build = samples("millrace_build_info");
    assert_eq!(build.len(), 1);
    assert!(build[0].contains(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")), "{build:?}");
}

#[test]
fn a_second_recorder_is_refused() {
    recorder();
    assert!(install(&[METRICS], &[Program::Api], &[]).is_err());
}
