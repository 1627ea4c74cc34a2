"""The attacks on secrets, approvals, what is stored and mitmweb, by their ids; the others are in `cases.py`.

Most of them are shown where the part that must hold has its own tests, with real stores, processes and files.
"""

from typing import NamedTuple


class Case(NamedTuple):
    """What is sent or done, and what must come of it."""

    sent: str
    required: str


CASES: dict[str, Case] = {
    "MASK-01": Case("the secret in an answer", "starred, the rest stays"),
    "MASK-02": Case("the secret split at every place, over chunks and packets", "starred"),
    "MASK-04": Case("the secret encoded in every common way", "starred; reversed is a documented limit"),
    "MASK-05": Case("the secret as the password of a Basic pair", "starred"),
    "MASK-07": Case("the secret in trailers", "dropped"),
    "MASK-08": Case("the secret in error pages and stack traces", "starred"),
    "MASK-10": Case("the secret in the second member of a compressed answer", "502"),
    "MASK-11": Case("a redirect with the secret in it", "starred, not followed"),
    "MASK-13": Case(
        "a placeholder in every place of a request", "swapped where it is bound; refused or text elsewhere"
    ),
    "MASK-14": Case("a placeholder sent to another server", "refused"),
    "MASK-16": Case("a placeholder twice, nested, in another case, encoded", "the exact bytes, in one pass"),
    "MASK-17": Case("a secret that holds a placeholder, metacharacters, line ends", "put in as it is; not stored"),
    "MASK-19": Case("a secret that begins another", "no remainder"),
    "MASK-20": Case("a swap that changes the body's length; a signed body", "the length follows; refused"),
    "MASK-22": Case("a masked field that is missing or of another type", "masked whole, never passed over"),
    "MASK-23": Case("the same data in structured content and in text", "both masked"),
    "MASK-25": Case("the recording of a flow, also of one cut off", "holds no secret"),
    "MASK-26": Case("logs, mitmweb's API and errors while a request is in flight", "hold no secret"),
    "MASK-28": Case("ten megabytes and a hundred secrets", "linear time"),
    "APPR-01": Case("a held call approved as it was shown", "sent, exactly that"),
    "APPR-02": Case("a held call edited in mitmweb, then resumed", "not sent; approved is neither"),
    "APPR-04": Case("an approval given twice, by two at once", "sent once; the second is told"),
    "APPR-05": Case("an approval and a denial at once", "the first durable one counts, both are recorded"),
    "APPR-07": Case("a flow loaded into mitmweb that says it is approved", "refused, nothing sent"),
    "APPR-08": Case("a second call on one approval", "asked anew"),
    "APPR-10": Case("a vote of somebody who is no reviewer of the rule", "does not count"),
    "APPR-11": Case("arguments that a terminal would act on, and long ones", "shown escaped and cut"),
    "APPR-13": Case("a second request while one is held", "policed on its own"),
    "APPR-14": Case("the same call again while it is held", "joins; never twice for one approval"),
    "APPR-16": Case("a held flow deleted in mitmweb", "answered, not sent; mass deletion is locked"),
    "APPR-17": Case("everything resumed at once in mitmweb", "locked, nothing released"),
    "APPR-19": Case("SIGTERM with held calls", "answered, nothing sent"),
    "APPR-20": Case("SIGKILL between a decision and the sending", "never sent by itself, never twice"),
    "APPR-22": Case("policy, identity or secret changed while a call is held", "decided again at release"),
    "APPR-23": Case("the caller's token ends while its call is held", "401 at release"),
    "APPR-25": Case("the clock set back while a call is held", "waits no longer; a verdict from the future is none"),
    "APPR-26": Case("one held call more than a caller may have", "429"),
    "STOR-01": Case("the vault's database cut at any length", "refused, left as it is"),
    "STOR-02": Case("any bit of a stored secret flipped", "refused"),
    "STOR-04": Case("the whole vault put back to an older copy", "documented limit"),
    "STOR-05": Case("a wrong key, none, or one that others can read", "refused"),
    "STOR-07": Case("state of a newer format", "refused, never rewritten"),
    "STOR-08": Case("SIGKILL in the middle of writing", "the old or the new, never a mix"),
    "STOR-10": Case("two processes that write at once", "nothing is lost; a second journal writer is refused"),
    "STOR-11": Case("any umask, links, another owner, open to others", "private, or refused"),
    "STOR-13": Case("a journal that cannot be written before a request", "503, nothing sent"),
    "STOR-14": Case("a journal that fails before the answer's record", "502, no answer; written when it can be"),
    "STOR-16": Case("one of two sinks fails", "there is one journal, and no service without it"),
    "STOR-17": Case("a journal line edited, removed, moved, added; the end cut", "verify names the first bad line"),
    "STOR-19": Case("a journal rotated by renaming, or copied and cut", "the chain goes on; verify tells"),
    "STOR-20": Case("line ends, NUL, a megabyte, no UTF-8 in a recorded field", "one line of valid JSON, cut"),
    "STOR-22": Case("a full disk under a recording", "the call goes on; the journal says what is lost"),
    "STOR-23": Case("a crafted recording", "refused in bounded memory, hides no other"),
    "STOR-25": Case("the clock set back between records", "numbers go on, verify flags it"),
    "STOR-26": Case("no certificate authority, or another than clients were given", "refuses to start, makes none"),
    "CONS-01": Case("mitmweb without its password, or with a wrong one", "403"),
    "CONS-02": Case("mitmweb under another name, with the password", "403"),
    "CONS-04": Case("mitmweb's updates from a page elsewhere, or without the password", "403"),
    "CONS-05": Case("the password in the start-up log", "in a private file only"),
    "CONS-07": Case("secrets in what mitmweb shows", "placeholders only"),
    "CONS-08": Case("commands, options, replay, dumps through mitmweb", "403"),
    "CONS-10": Case("an approval by another account of this machine", "refused by the state's permissions"),
}

