"""How many visitors a rule matches: exact when it names one audience alone, else estimated with its error.

The estimate is a ratio: of the sampled visitors that match to the sampled memberships of some audiences, times the
exact number of those memberships, which the listing knows. Visitors are those who are in at least one audience.
"""

import asyncio
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from pydantic import BaseModel, Field

from audience_core.redis.connect import AsyncRedis
from segment_api.accounts import AccountCache
from segment_api.rules import AudienceItem, Item, Rule, only_audience, select
from segment_api.sampling import Sample, Sampler

_LEAST_SEEN = 3
"""With 95 % certainty, what none of n sampled visitors is, at most 3 in n are (the rule of three)."""


class Size(BaseModel):
    """How many visitors match."""

    size: int = Field(description="visitors, of those who are in at least one audience")
    exact: bool = Field(description="whether it is a count; else an estimate")
    error: int | None = Field(description="of 20 estimates, 19 are off by less than this; null when exact")


class SizeEstimator:
    """Sizes of rules. Methods raise RedisUnavailable."""

    def __init__(self, client: AsyncRedis, accounts: AccountCache) -> None:
        self._accounts = accounts
        self._sampler = Sampler(client, accounts)

    async def estimate(self, account: str, rule: Rule) -> Size:
        """How many visitors of the account match the rule now; an estimate may be 5 s old."""
        (size,) = await self.estimates(account, [rule])
        return size

    async def estimates(self, account: str, rules: Iterable[Rule]) -> list[Size]:
        """As estimate, of many rules at once: they share one sample."""
        counts = (await self._accounts.populated(account)).counts
        sizes: list[Size] = []
        for rule in rules:
            exact = _known(rule, counts.keys() & rule.audiences, counts)
            if exact is None:
                sizes.append(size_of(rule, await self._sampler.sample(account)))
                await asyncio.sleep(0)  # answers to SDKs go first
            else:
                sizes.append(Size(size=exact, exact=True, error=None))
        return sizes


def _known(rule: Rule, populated: set[int], counts: dict[int, int]) -> int | None:
    alone = only_audience(rule)
    if alone is not None:
        return counts.get(alone, 0)
    return None if populated else 0


def size_of(rule: Rule, sample: Sample) -> Size:
    """The size of a rule, as a sample shows it."""
    found = select(rule, sample.members_of, sample.everyone, sample.counts.keys())
    if sample.complete:
        return Size(size=found.bit_count(), exact=True, error=None)
    low, high = _bounds(rule, sample.counts)
    guesses = [(float(high - low) / 2, (high + low) / 2)]  # all that is known when nobody was sampled
    guesses += [_ratio(found, yardstick) for yardstick in _yardsticks(rule, sample) if yardstick.in_sample]
    error, size = min(guesses)
    return Size(size=round(min(max(size, low), high)), exact=False, error=math.ceil(error))


class _Yardstick(NamedTuple):
    """Memberships of some audiences, whose number is known for the sample and for the whole account."""

    masks: Collection[int]
    in_sample: int
    squared: int
    """sum over the sampled visitors of the square of how many of the memberships they have"""
    in_all: int
    visitors: int


def _yardsticks(rule: Rule, sample: Sample) -> Iterator[_Yardstick]:
    named = rule.audiences & sample.counts.keys()
    masks = [sample.members_of(audience_id) for audience_id in named]
    squared = sum((a & b).bit_count() for a in masks for b in masks)
    in_sample, in_all = sum(mask.bit_count() for mask in masks), sum(sample.counts[a] for a in named)
    yield _Yardstick(masks, in_sample, squared, in_all, sample.visitors)
    squared = sum(number * number for number in sample.memberships)
    in_sample, in_all = sum(sample.memberships), sum(sample.counts.values())
    yield _Yardstick(sample.members.values(), in_sample, squared, in_all, sample.visitors)


def _ratio(found: int, yardstick: _Yardstick) -> tuple[float, float]:
    """(error, size) by the ratio estimator and its linearised variance."""
    weight = yardstick.in_all / yardstick.in_sample
    matching = found.bit_count()
    ratio = matching / yardstick.in_sample
    both = sum((mask & found).bit_count() for mask in yardstick.masks)
    residuals = max(matching - 2 * ratio * both + ratio * ratio * yardstick.squared, 0.0)
    unseen = math.sqrt(max(0.0, 1 - 1 / weight))  # a sample of nearly everybody is nearly exact
    return unseen * weight * max(2 * math.sqrt(residuals), _LEAST_SEEN), matching * weight


def _bounds(item: Item, counts: Mapping[int, int]) -> tuple[int, int]:
    """What the counts alone say: at least and at most so many match."""
    if isinstance(item, AudienceItem):
        count = counts.get(item.audience_id, 0)
        return count, count
    parts = [_bounds(part, counts) for part in item.items]
    everybody = sum(counts.values())  # or fewer: who is in several counts several times
    if item.op == "and":
        return 0, min((high for _, high in parts), default=0)
    if item.op == "or":
        return max((low for low, _ in parts), default=0), min(everybody, sum(high for _, high in parts))
    return 0, everybody if parts else 0
