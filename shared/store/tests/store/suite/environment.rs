//! Failures of the environment are never taken for failures of the data.

use super::*;

/// Runs `spoil` and expects a write to fail with that SQLSTATE. Then runs `repair` in the same session and
/// expects the same write to succeed without dead letters.
pub async fn a_failure_leaves_the_data_writable(
    harness: &dyn Harness,
    run: impl AsyncFn(&str),
    spoil: &str,
    repair: &str,
    sqlstate: &str,
) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let request = request(project, new_batch_id(), entry(now, 0), &events(now, 1..=5));
    let mut lane = writer(&store).await;
    run(spoil).await;
    let failed = lane.write(std::slice::from_ref(&request)).await.expect_err("the write fails");
    assert_eq!(sqlstate_of(&failed), sqlstate, "{failed}");
    assert!(
        lane.write(std::slice::from_ref(&request)).await.is_err(),
        "a writer cannot be used after an error"
    );
    run(repair).await;
    let written = writer(&store).await.write(&[request]).await.expect("written");
    assert_eq!(written.map_outcomes(), [stored(5)]);
    assert!(harness.letters(project).await.is_empty());
    balanced(&store, project).await;
}