_CANARY = "tests/canary/test_cases.py::test_mask_"

SHOWN_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "MASK-01": (f"{_CANARY}01_an_echoed_secret_is_masked_and_the_rest_stays",),
    "MASK-02": (
        f"{_CANARY}02_a_secret_split_at_every_offset_is_masked",
        "tests/canary/test_wire.py::test_no_form_of_the_secret_passes_at_any_split",
    ),
    "MASK-04": (
        f"{_CANARY}04_a_secret_is_masked_in_each_encoding",
        f"{_CANARY}04_reversed_is_a_limit_that_is_documented",
    ),
    "MASK-05": (f"{_CANARY}05_a_basic_pair_is_masked",),
    "MASK-07": (f"{_CANARY}07_a_secret_in_trailers_does_not_pass",),
    "MASK-08": (f"{_CANARY}08_error_pages_and_stack_traces_are_scrubbed",),
    "MASK-10": ("tests/canary/test_encoded.py::test_what_cannot_be_read_is_refused",),
    "MASK-11": (f"{_CANARY}11_a_location_is_scrubbed_and_not_followed",),
    "MASK-13": (
        f"{_CANARY}13_a_placeholder_in_the_head_is_swapped_where_it_is_bound_and_refused_elsewhere",
        f"{_CANARY}13_a_placeholder_in_a_body_is_swapped_where_it_is_bound_and_text_elsewhere",
    ),
    "MASK-14": (f"{_CANARY}14_a_placeholder_sent_to_another_host_is_refused",),
    "MASK-16": (f"{_CANARY}16_only_the_exact_placeholder_is_swapped_once",),
    "MASK-17": (
        f"{_CANARY}17_a_value_is_put_in_literally",
        f"{_CANARY}17_a_value_with_line_ends_is_not_stored_for_a_header",
    ),
    "MASK-19": (f"{_CANARY}19_a_secret_that_begins_another_leaves_no_remainder",),
    "MASK-20": (f"{_CANARY}20_the_length_follows_the_body_and_a_signed_body_is_refused",),
    "MASK-22": (
        "tests/masking/test_masker.py::test_a_value_of_another_kind_than_the_path_expects_is_masked_whole",
        "tests/masking/test_masker.py::test_a_path_leads_to_its_field_and_no_other",
    ),
    "MASK-23": ("tests/masking/test_masker.py::test_a_field_path_masks_structured_content_and_its_copy_in_text",),
    "MASK-25": (
        "tests/canary/test_canary.py::test_no_client_gets_it_and_nothing_keeps_it",
        "tests/canary/test_canary.py::test_mask_25_an_answer_cut_off_by_the_end_of_the_gateway_leaves_nothing",
    ),
    "MASK-26": (
        "tests/canary/test_canary.py::test_mask_26_the_log_of_every_byte_is_refused_or_shows_none_of_it",
        "tests/canary/test_canary.py::test_mitmweb_shows_none_of_it_while_half_of_it_has_come",
    ),
    "MASK-28": (f"{_CANARY}28_ten_megabytes_and_a_hundred_secrets_take_linear_time",),
    "APPR-01": ("tests/e2e/test_way.py::test_a_held_call_is_decided_by_a_reviewer_and_executed_at_most_once",),
    "APPR-02": (
        "tests/proxy/test_hold.py::test_a_request_that_was_edited_while_it_waited_is_not_sent",
        "tests/proxy/test_hold.py::test_resuming_an_edited_call_in_mitmweb_approves_neither_it_nor_the_call_as_it_was",
    ),
    "APPR-04": (
        "tests/control/test_server.py::test_a_second_vote_is_a_conflict",
        "tests/approvals/test_store.py::test_a_race_to_use_has_one_winner",
    ),
    "APPR-05": (
        "tests/approvals/test_store.py::test_a_race_of_verdicts_is_decided_once",
        "tests/approvals/test_store.py::test_no_vote_is_lost_in_a_race",
    ),
    "APPR-08": (
        "tests/e2e/test_signals.py::test_a_pending_approval_survives_a_restart_and_permits_the_same_call_once",
    ),
    "APPR-10": (
        "tests/approvals/test_reviewers.py::test_only_a_reviewer_of_the_question_and_the_policy_may_decide",
        "tests/control/test_server.py::test_an_approval_of_other_reviewers_or_of_none_is_not_told_apart",
        "tests/approvals/test_approvals_command.py::test_a_reviewer_of_other_calls_may_not_decide_this_one",
    ),
    "APPR-11": ("tests/approvals/test_store.py::test_long_arguments_and_reasons_are_cut_and_say_so",),
    "APPR-14": (
        "tests/proxy/test_hold.py::test_of_two_that_wait_for_one_answer_one_is_sent",
        "tests/approvals/test_store.py::test_a_race_of_the_same_call_asks_once",
    ),
    "APPR-19": (
        "tests/e2e/test_signals.py::test_sigterm_answers_a_held_call_and_sends_nothing",
        "tests/e2e/test_signals.py::test_a_pending_approval_survives_a_restart_and_permits_the_same_call_once",
    ),
    "APPR-20": (
        "tests/e2e/test_kill_points.py::test_a_gateway_killed_there_never_lets_a_call_run_twice_or_unrecorded",
    ),
    "APPR-22": (
        "tests/e2e/test_reload.py::test_a_held_call_is_decided_again_by_the_policy_of_the_moment_it_is_approved",
        "tests/proxy/test_hold.py::test_an_approval_under_another_policy_does_not_count",
    ),
    "APPR-23": ("tests/proxy/test_hold.py::test_a_caller_whose_token_ended_meanwhile_is_refused",),
    "APPR-25": (
        "tests/approvals/test_store.py::test_an_approval_is_used_only_in_time",
        "tests/proxy/test_hold.py::test_the_time_for_holding_clients_ends_with_a_pending_answer",
    ),
    "STOR-01": ("tests/vault/test_store.py::test_a_database_cut_anywhere_is_refused_and_left_alone",),
    "STOR-02": (
        "tests/vault/test_store.py::test_every_flipped_bit_is_noticed",
        "tests/vault/test_store.py::test_the_rows_of_two_secrets_cannot_be_exchanged",
    ),
    "STOR-05": (
        "tests/vault/test_store.py::test_no_vault_a_wrong_key_and_the_right_key_are_told_apart",
        "tests/vault/test_keys.py::test_a_key_file_others_can_read_is_refused",
        "tests/vault/test_keys.py::test_anything_else_is_refused_without_showing_it",
    ),
    "STOR-07": ("tests/vault/test_store.py::test_a_changed_vault_row_is_refused",),
    "STOR-08": (
        "tests/journal/test_writer.py::test_a_kill_amid_writing_loses_nothing_that_was_acknowledged",
        "tests/e2e/test_kill_points.py::test_a_gateway_killed_there_never_lets_a_call_run_twice_or_unrecorded",
    ),
    "STOR-10": (
        "tests/vault/test_store.py::test_two_processes_writing_at_once_lose_nothing",
        "tests/journal/test_writer.py::test_a_second_writer_is_refused_until_the_first_has_closed",
    ),
    "STOR-11": (
        "tests/test_state.py::test_what_is_made_is_open_to_its_user_alone_whatever_the_umask",
        "tests/test_state.py::test_a_directory_open_to_others_is_refused_and_left_as_it_is",
        "tests/test_state.py::test_a_database_that_is_a_link_is_refused",
        "tests/test_state.py::test_a_directory_of_another_user_is_refused",
    ),
    "STOR-13": (
        "tests/e2e/test_journal_first.py::test_a_journal_that_cannot_be_written_lets_nothing_leave",
        "tests/journal/test_tape.py::test_a_full_disk_raises_and_leaves_no_trace",
        "tests/journal/test_tape.py::test_a_disk_that_fails_to_sync_raises_and_the_batch_is_taken_back",
    ),
    "STOR-14": ("tests/journal/test_writer.py::test_what_nobody_waits_for_is_kept_and_written_when_it_can_be",),
    "STOR-16": ("tests/e2e/test_journal_first.py::test_a_journal_that_cannot_be_written_lets_nothing_leave",),
    "STOR-17": (
        "tests/journal/test_verify.py::test_the_first_bad_line_is_named",
        "tests/journal/test_verify.py::test_no_byte_of_a_journal_can_change_unseen",
        "tests/journal/test_verify.py::test_a_cut_end_is_shown_by_the_checkpoint_alone",
    ),
    "STOR-19": (
        "tests/journal/test_tape.py::test_a_renamed_file_is_followed_by_a_new_one",
        "tests/journal/test_tape.py::test_a_file_copied_and_truncated_is_told_by_the_next_and_by_verify",
    ),
    "STOR-20": (
        "tests/journal/test_encoding.py::test_any_value_gives_one_line_of_valid_json",
        "tests/journal/test_encoding.py::test_a_long_string_is_cut_and_its_digest_appended",
    ),
    "STOR-22": ("tests/sessions/test_writer.py::test_a_full_disk_loses_whole_lines_counts_them_and_raises_nothing",),
    "STOR-23": (
        "tests/sessions/test_read.py::test_a_crafted_file_is_refused_and_does_not_hide_the_others",
        "tests/sessions/test_read.py::test_a_line_without_an_end_is_refused_before_it_is_held",
        "tests/sessions/test_lines.py::test_hostile_json_is_refused",
    ),
    "STOR-25": (
        "tests/journal/test_tape.py::test_a_clock_set_back_keeps_the_file_and_the_count",
        "tests/journal/test_verify.py::test_a_clock_set_back_is_flagged_and_a_small_step_is_not",
    ),
    "STOR-26": ("tests/proxy/test_authority.py::test_anything_else_is_refused_and_nothing_is_made_in_its_place",),
    "CONS-08": ("tests/e2e/test_console.py::test_what_steers_the_gateway_is_locked",),
}

NOT_APPLICABLE: dict[str, str] = {
    "STOR-04": "an old copy of the whole state cannot be told without a witness elsewhere; SECURITY.md says so",
    "STOR-16": "there is one journal; without it nothing is sent",
    "CONS-10": "there is no socket: a reviewer of this machine is one who can read the state, which is 0700",
}
