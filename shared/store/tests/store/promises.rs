//! The list of the promises, once for all test targets.

/// Calls the macro `$declare` with the harness, the promises about events, and `$more` promises.
macro_rules! promises_of_events {
    ($declare:ident $harness:path $(, $($more:tt)*)?) => {
        $declare! { $harness:
            writing {
                accepted_rows_come_back_equal,
                the_last_of_equal_member_names_is_stored,
                an_entry_written_twice_changes_nothing,
                an_entry_that_is_twice_in_one_write_is_written_once,
                an_event_of_two_batches_is_stored_once,
                an_event_that_repeats_within_a_batch_is_stored_once,
                a_damaged_entry_becomes_one_dead_letter,
                a_call_that_is_no_event_becomes_a_dead_letter,
                only_its_own_project_sees_the_outcome_of_a_batch,
                a_batch_that_is_accepted_again_changes_nothing,
                a_reused_key_loses_no_event_with_its_own_id_or_time,
                a_dead_entry_may_have_any_count,
                an_undated_event_is_recognized_across_midnight,
                an_undated_event_that_repeats_within_one_write_is_stored_once,
                events_of_any_time_are_stored,
            }
            identity {
                an_event_that_its_id_identifies_is_stored_once_at_any_time,
                a_change_of_the_policy_stores_no_known_event_twice,
                a_claimed_id_leaves_room_for_an_event_with_the_same_time,
                ids_that_identify_events_are_kept_as_long_as_the_ledger,
                an_event_that_its_id_identifies_is_redriven_once,
            }
            conflicts {
                a_duplicate_with_another_payload_is_a_conflict,
                a_conflict_is_found_within_one_write,
                a_conflict_is_found_by_a_redrive,
                dead_events_are_counted_by_reason_and_sampled,
                samples_of_a_project_are_bounded,
            }
            grouping {
                outcomes_do_not_depend_on_how_entries_are_grouped,
            }
            parts {
                a_batch_is_written_once_in_any_parts_of_its_entry,
                racing_lanes_with_parts_of_an_entry_end_with_exact_counts,
                dead_batches_of_an_entry_are_redriven_one_by_one,
            }
            racing {
                racing_writers_with_overlapping_batches_end_with_exact_counts,
                racing_writers_of_undated_events_end_with_exact_counts,
                racing_writers_of_events_with_one_id_and_many_times_end_with_exact_counts,
            }
            redriving {
                a_redriven_entry_is_stored_and_counted_once,
                a_rejected_row_stays_dead_until_it_can_be_stored,
                an_event_that_was_stored_meanwhile_is_a_duplicate,
                an_undated_event_is_redriven_once,
                an_unreadable_letter_stays_dead,
                a_call_that_is_no_event_stays_dead_and_the_others_are_stored,
                only_the_rejected_rows_of_an_entry_stay_dead,
                concurrent_redrives_and_a_writer_end_with_exact_counts,
                settling_after_a_redrive_refunds_the_events_that_were_dead,
                a_redrive_uses_up_no_quota_when_counters_are_rebuilt,
                retention_counts_a_redriven_event_once,
            }
            metered {
                each_aggregation_counts_stored_events_once,
                a_value_that_is_missing_or_no_number_is_counted_as_a_fault,
                a_late_event_belongs_to_the_window_of_its_timestamp,
                a_redriven_event_is_counted_by_meters,
                a_new_meter_counts_what_is_received_after_the_last_stored_event,
                a_backfill_next_to_writers_counts_every_event_once,
                racing_writers_and_backfills_and_movers_end_with_exact_figures,
                retention_keeps_figures_and_their_checks,
            }
            limiting {
                a_limit_is_set_changed_and_removed,
                a_limit_that_cannot_be_kept_is_refused,
                what_stored_events_used_is_recorded_once,
                a_pending_batch_is_in_the_counters_of_a_rebuild,
                a_redriven_event_is_not_charged_again,
            }
            meter_reading {
                subjects_and_groups_are_kept_apart_and_filtered,
                windows_follow_the_time_zone_also_when_clocks_change,
                a_deleted_meter_counts_nothing_and_leaves_its_slug,
                a_definition_that_is_not_usable_is_refused,
            }
            meter_models {
                random_meters_and_events_agree_with_a_model,
                any_properties_are_counted_as_the_check_reads_them,
            }
            thresholds {
                a_quota_is_reached_once_by_the_events_that_are_stored,
                an_entry_that_comes_again_reaches_no_threshold,
                racing_writers_reach_a_quota_exactly_once,
                racing_writers_and_movers_reach_a_threshold_of_a_meter_exactly_once,
                only_its_subject_reaches_a_threshold_of_one_subject,
                a_period_that_ended_before_the_threshold_causes_no_notification,
                a_notification_is_claimed_by_one_worker_at_a_time,
                a_delivery_is_retried_until_it_is_delivered_or_given_up,
                one_project_does_not_hold_up_the_notifications_of_another,
                a_deleted_threshold_causes_and_delivers_nothing_more,
                a_threshold_that_changes_begins_again_and_one_with_another_url_does_not,
                a_project_has_one_webhook_secret_that_can_be_rotated,
                a_rotated_webhook_secret_signs_with_the_new_one_until_it_ends,
                a_threshold_that_is_not_usable_is_refused,
            }
            threshold_models {
                random_thresholds_and_events_agree_with_a_model,
            }
            cancelling {
                a_cancelled_event_leaves_usage_and_every_meter_and_stays_a_duplicate,
                an_event_that_a_meter_does_not_count_leaves_its_faults_when_it_is_cancelled,
                what_cannot_be_cancelled_is_named_and_changes_nothing,
                an_event_without_a_time_of_its_own_is_cancelled_by_its_id,
                cancels_of_one_event_at_once_count_once,
                cancels_next_to_writers_backfills_and_movers_end_with_exact_figures,
                retention_keeps_cancelled_events_out_of_figures,
            }
            erasing {
                an_erased_subject_leaves_no_trace_and_the_bill_stays,
                an_anonymized_subject_leaves_its_events_without_a_name,
                an_anonymized_subject_can_leave_its_events_without_properties,
                an_erasure_that_is_interrupted_after_any_step_continues_with_balanced_books,
                what_is_received_after_the_order_is_kept_and_counted,
                an_erasure_next_to_writers_and_movers_ends_with_exact_figures,
                an_index_on_the_subject_changes_nothing_but_the_time,
            }
            metering {
                usage_adds_up_over_every_partition_of_a_period,
            }
            $($($more)*)?
        }
    };
}

