"""What an account's activity says to people: whether messages arrive, and why some were refused."""

from dataclasses import dataclass
from typing import Any

from audience_core.redis.activity import AccountActivity, ListedRequest
from segment_api.console.services import Services
from segment_api.health import ConnectorHealth

SHOWN_REQUESTS = 50

TYPES = {
    "module_registration_request": "Registration",
    "audience_subscription_request": "Audience connected",
    "audience_membership_change_request": "Enters and exits",
    "dsr_processing_request": "Erasure",
    "event_processing_request": "Event (ignored)",
}

REASONS = {
    "unknown_api_key": "the API key is missing or belongs to no account",
    "audience_removed": "the audience is no longer connected",
    "revoked_api_key": "the API key is revoked",
    "unreadable": "not a message that can be read",
    "profile_malformed": "a profile breaks the protocol",
    "audience_malformed": "an audience of a profile breaks the protocol",
    "mpid_missing": "a profile has no MPID",
    "occurred_in_future": "its time is over a day ahead",
    "unavailable": "Kafka or Redis was away; mParticle sends it again",
}


DEAD_LETTERS = frozenset({"profile_malformed", "audience_malformed", "mpid_missing", "occurred_in_future"})
"""Reasons with which something was kept as a dead letter."""


@dataclass(frozen=True)
class Shown:
    """An account's activity as the pages draw it."""

    health: ConnectorHealth
    activity: AccountActivity
    requests: list[dict[str, Any]]


async def shown(services: Services, account: str) -> Shown:
    """Read the state of an account's messages, and the latest of them, the newest first."""
    activity = await services.activity.summary(account)
    requests = await services.activity.requests(account, count=SHOWN_REQUESTS)
    health = await services.health.of(account)
    return Shown(health, activity, [_row(request) for request in reversed(requests)])


def _row(request: ListedRequest) -> dict[str, Any]:
    accepted = request.status == 200  # noqa: PLR2004
    reason = request.reason
    return {
        "id": request.id,
        "at": request.at,
        "type": TYPES.get(request.type, request.type),
        "status": request.status,
        "result": ("Accepted in part" if reason else "Accepted") if accepted else "Refused",
        "kind": ("wait" if reason else "good") if accepted else "bad",
        "changes": request.changes,
        "latency_ms": request.latency_ms,
        "reason": None if reason is None else explained(reason),
    }


def explained(reason: str) -> str:
    """A reason code in words."""
    return REASONS.get(reason, reason.replace("_", " "))
