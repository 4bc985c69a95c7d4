"""The gateway's answers: one route that matters, written plainly for speed."""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from audience_core.errors import KafkaUnavailable, ProducerQueueFull, RedisUnavailable, RetryableError, SpoolUnavailable
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.observability.probes import Answer as ProbeAnswer
from audience_core.observability.tracing import Tracing
from audience_core.redis.control import KeyRecord
from ingest_gateway import answers
from ingest_gateway.activity import ActivityLog, Seen
from ingest_gateway.answers import Answer
from ingest_gateway.body import Headers, Refused, header
from ingest_gateway.caches import CatalogCache, KeyRing
from ingest_gateway.erasure import Erasures
from ingest_gateway.firehose import (
    MESSAGE_TYPES,
    ErasureMessage,
    Membership,
    Message,
    SubscriptionMessage,
    explain,
    read_membership,
)
from ingest_gateway.membership import Context, Reading, parts_in, read_profiles
from ingest_gateway.outgoing import Records
from ingest_gateway.probing import PATHS as PROBES
from ingest_gateway.probing import Probes
from ingest_gateway.publisher import Publisher
from ingest_gateway.quotas import Quotas, changes_in
from ingest_gateway.registration import EPOCH_SETTING, registration
from ingest_gateway.request_reader import FIREHOSE, Request
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.subscriptions import Subscriptions

M = TypeVar("M")

LARGE = 2000
"""A message with more audiences and identities is read in a thread: the other requests must not wait for it"""
MAX_SUBSCRIPTION = 100_000
"""Characters of a subscription's texts; it has to fit into one record of Kafka."""

log = get_logger()
_REASONS: dict[type[RetryableError], str] = {
    KafkaUnavailable: "kafka",
    ProducerQueueFull: "producer_queue_full",
    RedisUnavailable: "redis",
    SpoolUnavailable: "spool",
}


