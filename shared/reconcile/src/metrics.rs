//! The metrics of durability and epochs.

millrace_telemetry::metrics_table! {
Any on Either {
    DURABILITY_STRICT: gauge "millrace_durability_strict" {}
        "1 while every acknowledged event is on disk, 0 while the stream is not durable"
    DURABILITY_CHECKS: counter "millrace_durability_checks_total" {}
        "Checks of the stream's durability"
    DURABILITY_FAULTS: counter "millrace_durability_faults_total" {}
        "Sentinel: checks that found the stream not durable"
    EPOCH_TRUSTED: gauge "millrace_epoch_trusted" {}
        "1 while the stream has the epoch that the store has recorded, 0 while it has not"
    EPOCH_REBUILDS: counter "millrace_epoch_rebuilds_total" {}
        "Shards whose counters were rebuilt from the ledger after their epoch was lost"
    STREAM_ROLLBACKS: counter "millrace_stream_rollbacks_total" {}
        "Sentinel: shards that went back in time and were rebuilt"
    STREAM_LOST_EVENTS: counter "millrace_stream_lost_events_total" {}
        "Acknowledged events that were found neither in the stream nor in the store"
}
}

/// A shard was checked. `all_strict` is about all shards.
pub fn durability_checked(strict: bool, all_strict: bool) {
    DURABILITY_CHECKS.increment(1);
    DURABILITY_FAULTS.increment(u64::from(!strict));
    DURABILITY_STRICT.set(f64::from(all_strict));
}

pub fn epoch_trusted(trusted: bool) {
    EPOCH_TRUSTED.set(f64::from(trusted));
}

/// A shard went back in time, and its counters were rebuilt.
pub fn stream_rolled_back() {
    STREAM_ROLLBACKS.increment(1);
}

/// Acknowledged events were lost.
pub fn stream_lost(events: u64) {
    STREAM_LOST_EVENTS.increment(events);
}

/// The counters of a shard that had lost its epoch were rebuilt.
pub fn epoch_rebuilt() {
    EPOCH_REBUILDS.increment(1);
}
