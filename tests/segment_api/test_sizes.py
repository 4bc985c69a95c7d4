"""Sizes of rules: exact where they can be, else estimates that say how far off they may be."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.errors import RedisUnavailable
from audience_core.redis import keys
from audience_core.redis.connect import connect_async
from audience_core.settings import CoreSettings
from segment_api.accounts import AccountCache
from segment_api.rules import Rule, matches
from segment_api.sampling import MAX_VISITORS, Sample
from segment_api.sizes import Size, SizeEstimator, size_of
from tests.segment_api.support import Api
from tests.segment_api.test_rules import AUDIENCES, rule, rules

Visitors = list[set[int]]
visitors = st.lists(st.sets(st.sampled_from(AUDIENCES), min_size=1), min_size=1, max_size=40)


def sample_of(everybody: Visitors, sampled: int) -> Sample:
    """A sample of the first `sampled` visitors."""
    counts = {a: count for a in AUDIENCES if (count := sum(a in visitor for visitor in everybody))}
    seen = everybody[:sampled]
    bits = {a: sum(1 << n for n, visitor in enumerate(seen) if a in visitor) for a in AUDIENCES}
    return Sample(len(seen), bits, counts, [len(visitor) for visitor in seen], complete=sampled >= len(everybody))


def truth(given_rule: Rule, everybody: Visitors) -> int:
    populated = set[int]().union(*everybody)
    return sum(matches(given_rule, visitor, populated) for visitor in everybody)


@given(given_rule=rules, everybody=visitors)
def test_when_everybody_was_looked_at_the_size_is_exact(given_rule: Rule, everybody: Visitors) -> None:
    wanted = Size(size=truth(given_rule, everybody), exact=True, error=None)
    assert size_of(given_rule, sample_of(everybody, len(everybody))) == wanted


@given(given_rule=rules, everybody=visitors, sampled=st.integers(0, 40))
def test_an_estimate_stays_within_what_the_counts_allow(given_rule: Rule, everybody: Visitors, sampled: int) -> None:
    size = size_of(given_rule, sample_of(everybody, sampled))
    assert 0 <= size.size <= sum(map(len, everybody))
    assert size.exact == (size.error is None) == (sampled >= len(everybody))
    assert size.error is None or size.error >= 0


def test_when_nobody_was_sampled_the_counts_alone_still_bound_the_size() -> None:
    sample = sample_of([{1}] * 10 + [{2}] * 30, 0)
    assert size_of(rule("or", 1, 2), sample) == Size(size=35, exact=False, error=5)
    assert size_of(rule("and", 1, 2), sample) == Size(size=5, exact=False, error=5)


def test_what_nobody_of_the_sample_matches_is_not_called_certainly_nobody() -> None:
    everybody = [{1}, {2}] * 500
    size = size_of(rule("and", 1, 2), sample_of(everybody, 100))
    assert size.size == 0
    assert size.error is not None
    assert 25 <= size.error <= 35  # three of a hundred


def load(api: Api, everybody: Visitors) -> None:
    pipe = api.redis.pipeline(transaction=False)
    for n, audiences in enumerate(everybody):
        for account in ("acme", "other"):
            pipe.sadd(keys.of_visitor(shard_of(visitor_key(account, str(n)), 8), account, str(n)).members, *audiences)
    pipe.execute()
    for audience_id in AUDIENCES:
        api.subscribe(audience_id)
        api.count(audience_id, sum(audience_id in visitor for visitor in everybody))


def run(redis_url: str, scenario: Callable[[SizeEstimator], Awaitable[None]]) -> None:
    async def scene() -> None:
        client = connect_async(CoreSettings.model_validate({"redis_url": redis_url}))
        await scenario(SizeEstimator(client, AccountCache(client)))
        await client.aclose()

    asyncio.run(scene())


def test_estimates_out_of_a_sample_are_near_the_truth(api: Api) -> None:
    rng = random.Random(4)
    shares = {1: 0.5, 2: 0.3, 3: 0.2, 4: 0.02, 5: 0.4}
    everybody = [{a for a, share in shares.items() if rng.random() < share} or {5} for _ in range(3 * MAX_VISITORS)]
    load(api, everybody)

    async def scenario(sizes: SizeEstimator) -> None:
        for given_rule in (
            rule("and", 1, 2),
            rule("or", 1, 2, 3),
            rule("not", 1),
            rule("and", 1, rule("not", 2)),
            rule("and", 4, 3),
            rule("or", 4, rule("and", 1, 2, 3, 5)),
        ):
            size = await sizes.estimate("acme", given_rule)
            assert not size.exact
            assert size.error is not None
            assert size.error < len(everybody) / 10
            # the error holds for 19 of 20; three times as much always, as far as anybody will live to see
            assert abs(size.size - truth(given_rule, everybody)) <= 3 * size.error, given_rule

    run(api.redis_url, scenario)


def test_a_rule_that_names_one_audience_alone_has_the_listings_count(api: Api) -> None:
    load(api, [{1, 2}] * 3 + [{2}] * 2)
    api.count(2, 77)  # the listing says

    async def scenario(sizes: SizeEstimator) -> None:
        for given_rule in (rule("and", 2), rule("or", rule("and", 2))):
            assert await sizes.estimate("acme", given_rule) == Size(size=77, exact=True, error=None)

    run(api.redis_url, scenario)


def test_what_is_removed_or_empty_has_the_size_0_at_once(api: Api) -> None:
    load(api, [{1, 2}] * 3)

    async def scenario(sizes: SizeEstimator) -> None:
        assert (await sizes.estimate("acme", rule("not", 1, 3))).size == 0
        assert (await sizes.estimate("acme", rule("not", 3))).size == 0
        assert (await sizes.estimate("acme", rule("and", 1, 2))).size == 3
        api.subscribe(1, status="REMOVED", epoch=1)
        api.subscribe(2, status="REMOVED", epoch=1)
        assert await sizes.estimate("acme", rule("and", 1, 2)) == Size(size=0, exact=True, error=None)
        assert await sizes.estimate("acme", rule("and", 1)) == Size(size=0, exact=True, error=None)

    run(api.redis_url, scenario)


def test_members_of_a_former_epoch_are_not_counted(api: Api) -> None:
    load(api, [{1, 2}] * 3)
    api.redis.sadd(keys.of_visitor(0, "acme", "new").members, "1@1", "2")
    api.subscribe(1, epoch=1)
    api.count(1, 1)

    async def scenario(sizes: SizeEstimator) -> None:
        assert await sizes.estimate("acme", rule("and", 1, 2)) == Size(size=1, exact=True, error=None)

    run(api.redis_url, scenario)


def test_an_account_without_audiences_has_no_sizes(api: Api) -> None:
    async def scenario(sizes: SizeEstimator) -> None:
        assert await sizes.estimate("nobody", rule("not", 1)) == Size(size=0, exact=True, error=None)

    run(api.redis_url, scenario)


def test_without_redis_there_is_no_size() -> None:
    async def scenario(sizes: SizeEstimator) -> None:
        with pytest.raises(RedisUnavailable):
            await sizes.estimate("acme", rule("and", 1, 2))

    run("redis://127.0.0.1:1/0", scenario)
