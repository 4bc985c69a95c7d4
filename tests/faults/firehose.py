"""Speaks to a gateway as mParticle does: what is not answered 200 is sent again, the same message."""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, Self

import httpx

from audience_core.domain.records import MembershipChange
from audience_core.redis.connect import connect_async
from audience_core.redis.control import ControlStore, NewKey
from audience_core.settings import CoreSettings
from ingest_gateway.registration import EPOCH_SETTING
from tests.faults.load import now_ms

_ACTIONS = {"ENTER": "add", "EXIT": "delete"}
_TRIES = 200


class NeverAgain(AssertionError):
    """An answer after which mParticle would not send the message again."""


def make_keys(settings: CoreSettings, accounts: tuple[str, ...]) -> dict[str, NewKey]:
    """Create accounts with an API key each."""

    async def make() -> dict[str, NewKey]:
        client = connect_async(settings)
        store = ControlStore(client, settings.required_pepper())
        made = {}
        for account in accounts:
            await store.create_account(account, account)
            made[account] = await store.create_key(account)
        await client.aclose()
        return made

    return asyncio.run(make())


def revoke(settings: CoreSettings, account: str, key: NewKey) -> None:
    """Revoke a key."""

    async def run() -> None:
        client = connect_async(settings)
        await ControlStore(client, settings.required_pepper()).revoke_key(account, key["id"])
        await client.aclose()

    asyncio.run(run())


def _echo(epoch: int) -> dict[str, Any]:
    """What mParticle sends along with a change of a subscription that was answered with an epoch."""
    return {"audience_subscription_settings": {EPOCH_SETTING: str(epoch)}} if epoch else {}


class Firehose:
    """Posts messages. `away` is called when nobody answers, to start a gateway again for instance."""

    def __init__(self, port: int, keys: dict[str, NewKey], away: Callable[[], None] = lambda: None) -> None:
        self._url = f"http://127.0.0.1:{port}/firehose"
        self._keys = {account: key["secret"] for account, key in keys.items()}
        self._away = away
        self._http = httpx.Client(trust_env=False, timeout=10)
        self.acknowledged: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def change(self, record: MembershipChange) -> dict[str, Any]:
        """Send a profile's changes until they are accepted."""
        profile = {
            "mpid": record["mpid"],
            "audiences": [
                {"audience_id": c["audience_id"], "action": _ACTIONS[c["action"]], **_echo(c["epoch"])}
                for c in record["changes"]
            ],
        }
        answer = self.post(
            "audience_membership_change_request",
            record["account"],
            record["request_id"],
            record["occurred_at"],
            user_profiles=[profile],
        )
        if not answer["suspend_subscription"]:
            self.acknowledged.add(record["request_id"])
        return answer

    def subscribe(self, account: str, audience_id: int, action: str) -> int:
        """Send a subscription message until it is accepted; return the epoch that it answers with."""
        named = {"audience_id": audience_id, "audience_name": f"Audience {audience_id}", "action": action}
        answer = self.post("audience_subscription_request", account, str(uuid.uuid4()), now_ms(), **named)
        return int(answer["audience_subscription_settings"][EPOCH_SETTING])

    def post(self, kind: str, account: str, message: str, at: int, **fields: Any) -> dict[str, Any]:
        """Send until it is answered with 200; fail at an answer that loses the message."""
        settings = {"account_id": 1, "account_settings": {"apiKey": self._keys[account]}}
        body = {"type": kind, "id": message, "timestamp_ms": at, "account": settings, **fields}
        for _ in range(_TRIES):
            try:
                answer = self._http.post(self._url, json=body)
            except httpx.TransportError:
                self._away()
                time.sleep(0.1)
                continue
            if answer.status_code == httpx.codes.OK:
                return dict(answer.json())
            if answer.status_code not in {408, 429, 503}:
                raise NeverAgain(f"{answer.status_code}: {answer.text}")
            time.sleep(0.1)
        raise AssertionError(f"{kind} was not accepted in {_TRIES} tries")
