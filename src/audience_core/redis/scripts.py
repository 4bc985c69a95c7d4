"""Lua scripts, one file each, loaded once and called by their digest."""

from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from audience_core.redis.connect import AsyncRedis, Redis


@cache
def source(name: str) -> str:
    """Text of a packaged script."""
    return files("audience_core.redis").joinpath(f"{name}.lua").read_text("utf-8")


@cache
def digest(name: str) -> str:
    """The digest that EVALSHA takes (Redis names scripts by their SHA-1)."""
    return sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def call(client: Redis, name: str, keys: list[str], args: list[Any]) -> Any:
    """Run a script; send its text only when the server does not know it (a restart forgets scripts)."""
    try:
        return client.evalsha(digest(name), len(keys), *keys, *args)
    except NoScriptError:
        return client.eval(source(name), len(keys), *keys, *args)


async def call_async(client: AsyncRedis, name: str, keys: list[str], args: list[Any]) -> Any:
    """As call."""
    try:
        return await client.evalsha(digest(name), len(keys), *keys, *args)
    except NoScriptError:
        return await client.eval(source(name), len(keys), *keys, *args)
