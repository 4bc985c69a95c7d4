"""Writes the listing: per account a ZSET of the populated audiences and a HASH of all counts."""

import json
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from audience_core.observability import metrics
from audience_core.redis import keys
from audience_core.redis.connect import Redis, redis_faults

Total = tuple[str, int, int]
"""(account, audience id, MPIDs in it)"""
_MARK_BITS = 62


class ListingWriter:
    """The only writer of `index:` keys. Methods raise RedisUnavailable.

    A mark in Redis is replaced before and after each change. Whoever finds another one than they left knows that Redis
    went back meanwhile, even between two looks at it. A mark never comes twice: were it counted up, a Redis that was
    emptied, and then restored from before that, could hold the number that is expected and not what was written.

    One way back leaves the mark that is expected: Redis was saved between a mark and what was written after it, and
    restored before the next mark. So what was written is looked for once (`holds`) after the mark behind it.
    """

    def __init__(self, client: Redis) -> None:
        self._client: Any = client
        self._mark: str | None = None
        self._whole = False
        """whether Redis holds all that was written, as far as is known"""

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around every change of the catalog and of the listing."""
        self._leave_mark()
        yield
        self._leave_mark()

    def write(self, totals: Iterable[Total]) -> None:
        """Write the totals of some audiences."""
        with redis_faults("writing the listing"):
            pipe = self._client.pipeline(transaction=False)
            written = self._queue(pipe, totals)
            if written:
                pipe.execute()
                metrics.INDEXER_WRITES.inc(written)

    def rewrite(self, totals: Iterable[Total]) -> None:
        """Write the whole listing, account by account, so that no reader sees an empty one in between."""
        by_account: dict[str, list[Total]] = defaultdict(list)
        for total in totals:
            by_account[total[0]].append(total)
        with redis_faults("rewriting the listing"):
            for account, of_account in by_account.items():
                for key in (keys.index(account), keys.index_counts(account)):
                    pipe = self._client.pipeline(transaction=True)
                    pipe.delete(key)
                    self._queue(pipe, of_account, only=key)
                    pipe.execute()
        self._whole = True
        metrics.INDEXER_REBUILDS.inc()

    def went_back(self) -> bool:
        """Whether Redis may hold another listing than the one last written: it was restored, emptied or replaced."""
        with redis_faults("reading the listing's version"):
            self._compare(self._client.get(keys.INDEX_VERSION), self._mark)
        return not self._whole

    def holds(self, totals: Iterable[Total]) -> bool:
        """Whether Redis holds these totals of some audiences."""
        expected = list(totals)
        with redis_faults("reading the listing"):
            pipe = self._client.pipeline(transaction=False)
            for account, audience_id, _ in expected:
                pipe.zscore(keys.index(account), str(audience_id))
                pipe.hget(keys.index_counts(account), str(audience_id))
            found = pipe.execute()
        return all(
            int(listed or 0) == count and counted is not None and json.loads(counted)["count"] == count
            for (_, _, count), listed, counted in zip(expected, found[::2], found[1::2], strict=True)
        )

    def _leave_mark(self) -> None:
        mark = str(secrets.randbits(_MARK_BITS))
        with redis_faults("marking a change of the listing"):
            self._compare(self._client.set(keys.INDEX_VERSION, mark, get=True), self._mark)
        self._mark = mark

    def _compare(self, found: str | None, expected: str | None) -> None:
        self._whole = self._whole and found == expected
        self._mark = found

    @staticmethod
    def _queue(pipe: Any, totals: Iterable[Total], only: str | None = None) -> int:
        now, queued = time.time_ns() // 1_000_000, 0
        for account, audience_id, count in totals:
            listed, counted = keys.index(account), keys.index_counts(account)
            if only in {None, listed}:
                if count > 0:
                    pipe.zadd(listed, {str(audience_id): count})
                else:
                    pipe.zrem(listed, str(audience_id))
            if only in {None, counted}:
                pipe.hset(counted, str(audience_id), json.dumps({"count": count, "updated_at": now}))
            queued += 1
        return queued
