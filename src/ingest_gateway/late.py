"""Subscriptions that Kafka did not acknowledge in time.

Their records are still on their way, for as long as librdkafka tries (`message.timeout.ms`), and may come to lie behind
a newer state that another gateway has published since. The topic is compacted, so the newest must be the last: it is
published once more, behind them.
"""

import asyncio
from collections.abc import Awaitable, Callable

from audience_core.domain.records import AudienceSubscription
from audience_core.errors import RetryableError
from audience_core.observability.logging import get_logger

_RETRY_S = 1.0
_FAILED_S = 10.0

log = get_logger()


class LateSubscriptions:
    """Publishes one after another, beside the requests, until Kafka has taken it."""

    def __init__(self, publish_newest: Callable[[AudienceSubscription], Awaitable[None]]) -> None:
        self._publish_newest = publish_newest
        self._late: dict[tuple[str, int], AudienceSubscription] = {}
        self._noted = asyncio.Event()

    def note(self, state: AudienceSubscription) -> None:
        """Its record was not acknowledged in time."""
        self._late[state["account"], state["audience_id"]] = state
        self._noted.set()

    async def forever(self) -> None:
        """Publish what is noted."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            while self._late:
                audience, state = self._late.popitem()
                try:
                    await self._publish_newest(state)
                except RetryableError as error:
                    log.debug("late_subscription_not_published", error=str(error))
                    self._late.setdefault(audience, state)
                    await asyncio.sleep(_RETRY_S)
                except Exception:  # the others must not stay behind for good
                    log.exception("late_subscription_not_published")
                    self._late.setdefault(audience, state)
                    await asyncio.sleep(_FAILED_S)
