"""The ASGI application: one route that matters, written plainly for speed."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError

from audience_core.errors import KafkaUnavailable, ProducerQueueFull, RedisUnavailable, RetryableError, SpoolUnavailable
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.observability.probes import Answer as ProbeAnswer
from audience_core.observability.tracing import Tracing
from audience_core.redis.control import KeyRecord
from ingest_gateway import activity, answers, body
from ingest_gateway.activity import ActivityLog
from ingest_gateway.answers import Answer
from ingest_gateway.body import Disconnected, Receive, Refused
from ingest_gateway.bounds import TaskBound
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
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.subscriptions import Subscriptions

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
M = TypeVar("M")

LARGE = 2000
"""A message with more audiences and identities is read in a thread: the other requests must not wait for it"""
MAX_SUBSCRIPTION = 100_000
"""Characters of a subscription's texts; it has to fit into one record of Kafka."""

log = get_logger()
# looked up once: `labels` takes longer than counting
_requests = cache(lambda kind, status: metrics.GATEWAY_REQUESTS.labels(kind, str(status)))
_ENTERS, _EXITS = metrics.GATEWAY_CHANGES.labels("enter"), metrics.GATEWAY_CHANGES.labels("exit")
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
        self._log = log.bind()  # filters at once what is below the level
        self._tracing = tracing
        self._pepper = settings.required_pepper()
        self._body_bound = TaskBound(settings.request_timeout.total_seconds())
        self._quotas = Quotas(settings.quota_changes_per_second, settings.quota_burst)
        self._handlers: dict[str, Callable[[dict[str, Any]], Awaitable[Answer]]] = {
            "module_registration_request": self._register,
            "audience_subscription_request": self._subscribe,
            "audience_membership_change_request": self._change,
            "event_processing_request": self._ignore_event,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == "/firehose":
            if self._tracing is None:
                await self._firehose(scope, receive, send)
            else:
                with self._tracing.request(scope["headers"]):
                    await self._firehose(scope, receive, send)
        elif path in PROBES:
            await _send_probe(send, await self._probes.answer(path))
        else:
            await _send(send, answers.NOT_FOUND)

    async def _firehose(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = "none"
        started = time.perf_counter()
        self._activity.begin()
        try:
            with self._body_bound.within():
                data = await body.read(receive, scope, self._settings.body_limit)
            started = time.perf_counter()
            message = body.parse(data)
            kind = _type_of(message)
            answer = await self._answer(kind, message, scope)
        except Disconnected:
            return
        except TimeoutError:
            answer = answers.TOO_SLOW
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
        await _send(send, answer)
        duration = time.perf_counter() - started
        _requests(kind, answer.status).inc()
        metrics.GATEWAY_LATENCY.observe(duration)
        self._activity.note(kind, answer, duration)
        if self._tracing is not None:
            about: dict[str, str | int] = {"audience.message_type": kind, "http.response.status_code": answer.status}
            self._tracing.note(about | activity.counted(), failed=answer.status >= 500)  # noqa: PLR2004 - an error of ours
        self._log.info("firehose", type=kind, status=answer.status, duration_ms=round(duration * 1000, 2))

    async def _answer(self, kind: str, message: dict[str, Any], scope: Scope) -> Answer:
        if kind == "dsr_processing_request":
            return await self._erase(message, trusted=self._is_mparticle(scope))
        return await self._handlers[kind](message)

    async def _register(self, raw: dict[str, Any]) -> Answer:
        message = _read(Message.model_validate, raw)
        fields = registration(identity_erasure=self._settings.identity_erasure)
        return answers.response("module_registration_response", message.id, **fields)

    async def _ignore_event(self, raw: dict[str, Any]) -> Answer:
        return answers.event_ignored(_read(Message.model_validate, raw).id)

    async def _subscribe(self, raw: dict[str, Any]) -> Answer:
        message = _read(SubscriptionMessage.model_validate, raw)
        key = await self._key(message.api_key)
        if key is None or key["status"] != "active":
            return answers.UNKNOWN_KEY
        now, occurred_at = _times(message)
        if occurred_at > now + 86_400_000:
            raise Refused(answers.unreadable("timestamp_ms is over a day ahead of the gateway's clock"))
        if message.size > MAX_SUBSCRIPTION:
            raise Refused(answers.TOO_LARGE)
        state = await self._subscriptions.apply(message, key["account"], occurred_at, self._publisher)
        return answers.subscribed(message.id, {EPOCH_SETTING: str(state["epoch"])})

    async def _change(self, raw: dict[str, Any]) -> Answer:
        message = _read(read_membership, raw)
        if message.api_key is None and not message.user_profiles:
            return answers.membership_changed(message.id)
        key = await self._key(message.api_key)
        if key is None:
            return answers.UNKNOWN_KEY
        if key["status"] == "revoked":
            return answers.membership_changed(message.id, suspend=True)
        if message.user_profiles:
            quotas = self._quotas
            if quotas.limited and (seconds := quotas.take(key["account"], changes_in(message.user_profiles))):
                metrics.GATEWAY_THROTTLED.inc()
                return answers.over_quota(seconds)
            reading = await self._reading_of(message, key["account"])
            await self._publisher.publish(reading.records)
            _count(len(message.user_profiles), reading)
        return answers.membership_changed(message.id)

    async def _reading_of(self, message: Membership, account: str) -> Reading:
        now, occurred_at = _times(message)
        profiles, fresh = message.user_profiles, False
        large = parts_in(profiles) > LARGE
        pepper = self._pepper if self._settings.identity_erasure else None
        while True:
            catalog = await self._catalogs.of(account, fresh=fresh)
            context = Context(account, message.id or "", occurred_at, now, catalog, pepper)
            if large:
                reading = await asyncio.to_thread(read_profiles, profiles, context, self._records)
            else:
                reading = read_profiles(profiles, context, self._records)
            activity.see_reading(reading)
            # a change is dropped for good, so first make sure that the audience was not just subscribed again elsewhere
            if reading.unsubscribed == 0 or fresh:
                return reading
            fresh = True

    async def _erase(self, raw: dict[str, Any], *, trusted: bool) -> Answer:
        message = _read(ErasureMessage.model_validate, raw)
        key = await self._key(message.api_key)
        if key is None and message.api_key is not None:
            return answers.UNKNOWN_KEY
        await self._erasures.apply(message, key["account"] if key else None, self._publisher, trusted=trusted)
        return answers.erased(message.id)

    async def _key(self, secret: str | None) -> KeyRecord | None:
        return None if secret is None else activity.see_key(await self._keys.find(secret))

    def _is_mparticle(self, scope: Scope) -> bool:
        token = self._settings.firehose_token.get_secret_value()
        given = body.header(scope["headers"], b"authorization")
        return bool(token) and hmac.compare_digest(given.encode(), f"Token {token}".encode())


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
    metrics.GATEWAY_PROFILES.inc(profiles)
    if reading.enters:
        _ENTERS.inc(reading.enters)
    if reading.changes > reading.enters:
        _EXITS.inc(reading.changes - reading.enters)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _times(message: Message | Membership) -> tuple[int, int]:
    """(now, when the message's content happened); the latter is 0 when the sender did not say."""
    return _now(), max(message.timestamp_ms or 0, 0)


async def _send(send: Send, answer: Answer) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer.body)).encode())]
    if answer.retry_after:
        headers.append((b"retry-after", str(answer.retry_after).encode()))
    if answer.close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _send_probe(send: Send, answer: ProbeAnswer) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
