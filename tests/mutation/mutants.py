"""Guards of the exactly-once engine, each broken in one way, and the test that has to fail then."""

from typing import NamedTuple

_APPLY = "audience_core/redis/apply.lua"
_MEMBERS = "audience_core/domain/members.py"
_SUBSCRIPTIONS = "audience_core/domain/subscriptions.py"
_TOTALS = "audience_indexer/totals.py"
_SCRIPT_TESTS = "tests/core/test_apply_script.py::test_"
_SUBSCRIPTION_TESTS = "tests/core/test_subscriptions.py::test_"
_TOTALS_TESTS = "tests/indexer/test_totals.py::test_"


class Mutant(NamedTuple):
    """`found` stands in `file` once and is replaced by `broken`; then `test` must fail."""

    guard: str
    file: str
    found: str
    broken: str
    test: str


MUTANTS = (
    Mutant(
        "topic id",
        _APPLY,
        "if stored[1] and stored[1] ~= ARGV[1] then",
        "if false then",
        _SCRIPT_TESTS + "a_batch_of_a_recreated_topic_is_refused_and_changes_nothing",
    ),
    Mutant(
        "fence",
        _APPLY,
        "if (stored[2] or '') ~= ARGV[2] then",
        "if false then",
        _SCRIPT_TESTS + "the_fence_refuses_any_other_offset_and_changes_nothing",
    ),
    Mutant(
        "fence: Redis is ahead",
        _APPLY,
        "if (stored[2] or '') ~= ARGV[2] then",
        "if tonumber(stored[2] or 0) < (tonumber(ARGV[2]) or 0) then",
        _SCRIPT_TESTS + "a_batch_that_is_sent_again_after_its_success_is_fenced",
    ),
    Mutant(
        "fence: Redis went back",
        _APPLY,
        "if (stored[2] or '') ~= ARGV[2] then",
        "if tonumber(stored[2] or 0) > (tonumber(ARGV[2]) or 0) then",
        _SCRIPT_TESTS + "a_server_that_went_back_to_a_snapshot_ends_in_the_same_state",
    ),
    Mutant(
        "fence: Redis is empty",
        _APPLY,
        "if (stored[2] or '') ~= ARGV[2] then",
        "if stored[2] and stored[2] ~= ARGV[2] then",
        _SCRIPT_TESTS + "the_fence_refuses_a_worker_that_believes_in_an_offset_which_redis_lost",
    ),
    Mutant(
        "offset stored",
        _APPLY,
        "'offset', ARGV[3])",
        "'offset', ARGV[2])",
        _SCRIPT_TESTS + "an_empty_batch_moves_only_the_offset",
    ),
    Mutant(
        "newest wins",
        _APPLY,
        "return (time < 0 and -time or time) < (last < 0 and -last or last)",
        "return false",
        _SCRIPT_TESTS + "an_older_change_is_stale_whatever_the_order_of_arrival",
    ),
    Mutant(
        "equal times",
        _APPLY,
        "and -time or time) < (last",
        "and -time or time) <= (last",
        _SCRIPT_TESTS + "of_two_changes_at_one_time_the_later_in_the_log_wins",
    ),
    Mutant(
        "newest wins: guard set",
        _APPLY,
        "guard_with(guards, aged, received_at, ARGV[first], signed)",
        "",
        _SCRIPT_TESTS + "an_older_change_is_stale_whatever_the_order_of_arrival",
    ),
    Mutant(
        "set really changed",
        _APPLY,
        "members, member) == 0",
        "members, member) < 0",
        _SCRIPT_TESTS + "a_change_that_changes_no_set_moves_no_count",
    ),
    Mutant(
        "window expiry",
        _APPLY,
        "age > window + grain",
        "false",
        _SCRIPT_TESTS + "an_older_change_after_the_ordering_window_is_taken_again",
    ),
    Mutant(
        "window expiry: its last millisecond",
        _APPLY,
        "age > window + grain",
        "age >= window + grain",
        _SCRIPT_TESTS + "an_older_change_after_the_ordering_window_is_taken_again",
    ),
    Mutant(
        "window expiry: newest receipt",
        _APPLY,
        "aged = age > grain",
        "aged = true",
        _SCRIPT_TESTS + "a_receipt_is_kept_also_when_it_is_0",
    ),
    Mutant(
        "suppression",
        _APPLY,
        "if aged and received_at - newest_erasure <= suppression and is_suppressed(mpid, received_at) then",
        "if false then",
        _SCRIPT_TESTS + "an_erased_visitor_stays_erased_within_the_suppression_and_comes_back_after",
    ),
    Mutant(
        "suppression: its last millisecond",
        _APPLY,
        "received_at - erased_at <= suppression",
        "received_at - erased_at < suppression",
        _SCRIPT_TESTS + "an_erased_visitor_stays_erased_within_the_suppression_and_comes_back_after",
    ),
    Mutant(
        "suppression: its end",
        _APPLY,
        "received_at - erased_at <= suppression",
        "true",
        _SCRIPT_TESTS + "an_erased_visitor_comes_back_though_another_one_was_erased_since",
    ),
    Mutant(
        "suppression: looked for to its last millisecond",
        _APPLY,
        "received_at - newest_erasure <= suppression",
        "received_at - newest_erasure < suppression",
        _SCRIPT_TESTS + "an_erased_visitor_stays_erased_within_the_suppression_and_comes_back_after",
    ),
    Mutant(
        "suppression: looked for after an erasure by MPID",
        _APPLY,
        "      note_erasure(ARGV[i + 2])\n",
        "",
        _SCRIPT_TESTS + "an_erased_visitor_stays_erased_within_the_suppression_and_comes_back_after",
    ),
    Mutant(
        "erasure: counts",
        _APPLY,
        "ipairs(was_in) do\n    deltas[member] = (deltas[member] or 0) - 1",
        "ipairs(was_in) do",
        _SCRIPT_TESTS + "an_erased_visitor_stays_erased_within_the_suppression_and_comes_back_after",
    ),
    Mutant(
        "erasure: identities",
        _APPLY,
        "call('SREM', visitors_of .. identity, mpid)",
        "",
        _SCRIPT_TESTS + "an_erasure_by_identity_finds_every_visitor_who_came_with_it_and_nobody_else",
    ),
    Mutant(
        "epoch: in the member",
        _MEMBERS,
        'return str(audience_id) if epoch == 0 else f"{audience_id}@{epoch}"',
        "return str(audience_id)",
        _SCRIPT_TESTS + "members_of_different_epochs_are_counted_apart",
    ),
    Mutant(
        "epoch: first one bare",
        _MEMBERS,
        'return str(audience_id) if epoch == 0 else f"{audience_id}@{epoch}"',
        'return f"{audience_id}@{epoch}"',
        _SCRIPT_TESTS + "a_set_of_first_epoch_audiences_is_stored_as_an_intset",
    ),
    Mutant(
        "epoch: the echo decides",
        _SUBSCRIPTIONS,
        "if echoed is not None:",
        "if False:",
        _SUBSCRIPTION_TESTS + "an_echoed_epoch_is_taken_as_it_is",
    ),
    Mutant(
        "epoch: removed audiences",
        _SUBSCRIPTIONS,
        'if current["status"] == "REMOVED":',
        "if False:",
        _SUBSCRIPTION_TESTS + "a_change_of_a_removed_audience_belongs_to_nothing",
    ),
    Mutant(
        "epoch: changes from before it",
        _SUBSCRIPTIONS,
        'if current["epoch"] > 0 and occurred_at < current["opened_at"]:',
        "if False:",
        _SUBSCRIPTION_TESTS + "a_change_from_before_the_present_epoch_belongs_to_nothing",
    ),
    Mutant(
        "epoch: a remove opens one",
        _SUBSCRIPTIONS,
        "epoch=epoch + 1 if was_active else epoch",
        "epoch=epoch",
        _SUBSCRIPTION_TESTS + "a_remove_opens_a_new_epoch_and_a_second_one_does_not",
    ),
    Mutant(
        "epoch: a second remove does not",
        _SUBSCRIPTIONS,
        "epoch=epoch + 1 if was_active else epoch",
        "epoch=epoch + 1",
        _SUBSCRIPTION_TESTS + "a_remove_opens_a_new_epoch_and_a_second_one_does_not",
    ),
    Mutant(
        "epoch: late messages",
        _SUBSCRIPTIONS,
        'if current is not None and occurred_at < current["updated_at"]:',
        "if False:",
        _SUBSCRIPTION_TESTS + "a_remove_of_an_unknown_audience_keeps_a_late_add_from_reviving_it",
    ),
    Mutant(
        "epoch: never opened twice",
        "audience_core/redis/catalog.py",
        "newer(met[audience_id], state) if audience_id in met else state",
        "state",
        "tests/core/test_catalog.py::test_an_epoch_is_never_opened_twice_though_redis_was_set_back",
    ),
    Mutant(
        "listing: present epoch alone",
        _TOTALS,
        'if epoch == state["epoch"]',
        "if True",
        _TOTALS_TESTS + "members_of_former_epochs_are_counted_for_nobody",
    ),
    Mutant(
        "listing: removed audiences",
        _TOTALS,
        'if state is None or state["status"] == "REMOVED":',
        "if state is None:",
        _TOTALS_TESTS + "an_audience_that_is_removed_or_was_never_subscribed_has_no_members",
    ),
    Mutant(
        "listing: late counts",
        _TOTALS,
        'by_shard[key][0] <= record["offset"]',
        "True",
        _TOTALS_TESTS + "a_count_of_an_earlier_offset_comes_from_a_worker_that_lost_the_shard",
    ),
    Mutant(
        "listing: Redis went back",
        "audience_indexer/listing.py",
        "self._whole = self._whole and found == expected",
        "",
        "tests/indexer/test_listing.py::test_a_redis_that_went_back_is_noticed_also_when_much_was_written_since",
    ),
    Mutant(
        "listing: marks never come twice",
        "audience_indexer/listing.py",
        "str(secrets.randbits(_MARK_BITS))",
        "str(int(self._mark or 0) + 1)",
        "tests/indexer/test_listing.py"
        "::test_a_backup_from_before_redis_was_emptied_is_noticed_though_as_much_was_written_since",
    ),
    Mutant(
        "listing: written behind the mark and lost",
        "audience_indexer/indexer.py",
        "self._listing.went_back() or self._lost_a_write()",
        "self._listing.went_back()",
        "tests/indexer/test_lost_writes.py::test_a_write_that_is_lost_though_the_mark_is_right_is_made_again",
    ),
    Mutant(
        "receipts: of an answer that got lost",
        "membership_worker/publishing.py",
        "self.publish()\n        self._patiently(partial(self._receipts.publish, number))",
        "self.publish()",
        "tests/membership_worker/test_lost_answers.py::test_the_receipt_of_an_erasure_does_not_wait_for_the_next_batch",
    ),
    Mutant(
        "pause ends with the assignment",
        "membership_worker/shards.py",
        "            consumer.resume(former)",
        "            pass",
        "tests/simulation/test_simulation.py::test_no_interleaving_of_services_and_faults_loses_invents_or_drifts",
    ),
    Mutant(
        "rebalance: what is kept is fetched anew",
        "membership_worker/worker.py",
        "if self._shards.rebalanced:",
        "if False:",
        "tests/membership_worker/test_rebalances.py::test_a_shard_that_is_kept_through_it_is_read_on",
    ),
    Mutant(
        "hole: never backwards",
        "membership_worker/shard.py",
        "self.position < offset == self.hole",
        "offset == self.hole",
        "tests/core/test_reading_on.py::test_a_hole_is_believed_once_and_never_backwards",
    ),
    Mutant(
        "missing record: elections that lie apart",
        "membership_worker/shard.py",
        " or now - self.outside_at > _OUTSIDE_PAUSE_S",
        "",
        "tests/core/test_reading_on.py::test_two_elections_that_lie_apart_are_no_missing_record",
    ),
    Mutant(
        "fatal: an idle worker ends",
        "membership_worker/fetch_failures.py",
        "if error.code() == _FATAL:",
        "if False:",
        "tests/membership_worker/test_refused_by_kafka.py::test_an_error_that_the_client_calls_fatal_ends_the_worker",
    ),
    Mutant(
        "epoch: the topic is not asked",
        "ingest_gateway/subscriptions.py",
        "            self._store.meet(state)",
        "            pass",
        "tests/gateway/test_published.py"
        "::test_a_gateway_that_starts_on_a_redis_of_before_opens_a_new_epoch_all_the_same",
    ),
    Mutant(
        "epoch: the topic may be unread",
        "ingest_gateway/subscriptions.py",
        "            if not self._spools:",
        "            if False:",
        "tests/gateway/test_published.py"
        "::test_without_kafka_a_message_waits_no_longer_than_the_bound_and_is_to_be_sent_again",
    ),
    Mutant(
        "epoch: the topic is read to its end",
        "ingest_gateway/published.py",
        "reading = message.error(), readings.get(message.partition() or 0)",
        "reading = message.error(), next(iter(readings.values()), None)",
        "tests/gateway/test_reading_partitions.py::test_a_partition_is_read_to_its_own_end",
    ),
    Mutant(
        "epoch: the topic is read anew for each",
        "ingest_gateway/published.py",
        "self._asked.append(question)\n            else:",
        "readings[question.partition].asked.append(question)\n            else:",
        "tests/gateway/test_reading_partitions.py"
        "::test_who_asks_while_a_partition_is_read_is_answered_by_its_next_reading",
    ),
    Mutant(
        "epoch: a spooled record is renewed by the topic",
        "ingest_gateway/subscriptions.py",
        '        await self._meet_published(state["account"], state["audience_id"], patient=True)\n',
        "",
        "tests/gateway/test_published.py::test_a_spooled_record_is_renewed_by_what_the_topic_says",
    ),
    Mutant(
        "epoch: the newest state is the last",
        "audience_indexer/last_states.py",
        "            self._hidden[key] = (newest, 0.0)",
        "            pass",
        "tests/indexer/test_last_states.py::test_a_state_that_came_behind_a_newer_one_by_this_very_repair_is_repaired",
    ),
    Mutant(
        "epoch: equal states do not outdo each other",
        "audience_indexer/last_states.py",
        "if newer(last, newest) == last:",
        "if newest == last:",
        "tests/indexer/test_last_states.py"
        "::test_of_two_states_of_one_time_none_is_older_so_two_indexers_do_not_outdo_each_other",
    ),
    Mutant(
        "topics: created once another broker says so",
        "audience_core/kafka/admin.py",
        "created |= self._create_missing()",
        "created |= set() if attempt.retry_state.attempt_number > 1 else self._create_missing()",
        "tests/core/test_topic_admin.py::test_topics_that_a_broker_still_shows_though_they_were_deleted_are_created",
    ),
    Mutant(
        "no leader: an offset that is none",
        "audience_core/kafka/admin.py",
        "if offset >= 0:",
        "if True:",
        "tests/core/test_topic_admin.py::test_a_leader_that_does_not_answer_hides_its_own_partitions_alone",
    ),
    Mutant(
        "no leader: looked for",
        "audience_core/kafka/admin.py",
        "        self._look_for_leaders(topic)\n",
        "",
        "tests/core/test_topic_admin.py::test_leaders_are_looked_for_before_each_question",
    ),
    Mutant(
        "stop: the group is left before the consumer closes",
        "membership_worker/shards.py",
        "            self._consumer.unsubscribe()",
        "            return",
        "tests/membership_worker/test_leaving.py::test_all_shards_are_given_back_before_the_consumer_closes",
    ),
    Mutant(
        "no leader: read all the same",
        "membership_worker/shards.py",
        "            starts = {}\n",
        "            raise\n",
        "tests/membership_worker/test_no_leader.py::test_shards_are_read_though_nobody_tells_where_their_logs_begin",
    ),
    Mutant(
        "no leader: asked for once",
        "membership_worker/shards.py",
        "if time.monotonic() < self._ask_starts_at:",
        "if False:",
        "tests/membership_worker/test_no_leader.py::test_a_broker_that_does_not_answer_is_not_asked_for_each_shard",
    ),
    Mutant(
        "no leader: hides no other shard",
        "membership_worker/progress.py",
        "ends.get(shard, 0)",
        "ends[shard]",
        "tests/membership_worker/test_progress.py"
        "::test_a_shard_without_a_leader_is_no_reason_to_restart_and_hides_no_other_one",
    ),
    Mutant(
        "no leader: nothing is refused",
        "membership_worker/shards.py",
        "if not told or again",
        "if again",
        "tests/membership_worker/test_no_leader.py::test_what_is_said_while_there_is_no_leader_refuses_nothing",
    ),
    Mutant(
        "topics are not made by asking",
        "audience_core/kafka/admin.py",
        '"allow.auto.create.topics": False, ',
        "",
        "tests/core/test_topic_admin.py::test_to_ask_about_a_topic_that_is_gone_does_not_create_it",
    ),
    Mutant(
        "segments: present epoch alone",
        "segment_api/rows.py",
        'state["status"] == "ACTIVE" and state["epoch"] == epoch',
        'state["status"] == "ACTIVE"',
        "tests/segment_api/test_segments_rows.py::test_only_members_of_the_present_epoch_are_shown",
    ),
)
