"""The demo account of `audience-stream up`: made over HTTP, as a person and mParticle would."""

import json
import shlex
import time
import uuid
from typing import Any

import httpx

from audience_core.errors import PermanentError

DEMO_ACCOUNT = "demo"
DEMO_AUDIENCE = 1001
DEMO_VISITOR = "1234567890"


class Demo:
    """Makes the demo account over the API, as a person would."""

    def __init__(self, gateway: str, api: str, token: str) -> None:
        self._gateway = gateway
        self._client = httpx.Client(trust_env=False, timeout=10, headers={"Authorization": f"Bearer {token}"})
        self._base = f"{api}/v1/accounts"

    def make(self) -> dict[str, str]:
        """Account, connector, API key and a subscribed audience; returns account, connector_id and api_key."""
        created = self._client.post(self._base, json={"id": DEMO_ACCOUNT, "name": "Demo"})
        if created.status_code not in {httpx.codes.CREATED, httpx.codes.CONFLICT}:
            raise PermanentError(f"the demo account could not be made: {created.text}")
        connector = self._post(f"{DEMO_ACCOUNT}/connectors", {"provider": "mparticle", "name": "mParticle"})
        key = self._post(f"{DEMO_ACCOUNT}/api-keys", {})
        self._subscribe(key["secret"])
        return {"account": DEMO_ACCOUNT, "connector_id": connector["id"], "api_key": key["secret"]}

    def _post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        answer = self._client.post(f"{self._base}/{path}", json=body)
        if answer.status_code != httpx.codes.CREATED:
            raise PermanentError(f"POST /v1/accounts/{path} answered {answer.status_code}: {answer.text}")
        return dict(answer.json())

    def _subscribe(self, key: str) -> None:
        message = _message(
            "audience_subscription_request",
            key,
            {"audience_id": DEMO_AUDIENCE, "audience_name": "Demo audience", "action": "add"},
        )
        until = time.monotonic() + 30
        while (answer := self._client.post(f"{self._gateway}/firehose", json=message)).status_code != 200:  # noqa: PLR2004
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
                raise PermanentError(f"the demo audience could not be subscribed: {answer.text}")
            time.sleep(0.2)

    def listing(self) -> list[dict[str, Any]]:
        """The first populated audiences of the demo account."""
        answer = self._client.get(f"{self._base}/{DEMO_ACCOUNT}/audiences", params={"limit": 5})
        return list(answer.json()["audiences"]) if answer.status_code == httpx.codes.OK else []


def _message(kind: str, key: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "id": str(uuid.uuid4()),
        "timestamp_ms": time.time_ns() // 1_000_000,
        "firehose_version": "3.2.0",
        "account": {"account_id": 1, "account_settings": {"apiKey": key}},
        **fields,
    }


def curl_line(gateway: str, key: str) -> str:
    """A command that lets the demo visitor enter the demo audience."""
    item = {"audience_id": DEMO_AUDIENCE, "audience_name": "Demo audience", "action": "add"}
    body = _message(
        "audience_membership_change_request", key, {"user_profiles": [{"audiences": [item], "mpid": DEMO_VISITOR}]}
    )
    return f"curl -sS {gateway}/firehose -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
