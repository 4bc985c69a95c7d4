"""`/v1/accounts/{account}/visitors/{mpid}`: one visitor's audiences, and their erasure."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from fastapi import APIRouter
from pydantic import BaseModel, Field

from audience_core.codec import Codec
from audience_core.domain.members import iso_time
from audience_core.domain.partitioning import MPID_MAX_CHARS, is_mpid, shard_of, visitor_key
from audience_core.domain.records import VisitorErased
from audience_core.errors import RedisUnavailable
from audience_core.kafka.producer import Outgoing
from audience_core.observability.logging import get_logger
from audience_core.redis import keys
from audience_core.redis.catalog import Catalog, parse
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from audience_core.redis.control import ControlStore
from audience_core.redis.erasures import ErasureStore
from audience_core.topics import CHANGES
from segment_api.errors import ERROR_ANSWERS, InvalidField
from segment_api.rows import shown_exits, shown_members

ACK_TIMEOUT_S = 5.0
log = get_logger()


class VisitorAudience(BaseModel):
    """An audience that a visitor is in, or has lately left."""

    audience_id: int
    name: str | None
    member: bool
    changed_at: str | None = Field(description="ISO-8601; null once the change is older than the ordering window")


class Visitor(BaseModel):
    """A visitor's audiences, ordered by id. A visitor that is not known has none."""

    mpid: str
    audiences: list[VisitorAudience]


class ErasureAccepted(BaseModel):
    """The erasure is durable; it is carried out when the visitor's shard reaches it, usually within a second."""

    request_id: str
    status: Literal["accepted"]


class RecordSender(Protocol):
    """What an erasure asks of the producer."""

    def send_and_wait(self, records: Sequence[Outgoing], timeout: float) -> None:
        """Return once the records are durable; raise KafkaUnavailable after `timeout` seconds."""
        ...


class VisitorReader:
    """Reads one visitor. Raises RedisUnavailable."""

    def __init__(self, client: AsyncRedis, shards: int) -> None:
        self._client: Any = client
        self._shards = shards

    async def read(self, account: str, mpid: str) -> Visitor:
        """What the account may know of the visitor; the same memberships as the SDKs are shown."""
        of_visitor = keys.of_visitor(shard_of(visitor_key(account, mpid), self._shards), account, mpid)
        async with async_redis_faults("reading a visitor"):
            pipe = self._client.pipeline(transaction=False)
            pipe.smembers(of_visitor.members)
            pipe.hgetall(of_visitor.guards)
            pipe.hgetall(keys.catalog(account))
            members, guards, catalog = await pipe.execute()
        return Visitor(mpid=mpid, audiences=_audiences(members, guards, parse(catalog)))


def _audiences(members: set[str], guards: dict[str, str], catalog: Catalog) -> list[VisitorAudience]:
    present = shown_members(members, catalog)
    # a member's own guard tells when it entered; it may have expired
    changed = shown_exits(guards, catalog) | {
        audience_id: abs(int(guards[member])) if member in guards else None for audience_id, member in present.items()
    }
    return [
        VisitorAudience(
            audience_id=audience_id,
            name=(catalog[audience_id]["name"] or None) if audience_id in catalog else None,
            member=audience_id in present,
            changed_at=None if (changed_at := changed[audience_id]) is None else iso_time(changed_at),
        )
        for audience_id in sorted(changed)
    ]


class Eraser:
    """Publishes erasures of single visitors."""

    def __init__(self, sender: RecordSender, codec: Codec, shards: int, erasures: ErasureStore) -> None:
        self._sender = sender
        self._codec = codec
        self._shards = shards
        self._erasures = erasures

    async def erase(self, account: str, mpid: str) -> str:
        """Return the request's id once the erasure is durable. Raises KafkaUnavailable."""
        request_id, now = str(uuid.uuid4()), time.time_ns() // 1_000_000
        record = VisitorErased(account=account, mpid=mpid, received_at=now, request_id=request_id)
        key = visitor_key(account, mpid)
        shard = shard_of(key, self._shards)
        outgoing = Outgoing(CHANGES, shard, key, self._codec.encode("VisitorErased", record))
        await asyncio.to_thread(self._sender.send_and_wait, [outgoing], ACK_TIMEOUT_S)
        try:
            await self._erasures.accept(account, request_id, {shard}, now)
        except RedisUnavailable as error:
            log.warning("erasure_not_noted", error=str(error))  # it is durable; its receipt will tell of it
        return request_id


def visitors_router(store: ControlStore, reader: VisitorReader, eraser: Eraser) -> APIRouter:
    """Routes of one visitor. The MPID is the rest of the path and may hold slashes."""
    router = APIRouter(prefix="/v1/accounts/{account}/visitors", responses=ERROR_ANSWERS)

    @router.get("/{mpid:path}")
    async def read_visitor(account: str, mpid: str) -> Visitor:
        _check(mpid)
        await store.account(account)
        return await reader.read(account, mpid)

    @router.delete("/{mpid:path}", status_code=202)
    async def erase_visitor(account: str, mpid: str) -> ErasureAccepted:
        _check(mpid)
        await store.account(account)
        return ErasureAccepted(request_id=await eraser.erase(account, mpid), status="accepted")

    return router


def _check(mpid: str) -> None:
    if not is_mpid(mpid):
        raise InvalidField(f"path.mpid: must be 1 to {MPID_MAX_CHARS} characters without control characters")
