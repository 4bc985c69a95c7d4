"""The spans of `tracing.py`, with OpenTelemetry, sent to a collector by OTLP over HTTP.

The SDK reads its own variables too: OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_SCHEDULE_DELAY.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from confluent_kafka import Message
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from audience_core.observability.tracing import HEADER, header_of

FOLLOWED = 16
"""Traces that one batch is shown in; a batch of a thousand traced records must not cost a thousand spans"""
_EXPORT_S = 2.0
_HEADER = HEADER.encode()
_Parent = tuple[Context, Message]


class OtlpTracing:
    """Spans of one process, named `audience-<service>`. Who sends a sampled header decides; else `ratio` does."""

    def __init__(self, endpoint: str, ratio: float, service: str) -> None:
        about = {"service.name": f"audience-{service}", "service.version": version("audience-stream")}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)), resource=Resource.create(about), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("audience-stream")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[None]:
        """Around a Firehose request."""
        given = next((value for name, value in headers if name == _HEADER), b"")
        with self._tracer.start_as_current_span(
            "POST /firehose",
            context=self._extract(given),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": "POST", "http.route": "/firehose"},
            # an exception's text is not ours to send on
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield

    def note(self, attributes: Mapping[str, str | int], *, failed: bool = False) -> None:
        """Add attributes to the open span."""
        span = trace.get_current_span()
        span.set_attributes(dict(attributes))
        if failed:
            span.set_status(Status(StatusCode.ERROR))

    @contextmanager
    def sending(self, topic: str) -> Iterator[bytes | None]:
        """Around the publishing of records."""
        with self._tracer.start_as_current_span(
            f"send {topic}",
            kind=SpanKind.PRODUCER,
            attributes={"messaging.system": "kafka", "messaging.destination.name": topic},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield self._header(span)
            except Exception as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    @contextmanager
    def following(self, name: str, messages: Sequence[Message]) -> Iterator[None]:
        """Around the work on a batch."""
        work = self.begin(name, messages)
        try:
            yield
        finally:
            if work is not None:
                work.end()

    def begin(self, name: str, messages: Sequence[Message]) -> "OtlpWork | None":
        """Spans of the work on a batch, which overlap those of the batch before it."""
        parents = self._parents(messages)
        if not parents:
            return None
        (newest, message), *others = parents
        span = self._tracer.start_span(
            name,
            context=newest,
            kind=SpanKind.CONSUMER,
            links=[Link(_span_context(other)) for other, _ in others],
            attributes=_about(message, len(messages)),
        )
        link = [Link(span.get_span_context())]
        beside = [
            self._tracer.start_span(
                name, context=other, kind=SpanKind.CONSUMER, links=link, attributes=_about(of_other, len(messages))
            )
            for other, of_other in others
        ]
        return OtlpWork([span, *beside], self._header(span))

    def _header(self, span: Span) -> bytes | None:
        """A span's context in W3C's form; None when it is not sampled."""
        if not span.get_span_context().trace_flags.sampled:
            return None
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=trace.set_span_in_context(span, Context()))
        return carrier[HEADER].encode()

    def close(self) -> None:
        """Send what is left."""
        self._provider.force_flush(int(_EXPORT_S * 1000))
        self._provider.shutdown()

    def _extract(self, header: bytes) -> Context:
        # an empty context first: what is open in this thread is not the parent of what comes from outside
        return self._propagator.extract({HEADER: header.decode("latin-1")}, context=Context())

    def _parents(self, messages: Sequence[Message]) -> list[_Parent]:
        """Each sampled trace once, with its newest message; newest first."""
        found: dict[int, _Parent] = {}
        for message in reversed(messages):
            header = header_of(message)
            if header is None:
                continue
            context = self._extract(header)
            parent = _span_context(context)
            if parent.is_valid and parent.trace_flags.sampled and parent.trace_id not in found:
                found[parent.trace_id] = (context, message)
                if len(found) == FOLLOWED:
                    break
        return list(found.values())


class OtlpWork:
    """Open spans of one piece of work."""

    def __init__(self, spans: Sequence[Span], header: bytes | None) -> None:
        self._spans = spans
        self.header = header

    def end(self) -> None:
        """End them all."""
        for span in self._spans:
            span.end()


def _span_context(context: Context) -> trace.SpanContext:
    return trace.get_current_span(context).get_span_context()


def _about(message: Message, size: int) -> dict[str, str | int]:
    waited = time.time_ns() // 1_000_000 - message.timestamp()[1]
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": message.topic() or "",
        "messaging.destination.partition.id": str(message.partition()),
        "messaging.kafka.offset": message.offset() or 0,
        "messaging.batch.message_count": size,
        # from the producer's stamp to here, on two clocks
        "audience.kafka_ms": max(0, waited),
    }
