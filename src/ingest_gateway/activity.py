"""Notes each request for the people who look for a fault (audience_core/redis/activity.py), beside the answers.

A request costs some counting in memory; one task writes a batch a few times a second. Nothing waits for it, and a batch
that Redis does not take is dropped and counted.
"""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass

from audience_core.errors import RedisUnavailable
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.redis.activity import KEY_FIELD, ActivityStore, Heard, Moment, RequestNote
from audience_core.redis.control import KeyRecord
from ingest_gateway.answers import Answer
from ingest_gateway.membership import Reading

FLUSH_EVERY_S = 0.25
MAX_LISTED = 20
"""Requests of an account that one batch lists, accepted and refused ones each; all of them are counted."""
CHANGES_EVERY_S = 2.0
MAX_SERIES = 20_000
"""Different (account, audience, direction, minute) that wait to be written; a backstop, more than there ever are."""

log = get_logger()


@dataclass(slots=True)
class Seen:
    """What a request has shown of itself so far."""

    key: KeyRecord | None = None
    unknown_key: bool = False
    reading: Reading | None = None

    def counted(self) -> dict[str, int]:
        """What the request came to, in numbers, for its trace."""
        if self.reading is None:
            return {}
        return {"audience.changes": self.reading.changes, "audience.refused": self.reading.dead_letters}


class ActivityLog:
    """Gathers what was heard, account by account."""

    def __init__(self, store: ActivityStore) -> None:
        self._store = store
        self._heard: dict[str | None, Heard] = {}
        self._noted = 0
        self._changes: Counter[Moment] = Counter()
        self._changes_due = 0.0

    def note(self, kind: str, answer: Answer, seconds: float, seen: Seen) -> None:
        """The request was answered. Never raises, never waits."""
        now = time.time_ns() // 1_000_000
        key = seen.key
        account = key["account"] if key else None
        heard = self._heard.get(account)
        if heard is None:
            heard = self._heard[account] = Heard()
        self._noted += 1
        revoked = key is not None and key["status"] == "revoked"
        reason = "revoked_api_key" if revoked else _reason(answer, seen.reading)
        accepted = answer.status == 200 and not revoked  # noqa: PLR2004 - the only success
        changes = seen.reading.changes if seen.reading and accepted else 0
        if revoked or seen.unknown_key:
            heard.times["last_refused"] = now
        if key is not None:
            _note_times(heard.times, kind, key, seen.reading, now, accepted=accepted)
            if changes and seen.reading is not None:
                self._note_changes(key["account"], seen.reading, now // 60_000)
        if reason is not None:
            heard.rejected[reason] += 1
        listed = heard.refusals if reason is not None else len(heard.requests) - heard.refusals
        if listed < MAX_LISTED:
            heard.refusals += reason is not None
            key_id = key["id"] if key else None
            latency_ms = round(seconds * 1000, 2)
            heard.requests.append(RequestNote(now, kind, answer.status, changes, latency_ms, reason, key_id))

    def _note_changes(self, account: str, reading: Reading, minute: int) -> None:
        for (audience_id, action), count in reading.received.items():
            moment = (account, audience_id, "e" if action == "ENTER" else "x", minute)
            if moment in self._changes or len(self._changes) < MAX_SERIES:
                self._changes[moment] += count

    async def flush(self, *, everything: bool = False) -> None:
        """Write what was heard since the last time, or drop it. Changes are many, and wait a little for company."""
        heard, noted = self._heard, self._noted
        self._heard, self._noted = {}, 0
        changes: Counter[Moment] = Counter()
        if everything or time.monotonic() >= self._changes_due:
            changes, self._changes = self._changes, changes
            self._changes_due = time.monotonic() + CHANGES_EVERY_S
        try:
            await self._store.write(heard)
            await self._store.write_changes(changes)
        except BaseException:
            metrics.GATEWAY_ACTIVITY_DROPPED.inc(noted)
            raise

    async def flush_forever(self) -> None:
        """Flush again and again."""
        away = False
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            try:
                await self.flush()
                away = False
            except RedisUnavailable as error:
                if not away:
                    log.warning("activity_dropped", error=str(error))
                away = True
            except Exception:  # one odd batch must not end the notes of all that come after it
                log.exception("activity_failed")


def _reason(answer: Answer, reading: Reading | None) -> str | None:
    """Code of why the request, or something in it, was refused."""
    if answer.status != 200:  # noqa: PLR2004 - the only success
        return str(json.loads(answer.body)["error"])
    return next(iter(reading.refused), None) if reading and reading.refused else None


def _note_times(
    times: dict[str, int], kind: str, key: KeyRecord, reading: Reading | None, now: int, *, accepted: bool
) -> None:
    times[KEY_FIELD + key["id"]] = now
    if not accepted:
        return
    times["last_message"] = now
    if reading is None:
        if kind == "audience_membership_change_request":
            times["last_verification"] = now
    elif reading.changes:
        times["last_change"] = now
