"""`/v1/accounts/{account}/audiences`: audiences with their counts, the fullest first."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from audience_core.domain.members import iso_time
from audience_core.redis import keys
from audience_core.redis.catalog import Catalog, parse
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from audience_core.redis.control import ControlStore
from segment_api.errors import ERROR_ANSWERS, InvalidField

Position = tuple[int, int]
"""(-count, audience id): what the listing is ordered by"""


class ListedAudience(BaseModel):
    """An audience of the listing."""

    audience_id: int
    name: str
    description: str
    status: Literal["active", "removed"]
    count: int = Field(description="number of MPIDs in it")
    updated_at: str = Field(description="ISO-8601: when the count or the subscription last changed")


class Audiences(BaseModel):
    """One page of the listing. `next_cursor` is null on the last one."""

    audiences: list[ListedAudience]
    next_cursor: str | None


class Counted(TypedDict):
    """What the indexer wrote of an audience; the time in ms."""

    count: int
    updated_at: int


class ListingReader:
    """Reads the listing as the indexer wrote it. Raises RedisUnavailable."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client: Any = client

    async def read(self, account: str, *, populated: bool) -> list[ListedAudience]:
        """Audiences of the catalog, ordered by count (most first), then id; only active and populated ones if asked."""
        async with async_redis_faults("reading the listing"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hgetall(keys.catalog(account))
            pipe.hgetall(keys.index_counts(account))
            pipe.zrange(keys.index(account), 0, -1, withscores=True)
            catalog, stored, index = await pipe.execute()
        counted: dict[int, Counted] = {int(audience_id): json.loads(text) for audience_id, text in stored.items()}
        scores = {int(audience_id): int(score) for audience_id, score in index}
        listed = _listed(parse(catalog), counted, scores)
        if populated:
            listed = [a for a in listed if a.status == "active" and a.audience_id in scores]
        return sorted(listed, key=_position)

    async def some(self, account: str, audience_ids: Sequence[int]) -> list[ListedAudience]:
        """Some audiences of the catalog, in the order asked for; those that it does not know are left out."""
        if not audience_ids:
            return []
        fields = [str(audience_id) for audience_id in audience_ids]
        async with async_redis_faults("reading the listing"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hmget(keys.catalog(account), fields)
            pipe.hmget(keys.index_counts(account), fields)
            pipe.zmscore(keys.index(account), fields)
            states, stored, scores = await pipe.execute()
        catalog = parse({field: text for field, text in zip(fields, states, strict=True) if text})
        counted = {int(field): json.loads(text) for field, text in zip(fields, stored, strict=True) if text}
        counts = {int(field): int(score) for field, score in zip(fields, scores, strict=True) if score is not None}
        found = {audience.audience_id: audience for audience in _listed(catalog, counted, counts)}
        return [found[audience_id] for audience_id in audience_ids if audience_id in found]


def _listed(catalog: Catalog, counted: dict[int, Counted], scores: dict[int, int]) -> list[ListedAudience]:
    found = []
    for audience_id, state in catalog.items():
        active = state["status"] == "ACTIVE"
        total = counted.get(audience_id, Counted(count=0, updated_at=0))
        found.append(
            ListedAudience(
                audience_id=audience_id,
                name=state["name"],
                description=state["description"],
                status="active" if active else "removed",
                # nobody is shown in a removed audience, even before the indexer has noticed
                count=scores.get(audience_id, total["count"]) if active else 0,
                updated_at=iso_time(max(total["updated_at"], state["updated_at"])),
            )
        )
    return found


def _position(audience: ListedAudience) -> Position:
    return -audience.count, audience.audience_id


def encode_cursor(position: Position) -> str:
    """Opaque text of a position. It names a place in the order, so it holds while audiences come and go."""
    return urlsafe_b64encode(f"{-position[0]},{position[1]}".encode()).decode()


def decode_cursor(cursor: str) -> Position:
    """Inverse of encode_cursor; raises InvalidField when the text is no cursor."""
    try:
        count, audience_id = urlsafe_b64decode(cursor.encode()).decode().split(",")
        return -int(count), int(audience_id)
    except ValueError:
        raise InvalidField("query.cursor: not a next_cursor of this listing; leave it out for the first page") from None


def listing_router(store: ControlStore, reader: ListingReader) -> APIRouter:
    """Route of the listing."""
    router = APIRouter(prefix="/v1/accounts/{account}/audiences", responses=ERROR_ANSWERS)

    @router.get("")
    async def list_audiences(
        account: str,
        *,
        populated: Annotated[bool, Query(description="false = empty and removed ones too")] = True,
        q: Annotated[str, Query(max_length=255, description="part of the name in any case, or the exact id")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        cursor: Annotated[str | None, Query(max_length=100, description="next_cursor of the page before")] = None,
    ) -> Audiences:
        after = decode_cursor(cursor) if cursor else None
        await store.account(account)
        found = [
            audience
            for audience in await reader.read(account, populated=populated)
            if (q.casefold() in audience.name.casefold() or q == str(audience.audience_id))
            and (after is None or _position(audience) > after)
        ]
        page = found[:limit]
        more = len(found) > limit
        return Audiences(audiences=page, next_cursor=encode_cursor(_position(page[-1])) if more else None)

    return router
