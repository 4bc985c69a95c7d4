"""Traces: one id from the request to the listing, nothing private in them, and no header where tracing is off."""

import secrets
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from audience_core.errors import SettingsError
from audience_core.observability.tracing import open_tracing
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES, COUNTS
from tests.pipeline.collector import Collector, Span
from tests.pipeline.running import Stack, eventually
from tests.pipeline.starting import started

SERVICES = {"audience-gateway", "audience-worker", "audience-indexer"}
AUDIENCE = 8801


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Stack]:
    tracing = {
        "AUDIENCE_TRACING_ENDPOINT": collector.url,
        "AUDIENCE_TRACING_RATIO": "0",
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # milliseconds
    }
    with started(tmp_path_factory.mktemp("traced"), **tracing) as running:
        assert running.subscribe(AUDIENCE).status_code == 200
        yield running


def change(stack: Stack, *mpids: str, trace: str = "", sampled: bool = True, **fields: Any) -> httpx.Response:
    """One message, with a `traceparent` when a trace is named."""
    body = {
        "type": "audience_membership_change_request",
        "id": str(uuid.uuid4()),
        "timestamp_ms": time.time_ns() // 1_000_000,
        "account": {"account_id": 1, "account_settings": {"apiKey": stack.ready["api_key"]}},
        "user_profiles": [
            {"mpid": mpid, "audiences": [{"audience_id": AUDIENCE, "audience_name": "A", "action": "add"}]}
            for mpid in mpids
        ],
        **fields,
    }
    return stack.post(body, **({"traceparent": header(trace, sampled=sampled)} if trace else {}))


def header(trace: str, *, sampled: bool = True) -> str:
    return f"00-{trace}-{secrets.token_hex(8)}-0{int(sampled)}"


def new_trace() -> str:
    return secrets.token_hex(16)


def records(stack: Stack, topic: str) -> Iterator[Message]:
    """Everything in a topic."""
    shards = int(stack.ready["environment"]["AUDIENCE_SHARDS"])
    address = stack.ready["kafka_bootstrap"]
    consumer = Consumer({"bootstrap.servers": address, "group.id": "test-tracing", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, shard, OFFSET_BEGINNING) for shard in range(shards)])
    try:
        unread = set(range(shards))
        while unread:
            message = consumer.poll(10)
            assert message is not None
            if message.error() is None:
                yield message
            else:
                unread.discard(message.partition() or 0)
    finally:
        consumer.close()


def test_one_trace_leads_from_the_request_through_kafka_and_the_worker_to_the_listing(
    traced: Stack, collector: Collector
) -> None:
    trace = new_trace()
    assert change(traced, "t-1", trace=trace).status_code == 200
    eventually(lambda: collector.services(trace), 20, SERVICES)
    spans: dict[str, Span] = {span.name: span for span in collector.traces[trace]}
    request, send = spans["POST /firehose"], spans[f"send {CHANGES}"]
    work, write = spans[f"process {CHANGES}"], spans["write listing"]
    assert [send.parent_id, work.parent_id, write.parent_id] == [request.span_id, send.span_id, work.span_id]
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["audience.message_type"] == "audience_membership_change_request"
    assert request.attributes["audience.changes"] == 1
    assert work.attributes["audience.kafka_ms"] < 20_000
    assert write.attributes["messaging.destination.name"] == COUNTS


def test_each_traced_request_of_a_batch_finds_the_worker_in_its_own_trace(traced: Stack, collector: Collector) -> None:
    traces = [new_trace() for _ in range(8)]
    for trace in traces:
        assert change(traced, "t-2", trace=trace).status_code == 200
    eventually(lambda: all("audience-worker" in collector.services(trace) for trace in traces), 20)


def test_a_request_that_is_not_sampled_leaves_no_span_and_no_header(traced: Stack, collector: Collector) -> None:
    unsampled, after = new_trace(), new_trace()
    assert change(traced, "t-3-unsampled", trace=unsampled, sampled=False).status_code == 200
    assert change(traced, "t-3-rest").status_code == 200  # the ratio is 0
    assert change(traced, "t-3-traced", trace=after).status_code == 200
    eventually(lambda: collector.services(after), 20, SERVICES)
    assert unsampled not in collector.traces
    found = {message.key(): message.headers() for message in records(traced, CHANGES)}
    assert found[b"demo:t-3-unsampled"] is None
    assert found[b"demo:t-3-rest"] is None
    assert found[b"demo:t-3-traced"]


def test_a_trace_tells_nothing_of_people_or_keys(traced: Stack, collector: Collector) -> None:
    trace = new_trace()
    broken = [{"mpid": "t-4-private", "audiences": [{"audience_id": "secret-text"}]}]
    assert change(traced, trace=trace, user_profiles=broken).status_code == 200
    eventually(lambda: any(s.name == "POST /firehose" for s in collector.traces.get(trace, [])), 20)
    [request] = [span for span in collector.traces[trace] if span.name == "POST /firehose"]
    assert request.attributes["audience.refused"] == 1
    for secret in ("t-4-private", "secret-text", "t-1", str(traced.ready["api_key"])):
        assert secret.encode() not in collector.raw


def test_an_odd_header_is_no_trace_and_harms_nobody(traced: Stack) -> None:
    for odd in ("", "x", "00-0-0-01", f"00-{'0' * 32}-{'0' * 16}-01", "ü" * 100, "00-" + "f" * 4000):
        answer = traced.http.post(
            f"{traced.ready['gateway_url']}/firehose",
            json={"type": "module_registration_request"},
            headers={b"traceparent": odd.encode("latin-1")},
        )
        assert answer.status_code == 200, odd


def test_records_carry_no_header_while_tracing_is_off(stack: Stack) -> None:
    assert stack.subscribe(AUDIENCE).status_code == 200
    assert change(stack, "t-5", trace=new_trace()).status_code == 200
    eventually(lambda: stack.segments("t-5"), 5, {str(AUDIENCE): "member"})
    for topic in (CHANGES, COUNTS):
        assert not any(message.headers() for message in records(stack, topic))


def test_nothing_of_opentelemetry_is_made_while_tracing_is_off() -> None:
    assert open_tracing(CoreSettings(), "gateway") is None


def test_tracing_without_opentelemetry_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audience_core.observability.otlp", None)
    with pytest.raises(SettingsError, match=r"audience-stream\[tracing\]"):
        open_tracing(CoreSettings(tracing_endpoint="http://127.0.0.1:1"), "gateway")


def test_a_collector_that_is_away_costs_spans_and_neither_requests_nor_the_end() -> None:
    tracing = open_tracing(CoreSettings(tracing_endpoint="http://127.0.0.1:9", tracing_ratio=1), "gateway")
    assert tracing is not None
    with tracing.request([]), tracing.sending(CHANGES) as given:
        assert given is not None
    started_at = time.monotonic()
    tracing.close()
    assert time.monotonic() - started_at < 10
