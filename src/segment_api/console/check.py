"""A test message: what mParticle sends as a check, a membership change without profiles, through the real gateway."""

import time
import uuid
from typing import NamedTuple

import httpx

_TIMEOUT_S = 3.0


class Checked(NamedTuple):
    """What came of a test message, in words for the person."""

    passed: bool
    text: str


async def check_key(gateway_url: str, key: str) -> Checked:
    """Post the check with an API key. It changes nothing; the key is used once and not kept."""
    if not gateway_url:
        return Checked(False, "No test message was sent: AUDIENCE_GATEWAY_URL is not set on this service.")
    if not key:
        return Checked(False, "No test message was sent: paste an API key first.")
    body = {
        "type": "audience_membership_change_request",
        "id": str(uuid.uuid4()),
        "timestamp_ms": time.time_ns() // 1_000_000,
        "account": {"account_settings": {"apiKey": key}},
    }
    started = time.perf_counter()
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S) as http:
            answer = await http.post(f"{gateway_url.rstrip('/')}/firehose", json=body)
    except httpx.HTTPError as error:
        return Checked(False, f"The gateway did not answer the test message ({type(error).__name__}).")
    took = round((time.perf_counter() - started) * 1000)
    return _read(answer, took)


def _read(answer: httpx.Response, took: int) -> Checked:
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return Checked(False, "The gateway does not know this API key. Copy the whole key, or generate a new one.")
    if answer.status_code != httpx.codes.OK:
        return Checked(False, f"The gateway answered the test message with {answer.status_code}.")
    try:
        suspended = answer.json().get("suspend_subscription") is True
    except (ValueError, AttributeError):
        return Checked(False, "What answers at AUDIENCE_GATEWAY_URL is not the gateway.")
    if suspended:
        return Checked(False, "This API key is revoked: mParticle would be told to suspend. Generate a new one.")
    return Checked(True, f"The test message was accepted in {took} ms. The key works; nothing was changed.")
