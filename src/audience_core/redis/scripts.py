"""Lua scripts, one file each, loaded once and called by their digest."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

import hiredis
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError
from redis.exceptions import ConnectionError as RedisConnectionError

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


class Sent:
    """A call on its way. Replies come in the order of the calls, so they are received in that order."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection


class ScriptLine:
    """Calls one script without waiting for the reply, on one connection per server.

    After a failure nothing is known of any call under way on that connection: it is given up, and each of them fails.
    """

    def __init__(self, client: Redis, name: str) -> None:
        self._client: Any = client
        self._name = name
        self._connections: dict[str, Any] = {}

    def send(self, keys: list[str], args: Sequence[Any]) -> Sent:
        """Send a call; its keys lie on one server."""
        server, pool = self._place(keys[0])
        connection = self._connections.get(server)
        try:
            if connection is None:
                # not one of the pool's, which would count it for ever: it is never given back
                connection = self._connections[server] = pool.connection_class(**pool.connection_kwargs)
                connection.connect()  # with Sentinels, this alone asks who is master
                connection.send_command("SCRIPT", "LOAD", source(self._name))
                connection.read_response()
            # packed by hiredis itself: redis-py looks at each of thousands of arguments first, three times the work
            command = hiredis.pack_command(("EVALSHA", digest(self._name), len(keys), *keys, *args))
            # no health check: it would read its own reply before those under way
            connection.send_packed_command([command], check_health=False)
        except BaseException:
            self._give_up(connection)
            raise
        return Sent(connection)

    def receive(self, sent: Sent) -> Any:
        """Wait for the reply of the oldest call that was not received yet on its connection."""
        if sent.connection not in self._connections.values():
            raise RedisConnectionError("the connection was given up")
        try:
            return sent.connection.read_response()
        except (MovedError, AskError) as error:
            self._give_up(sent.connection)  # the client follows with its next call of its own
            raise ClusterDownError("the slot has moved") from error
        except BaseException:
            self._give_up(sent.connection)
            raise

    def close(self) -> None:
        """Close the connections."""
        for connection in list(self._connections.values()):
            self._give_up(connection)

    def _place(self, key: str) -> tuple[str, Any]:
        if not hasattr(self._client, "get_node_from_key"):
            return "", self._client.connection_pool
        node = self._client.get_node_from_key(key)
        return node.name, self._client.get_redis_connection(node).connection_pool

    def _give_up(self, connection: Any) -> None:
        self._connections = {server: other for server, other in self._connections.items() if other is not connection}
        if connection is not None:
            connection.disconnect()


async def call_async(client: AsyncRedis, name: str, keys: list[str], args: list[Any]) -> Any:
    """As call."""
    try:
        return await client.evalsha(digest(name), len(keys), *keys, *args)
    except NoScriptError:
        return await client.eval(source(name), len(keys), *keys, *args)
