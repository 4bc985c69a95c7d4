"""`/v1/accounts/{account}/segments`: saved segments with their sizes."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from audience_core.domain.partitioning import MPID_MAX_CHARS, is_mpid
from audience_core.redis.control import ControlStore
from segment_api.accounts import AccountCache
from segment_api.errors import ERROR_ANSWERS, ErrorAnswer, InvalidField
from segment_api.models import Name
from segment_api.rules import Rule, describe
from segment_api.saved_segments import Segment, SegmentStore
from segment_api.served import SegmentMatcher
from segment_api.sizes import Size, SizeEstimator

_FULL: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorAnswer, "description": "the account has as many as it may have"}
}


class SegmentRequest(BaseModel):
    """A segment to save."""

    name: Name
    rule: Rule
    served: bool = Field(False, description="whether the SDKs' answer has a row `segment:<id>` for those who match")


class EstimateRequest(BaseModel):
    """A rule to estimate; it need not be saved."""

    rule: Rule


class ListedSegment(Segment, Size):
    """A saved segment with its size."""

    description: str = Field(description="the rule as a sentence")


class Segments(BaseModel):
    """Saved segments of an account, oldest first."""

    segments: list[ListedSegment]


class VisitorMatch(BaseModel):
    """Whether a visitor matches a segment now."""

    mpid: str
    matches: bool


class SegmentReader:
    """Saved segments as people see them, for the API and the console. Raises NotFound or RedisUnavailable."""

    def __init__(
        self, store: SegmentStore, accounts: AccountCache, sizes: SizeEstimator, matcher: SegmentMatcher
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._sizes = sizes
        self._matcher = matcher

    async def all(self, account: str) -> list[ListedSegment]:
        """Segments of an account with their sizes, oldest first."""
        return await self.listed(account, await self._store.list(account))

    async def get(self, account: str, segment_id: str) -> ListedSegment:
        """One segment with its size."""
        (found,) = await self.listed(account, [await self._store.get(account, segment_id)])
        return found

    async def listed(self, account: str, segments: list[Segment]) -> list[ListedSegment]:
        """Segments of an account with their sizes."""
        if not segments:
            return []
        sizes = await self._sizes.estimates(account, [segment.rule for segment in segments])
        catalog = (await self._accounts.populated(account)).catalog
        names = {audience_id: state["name"] for audience_id, state in catalog.items()}
        return [
            ListedSegment(**dict(segment), **dict(size), description=describe(segment.rule, names))
            for segment, size in zip(segments, sizes, strict=True)
        ]

    async def matches(self, account: str, segment_id: str, mpid: str) -> bool:
        """Whether a visitor matches a segment now."""
        segment = await self._store.get(account, segment_id)
        return await self._matcher.matches(account, segment.rule, mpid)


def segments_router(
    control: ControlStore, store: SegmentStore, reader: SegmentReader, sizes: SizeEstimator
) -> APIRouter:
    """Routes of saved segments."""
    router = APIRouter(prefix="/v1/accounts/{account}/segments", responses=ERROR_ANSWERS)

    @router.get("")
    async def list_segments(account: str) -> Segments:
        """All saved segments with their sizes."""
        return Segments(segments=await reader.all(account))

    @router.post("", status_code=201, responses=_FULL)
    async def create_segment(account: str, request: SegmentRequest) -> ListedSegment:
        """Save a segment. Every audience of its rule must be subscribed."""
        created = await store.create(account, request.name, request.rule, served=request.served)
        return (await reader.listed(account, [created]))[0]

    @router.post("/estimate")
    async def estimate_segment(account: str, request: EstimateRequest) -> Size:
        """Size of a rule that need not be saved."""
        await control.account(account)
        return await sizes.estimate(account, request.rule)

    _add_one(router, store, reader)
    return router


def _add_one(router: APIRouter, store: SegmentStore, reader: SegmentReader) -> None:

    @router.get("/{segment_id}")
    async def read_segment(account: str, segment_id: str) -> ListedSegment:
        """One saved segment with its size."""
        return await reader.get(account, segment_id)

    @router.put("/{segment_id}", responses=_FULL)
    async def update_segment(account: str, segment_id: str, request: SegmentRequest) -> ListedSegment:
        """Replace name, rule and `served`."""
        updated = await store.update(account, segment_id, request.name, request.rule, served=request.served)
        return (await reader.listed(account, [updated]))[0]

    @router.delete("/{segment_id}", status_code=204)
    async def delete_segment(account: str, segment_id: str) -> Response:
        """Delete a segment; SDKs see it in their next answer."""
        await store.delete(account, segment_id)
        return Response(status_code=204)

    @router.post("/{segment_id}/duplicate", status_code=201, responses=_FULL)
    async def duplicate_segment(account: str, segment_id: str) -> ListedSegment:
        """Save a copy, which is not served."""
        return (await reader.listed(account, [await store.duplicate(account, segment_id)]))[0]

    @router.get("/{segment_id}/visitors/{mpid:path}")
    async def match_visitor(account: str, segment_id: str, mpid: str) -> VisitorMatch:
        """Whether a visitor matches now. The MPID is the rest of the path and may hold slashes."""
        if not is_mpid(mpid):
            raise InvalidField(f"path.mpid: must be 1 to {MPID_MAX_CHARS} characters without control characters")
        return VisitorMatch(mpid=mpid, matches=await reader.matches(account, segment_id, mpid))
