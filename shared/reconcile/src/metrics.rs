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
}
}

pub fn durability_checked(strict: bool) {
    DURABILITY_CHECKS.increment(1);
    DURABILITY_FAULTS.increment(u64::from(!strict));
    DURABILITY_STRICT.set(f64::from(strict));
}

pub fn epoch_trusted(trusted: bool) {
    EPOCH_TRUSTED.set(f64::from(trusted));
}

/// The counters of a shard that had lost its epoch were rebuilt.
pub fn epoch_rebuilt() {
    EPOCH_REBUILDS.increment(1);
}
