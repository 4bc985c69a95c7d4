"""A sample of an account's visitors, out of which the sizes of segments are estimated.

Redis keeps keys in the order of a keyed hash, so the first ones that a SCAN comes upon are a random sample.
One SCAN call looks at about a thousand keys, some tenths of a millisecond; between two calls Redis serves others.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audience_core.domain.members import encode_member
from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from segment_api.accounts import AccountCache
from segment_api.cache import AccountValues

MAX_VISITORS = 2000
SCAN_S = 0.05
READ_S = 0.05
MAX_AGE_S = 5.0
MAX_ACCOUNTS = 50
_SCAN_COUNT = 1000
_CHUNK = 100


@dataclass(frozen=True)
class Sample:
    """Who of the sampled visitors is in which audience, and how many are in each audience in all."""

    visitors: int
    members: Mapping[int, int]
    """audience id → bits, one for each sampled visitor who is in it"""
    counts: Mapping[int, int]
    """audience id → visitors in it, of the whole account: the listing's exact counts of populated audiences"""
    memberships: Sequence[int]
    """of each sampled visitor, the number of populated audiences that they are in"""
    complete: bool
    """whether these are all visitors that there are"""

    @property
    def everyone(self) -> int:
        """All bits."""
        return (1 << self.visitors) - 1

    def members_of(self, audience_id: int) -> int:
        """Bits of those who are in an audience."""
        return self.members.get(audience_id, 0)


class Sampler:
    """Samples of the accounts asked for lately, each a few seconds old at most. Raises RedisUnavailable."""

    def __init__(self, client: AsyncRedis, accounts: AccountCache) -> None:
        self._client: Any = client
        self._accounts = accounts
        self._samples = AccountValues(self._load, max_age_s=lambda _: MAX_AGE_S, max_accounts=MAX_ACCOUNTS)

    async def sample(self, account: str) -> Sample:
        """Return a sample of the account."""
        return await self._samples.get(account)

    async def _load(self, account: str, _version: str | None) -> Sample:
        populated = await self._accounts.populated(account)
        found, complete = (await self._scan(account)) if populated.counts else ([], True)
        shown = {encode_member(a, populated.catalog[a]["epoch"]): a for a in populated.counts}
        marks: dict[int, bytearray] = {}
        memberships: list[int] = []
        until = time.monotonic() + READ_S
        for first in range(0, len(found), _CHUNK):
            if time.monotonic() > until:
                complete = False
                break
            async with async_redis_faults("reading a sample of visitors"):
                pipe = self._client.pipeline(transaction=False)
                for key in found[first : first + _CHUNK]:
                    pipe.smembers(key)
                replies = await pipe.execute()
            for members in filter(None, replies):  # who has left everything since the scan is no visitor any more
                memberships.append(_mark(marks, len(memberships), members, shown))
        bits = {audience_id: int.from_bytes(marked, "little") for audience_id, marked in marks.items()}
        return Sample(len(memberships), bits, populated.counts, memberships, complete)

    async def _scan(self, account: str) -> tuple[list[str], bool]:
        """(keys of member sets, whether these are all)"""
        found: dict[str, None] = {}  # SCAN may return a key twice while the table is resized
        until, nodes = time.monotonic() + SCAN_S, self._nodes()
        cursors = dict.fromkeys(nodes, 0)
        pattern = keys.account_members(account)
        while cursors:
            for node in list(cursors):  # a little of each node of a cluster
                async with async_redis_faults("sampling the visitors"):
                    options = {} if node is None else {"target_nodes": node}
                    reply = await self._client.scan(cursors[node], match=pattern, count=_SCAN_COUNT, **options)
                cursor, batch = reply if node is None else (next(iter(reply[0].values())), reply[1])
                found.update(dict.fromkeys(batch))
                cursors[node] = int(cursor)
                if not cursors[node]:
                    del cursors[node]
            if cursors and (len(found) >= MAX_VISITORS or time.monotonic() > until):
                return list(found)[:MAX_VISITORS], False
        return list(found)[:MAX_VISITORS], len(found) <= MAX_VISITORS

    def _nodes(self) -> list[Any]:
        primaries = getattr(self._client, "get_primaries", None)
        return list(primaries()) if primaries else [None]


def _mark(marks: dict[int, bytearray], n: int, members: set[str], shown: Mapping[str, int]) -> int:
    """Set the bit of a visitor in each audience that they are in; return how many these are."""
    byte, bit, marked = n >> 3, 1 << (n & 7), 0
    for member in members:
        audience_id = shown.get(member)
        if audience_id is not None:
            if audience_id not in marks:
                marks[audience_id] = bytearray(MAX_VISITORS // 8 + 1)
            marks[audience_id][byte] |= bit
            marked += 1
    return marked
