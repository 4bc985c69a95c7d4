"""Traces of a change through the services; off unless AUDIENCE_TRACING_ENDPOINT is set.

OpenTelemetry is an optional part of the package and imported by `otlp.py` alone. Where tracing is off there is no
`Tracing`, so a service asks one time for each request or batch whether it is None, and no record carries a header.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, cast

from confluent_kafka import Message

from audience_core.errors import SettingsError
from audience_core.settings import CoreSettings

HEADER = "traceparent"
"""Header of an HTTP request and of a Kafka record, as W3C's Trace Context has it; on sampled ones only"""


class Work(Protocol):
    """Work that was begun on a traced batch."""

    @property
    def header(self) -> bytes | None:
        """What a record that comes of the work is to carry."""
        ...

    def end(self) -> None:
        """The work is done, or given up."""
        ...


class Tracing(Protocol):
    """Makes spans. None of its methods raises, or waits for the collector."""

    def request(self, headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[None]:
        """Around a Firehose request: in the trace that its headers name, else in a new one."""
        ...

    def note(self, attributes: Mapping[str, str | int], *, failed: bool = False) -> None:
        """Add what is known by now to the open span: never an MPID, a key, an identity or a body."""
        ...

    def sending(self, topic: str) -> AbstractContextManager[bytes | None]:
        """Around the publishing of records; gives the header that they are to carry."""
        ...

    def following(self, name: str, messages: Sequence[Message]) -> AbstractContextManager[None]:
        """Around the work on a batch: a span in the trace of each traced message, up to a bound, linked to the span
        of the newest. Nothing when no message is traced."""
        ...

    def begin(self, name: str, messages: Sequence[Message]) -> Work | None:
        """The same spans for work that ends elsewhere; they are never the open ones. None when no message is traced."""
        ...

    def close(self) -> None:
        """Send what is left, within a bound."""
        ...


def open_tracing(settings: CoreSettings, service: str) -> Tracing | None:
    """None when tracing is off. Raises SettingsError when it is on and OpenTelemetry is not installed."""
    if not settings.tracing_endpoint:
        return None
    try:
        from audience_core.observability.otlp import OtlpTracing
    except ImportError as error:
        raise SettingsError(
            "AUDIENCE_TRACING_ENDPOINT is set and OpenTelemetry is not installed: install audience-stream[tracing]"
        ) from error
    return OtlpTracing(settings.tracing_endpoint, settings.tracing_ratio, service)


def is_traced(message: Message) -> bool:
    """Whether a Kafka record carries the header."""
    return header_of(message) is not None


def header_of(message: Message) -> bytes | None:
    """The header of a Kafka record."""
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])  # a dict only where one is sent
    return next((value for name, value in headers if name == HEADER), None)
