"""How many connectors are silent, for the operator's alert."""

import time
from typing import Any

from audience_core.redis import keys
from audience_core.redis.activity import parse_activity
from audience_core.redis.connect import Redis, redis_faults

_CHUNK = 500


def count_late(client: Redis, silence_ms: int, now: int | None = None) -> int:
    """Count connectors of accounts that used to speak and are silent for longer than `silence_ms`, or use a revoked
    API key. `now` in ms. Raises RedisUnavailable."""
    now = time.time_ns() // 1_000_000 if now is None else now
    late = 0
    redis: Any = client
    with redis_faults("counting silent connectors"):
        accounts = sorted(redis.hkeys(keys.ACCOUNTS))
        for first in range(0, len(accounts), _CHUNK):
            pipe = redis.pipeline(transaction=False)
            for account in accounts[first : first + _CHUNK]:
                pipe.hlen(keys.connectors(account))
                pipe.hgetall(keys.activity(account))
            replies = pipe.execute()
            for connectors, stored in zip(replies[::2], replies[1::2], strict=True):
                if parse_activity(stored).health(silence_ms, now).state in {"late", "refused"}:
                    late += connectors
    return late
