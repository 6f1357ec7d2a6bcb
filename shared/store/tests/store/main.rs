//! The conformance suite of the store: what every implementation of `Store` and `Writer` promises.
//!
//! The promises in [`suite`] are written against the traits and a [`suite::Harness`], which makes a store with nothing
//! in it and can look into it. Here they are held against PostgreSQL and SQLite; beside them stand the tests that only one
//! of them can be put to: killed sessions, locks, partitions, rows it refuses; killed processes, full disks, files.

mod postgres;
mod sqlite;
mod suite;

/// Makes a test of each promise.
macro_rules! promises {
    ($harness:path: $($room:ident { $($promise:ident),+ $(,)? })+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let harness = $harness().await;
                crate::suite::$room::$promise(&harness).await;
            }
        )+)+
    };
}

/// Holds the stores of this harness to every promise there is.
macro_rules! every_promise {
    ($harness:path) => {
        promises! { $harness:
            writing {
                accepted_rows_come_back_equal,
                an_entry_written_twice_changes_nothing,
                an_entry_that_stands_twice_in_one_write_is_written_once,
                an_event_of_two_batches_is_stored_once,
                an_event_that_repeats_within_a_batch_is_stored_once,
                a_damaged_entry_becomes_one_letter,
                a_batch_is_known_by_its_outcome_to_its_project_alone,
                a_batch_admitted_again_changes_nothing,
                a_key_used_again_for_other_events_costs_none_that_can_be_told_apart,
                a_dead_entry_may_claim_any_count,
                an_undated_event_is_recognised_across_midnight,
                an_undated_event_that_repeats_within_one_write_is_stored_once,
                events_of_any_time_are_stored,
            }
            racing {
                racing_writers_with_overlapping_batches_end_exact,
                racing_writers_of_undated_events_end_exact,
            }
            accounts {
                a_key_opens_its_project_until_it_is_revoked,
                a_signed_key_comes_with_its_secret,
                a_chosen_key_can_be_used_once,
                a_name_or_plan_that_cannot_be_is_refused_with_advice,
                last_use_only_moves_forward,
                a_change_of_accounts_is_heard_at_once,
                three_plans_come_with_the_store,
            }
            admin {
                projects_are_listed_with_their_plan_their_live_keys_and_their_last_use,
                a_project_is_moved_to_another_plan,
                keys_are_listed_with_all_but_their_text,
                a_rotated_key_opens_its_project_beside_the_new_one_until_it_expires,
                a_key_is_rotated_once_and_only_while_it_is_live,
                a_plan_is_made_and_then_changed_in_what_is_named,
                changes_by_operators_are_heard_at_once,
                usage_of_all_names_every_project,
                as_many_shards_are_on_record_as_have_an_epoch,
            }
            letters {
                letters_are_found_by_what_is_known_of_them,
            }
            redriving {
                a_redriven_entry_is_stored_and_counted_once,
                a_refused_row_stays_dead_until_it_can_be_stored,
                an_event_that_was_stored_meanwhile_is_a_duplicate,
                an_undated_event_is_redriven_once,
                what_cannot_be_read_stays_dead,
                of_an_entry_only_the_refused_rows_stay_dead,
                redrives_at_once_beside_a_writer_end_exact,
                who_settles_after_a_redrive_refunds_what_had_died,
                a_redrive_uses_up_no_quota_when_counters_are_rebuilt,
                retention_counts_what_was_redriven_once,
            }
            keeping {
                usage_is_summed_over_hours_days_and_months,
                an_epoch_is_replaced_only_from_what_it_was,
                counters_are_rebuilt_from_the_ledger_and_what_is_pending,
                retention_keeps_the_books_balanced,
                the_ledger_is_kept_while_an_entry_as_old_is_pending,
                a_migrated_store_is_not_migrated_again,
            }
        }
    };
}

mod on_postgres {
    every_promise!(crate::postgres::harness);
}

mod on_sqlite {
    every_promise!(crate::sqlite::harness);
}
