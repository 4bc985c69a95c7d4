"""Trying again while Redis, Kafka or a registry is away, as a live member of the group."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import Consumer, Message
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from audience_core.errors import ProducerQueueFull, RetryableError
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from membership_worker.shards import Shards

log = get_logger()
T = TypeVar("T")
_SHORTEST_S, _LONGEST_S = 0.1, 3.0


class Patience:
    """Calls until it works, with jitter, keeping the membership alive."""

    def __init__(
        self, consumer: Consumer, shards: Shards, stopping: Callable[[], bool], note: Callable[[Message], None]
    ) -> None:
        self._consumer = consumer
        self._shards = shards
        self._progress = shards.progress
        self._stopping = stopping
        self._note = note
        self._failures = 0

    def __call__(self, attempt: Callable[[], T]) -> T | None:
        """What the attempt returns; None when the worker is told to stop first."""
        retrying = Retrying(
            retry=retry_if_exception_type(RetryableError),
            wait=wait_random_exponential(multiplier=_SHORTEST_S, max=_LONGEST_S),
            sleep=self._keep_alive,
            before_sleep=self._note_retry,
            stop=lambda _: self._stopping(),
            retry_error_callback=lambda _: None,
        )
        result = retrying(attempt)
        self._progress.waits_for(None)
        return result

    def pause(self, error: RetryableError) -> None:
        """Wait after a failure that is met elsewhere: longer each time, until `worked` is called."""
        self._failures += 1
        self._progress.waits_for(str(error))
        self._keep_alive(random.uniform(0, min(_LONGEST_S, _SHORTEST_S * 2**self._failures)))  # noqa: S311 - jitter

    def worked(self) -> None:
        """The next pause is a short one again."""
        self._failures = 0

    def _keep_alive(self, seconds: float) -> None:
        """Sleep as a member of the group: poll, but fetch nothing."""
        self._shards.pause()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping():
            self._progress.turn()
            message = self._consumer.poll(min(left, 0.2))
            if message is not None:  # a record that comes all the same is missed by its shard, which reads it again
                self._note(message)
        self._shards.resume()

    def _note_retry(self, state: RetryCallState) -> None:
        metrics.WORKER_RETRIES.inc()
        error = state.outcome.exception() if state.outcome else None
        self._progress.waits_for(str(error))
        if not isinstance(error, ProducerQueueFull):
            log.warning("retrying", attempt=state.attempt_number, error=str(error))
