"""Counts over time: for each minute in which an audience's count changed, the count at its end."""

import time
from collections.abc import Iterable
from typing import Any

from audience_core.redis import keys
from audience_core.redis.activity import HISTORY_S
from audience_core.redis.connect import Redis, redis_faults
from audience_indexer.listing import Total
from audience_indexer.totals import Audience

MAX_SAMPLES = 2016
"""Reaches back 7 days for an audience that changes every five minutes, 33 hours for one that changes every minute."""
_CHUNK = 1000


class HistoryWriter:
    """Keeps the counts that changed until their minute is over, then writes them. Raises RedisUnavailable."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client
        self._changed: dict[Audience, int] = {}
        self._written: dict[Audience, int] = {}
        self._minute = _now_minute()

    def note(self, totals: Iterable[Total]) -> None:
        """Remember totals of now."""
        for account, audience_id, count in totals:
            self._changed[account, audience_id] = count

    def write_due(self, minute: int | None = None) -> None:
        """Write what changed, if its minute is over. `minute`: the present one, since the epoch."""
        minute = _now_minute() if minute is None else minute
        if minute == self._minute:
            return
        due = [(audience, n) for audience, n in self._changed.items() if self._written.get(audience) != n]
        for first in range(0, len(due), _CHUNK):
            with redis_faults("writing the history of counts"):
                pipe = self._client.pipeline(transaction=False)
                for audience, count in due[first : first + _CHUNK]:
                    key = keys.history(*audience)
                    pipe.rpush(key, f"{self._minute}:{count}")
                    pipe.ltrim(key, -MAX_SAMPLES, -1)
                    pipe.expire(key, HISTORY_S)
                pipe.execute()
        self._written |= self._changed
        self._changed.clear()
        self._minute = minute


def _now_minute() -> int:
    return int(time.time() // 60)
