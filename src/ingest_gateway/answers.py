"""Every answer of the gateway, in one table.

What mParticle does with a status decides which one is right (docs/protocol.md): only 200 is success here; 408, 429 and
503 are sent again; every other status loses the message for good.
"""

import json
import re
import time
import uuid
from typing import Any, NamedTuple

FIREHOSE_VERSION = "3.2.0"
RETRY_AFTER_S = 1
_CHANGED = (
    b'{"type": "audience_membership_change_response", "id": "%b", "timestamp_ms": %d, '
    b'"firehose_version": "3.2.0", "suspend_subscription": %b}'
)
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Answer(NamedTuple):
    """Status and body; `retry_after` adds the header, in seconds, and `close` ends the connection."""

    status: int
    body: bytes
    retry_after: int = 0
    close: bool = False
    content_type: bytes = b"application/json"


def _problem(status: int, error: str, message: str, *, retry_after: int = 0, close: bool = False) -> Answer:
    return Answer(status, json.dumps({"error": error, "message": message}).encode(), retry_after, close)


def unreadable(why: str) -> Answer:
    """The message can never be read, whoever sends it again."""
    return _problem(400, "unreadable", why)


NO_HTTP = _problem(400, "unreadable", "this is not HTTP/1.1", close=True)
NO_GZIP = unreadable("the body is not gzip")
UNKNOWN_KEY = _problem(401, "unknown_api_key", "account.account_settings.apiKey is missing, unknown or revoked")
NOT_FOUND = _problem(404, "not_found", "POST Firehose messages to /firehose")
METHOD_NOT_ALLOWED = _problem(405, "method_not_allowed", "POST Firehose messages to /firehose")
TOO_SLOW = _problem(408, "too_slow", "the request's body did not arrive in time", close=True)
TOO_LARGE = _problem(413, "too_large", "the unpacked body is over the limit", close=True)
UNKNOWN_ENCODING = _problem(415, "unknown_encoding", "send the body plain or with Content-Encoding: gzip")
NO_CONNECTION = _problem(503, "unavailable", "too many connections; try again", retry_after=RETRY_AFTER_S, close=True)
INTERNAL = _problem(503, "internal", "the request failed here; send it again", retry_after=RETRY_AFTER_S)


def unavailable(why: str) -> Answer:
    """It may succeed later."""
    return _problem(503, "unavailable", why, retry_after=RETRY_AFTER_S)


def over_quota(seconds: int) -> Answer:
    """The account sends more than its quota; mParticle sends the message again."""
    return _problem(429, "over_quota", "the account sends more changes than its quota", retry_after=seconds)


def response(kind: str, request_id: str | None, **fields: Any) -> Answer:
    """A Firehose response; its id is the request's when that is a UUID, as the SDK's parser demands one."""
    body = {
        "type": kind,
        "id": _uuid(request_id),
        "timestamp_ms": time.time_ns() // 1_000_000,
        "firehose_version": FIREHOSE_VERSION,
        **fields,
    }
    return Answer(200, json.dumps(body, ensure_ascii=False).encode())


def membership_changed(request_id: str | None, *, suspend: bool = False) -> Answer:
    """`suspend` faults the connection at mParticle until the customer presses Resume: only for a revoked key."""
    # as `response` writes it, by hand: nearly every answer is this one
    now = time.time_ns() // 1_000_000
    return Answer(200, _CHANGED % (_uuid(request_id).encode(), now, b"true" if suspend else b"false"))


def subscribed(request_id: str | None, settings: dict[str, str]) -> Answer:
    """mParticle stores the settings and echoes them in every membership message of the subscription."""
    return response("audience_subscription_response", request_id, audience_subscription_settings=settings)


def erased(request_id: str | None) -> Answer:
    return response("dsr_processing_response", request_id)


def event_ignored(request_id: str | None) -> Answer:
    return response("event_processing_response", request_id)


def _uuid(text: str | None) -> str:
    if text and _UUID.fullmatch(text):
        return text
    try:
        return str(uuid.UUID(text or ""))
    except ValueError:
        return str(uuid.uuid4())
