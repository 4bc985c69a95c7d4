"""Fixtures of the segment API's tests."""

from collections.abc import Iterator

import pytest

from tests.segment_api.support import Api


@pytest.fixture
def api(redis_url: str) -> Iterator[Api]:
    """The application over an empty Redis."""
    running = Api(redis_url)
    yield running
    running.redis.close()
