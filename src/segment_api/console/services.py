"""What the pages read and write: the very objects that the HTTP API uses."""

from collections.abc import Callable
from dataclasses import dataclass

from audience_core.redis.activity import ActivityReader
from audience_core.redis.control import ControlStore
from audience_core.redis.erasures import ErasureStore
from segment_api.accounts import AccountCache
from segment_api.console.changes import Changes
from segment_api.console.sessions import SessionStore
from segment_api.health import HealthReader
from segment_api.listing import ListingReader
from segment_api.saved_segments import SegmentStore
from segment_api.segment_routes import SegmentReader
from segment_api.served import SegmentMatcher
from segment_api.sizes import SizeEstimator
from segment_api.visitors import Eraser, VisitorReader

Replay = Callable[[str, str], tuple[int, int]]
"""(account, reason) → dead letters put back and still refused. It blocks, and reads all dead letters there are."""


@dataclass(frozen=True)
class Services:
    """Stores and readers of the console."""

    sessions: SessionStore
    store: ControlStore
    listing: ListingReader
    visitors: VisitorReader
    eraser: Eraser
    erasures: ErasureStore
    saved: SegmentStore
    segments: SegmentReader
    matcher: SegmentMatcher
    sizes: SizeEstimator
    accounts: AccountCache
    activity: ActivityReader
    health: HealthReader
    changes: Changes
    gateway_url: str
    """Base URL of the gateway as this process reaches it; empty when it is not set."""
    replay: Replay | None
    """Puts dead letters back; None where this process can't."""
