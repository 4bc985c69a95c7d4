"""Who is signed in. Redis holds a digest of each cookie, so what is stored opens no session."""

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from segment_api.admin_tokens import AdminTokens

SESSION_S = 12 * 3600
ATTEMPTS_S = 60
MAX_ATTEMPTS = 10
SHOWN_WITHIN_S = 120
"""A new key's secret waits so long for the page that shows it."""


@dataclass(frozen=True)
class Session:
    """A signed-in browser. `notices`: what happened since its last page, as (kind, text)."""

    cookie: str = field(repr=False)
    csrf: str = field(repr=False)
    notices: list[tuple[str, str]]

    def accepts(self, csrf: str) -> bool:
        """Whether a form came from a page of this session."""
        return hmac.compare_digest(csrf.encode(), self.csrf.encode())


class SessionStore:
    """Sessions, attempts and what a session may be shown once. Methods raise RedisUnavailable."""

    def __init__(self, client: AsyncRedis, pepper: bytes, tokens: AdminTokens) -> None:
        self._client: Any = client
        self._pepper = pepper
        self._tokens = tokens
        # a token that is no longer valid takes the sessions with it that it opened
        self._openers = {self._digest("admin-token", token) for token in tokens.all}

    def admin_token(self, given: str) -> str | None:
        """The valid token that was given, or None."""
        return self._tokens.match(given.encode("utf-8", "surrogatepass"))

    async def begin(self, token: str) -> str:
        """Open a session with a valid token and return its cookie: 256 random bits."""
        opened_by = self._digest("admin-token", token)
        cookie = secrets.token_urlsafe(32)
        async with async_redis_faults("signing in"):
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(self._key(cookie), mapping={"csrf": secrets.token_urlsafe(32), "opened_by": opened_by})
            pipe.expire(self._key(cookie), SESSION_S)
            await pipe.execute()
        return cookie

    async def read(self, cookie: str, *, take_notices: bool = False) -> Session | None:
        """The session of a cookie, its life renewed; None when there is none. Notices are handed out once."""
        if not cookie:
            return None
        key = self._key(cookie)
        async with async_redis_faults("reading a session"):
            pipe = self._client.pipeline(transaction=True)
            pipe.hgetall(key)
            pipe.expire(key, SESSION_S)
            if take_notices:
                pipe.hdel(key, "notices")
            stored, *_ = await pipe.execute()
        if stored.get("opened_by") not in self._openers:
            return None
        notices = [(str(kind), str(text)) for kind, text in json.loads(stored.get("notices", "[]"))]
        return Session(cookie, stored["csrf"], notices)

    async def end(self, cookie: str) -> None:
        """Sign out."""
        async with async_redis_faults("signing out"):
            await self._client.delete(self._key(cookie))

    async def notify(self, session: Session, kind: str, text: str) -> None:
        """Leave a notice for the session's next page. `kind`: done, or failed."""
        async with async_redis_faults("leaving a notice"):
            await self._client.hset(self._key(session.cookie), "notices", json.dumps([*session.notices, (kind, text)]))

    async def hand_over(self, session: Session, key_id: str, secret: str) -> None:
        """Keep a new key's secret for the one page that shows it, sealed with the cookie, which Redis never holds."""
        key = keys.console_session(f"{self._digest('session', session.cookie)}:key:{key_id}")
        async with async_redis_faults("handing a key over"):
            await self._client.set(key, self._sealed(session, key_id, secret.encode()).hex(), ex=SHOWN_WITHIN_S)

    async def take_over(self, session: Session, key_id: str) -> str | None:
        """Return the secret once; None from then on."""
        key = keys.console_session(f"{self._digest('session', session.cookie)}:key:{key_id}")
        async with async_redis_faults("showing a key"):
            sealed = await self._client.getdel(key)
        return None if sealed is None else self._sealed(session, key_id, bytes.fromhex(sealed)).decode()

    async def failed_attempts(self, address: str) -> int:
        """Failed sign-ins from an address within the last minute."""
        async with async_redis_faults("reading the attempts"):
            return int(await self._client.get(self._attempts(address)) or 0)

    async def note_failure(self, address: str) -> None:
        """Count one more."""
        async with async_redis_faults("counting an attempt"):
            pipe = self._client.pipeline(transaction=True)
            pipe.incr(self._attempts(address))
            pipe.expire(self._attempts(address), ATTEMPTS_S)
            await pipe.execute()

    def form_token(self, cookie: str) -> str:
        """Token of the sign-in form, which has no session yet: bound to a cookie of its own."""
        return self._digest("sign-in-form", cookie)

    def _key(self, cookie: str) -> str:
        return keys.console_session(self._digest("session", cookie))

    def _attempts(self, address: str) -> str:
        return keys.console_attempts(self._digest("address", address))

    def _digest(self, use: str, text: str) -> str:
        return hmac.digest(self._pepper, f"console-{use}:{text}".encode("utf-8", "surrogatepass"), "sha256").hex()

    @staticmethod
    def _sealed(session: Session, key_id: str, text: bytes) -> bytes:
        """XOR with a stream that only the cookie gives, its own for every key id: a one-time pad, its own inverse."""
        pad = hashlib.shake_256(f"console-key:{session.cookie}:{key_id}".encode()).digest(len(text))
        return bytes(a ^ b for a, b in zip(text, pad, strict=True))
