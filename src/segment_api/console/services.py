"""What the pages read and write: the very objects that the HTTP API uses."""

from dataclasses import dataclass

from audience_core.redis.control import ControlStore
from segment_api.console.changes import Changes
from segment_api.console.sessions import SessionStore
from segment_api.listing import ListingReader
from segment_api.visitors import Eraser, VisitorReader


@dataclass(frozen=True)
class Services:
    """Stores and readers of the console."""

    sessions: SessionStore
    store: ControlStore
    listing: ListingReader
    visitors: VisitorReader
    eraser: Eraser
    changes: Changes
    gateway_url: str
    """Base URL of the gateway as this process reaches it; empty when it is not set."""
