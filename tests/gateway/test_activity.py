"""What the gateway notes of its requests, written to and read from a real Redis."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import redis

from audience_core.errors import RedisUnavailable
from audience_core.observability import metrics
from audience_core.redis import keys
from audience_core.redis.activity import ActivityReader, ActivityStore
from audience_core.redis.connect import connect_async
from audience_core.redis.control import KeyRecord
from audience_core.settings import CoreSettings
from ingest_gateway import answers
from ingest_gateway.activity import MAX_LISTED, ActivityLog, Seen
from ingest_gateway.answers import Answer
from ingest_gateway.membership import Reading

CHANGE = "audience_membership_change_request"
ACTIVE = KeyRecord(account="acme", id="k1", status="active")
REVOKED = KeyRecord(account="acme", id="k0", status="revoked")
DONE = answers.membership_changed(None)


def entered(audience_id: int, enters: int, exits: int = 0) -> Reading:
    return Reading(
        changes=enters + exits,
        received=Counter({(audience_id, "ENTER"): enters, (audience_id, "EXIT"): exits}),
    )


class Notes:
    """Notes requests as the gateway does."""

    def __init__(self, redis_url: str) -> None:
        client = connect_async(CoreSettings.model_validate({"redis_url": redis_url}))
        self.client = client
        self.log = ActivityLog(ActivityStore(client))
        self.reader = ActivityReader(client)

    def request(
        self,
        *,
        key: KeyRecord | None = ACTIVE,
        sent_key: bool = True,
        reading: Reading | None = None,
        answer: Answer = DONE,
        kind: str = CHANGE,
    ) -> None:
        seen = Seen(key=key if sent_key else None, unknown_key=sent_key and key is None, reading=reading)
        self.log.note(kind, answer, 0.0123, seen)


def run(redis_url: str, scenario: Callable[[Notes], Awaitable[None]]) -> None:
    async def scene() -> None:
        notes = Notes(redis_url)
        try:
            await scenario(notes)
        finally:
            await notes.client.aclose()

    asyncio.run(scene())


def test_an_account_shows_when_it_last_spoke_and_what_it_sent(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        before = time.time_ns() // 1_000_000
        assert (await notes.reader.summary("acme")).last_message is None
        notes.request(reading=entered(7, 3, 1))
        await notes.log.flush(everything=True)
        found = await notes.reader.summary("acme")
        assert found.last_message is not None
        assert before <= found.last_message == found.last_change == found.since
        assert (found.last_verification, found.last_refused, found.rejected) == (None, None, {})
        assert found.key_last_used == {"k1": found.last_message}
        (listed,) = await notes.reader.requests("acme")
        assert (listed.type, listed.status, listed.changes, listed.latency_ms) == (CHANGE, 200, 4, 12.3)
        assert (listed.reason, listed.key_id, listed.at) == (None, "k1", found.last_message)
        assert (await notes.reader.summary("other")).last_message is None
        assert await notes.reader.requests("other") == []

    run(redis_url, scenario)


def test_a_message_without_profiles_is_a_verification(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        notes.request()
        await notes.log.flush(everything=True)
        found = await notes.reader.summary("acme")
        assert found.last_verification == found.last_message is not None
        assert found.last_change is None

    run(redis_url, scenario)


def test_what_one_account_sends_is_not_noted_at_another(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        other = KeyRecord(account="other", id="k9", status="active")
        notes.request(reading=entered(7, 1))
        notes.request(key=other, reading=entered(8, 5))
        notes.request()
        await notes.log.flush(everything=True)
        assert sorted(listed.changes for listed in await notes.reader.requests("acme")) == [0, 1]
        assert [listed.changes for listed in await notes.reader.requests("other")] == [5]

    run(redis_url, scenario)


def test_a_revoked_key_is_a_refusal_of_its_account_and_no_message(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        notes.request(key=REVOKED, answer=answers.membership_changed(None, suspend=True))
        notes.request(key=REVOKED, answer=answers.UNKNOWN_KEY, kind="audience_subscription_request")
        await notes.log.flush(everything=True)
        found = await notes.reader.summary("acme")
        assert (found.last_message, found.last_verification) == (None, None)
        assert found.last_refused is not None
        assert found.rejected == {"revoked_api_key": 2}
        assert found.health(1000, found.last_refused).state == "refused"

    run(redis_url, scenario)


def test_an_unknown_key_belongs_to_no_account_and_is_listed_for_who_sets_up(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        notes.request(key=None, answer=answers.UNKNOWN_KEY)
        notes.request(sent_key=False, kind="module_registration_request")
        await notes.log.flush(everything=True)
        first, second = await notes.reader.requests(None)
        assert (first.status, first.reason, first.key_id) == (401, "unknown_api_key", None)
        assert (second.status, second.reason) == (200, None)
        assert (await notes.reader.summary("acme")).last_unknown_key == first.at
        assert await notes.reader.requests("acme") == []

    run(redis_url, scenario)


def test_an_account_called_requests_is_not_taken_for_those_of_no_account(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        notes.request(key=KeyRecord(account="requests", id="k", status="active"))
        notes.request(key=None, answer=answers.UNKNOWN_KEY)
        await notes.log.flush(everything=True)
        assert [listed.status for listed in await notes.reader.requests("requests")] == [200]

    run(redis_url, scenario)


def test_refusals_are_counted_by_reason_also_those_inside_a_message_that_was_taken(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        notes.request(answer=answers.unavailable("Kafka is away"), reading=entered(7, 9))
        partly = Reading(changes=1, refused=Counter({"mpid_missing": 2}), received=Counter({(7, "ENTER"): 1}))
        notes.request(reading=partly)
        await notes.log.flush(everything=True)
        assert (await notes.reader.summary("acme")).rejected == {"unavailable": 1, "mpid_missing": 1}
        listed = await notes.reader.requests("acme")
        assert [(one.status, one.changes, one.reason) for one in listed] == [
            (503, 0, "unavailable"),
            (200, 1, "mpid_missing"),
        ]
        series = await notes.reader.audience_series("acme", 7)
        assert sum(minute.enters for minute in series.minutes) == 1

    run(redis_url, scenario)


def test_the_list_goes_on_after_a_request_and_begins_with_the_latest(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        for changes in range(1, 6):
            notes.request(reading=entered(7, changes))
            await notes.log.flush(everything=True)
        latest = await notes.reader.requests("acme", count=2)
        assert [listed.changes for listed in latest] == [4, 5]
        assert await notes.reader.requests("acme", latest[-1].id) == []
        notes.request(reading=entered(7, 6))
        await notes.log.flush(everything=True)
        (new,) = await notes.reader.requests("acme", latest[-1].id)
        assert new.changes == 6

    run(redis_url, scenario)


def test_enters_and_exits_are_counted_by_minute(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        for _ in range(3):
            notes.request(reading=entered(-7, 2, 1))
            await notes.log.flush(everything=True)
        now = time.time_ns() // 1_000_000
        minutes = (await notes.reader.audience_series("acme", -7)).minutes
        assert [sum(m.enters for m in minutes), sum(m.exits for m in minutes)] == [6, 3]
        assert all(minute.at % 60_000 == 0 and now - 120_000 < minute.at <= now for minute in minutes)
        assert (await notes.reader.audience_series("acme", 8)).minutes == []
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            ttls = [client.ttl(key) for key in client.scan_iter(match=f"{keys.activity('acme')}:-7:*")]
        assert ttls
        assert all(86_400 < ttl <= 90_000 for ttl in ttls)

    run(redis_url, scenario)


def test_a_flood_is_counted_whole_and_listed_in_part(redis_url: str) -> None:
    async def scenario(notes: Notes) -> None:
        for _ in range(300):
            notes.request(reading=entered(7, 1))
        notes.request(answer=answers.unavailable("Kafka is away"))
        await notes.log.flush(everything=True)
        listed = await notes.reader.requests("acme", count=1000)
        assert len(listed) == MAX_LISTED + 1
        assert listed[-1].status == 503
        series = await notes.reader.audience_series("acme", 7)
        assert sum(minute.enters for minute in series.minutes) == 300

    run(redis_url, scenario)


def test_without_redis_notes_are_dropped_counted_and_not_kept() -> None:
    async def scenario(notes: Notes) -> None:
        for _ in range(3):
            notes.request(reading=entered(7, 1))
        before = metrics.GATEWAY_ACTIVITY_DROPPED._value.get()  # noqa: SLF001 - as a scrape would read it
        with pytest.raises(RedisUnavailable):
            await notes.log.flush(everything=True)
        assert metrics.GATEWAY_ACTIVITY_DROPPED._value.get() - before == 3  # noqa: SLF001
        await notes.log.flush(everything=True)  # nothing is left to write

    run("redis://127.0.0.1:1/0", scenario)
