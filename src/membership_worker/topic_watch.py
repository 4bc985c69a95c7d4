"""Notices that the topic was recreated: a client goes on at the same offsets of the new one without a word."""

import threading

from audience_core.errors import RetryableError, ShardRefused
from audience_core.kafka.admin import TopicAdmin
from audience_core.observability.logging import get_logger
from audience_core.topics import CHANGES

_EVERY_S = 1.0
_TIMEOUT_S = 1.0
log = get_logger()


class TopicWatch:
    """Compares the topic's id with the one that the worker began with."""

    def __init__(self, admin: TopicAdmin, topic_id: str) -> None:
        self.topic_id = topic_id
        self._admin = admin
        self._seen = topic_id
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topic-watch", daemon=True)

    def start(self) -> None:
        """Begin to ask once a second, in a thread: while brokers are away an answer takes its time."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self._thread.join(_TIMEOUT_S + 1)

    def check(self) -> None:
        """Compare what was seen last. Raises ShardRefused."""
        if self._seen != self.topic_id:
            raise ShardRefused(
                f"{CHANGES} was recreated: this worker began with id {self.topic_id}, it now has id {self._seen}. "
                "Run `audience-stream reset-offsets` to go on with the new topic, then start again"
            )

    def ask(self) -> None:
        """Ask now, and compare. Raises ShardRefused.

        While no controller answers, nobody can have recreated the topic just now either, so nothing waits for one.
        """
        try:
            self._seen = self._admin.topic_id(CHANGES, timeout=_TIMEOUT_S)
        except RetryableError as error:
            log.debug("topic_not_asked", error=str(error))
        self.check()

    def _run(self) -> None:
        while not self._ending.wait(_EVERY_S):
            try:
                self.ask()
            except ShardRefused:
                return  # the worker's loop meets it by itself
