"""The ledger's contract on PostgreSQL: tests of its units that together make each statement that PostgreSQL executes.

All tests of `unit/ledger` run on SQLite. Those below run on PostgreSQL, too: chosen so that each statement of the
ledger is executed there, that threads meet, and that texts and payloads survive. `pytest --thorough` runs all on both.
"""

# The imported tests and the fixtures of their files are collected here.
# ruff: noqa: F401

import pytest

from sync_assets_tests.unit.ledger.records.test_acknowledged_links import (
    test_an_update_under_way_that_left_the_link_out_does_not_acknowledge_it,
    test_the_links_of_campaigns_records_are_listed_by_id,
)
from sync_assets_tests.unit.ledger.records.test_blocked_records import (
    test_a_child_is_listed_with_its_parent_until_that_is_acknowledged,
    test_a_delete_that_waits_for_children_names_no_parent,
)
from sync_assets_tests.unit.ledger.records.test_captures import (
    test_a_child_kept_out_of_scope_follows_a_stricter_cardinality,
    test_a_new_row_is_pending_with_its_payload,
    test_a_nul_in_a_refusal_is_dropped_since_one_of_the_databases_knows_none,
    test_columns_may_come_in_any_order_and_wholly_null_ones_without_a_type,
)
from sync_assets_tests.unit.ledger.records.test_claims import (
    test_a_payload_is_erased_at_its_horizon_and_its_row_read_again_where_no_push_came,
    test_a_record_acknowledged_after_a_lost_answer_is_sent_once_more_at_its_horizon,
    test_records_whose_requests_failed_come_behind_all_others,
    test_the_last_request_of_a_dead_worker_may_take_effect_until_its_horizon,
)
from sync_assets_tests.unit.ledger.records.test_deletions import (
    test_an_approval_holds_for_children_that_came_since_as_far_as_the_guard_lets_them,
    test_changes_after_a_full_read_compare_with_nothing,
    test_orphans_that_campaign_keeps_are_reported_and_stop_no_deletion,
)
from sync_assets_tests.unit.ledger.records.test_dependency_status import (
    delayed,
    test_a_parent_waits_for_exactly_the_children_that_will_be_relinked_unlinked_or_deleted,
)
from sync_assets_tests.unit.ledger.records.test_feeds import test_a_poll_may_bring_a_fresh_delta_link
from sync_assets_tests.unit.ledger.records.test_hold_records import (
    test_a_second_release_ends_the_exclusion,
    test_records_that_the_ledger_does_not_know_are_held_when_they_come,
)
from sync_assets_tests.unit.ledger.records.test_privacy_holds import (
    test_a_rejected_record_is_held_and_cannot_be_retried,
    test_a_withdrawn_row_is_not_sent_after_its_release,
    test_holds_and_captures_in_threads_end_with_all_children_held,
)
from sync_assets_tests.unit.ledger.records.test_rebuilds import (
    test_a_killed_rebuild_leaves_known_records_known,
    test_a_list_before_a_first_load_goes_on_where_it_was,
    test_ids_that_the_ledger_does_not_know_are_counted_and_left_alone,
)
from sync_assets_tests.unit.ledger.records.test_replays import (
    TestFieldsThatAreNotUpdated,
    test_a_capture_is_due_for_a_replay_and_for_approved_deletions,
    test_a_page_does_not_count_if_another_capture_read_it_or_the_replay_was_dropped,
    test_a_replay_stands_until_its_last_page_is_in,
)
from sync_assets_tests.unit.ledger.records.test_targets import (
    sent,
    test_another_target_fails_exactly_if_a_record_was_sent_to_the_former_one,
    test_findings_about_the_new_resource_are_made_again,
)
from sync_assets_tests.unit.ledger.repositories.test_call_limits import (
    test_a_clock_that_was_set_back_stops_nothing,
    test_calls_that_were_not_made_are_given_back,
    test_many_at_once_never_hold_more_than_all,
    test_many_at_once_never_reserve_more_than_the_budget,
    test_slots_come_free_with_their_worker_or_with_its_session,
)
from sync_assets_tests.unit.ledger.repositories.test_dialect_findings import (
    test_each_kind_has_its_own_findings_which_are_values_of_json,
    test_findings_are_forgotten_one_by_one_or_all_of_a_resource,
)
from sync_assets_tests.unit.ledger.repositories.test_maintenance import (
    test_a_reader_that_lost_the_feed_ends_at_the_next_page,
    test_it_begins_once_and_shows_its_beginning,
    test_types_are_remembered_by_table_until_others_are_noted_or_its_maintenance_ends,
)
from sync_assets_tests.unit.ledger.repositories.test_mapping_changes import (
    test_two_that_take_turns_are_noticed_before_the_third_round,
)
from sync_assets_tests.unit.ledger.repositories.test_opt_out_decisions import (
    test_a_claim_is_in_flight_for_a_hold_until_its_outcome_is_stored,
    test_a_decision_is_stored_with_the_opt_out_that_it_changes_and_not_without,
    test_a_refused_opt_out_is_a_reject_until_its_retry,
    test_an_opt_out_is_captured_if_its_profile_may_exist_and_no_record_carries_it,
    test_captured_values_that_are_only_compared_make_no_row_and_no_decision_unless_they_are_read_again,
    test_decisions_are_found_by_contact_and_by_partition_the_last_one_first,
    test_due_opt_outs_are_read_by_an_index,
    test_rejected_rows_of_a_file_replace_the_earlier_ones_and_are_pruned_by_age,
)
from sync_assets_tests.unit.ledger.repositories.test_opt_out_files import (
    test_a_file_that_is_done_stays_done,
    test_a_file_that_is_still_written_is_another_one_at_each_look,
)
from sync_assets_tests.unit.ledger.repositories.test_opt_outs import test_open_opt_outs_are_counted_by_their_next_step
from sync_assets_tests.unit.ledger.repositories.test_opt_outs_of_new_profiles import (
    test_a_new_profile_is_made_with_opt_outs_and_with_nothing_that_is_none,
)
from sync_assets_tests.unit.ledger.repositories.test_record_history import (
    test_a_validation_error_is_an_entry_once_however_often_its_row_is_captured,
    test_entries_are_found_by_id_and_table_the_newest_ones_first,
    test_entries_older_than_a_time_are_pruned_in_parts,
    two_days,
)
from sync_assets_tests.unit.ledger.repositories.test_reports import (
    test_a_sample_holds_settled_records_of_its_table_each_once,
    test_acknowledged_hashes_are_those_of_settled_records,
    test_numbers_of_several_days_are_by_day_and_name,
    test_numbers_of_several_days_are_summed_by_table_and_name,
    test_pending_records_are_counted_by_operation,
    test_rejects_are_listed_by_table_in_the_order_in_which_they_came,
    test_the_oldest_pending_change,
)
from sync_assets_tests.unit.ledger.repositories.test_runs import (
    test_a_run_that_never_gave_a_sign_of_life_is_given_up_before_it_can,
    test_a_run_whose_session_lives_is_not_given_up,
    test_numbers_are_added_up_by_table_side_and_day,
    test_the_first_day_of_a_table_is_that_of_its_first_capture_even_without_rows,
)
from sync_assets_tests.unit.ledger.repositories.test_sessions import (
    test_a_session_that_is_storing_does_not_expire,
    test_the_number_of_the_ledger_rises_with_sessions_renewals_and_claims,
)
from sync_assets_tests.unit.ledger.repositories.test_stored_records import (
    test_a_waiting_child_names_the_state_and_the_reason_of_its_parent,
)
from sync_assets_tests.unit.ledger.repositories.test_systems import test_one_that_moved_takes_its_place
from sync_assets_tests.unit.ledger.rules.test_predicates import test_a_predicate_means_the_same_in_python_and_in_sql
from sync_assets_tests.unit.ledger.storage.test_constraints import (
    test_each_constraint_refuses_what_cannot_be_and_nothing_else,
)
from sync_assets_tests.unit.ledger.test_encryption import (
    encrypted,
    test_a_plan_reads_the_encrypted_copy,
    test_new_and_changed_rows_are_stored_encrypted_and_claimed_as_they_were,
)
from sync_assets_tests.unit.ledger.test_opening import (
    test_a_database_error_quotes_no_rows,
    test_a_ledger_has_an_id_of_its_own_from_the_beginning_and_keeps_it,
    test_a_ledger_of_a_newer_version_is_left_alone_and_no_try_to_open_it_leaves_anything_behind,
    test_partial_indexes_are_partial_on_both_databases,
    test_the_migrations_bring_about_the_schema_that_the_code_knows,
)
from sync_assets_tests.unit.ledger.test_orphans import (
    test_a_record_is_orphaned_since_it_first_was,
    test_orphaned_records_are_counted_apart_and_do_not_wait,
)
from sync_assets_tests.unit.ledger.test_row_versions import (
    test_a_row_that_a_full_read_did_not_return_may_come_in_any_version,
    test_a_row_that_comes_again_has_its_new_version,
)
from sync_assets_tests.unit.ledger.test_scratch import (
    test_a_current_ledger_that_is_only_read_is_not_copied_and_stays_as_it_is,
)
from sync_assets_tests.unit.ledger.test_settle import (
    test_a_rejection_keeps_reason_and_payload,
    test_later_waits_for_its_time,
)
from sync_assets_tests.unit.ledger.test_stuck_children import (
    test_a_child_in_doubt_waits_for_its_new_parent_alone,
    test_a_request_that_campaign_refused_for_an_invalid_row_is_not_sent_again_by_itself,
)

pytestmark = pytest.mark.parametrize("ledgers", ["postgresql"], indirect=True)