/// Calls the macro `$declare` with the harness and every promise.
macro_rules! every_promise {
    ($declare:ident $harness:path) => {
        promises_of_events! { $declare $harness,
            accounts {
                a_key_is_valid_until_it_is_revoked,
                a_signed_key_comes_with_its_secret,
                a_chosen_key_can_be_used_once,
                an_invalid_name_or_plan_is_refused_with_advice,
                last_use_only_moves_forward,
                a_change_of_accounts_is_noticed_immediately,
                three_plans_come_with_the_store,
            }
            admin {
                projects_are_listed_with_their_plan_their_live_keys_and_their_last_use,
                a_project_is_moved_to_another_plan,
                a_key_and_the_one_that_replaces_it_have_the_scope_and_the_origins_of_their_owner,
                a_project_has_the_policy_it_was_created_with_until_it_is_changed,
                keys_are_listed_without_their_text,
                a_rotated_key_is_valid_with_the_new_one_until_it_expires,
                a_key_is_rotated_once_and_only_while_it_is_live,
                a_change_of_a_plan_leaves_its_other_limits,
                changes_by_operators_are_noticed_immediately,
                usage_of_all_names_every_project,
                shards_are_counted_by_their_recorded_epochs,
            }
            admin_keys {
                an_admin_key_is_found_by_its_hash_until_it_is_revoked,
                a_chosen_admin_key_has_its_own_beginning_and_is_used_once,
                projects_are_found_by_name_and_listed_page_by_page,
            }
            letters {
                every_filter_finds_its_dead_letters,
            }
            keeping {
                usage_is_summed_over_hours_days_and_months,
                an_epoch_is_replaced_only_if_it_is_the_expected_one,
                replicas_of_a_shard_are_recorded_once_it_has_an_epoch_and_kept_with_the_next,
                the_number_of_shards_is_replaced_only_if_the_epochs_are_the_expected_ones,
                counters_are_rebuilt_from_the_ledger_and_pending_batches,
                retention_keeps_the_counts_balanced,
                the_ledger_is_kept_while_an_entry_as_old_is_pending,
                undated_ids_are_forgotten_after_two_days,
                a_migrated_store_is_not_migrated_again,
            }
            refusing {
                a_report_is_counted_once_however_often_it_is_sent,
                counts_of_adjacent_periods_add_up,
                only_the_last_samples_of_each_project_and_kind_are_kept,
                a_sample_of_any_text_and_bytes_comes_back,
                racing_reports_end_with_exact_counts,
                samples_are_kept_as_long_as_events_and_counts_longer,
            }
            losing {
                the_highest_entry_of_each_shard_is_recorded_and_never_lowered,
                a_lost_batch_is_recorded_once_and_listed_until_it_is_stored,
                lost_batches_are_kept_as_long_as_the_ledger,
                entries_that_were_read_under_another_epoch_are_not_committed,
                what_is_committed_under_an_epoch_is_visible_once_the_epoch_is_replaced,
            }
        }
    };
}
