"""`/v1/accounts/{account}/erasures/{request_id}`: what became of an erasure."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from audience_core.domain.members import iso_time
from audience_core.errors import NotFound
from audience_core.redis.control import ControlStore
from audience_core.redis.erasures import ErasureStore
from segment_api.errors import ERROR_ANSWERS


class ErasureShards(BaseModel):
    """Shards that have to look for the person, and those that have done so."""

    total: int | None = Field(description="null when only receipts are known, since Redis lost the rest")
    done: int


class Erasure(BaseModel):
    """An erasure in numbers; nothing of the person is kept."""

    request_id: str
    status: Literal["accepted", "done"] = Field(
        description="accepted = durable, but not carried out in every shard yet"
    )
    accepted_at: str | None
    shards: ErasureShards
    visitors: int = Field(description="visitors of whom something was held and deleted")
    memberships: int
    identities: int = Field(description="entries of the identity index")


def erasures_router(store: ControlStore, erasures: ErasureStore) -> APIRouter:
    """The route of an erasure's receipt."""
    router = APIRouter(prefix="/v1/accounts/{account}/erasures", responses=ERROR_ANSWERS)

    @router.get("/{request_id}")
    async def read_erasure(account: str, request_id: str) -> Erasure:
        await store.account(account)
        progress = await erasures.progress(account, request_id)
        if progress is None:
            raise NotFound("there is no such erasure in the account, or it is older than 90 days")
        is_done = progress.done >= (progress.shards if progress.shards is not None else 1)
        return Erasure(
            request_id=request_id,
            status="done" if is_done else "accepted",
            accepted_at=None if progress.accepted_at is None else iso_time(progress.accepted_at),
            shards=ErasureShards(total=progress.shards, done=progress.done),
            visitors=progress.visitors,
            memberships=progress.memberships,
            identities=progress.identities,
        )

    return router
