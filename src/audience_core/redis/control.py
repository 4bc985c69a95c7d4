"""The control plane: accounts, connectors and API keys. A key's secret is stored only as an HMAC with the pepper."""

import hmac
import json
import secrets
import time
from datetime import timedelta
from typing import Any, Literal, NotRequired, TypedDict, cast

from audience_core.domain.members import iso_time
from audience_core.errors import AlreadyExists, NotFound
from audience_core.redis import keys
from audience_core.redis.activity import KEY_FIELD
from audience_core.redis.connect import AsyncRedis, async_redis_faults

KeyStatus = Literal["active", "revoked"]


class Account(TypedDict):
    id: str
    name: str
    created_at: str


class Connector(TypedDict):
    id: str
    provider: str
    name: str
    partner: str
    created_at: str


class ApiKey(TypedDict):
    id: str
    status: KeyStatus
    created_at: str
    revoked_at: str | None
    expires_at: str | None
    """when a rotated key ends to work; None while it was not rotated"""


class ListedKey(ApiKey):
    """A key with what the gateway noted of it."""

    last_used_at: str | None


class KeyRecord(TypedDict):
    """What the gateway needs to know of a key, stored under the key's digest."""

    account: str
    id: str
    status: KeyStatus
    expires_at: NotRequired[str | None]


def status_of(key: "ApiKey | KeyRecord", now: str) -> KeyStatus:
    """A key whose grace after a rotation is over counts as revoked. `now` in ISO-8601, as iso_time writes it."""
    expires_at = key.get("expires_at")
    return "revoked" if expires_at is not None and expires_at <= now else key["status"]


class NewKey(TypedDict):
    """The only answer that ever holds the secret."""

    id: str
    secret: str


def key_digest(pepper: bytes, secret: str) -> str:
    """HMAC-SHA-256 of an API key, as hex: what is stored and looked up instead of the key."""
    return hmac.digest(pepper, b"api-key:" + secret.encode("utf-8", "surrogatepass"), "sha256").hex()


def now() -> str:
    """The time in ISO-8601, comparable as a text."""
    return _after(timedelta(0))


