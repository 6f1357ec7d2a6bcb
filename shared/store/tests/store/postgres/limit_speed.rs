//! What limits of many customers cost.
//! `cargo test --release -p millrace-store --test store -- --ignored --nocapture 100_000_limits`.

use std::time::Instant;

use millrace_event::meter::Aggregation;
use millrace_store::MeterStart;

use super::harness;
use crate::suite::metered::create;
use crate::suite::*;

/// A process of the API reads all limits of a project again after each change.
#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_reading_100_000_limits() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let meter = create(&store, Aggregation::Sum, MeterStart::Now).await.meter.id;
    let client = harness.connect().await;
    let fill = "INSERT INTO customer_limits (project_id, meter_id, period, subject, amount)
                SELECT $1, $2, 'month', 'customer-' || n, 1000 + n FROM generate_series(1, 100000) n";
    client.execute(fill, &[&project.0, &meter.0]).await.expect("filled");
    for round in 0..3 {
        let began = Instant::now();
        let set = store.limit_set(project).await.expect("limits");
        println!("round {round}: read in {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
        assert_eq!(set.of_customer(meter, "customer-77").len(), 1);
        let began = Instant::now();
        let is_limited = |number: &u32| !set.of_customer(meter, &format!("customer-{number}")).is_empty();
        let found = (1..=100_000).filter(is_limited).count();
        println!("round {round}: {found} lookups in {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    }
}
