# SPDX-License-Identifier: MIT
"""What the cloud's OTA protocol asks of a device, line by line, and the tests that hold it.

The sentences are ours; the facts are the vendor's pages, its SDKs and their logs. A row whose test
is renamed or gone fails here, so that nothing of the protocol loses its proof unseen.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS: dict[str, list[str]] = {
    # --- topics ----------------------------------------------------------------------------------
    "the report topic is $ota/report/product/device, whatever braces the page lost": [
        "core/test_credentials.py::test_topics",
        "edge/test_mqtt.py::test_messages_flow_both_ways",
    ],
    "only $ota/update is subscribed, and nothing is said before its SUBACK": [
        "edge/test_mqtt.py::test_the_subscription_is_proven_before_connected",
        "edge/test_mqtt_logins.py::test_a_refused_subscription_is_no_link",
    ],
    "what comes on any other topic is nobody's": [
        "edge/test_mqtt_hostile.py::test_other_topics_are_nobodys",
    ],
    # --- report_version --------------------------------------------------------------------------
    "a version is 1 to 32 letters, digits, dots, dashes and underscores": [
        "core/test_messages.py::test_what_is_no_version_never_becomes_a_report",
        "agent/test_cloud.py::test_what_is_no_version_is_not_reported",
    ],
    "fw_type is reported if it is configured, else not": [
        "core/test_golden.py::test_what_we_say_is_what_the_file_says",
        "agent/test_cloud.py::test_a_version_is_reported_after_each_connect",
        "agent/test_reception.py::test_a_task_is_named_in_everything_that_is_said_of_it",
    ],
    "it is reported after each connect and after each session, for it is the pull": [
        "agent/test_cloud.py::test_a_version_is_reported_after_each_connect",
        "agent/test_cloud.py::test_a_version_is_reported_after_each_session",
        "agent/test_reception.py::test_an_offer_that_was_lost_is_made_again",
    ],
    "once a minute at most, and again after 10, 20, 40 s without an answer": [
        "agent/test_cloud.py::test_questions_are_put_once_a_minute_at_most",
        "agent/test_cloud.py::test_a_link_that_flaps_is_no_flood_of_versions",
        "agent/test_cloud.py::test_an_unanswered_version_is_repeated_with_growing_pauses",
    ],
    "a fresh URL comes by it": [
        "agent/test_installation.py::test_a_fresh_url_is_asked_for_and_taken",
    ],
    # --- report_version_rsp ----------------------------------------------------------------------
    "result_code is a number or a string": [
        "core/test_messages.py::test_a_version_response_has_a_code",
        "core/test_golden.py::test_what_the_cloud_says_is_understood",
    ],
    "a bad code is logged and retried with back-off, and wedges nothing": [
        "agent/test_cloud.py::test_a_version_that_is_refused_is_repeated_too",
        "agent/test_cloud.py::test_a_question_is_put_though_the_last_one_was_refused",
        "agent/test_cloud.py::test_a_refusal_that_comes_twice_or_unasked_is_one_line",
    ],
    "types that nobody knows are ignored": [
        "core/test_messages.py::test_unknown_types_are_ignored",
        "agent/test_reception.py::test_what_is_no_message_is_ignored",
    ],
    # --- update_firmware -------------------------------------------------------------------------
    "each field has its type and its limits; bool and float are none": [
        "core/test_messages.py::test_an_offer_out_of_its_limits_is_refused",
        "core/test_messages.py::test_the_limits_themselves_are_taken",
    ],
    "file_size may be digits in a string, and is above 0": [
        "core/test_messages.py::test_an_offer_is_read",
        "core/test_messages.py::test_every_offer_comes_through",
    ],
    "key order is not fixed, unknown keys are ignored, user_defined is not needed": [
        "core/test_messages.py::test_every_offer_comes_through",
        "core/test_golden.py::test_what_the_cloud_says_is_understood",
    ],
    "task_id and fw_type are echoed as they came, and only if they did": [
        "core/test_messages.py::test_every_report_names_its_offer_and_nothing_else",
        "core/test_golden.py::test_what_we_say_is_what_the_file_says",
    ],
    "the URL is used as it is and never shown": [
        "core/test_golden.py::test_what_the_cloud_says_is_understood",
        "core/test_model.py::test_a_url_is_never_shown",
        "core/test_ports.py::test_an_install_request_never_shows_its_source",
        "core/test_messages.py::test_arbitrary_messages_never_surprise",
        "cli/test_offers.py::test_the_running_agent_keeps_an_offer_and_begins_it_when_that_is_cleared",
    ],
    "it comes at QoS 0, is never stored, and can be lost": [
        "agent/test_reception.py::test_an_offer_that_was_lost_is_made_again",
    ],
    "it comes twice: the same identity changes nothing": [
        "agent/test_reception.py::test_the_same_offer_again_changes_nothing",
    ],
    "the same identity brings a fresh URL and a new task, and no byte is lost": [
        "agent/test_reception.py::test_the_same_offer_brings_its_new_task_and_url",
        "agent/test_installation.py::test_a_fresh_url_goes_on_where_the_refused_one_has_ended",
    ],
    "what is no UTF-8 JSON, too large, too deep or of wrong types is one line": [
        "core/test_messages.py::test_what_is_no_message_is_one_sentence",
        "core/test_messages.py::test_the_largest_payload_is_taken",
        "core/test_messages.py::test_any_depth_is_a_value_or_an_offer_error",
        "core/test_messages.py::test_a_key_twice_is_refused_where_it_could_be_meant",
        "core/test_messages.py::test_a_lone_surrogate_is_no_obstacle_and_no_value",
        "qemu/test_bad_offers.py::test_a_payload_that_is_no_json_is_one_line_in_the_log",
    ],
    # --- report_progress -------------------------------------------------------------------------
    "all its inner values are strings, percent stands with downloading alone": [
        "core/test_golden.py::test_what_we_say_is_what_the_file_says",
        "core/test_golden.py::test_all_inner_values_of_progress_are_strings",
        "core/test_golden.py::test_sizes_are_those_of_the_vendors_logs",
    ],
    "its version is the target's, that of report_version the running one": [
        "core/test_golden.py::test_what_we_say_is_what_the_file_says",
        "core/test_golden.py::test_all_inner_values_of_progress_are_strings",
        "agent/test_world.py::test_a_broken_law_is_noticed",
    ],
    "result_msg is short ASCII": [
        "core/test_messages.py::test_a_reason_is_short",
        "core/test_golden.py::test_what_we_say_is_what_the_file_says",
    ],
    "downloading: 0 and 100 always, between them once a second and on change": [
        "agent/test_installation.py::test_what_comes_in_no_time_is_told_from_0_to_100",
        "agent/test_cloud.py::test_progress_is_said_once_a_second_at_most",
        "agent/test_cloud.py::test_progress_is_said_on_change_only",
        "agent/test_cloud.py::test_a_download_of_an_instant_says_0_and_100",
        "agent/test_cloud.py::test_0_and_100_are_said_at_once",
    ],
    "downloading is QoS 0 and not queued: the latest is kept": [
        "agent/test_cloud.py::test_0_and_100_are_said_at_once",
        "agent/test_cloud.py::test_of_progress_without_a_link_the_latest_is_said",
    ],
    "burning is repeated, so that the cloud's task does not time out": [
        "agent/test_cloud.py::test_burning_is_repeated_each_minute_of_a_baseline",
        "agent/test_cloud.py::test_burning_is_repeated_each_minute_of_a_trial",
    ],
    "burning, done and fail are QoS 1 and owed until the PUBACK, across reboots": [
        "agent/test_outbox.py::test_what_must_arrive_is_in_the_journal_before_it_is_said",
        "agent/test_outbox.py::test_a_burning_is_said_until_its_puback",
        "agent/test_cloud.py::test_an_unacknowledged_report_survives_reboots",
        "edge/test_journal_rows.py::test_a_burning_is_owed_once_and_between_its_neighbours",
    ],
    "a refusal is owed too, once for each task": [
        "agent/test_outbox.py::test_a_refusal_is_said_until_its_puback",
        "agent/test_outbox.py::test_an_offer_is_refused_once_at_a_time",
    ],
    "they keep their order": [
        "agent/test_outbox.py::test_the_end_of_a_session_waits_for_its_burning",
        "agent/test_cloud.py::test_two_reports_are_told_one_after_the_other",
        "agent/test_outbox.py::test_the_puback_of_something_else_settles_nothing",
    ],
    "done comes after the new image boots and is healthy, before its version": [
        "agent/test_agent.py::test_a_good_image_is_installed_tried_and_kept",
        "agent/test_cloud.py::test_the_version_is_not_said_while_a_report_is_owed",
    ],
    "no version is reported in a trial": [
        "agent/test_world.py::test_a_version_in_a_trial_is_noticed",
    ],
    "404 is -2, 403 without a fresh URL is -3, a wrong digest -4 and nothing after it": [
        "agent/test_installation.py::test_a_missing_object_is_not_found",
        "agent/test_installation.py::test_without_a_fresh_url_it_is_forbidden",
        "qemu/test_bad_offers.py::test_a_bad_offer_fails_with_its_code_and_changes_nothing",
    ],
    "transport is -1, once the device's own retries are exhausted": [
        "agent/test_installation.py::test_an_exhausted_transport_is_final",
        "native/test_http_retries.py::test_what_may_pass_is_tried_again",
    ],
    "everything on this side is -5": [
        "agent/test_reception.py::test_an_image_larger_than_the_slot_is_refused_without_a_write",
        "agent/test_agent.py::test_a_bad_image_is_left_again",
        "agent/test_agent.py::test_a_storage_error_ends_the_install_before_any_activation",
    ],
    "one terminal report for one session": [
        "edge/test_journal.py::test_the_first_terminal_report_is_the_only_one",
        "agent/test_power_cuts.py::test_one_cut_changes_no_outcome",
        "agent/test_any_order.py::one_terminal_report_for_each_session",
    ],
    "nothing is reported as failed while the device is merely offline": [
        "agent/test_cloud.py::test_nothing_is_said_without_a_link",
    ],
    # --- offers ----------------------------------------------------------------------------------
    "the identity is version, md5sum and file_size; md5sum in any case": [
        "agent/test_installation.py::test_only_the_same_version_goes_on",
        "agent/test_reception.py::test_a_version_is_no_identity",
        "core/test_machine.py::test_offers_are_answered_by_what_is_going_on",
        "core/test_messages.py::test_an_offer_is_read",
        "agent/test_installation.py::test_another_firmware_takes_nothing_from_an_earlier_one",
    ],
    "versions are not ordered: a downgrade is an update": [
        "agent/test_agent.py::test_the_way_back_is_an_update_like_any_other",
    ],
    "another offer replaces what is not activated, and waits after that": [
        "agent/test_reception.py::test_another_offer_supersedes_what_is_not_activated",
        "core/test_machine.py::test_offers_are_answered_by_what_is_going_on",
        "agent/test_reception.py::test_an_offer_while_a_reboot_is_due_waits",
        "agent/test_reception.py::test_an_offer_in_a_trial_waits",
    ],
    "the running version is answered and not installed": [
        "agent/test_reception.py::test_the_running_version_is_answered_by_a_version_report",
        "core/test_machine.py::test_offers_are_answered_by_what_is_going_on",
    ],
    "no message cancels: who does it here stops, and fails with -5 and the reason": [
        "agent/test_cancelling.py::test_it_ends_whatever_goes_on",
        "cli/test_cancel_on_loop.py::test_it_ends_a_download",
    ],
    "a foreign fw_type is refused": [
        "agent/test_reception.py::test_a_foreign_kind_of_firmware_is_refused",
    ],
    "what failed may be offered again, and is not refused for good after one failure": [
        "agent/test_agent.py::test_what_failed_can_be_offered_again",
        "agent/test_retries.py::test_the_cloud_may_retry_and_is_answered_an_hour_later",
        "agent/test_retries.py::test_each_failure_doubles_the_pause_up_to_a_day",
        "agent/test_retries.py::test_after_three_failures_it_is_refused_without_a_download",
    ],
    "a rollback for the link alone counts only if the old slot connects": [
        "agent/test_retries.py::test_a_trial_without_a_link_counts_only_if_the_old_slot_connects",
    ],
    # --- the download ----------------------------------------------------------------------------
    "a Range ends where the object does, and 206 is checked": [
        "native/test_http_resume.py::test_what_is_the_rest_is_taken",
        "native/test_http_resume.py::test_what_is_not_the_rest_starts_over",
    ],
    "the MD5 covers all of the file, also what came before a resume": [
        "agent/test_installation.py::test_a_download_goes_on_after_a_cut",
        "native/test_http_resume.py::test_any_cuts_end_in_the_right_image",
    ],
    "a body that exceeds file_size ends the download": [
        "native/test_http_retries.py::test_more_than_was_announced_ends_at_once",
    ],
    "servers are verified, by the system's authorities": [
        "native/test_https.py::test_a_server_of_no_known_authority_is_not_trusted",
        "edge/test_mqtt_tls.py::test_without_a_ca_file_the_systems_cas_decide",
        "edge/test_mqtt_tls.py::test_a_broker_that_cannot_be_verified_gets_nothing",
    ],
    "plaintext is refused unless it is allowed": [
        "agent/test_reception.py::test_a_plaintext_url_is_refused_without_a_write",
    ],
    "the object is asked for as it is, without an encoding": [
        "native/test_hostile.py::test_the_request_asks_for_the_object_as_it_is",
    ],
    # --- the connection --------------------------------------------------------------------------
    "client id, user name and password are signed over, by the secret's decoded bytes": [
        "core/test_credentials.py::test_vectors",
        "core/test_credentials.py::test_a_bad_secret_is_a_sentence_without_it",
    ],
    "each connection has a connid of its own, and an expiry unless the clock was never set": [
        "edge/test_secret.py::test_a_signature_is_new_each_time",
        "edge/test_secret.py::test_a_clock_that_was_never_set_signs_without_expiry",
        "edge/test_secret.py::test_no_signature_outlives_the_clouds_time",
    ],
    "the session is clean, without a will; with a certificate or a PSK without a password": [
        "edge/test_mqtt.py::test_connect_says_what_each_login_needs",
        "edge/test_secret.py::test_a_certificate_needs_no_secret_and_a_psk_is_one",
    ],
    "one topic for each SUBSCRIBE, at QoS 1; nothing is retained": [
        "edge/test_mqtt.py::test_the_subscription_is_proven_before_connected",
        "edge/test_mqtt.py::test_what_we_say_postpones_no_ping",
        "edge/test_mqtt.py::test_a_report_that_is_never_acknowledged_ends_the_connection",
    ],
    "the PSK is the decoded secret, for the client id, over TLS 1.2": [
        "edge/test_mqtt_psk.py::test_the_context_is_wired_as_the_cloud_asks",
        "edge/test_mqtt_psk.py::test_the_secret_is_the_key",
    ],
    "a keep-alive of silence is a ping, half as much more is the end": [
        "edge/test_mqtt.py::test_an_idle_link_pings",
        "edge/test_mqtt.py::test_what_we_say_postpones_no_ping",
        "edge/test_mqtt.py::test_a_silent_broker_is_noticed",
    ],
    "a report whose PUBACK is lost is sent again in a new connection": [
        "edge/test_mqtt.py::test_a_report_that_is_never_acknowledged_ends_the_connection",
        "edge/test_mqtt.py::test_a_report_that_is_acknowledged_is_waited_for_no_more",
    ],
    "one connect in 5 s, then ever less often, up to 2 min": [
        "core/test_backoff.py::test_pauses_double_from_the_floor_to_the_limit",
        "edge/test_mqtt.py::test_attempts_are_spread_and_grow_rarer",
    ],
    "a second device with this client id is recognised": [
        "edge/test_mqtt_logins.py::test_two_devices_with_one_client_id_are_told_and_do_not_fight_for_ever",
    ],
    "each CONNACK that refuses is told in words, a clock that may be wrong among them": [
        "edge/test_mqtt_hostile.py::test_each_refusal_has_its_sentence",
        "edge/test_mqtt_hostile.py::test_a_login_that_the_clock_may_have_spoilt_is_tried_again_once_it_is_set",
        "edge/test_mqtt_tls.py::test_a_clock_that_is_wrong_is_tried_again_once_it_is_set",
    ],
    "the names of product and device are one level of a topic each": [
        "core/test_config.py::test_mistakes_are_named",
    ],
    # --- registration ----------------------------------------------------------------------------
    "the request is signed over its exact bytes, with the product secret's text": [
        "core/test_registration.py::test_the_vendor_s_signature",
        "core/test_registration.py::test_the_request_goes_out_byte_for_byte",
        "edge/test_registration_post.py::test_the_request_arrives_as_it_was_signed",
    ],
    "the answer is decrypted by the secret's first 16 characters, cut to its length": [
        "edge/test_aes.py::test_the_vendor_s_answer",
        "core/test_registration.py::test_the_key_is_the_product_secret_s_beginning",
        "core/test_registration.py::test_a_length_cuts_off_what_is_no_zero",
    ],
    "1021, 1010 and a wrong clock are told with what to do": [
        "core/test_registration.py::test_a_device_that_is_registered_already_says_how_it_gets_in",
        "core/test_registration.py::test_a_wrong_signature_says_what_to_compare",
        "core/test_registration.py::test_a_wrong_clock_says_what_it_shows",
    ],
    "the secret is stored durably before its first use, whatever is cut": [
        "edge/test_secretfile.py::test_a_power_cut_leaves_the_secret_whole_or_absent",
        "agent/test_registering.py::test_a_device_without_one_registers_first",
        "agent/test_registrar.py::test_a_secret_that_cannot_be_stored_is_not_lost",
    ],
}  # fmt: skip


def functions(path: Path) -> set[str]:
    """Return the names of all functions of a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS)
def test_each_line_has_a_test(row: str) -> None:
    """It exists under the name that stands here."""
    assert ROWS[row]
    for named in ROWS[row]:
        file, _, name = named.partition("::")
        assert name in functions(TESTS / file), named
