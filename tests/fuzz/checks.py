"""What an answer may look like, whatever was asked."""

import json
from typing import Any

import httpx

from tests.fuzz.openapi import Operation

_RESPONSE_TYPES = {
    "module_registration_response",
    "audience_subscription_response",
    "audience_membership_change_response",
    "dsr_processing_response",
    "event_processing_response",
}
_FIREHOSE_ERRORS = {400, 401, 404, 405, 408, 413, 415, 429}
_API_ERRORS = {400, 401, 404, 405, 409, 413, 422}
_UNAVAILABLE = 503


def firehose_fault(answer: httpx.Response) -> str | None:
    """What is wrong with an answer of the gateway, or None."""
    body = _json(answer)
    if answer.status_code == httpx.codes.OK:
        known = isinstance(body, dict) and body.get("type") in _RESPONSE_TYPES
        return (
            None if known and {"id", "timestamp_ms", "firehose_version"} <= set(body) else "a 200 of an unknown shape"
        )
    return _error_fault(answer, body, _FIREHOSE_ERRORS)


def api_fault(operation: Operation, answer: httpx.Response) -> str | None:
    """What is wrong with an answer of the control API, or None."""
    if answer.status_code in {204, 304} and not answer.content:
        return None
    body = _json(answer)
    if answer.is_success:
        missing = operation.missing_fields(answer.status_code, body)
        return None if not missing else f"a {answer.status_code} without {missing}"
    return _error_fault(answer, body, _API_ERRORS)


def signature(answer: httpx.Response, *, with_message: bool) -> str:
    """What tells one kind of answer from another: its status, its code or type and, without numbers, what it says."""
    body = _json(answer) if answer.content else {}
    told = str(body.get("error", body.get("type", ""))) if isinstance(body, dict) else "list"
    message = str(body.get("message", "")) if with_message and isinstance(body, dict) else ""
    return f"{answer.status_code} {told} {''.join(c for c in message if not c.isdigit())}".strip()


def _error_fault(answer: httpx.Response, body: Any, known: set[int]) -> str | None:
    if not isinstance(body, dict) or set(body) != {"error", "message"}:
        return f"a {answer.status_code} that is not an error of ours"
    if answer.status_code == _UNAVAILABLE and body["error"] == "unavailable" and "retry-after" in answer.headers:
        return None  # a machine that is busy may be late: the sender repeats the message
    return None if answer.status_code in known else f"an unintended {answer.status_code}: {body['error']}"


def _json(answer: httpx.Response) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError:
        return None
