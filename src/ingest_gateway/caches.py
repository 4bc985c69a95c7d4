"""What the gateway keeps in memory, so that it goes on while Redis is away: API keys and catalogs."""

import asyncio
from collections.abc import Awaitable, Callable

from audience_core.errors import RedisUnavailable
from audience_core.observability.logging import get_logger
from audience_core.redis.catalog import AsyncCatalogStore, Catalog
from audience_core.redis.control import ControlStore, KeyRecord, key_digest, now, status_of

KEYS_EVERY_S = 1.0
CATALOG_EVERY_S = 0.2

log = get_logger()


async def refresh_forever(what: str, refresh: Callable[[], Awaitable[None]], every: float) -> None:
    """Call `refresh` again and again; while Redis is away, or refuses, the cache stays as it is."""
    told = ""
    while True:
        try:
            await refresh()
            told = ""
        except RedisUnavailable as error:
            if not told:
                log.warning("cache_not_refreshed", cache=what, error=str(error))
            told = told or "away"
        except Exception as error:  # noqa: BLE001 - a missing right, say: it is told, and may be mended meanwhile
            if told != type(error).__name__:
                log.error("cache_not_refreshed", cache=what, error=type(error).__name__, reason=str(error))
            told = type(error).__name__
        await asyncio.sleep(every)


class KeyRing:
    """All API keys by digest. The digest is keyed, so the time that a look-up takes tells nothing of any key.

    A revocation is seen within KEYS_EVERY_S, a new key at once. A rotated key ends by the gateway's own clock. Keys are
    revoked and never deleted, and a revocation is for good: a Redis that was emptied or went back takes no key away and
    gives none back. Nothing could restore what is lost to an answer of 401.
    """

    def __init__(self, store: ControlStore, pepper: bytes) -> None:
        self._store = store
        self._pepper = pepper
        self._version: str | None = None
        self._records: dict[str, KeyRecord] = {}
        self._digests: dict[str, str] = {}
        """secret → digest of keys that there are: computing it takes as long as reading the message"""

    async def refresh(self) -> None:
        """Read all keys again when any has changed, or Redis went back."""
        if await self._store.keys_version() != self._version:
            self._version, found = await self._store.key_records()
            for digest, record in found.items():
                if digest not in self._records or _end(record) <= _end(self._records[digest]):
                    self._records[digest] = record

    async def find(self, secret: str) -> KeyRecord | None:
        """The key's record, or None when there is no such key. Raises RedisUnavailable when that can't be known."""
        known = self.known(secret)
        if known is None:
            digest = key_digest(self._pepper, secret)
            record = self._records.get(digest) or await self._store.key_record(digest)
            if record is None:
                return None
            self._records.setdefault(digest, record)  # a refresh may have been faster, and know better
            self._digests[secret] = digest
            known = self.known(secret)
        return known

    def known(self, secret: str) -> KeyRecord | None:
        """As find, of keys that were found before; None of others."""
        digest = self._digests.get(secret)
        if digest is None:
            return None
        record = self._records[digest]
        if record.get("expires_at") is None:
            return record
        return {**record, "status": status_of(record, now())}


def _end(record: KeyRecord) -> str:
    """When the key ends, in ISO-8601: a revoked one before all, one without an end after all."""
    return "" if record["status"] == "revoked" else record.get("expires_at") or "9"


class CatalogCache:
    """Catalogs of the accounts that this gateway has met."""

    def __init__(self, store: AsyncCatalogStore) -> None:
        self._store = store
        self._versions: dict[str, str] = {}
        self._catalogs: dict[str, Catalog] = {}

    async def refresh(self) -> None:
        """Read the catalogs again that have changed."""
        versions = await self._store.versions()
        for account in [a for a in self._catalogs if versions.get(a) != self._versions.get(a)]:
            self._catalogs[account] = await self._store.read(account)
        self._versions = versions

    async def of(self, account: str, *, fresh: bool = False) -> Catalog:
        """The account's catalog; `fresh` asks Redis. Raises RedisUnavailable when there is none in memory."""
        if fresh or account not in self._catalogs:
            self._catalogs[account] = await self._store.read(account)
        return self._catalogs[account]

    def current(self, account: str) -> Catalog | None:
        """The account's catalog when it is in memory."""
        return self._catalogs.get(account)
