//! The conformance suite of the stream: the promises of every implementation of `Stream` and `Reader`.
//!
//! The promises in [`suite`] use the traits and a [`suite::Harness`], which opens a new stream. Here they run
//! on Redis, on a Redis Cluster, behind Redis Sentinel and on a file. The other tests are about one
//! implementation: keys, scripts and faults of Redis; files, disks and processes of the embedded stream.
//! `model`, `limit_model` and `groups` compare the decisions of both with the reference model.

mod embedded;
mod groups;
mod limit_model;
mod model;
mod redis;
mod suite;

/// Makes a test of each promise.
macro_rules! promises {
    ($harness:path: $($topic:ident { $($promise:ident),+ $(,)? })+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let harness = $harness().await;
                crate::suite::$topic::$promise(&harness).await;
            }
        )+)+
    };
}

/// Tests every promise on the streams of this harness.
macro_rules! every_promise {
    ($harness:path) => {
        promises! { $harness:
            admission {
                an_admitted_batch_is_delivered_as_it_was,
                batches_that_are_admitted_at_the_same_time_share_entries,
                a_repeated_batch_id_returns_the_first_answer_and_charges_nothing,
                the_same_key_with_another_body_is_a_conflict,
                a_refusal_changes_nothing,
                the_quota_can_be_used_to_its_last_event,
                a_batch_that_exceeds_the_backlog_is_refused_until_there_is_room,
                every_batch_of_many_retrying_clients_is_admitted_once,
            }
            delivery {
                entries_of_a_silent_consumer_are_taken_over_and_their_deliveries_counted,
                entries_that_were_delivered_and_not_settled_are_read_again,
                an_admission_wakes_a_waiting_reader,
                consumers_are_retired_only_when_nothing_is_pending_for_them,
            }
            settling {
                a_settled_batch_is_remembered,
                an_entry_that_is_settled_twice_is_refunded_once,
                an_entry_that_two_lanes_settle_is_refunded_once,
                attempts_are_counted_until_they_are_forgotten,
            }
            rebuilding {
                nothing_is_admitted_or_settled_without_the_trusted_epoch,
                a_rebuild_replaces_the_counters_and_keeps_the_batches,
                a_rebuild_is_refused_when_the_entries_have_changed,
                a_fence_stops_every_process_until_its_own_rebuild,
            }
            limiting {
                a_limit_can_be_used_to_its_last_billionth,
                a_batch_over_one_of_its_limits_charges_nothing,
                a_repeated_batch_is_charged_to_limits_once,
                charges_are_delivered_with_their_batch,
                what_was_not_stored_is_given_back_once,
                a_limit_can_be_changed_while_it_is_used,
                no_more_than_a_limit_is_admitted_from_any_number_of_processes,
                a_rebuild_restores_limits_and_forgets_all_others,
            }
            witness {
                a_stream_stands_at_the_last_entry_that_was_acknowledged,
                a_rebuilt_shard_continues_above_the_floor,
            }
        }
    };
}

mod on_redis {
    every_promise!(crate::redis::harness);
}

mod on_redis_with_a_replica {
    every_promise!(crate::redis::replicas::harness);
}

mod on_a_redis_cluster {
    every_promise!(crate::redis::cluster::harness);
}

mod behind_redis_sentinel {
    every_promise!(crate::redis::sentinel::harness);
}

mod on_embedded {
    every_promise!(crate::embedded::harness);
}