class Gateway:
    """Answers Firehose messages. Everything it needs is passed in."""

    def __init__(  # noqa: PLR0913 - its parts, passed in by main alone
        self,
        settings: GatewaySettings,
        *,
        keys: KeyRing,
        catalogs: CatalogCache,
        subscriptions: Subscriptions,
        erasures: Erasures,
        publisher: Publisher,
        records: Records,
        activity_log: ActivityLog,
        probes: Probes,
        tracing: Tracing | None = None,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._catalogs = catalogs
        self._subscriptions = subscriptions
        self._erasures = erasures
        self._publisher = publisher
        self._records = records
        self._probes = probes
        self._activity = activity_log
        self._log = log.bind()
        self._logs_requests = self._log.is_enabled_for(logging.INFO)
        self._tracing = tracing
        self._pepper = settings.required_pepper()
        self._quotas = Quotas(settings.quota_changes_per_second, settings.quota_burst)
        self._handlers: dict[str, Callable[[dict[str, Any], Seen], Awaitable[Answer]]] = {
            "module_registration_request": self._register,
            "audience_subscription_request": self._subscribe,
            "audience_membership_change_request": self._change,
            "event_processing_request": self._ignore_event,
        }

    def answer(self, request: Request) -> Awaitable[Answer]:
        """Answer a request, whatever it is. Never raises."""
        if request.path != FIREHOSE:
            return self._elsewhere(request.path)
        return self._firehose(request) if self._tracing is None else self._traced(request, self._tracing)

    async def _elsewhere(self, path: bytes) -> Answer:
        return _probe(await self._probes.answer(path)) if path in PROBES else answers.NOT_FOUND

    async def _traced(self, request: Request, tracing: Tracing) -> Answer:
        with tracing.request(request.headers):
            return await self._firehose(request)

    async def _firehose(self, request: Request) -> Answer:
        kind = "none"
        started, seen = time.perf_counter(), Seen()
        try:
            message = _message(request)
            kind = _type_of(message)
            answer = await self._answer(kind, message, request.headers, seen)
        except Refused as refused:
            answer = refused.answer
        except RetryableError as error:
            metrics.GATEWAY_UNAVAILABLE.labels(_REASONS.get(type(error), "other")).inc()
            answer = answers.unavailable(str(error))
        except Exception as error:
            log.error(
                "firehose_failed",
                type=kind,
                error=type(error).__name__,
                exc_info=self._settings.log_level == "debug",
            )
            metrics.GATEWAY_UNAVAILABLE.labels("internal").inc()
            answer = answers.INTERNAL
        self._note(kind, answer, time.perf_counter() - started, seen)
        return answer

    def _note(self, kind: str, answer: Answer, seconds: float, seen: Seen) -> None:
        metrics.GATEWAY_REQUESTS.add(1, kind, str(answer.status))
        metrics.GATEWAY_LATENCY.observe(seconds)
        self._activity.note(kind, answer, seconds, seen)
        if self._tracing is not None:
            about: dict[str, str | int] = {"audience.message_type": kind, "http.response.status_code": answer.status}
            self._tracing.note(about | seen.counted(), failed=answer.status >= 500)  # noqa: PLR2004 - an error of ours
        if self._logs_requests:
            self._log.info("firehose", type=kind, status=answer.status, duration_ms=round(seconds * 1000, 2))

    def _answer(self, kind: str, message: dict[str, Any], headers: Headers, seen: Seen) -> Awaitable[Answer]:
        if kind == "dsr_processing_request":
            return self._erase(message, seen, trusted=self._is_mparticle(headers))
        return self._handlers[kind](message, seen)

    async def _register(self, raw: dict[str, Any], _: Seen) -> Answer:
        message = _read(Message.model_validate, raw)
        fields = registration(identity_erasure=self._settings.identity_erasure)
        return answers.response("module_registration_response", message.id, **fields)

    async def _ignore_event(self, raw: dict[str, Any], _: Seen) -> Answer:
        return answers.event_ignored(_read(Message.model_validate, raw).id)

    async def _subscribe(self, raw: dict[str, Any], seen: Seen) -> Answer:
        message = _read(SubscriptionMessage.model_validate, raw)
        key = await self._key(message.api_key, seen)
        if key is None or key["status"] != "active":
            return answers.UNKNOWN_KEY
        now, occurred_at = _times(message)
        if occurred_at > now + 86_400_000:
            raise Refused(answers.unreadable("timestamp_ms is over a day ahead of the gateway's clock"))
        if message.size > MAX_SUBSCRIPTION:
            raise Refused(answers.TOO_LARGE)
        state = await self._subscriptions.apply(message, key["account"], occurred_at, self._publisher)
        return answers.subscribed(message.id, {EPOCH_SETTING: str(state["epoch"])})

    async def _change(self, raw: dict[str, Any], seen: Seen) -> Answer:
        message = _read(read_membership, raw)
        if message.api_key is None and not message.user_profiles:
            return answers.membership_changed(message.id)
        key = seen.key = self._keys.known(message.api_key) if message.api_key else None
        if key is None:
            key = await self._key(message.api_key, seen)
        if key is None:
            return answers.UNKNOWN_KEY
        if key["status"] == "revoked":
            return answers.membership_changed(message.id, suspend=True)
        if message.user_profiles:
            quotas = self._quotas
            if quotas.limited and (seconds := quotas.take(key["account"], changes_in(message.user_profiles))):
                metrics.GATEWAY_THROTTLED.inc()
                return answers.over_quota(seconds)
            reading = await self._reading_of(message, key["account"], seen)
            await self._publisher.publish(reading.records)
            _count(len(message.user_profiles), reading)
        return answers.membership_changed(message.id)

    async def _reading_of(self, message: Membership, account: str, seen: Seen) -> Reading:
        now, occurred_at = _times(message)
        profiles, fresh = message.user_profiles, False
        large = parts_in(profiles) > LARGE
        pepper = self._pepper if self._settings.identity_erasure else None
        while True:
            catalog = None if fresh else self._catalogs.current(account)
            if catalog is None:
                catalog = await self._catalogs.of(account, fresh=fresh)
            context = Context(account, message.id or "", occurred_at, now, catalog, pepper)
            if large:
                reading = await asyncio.to_thread(read_profiles, profiles, context, self._records)
            else:
                reading = read_profiles(profiles, context, self._records)
            seen.reading = reading
            # a change is dropped for good, so first make sure that the audience was not just subscribed again elsewhere
            if reading.unsubscribed == 0 or fresh:
                return reading
            fresh = True

    async def _erase(self, raw: dict[str, Any], seen: Seen, *, trusted: bool) -> Answer:
        message = _read(ErasureMessage.model_validate, raw)
        key = await self._key(message.api_key, seen)
        if key is None and message.api_key is not None:
            return answers.UNKNOWN_KEY
        await self._erasures.apply(message, key["account"] if key else None, self._publisher, trusted=trusted)
        return answers.erased(message.id)

    async def _key(self, secret: str | None, seen: Seen) -> KeyRecord | None:
        if secret is None:
            return None
        key = seen.key = await self._keys.find(secret)
        seen.unknown_key = key is None
        return key

    def _is_mparticle(self, headers: Headers) -> bool:
        token = self._settings.firehose_token.get_secret_value()
        given = header(headers, b"authorization")
        return bool(token) and hmac.compare_digest(given.encode(), f"Token {token}".encode())


def _message(request: Request) -> dict[str, Any]:
    if request.problem is not None or request.body is None:
        raise Refused(request.problem or answers.METHOD_NOT_ALLOWED)
    return request.body.parse()


def _type_of(message: dict[str, Any]) -> str:
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in MESSAGE_TYPES:
        raise Refused(answers.unreadable("type is absent or unknown"))
    return kind


def _read(read: Callable[[dict[str, Any]], M], raw: dict[str, Any]) -> M:
    try:
        return read(raw)
    except ValidationError as error:
        raise Refused(answers.unreadable(explain(error))) from None


def _count(profiles: int, reading: Reading) -> None:
    metrics.GATEWAY_PROFILES.add(profiles)
    metrics.GATEWAY_CHANGES.add(reading.enters, "enter")
    metrics.GATEWAY_CHANGES.add(reading.changes - reading.enters, "exit")


def _now() -> int:
    return time.time_ns() // 1_000_000


def _times(message: Message | Membership) -> tuple[int, int]:
    """(now, when the message's content happened); the latter is 0 when the sender did not say."""
    return _now(), max(message.timestamp_ms or 0, 0)


def _probe(answer: ProbeAnswer) -> Answer:
    return Answer(answer.status, answer.body, content_type=answer.content_type.encode())