def _after(delay: timedelta) -> str:
    return iso_time(time.time_ns() // 1_000_000 + int(delay.total_seconds() * 1000))


class ControlStore:
    """Reads and writes the control plane. Methods raise NotFound, AlreadyExists or RedisUnavailable."""

    def __init__(self, client: AsyncRedis, pepper: bytes, key_grace: timedelta = timedelta(days=1)) -> None:
        """`key_grace`: for how long a rotated key works beside the new one."""
        self._client: Any = client
        self._pepper = pepper
        self._key_grace = key_grace

    async def create_account(self, account: str, name: str) -> Account:
        """Create an account; AlreadyExists when the id is taken."""
        created = Account(id=account, name=name, created_at=now())
        async with async_redis_faults("creating an account"):
            if not await self._client.hsetnx(keys.ACCOUNTS, account, json.dumps(created)):
                raise AlreadyExists(f"account {account} exists already")
        return created

    async def accounts(self) -> list[Account]:
        """All accounts, ordered by id."""
        async with async_redis_faults("listing accounts"):
            return await self._sorted(keys.ACCOUNTS, "id")

    async def account(self, account: str) -> Account:
        """One account, or NotFound."""
        async with async_redis_faults("reading an account"):
            found = await self._client.hget(keys.ACCOUNTS, account)
        if found is None:
            raise NotFound(f"there is no account {account}")
        return cast(Account, json.loads(found))

    async def create_connector(self, account: str, provider: str, name: str, partner: str) -> Connector:
        """Create a connector of an account."""
        await self.account(account)
        connector = Connector(id=secrets.token_hex(8), provider=provider, name=name, partner=partner, created_at=now())
        async with async_redis_faults("creating a connector"):
            await self._client.hset(keys.connectors(account), connector["id"], json.dumps(connector))
        return connector

    async def connectors(self, account: str) -> list[Connector]:
        """Connectors of an account, oldest first."""
        await self.account(account)
        async with async_redis_faults("listing connectors"):
            return await self._sorted(keys.connectors(account), "created_at")

    async def connector(self, account: str, connector_id: str) -> Connector:
        """One connector, or NotFound."""
        await self.account(account)
        async with async_redis_faults("reading a connector"):
            found = await self._client.hget(keys.connectors(account), connector_id)
        if found is None:
            raise NotFound(f"account {account} has no connector {connector_id}")
        return cast(Connector, json.loads(found))

    async def delete_connector(self, account: str, connector_id: str) -> None:
        """Delete a connector, or NotFound."""
        await self.connector(account, connector_id)
        async with async_redis_faults("deleting a connector"):
            await self._client.hdel(keys.connectors(account), connector_id)

    async def create_key(self, account: str) -> NewKey:
        """Make an API key of 256 random bits; the secret is in this answer and nowhere else."""
        await self.account(account)
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        digest = key_digest(self._pepper, secret)
        listed = ApiKey(id=key_id, status="active", created_at=now(), revoked_at=None, expires_at=None)
        stored = {**listed, "digest": digest}
        async with async_redis_faults("creating an API key"):
            await self._client.hset(keys.account_keys(account), key_id, json.dumps(stored))
            await self._publish_key(digest, KeyRecord(account=account, id=key_id, status="active"))
        return NewKey(id=key_id, secret=secret)

    async def api_keys(self, account: str) -> list[ListedKey]:
        """Keys of an account without their secrets, oldest first. Their last use is half a second late at most."""
        await self.account(account)
        async with async_redis_faults("listing API keys"):
            stored = await self._sorted(keys.account_keys(account), "created_at")
            used = await self._client.hgetall(keys.activity(account))
        return [_listed(key, used.get(KEY_FIELD + key["id"])) for key in stored]

    async def revoke_key(self, account: str, key_id: str) -> None:
        """Revoke a key for good, or NotFound. Gateways notice within seconds."""
        stored = await self._stored_key(account, key_id)
        await self._end_key(account, {**stored, "status": "revoked", "revoked_at": stored["revoked_at"] or now()})

    async def rotate_key(self, account: str, key_id: str) -> NewKey:
        """Make a new key beside an old one, which works for the grace time and counts as revoked then."""
        stored = await self._stored_key(account, key_id)
        new = await self.create_key(account)
        expires_at = min(stored.get("expires_at") or "9", _after(self._key_grace))
        await self._end_key(account, {**stored, "expires_at": expires_at})
        return new

    async def _stored_key(self, account: str, key_id: str) -> dict[str, Any]:
        await self.account(account)
        async with async_redis_faults("reading an API key"):
            found = await self._client.hget(keys.account_keys(account), key_id)
        if found is None:
            raise NotFound(f"account {account} has no API key {key_id}")
        return cast("dict[str, Any]", json.loads(found))

    async def _end_key(self, account: str, stored: dict[str, Any]) -> None:
        record = KeyRecord(
            account=account, id=stored["id"], status=stored["status"], expires_at=stored.get("expires_at")
        )
        async with async_redis_faults("writing an API key"):
            # the gateways' record first: a crash between the two must leave the key revoked, not shown as revoked
            await self._publish_key(stored["digest"], record)
            await self._client.hset(keys.account_keys(account), stored["id"], json.dumps(stored))

    async def key_records(self) -> tuple[str, dict[str, KeyRecord]]:
        """(version, digest → record) of every key, for the gateway's cache."""
        async with async_redis_faults("reading the API keys"):
            version = await self.keys_version()
            stored = await self._client.hgetall(keys.API_KEYS)
        return version, {digest: cast(KeyRecord, json.loads(text)) for digest, text in stored.items()}

    async def key_record(self, digest: str) -> KeyRecord | None:
        """One key by its digest."""
        async with async_redis_faults("reading an API key"):
            found = await self._client.hget(keys.API_KEYS, digest)
        return cast(KeyRecord, json.loads(found)) if found else None

    async def keys_version(self) -> str:
        """A number that changes with any key."""
        async with async_redis_faults("reading the version of the API keys"):
            return await self._client.get(keys.API_KEYS_VERSION) or ""

    async def _publish_key(self, digest: str, record: KeyRecord) -> None:
        await self._client.hset(keys.API_KEYS, digest, json.dumps(record))
        await self._client.incr(keys.API_KEYS_VERSION)

    async def _sorted(self, key: str, by: str) -> list[Any]:
        stored = await self._client.hgetall(key)
        return sorted((json.loads(text) for text in stored.values()), key=lambda entry: entry[by])


def _listed(stored: dict[str, Any], used_at: str | None) -> ListedKey:
    expires_at = stored.get("expires_at")
    key = ListedKey(
        id=stored["id"],
        status=stored["status"],
        created_at=stored["created_at"],
        revoked_at=stored["revoked_at"],
        expires_at=expires_at,
        last_used_at=None if used_at is None else iso_time(int(used_at)),
    )
    if status_of(key, now()) == "revoked" and key["revoked_at"] is None:
        return {**key, "status": "revoked", "revoked_at": expires_at}
    return key
