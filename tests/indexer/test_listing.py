"""Whoever writes the listing notices that Redis went back, however soon they write again."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from audience_core.redis import keys
from audience_indexer.listing import ListingWriter


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def listing(client: Any) -> ListingWriter:
    listing = ListingWriter(client)
    assert listing.went_back()
    rebuild(listing)
    return listing


def rebuild(listing: ListingWriter) -> None:
    with listing.changing():
        listing.rewrite([("demo", 7, 1)])


def write(listing: ListingWriter, count: int) -> None:
    with listing.changing():
        listing.write([("demo", 7, count)])


def test_a_listing_that_was_written_whole_is_there_until_redis_goes_back(listing: ListingWriter) -> None:
    assert not listing.went_back()
    write(listing, 2)
    assert not listing.went_back()


@pytest.mark.parametrize("writes_after", [0, 1, 2, 5])
def test_a_redis_that_went_back_is_noticed_also_when_much_was_written_since(
    listing: ListingWriter, client: Any, writes_after: int
) -> None:
    saved = client.get(keys.INDEX_VERSION)
    write(listing, 2)
    client.set(keys.INDEX_VERSION, saved)
    for number in range(writes_after):
        write(listing, number)
    assert listing.went_back()
    rebuild(listing)
    assert not listing.went_back()


def test_a_redis_that_was_emptied_while_the_listing_was_written_is_noticed(listing: ListingWriter, client: Any) -> None:
    with listing.changing():
        listing.write([("demo", 7, 2)])
        client.flushdb()
    assert listing.went_back()


def test_a_backup_from_before_redis_was_emptied_is_noticed_though_as_much_was_written_since(
    listing: ListingWriter, client: Any
) -> None:
    saved = client.get(keys.INDEX_VERSION)
    client.flushdb()
    assert listing.went_back()
    rebuild(listing)
    assert not listing.went_back()
    client.set(keys.INDEX_VERSION, saved)
    assert listing.went_back()
