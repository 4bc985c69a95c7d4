"""A Redis that can fail, go back in time and be emptied. The script's rule is `domain/shard_state.py`.

That the real script on a real server follows the same rule is shown by tests/core/test_apply_script.py.
"""

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from audience_core.domain.members import decode_member
from audience_core.domain.mpids import unpack_mpid
from audience_core.domain.records import AudienceChange, IdentitiesErased, MembershipChange, VisitorErased
from audience_core.domain.shard_state import ShardState
from audience_core.redis import keys, scripts
from tests.simulation.scheduler import Scheduler

_APPLY, _COMPARE_AND_SET = scripts.digest("apply"), scripts.digest("compare_and_set")
_ERROR_RATE = 0.01


class _Counts(Counter[tuple[str, str]]):
    """Counts that remember which of them moved, be it there and back."""

    def __init__(self, counts: Counter[tuple[str, str]]) -> None:
        self.touched: dict[tuple[str, str], None] = {}
        super().__init__()
        dict.update(self, counts)

    def __setitem__(self, key: tuple[str, str], count: int) -> None:
        self.touched[key] = None
        super().__setitem__(key, count)


class RedisServer:
    """What the one Redis of a run holds."""

    def __init__(self, scheduler: Scheduler, window_ms: int, suppression_ms: int) -> None:
        self.scheduler = scheduler
        self.data: dict[str, Any] = {}
        self.shards: dict[int, ShardState] = {}
        self.saved: list[tuple[dict[str, Any], dict[int, ShardState]]] = []
        self.down = False
        self.flaky = True
        self._limits = (window_ms, suppression_ms)

    def save(self) -> None:
        self.saved.append(_copied(self.data, self.shards))

    def restore(self, number: int) -> None:
        """Go back to a saved state, and forget those that came after it."""
        self.data, self.shards = _copied(*self.saved[number])

    def empty(self) -> None:
        self.data, self.shards = {}, {}

    def call(self, command: Callable[[], Any]) -> Any:
        """One round trip: it may get lost on the way there, or on the way back when all is done already."""
        self.scheduler.step()
        if self.down or (self.flaky and self.scheduler.chance(_ERROR_RATE)):
            raise RedisConnectionError("simulated")
        result = command()
        if self.flaky and self.scheduler.chance(_ERROR_RATE):
            raise RedisTimeoutError("simulated")
        return result

    def apply(self, keys_and_args: tuple[Any, ...]) -> list[Any]:
        """`apply.lua`, as its header describes it."""
        offset_key, counts_key, topic, expected, following, _, _, _, _, _, *operations = keys_and_args
        number = int(str(offset_key)[2:].split("}")[0])
        stored = self.data.get(offset_key, {})
        if stored and stored["topic"] != topic:
            return ["TOPIC", stored["topic"]]
        if stored.get("offset", "") != str(expected):
            return ["OFFSET", stored.get("offset", "")]
        shard = self.shards.setdefault(number, ShardState(*self._limits))
        shard.counts = counted = _Counts(shard.counts)
        shard.receipts = []
        erasures = _apply(shard, operations)
        receipts = [[*names, *map(str, told[2:])] for names, told in zip(erasures, shard.receipts, strict=True)]
        waiting = self.data[keys.receipts(number)] = [
            *self.data.get(keys.receipts(number), []),
            *(json.dumps(receipt) for receipt in receipts),
        ]
        self.data[offset_key] = {"topic": topic, "offset": str(following)}
        counts = {f"{account}:{member}": str(count) for (account, member), count in shard.counts.items()}
        self.data[counts_key] = counts
        touched = [f"{account}:{member}" for account, member in counted.touched]
        self.scheduler.note(f"redis: shard {number} {expected or 0} → {following}")
        return ["OK", [0, 0, 0, 0, 0, 0], touched, [counts[field] for field in touched], len(waiting)]

    def compare_and_set(self, key: str, field: str, read: str, text: str) -> int:
        entries = self.data.setdefault(key, {})
        if entries.get(field, "") != read:
            return 0
        entries[field] = text
        state = json.loads(text)
        self.scheduler.note(
            f"redis: audience {field} is {state['status']}, epoch {state['epoch']}, as of {state['updated_at']}"
        )
        return 1


class Commands:
    """The commands that the services use, without the network."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def hget(self, key: str, field: str) -> str | None:
        return self._server.data.get(key, {}).get(field)  # type: ignore[no-any-return]

    def hmget(self, key: str, fields: list[str]) -> list[str | None]:
        return [self.hget(key, field) for field in fields]

    def hgetall(self, key: str) -> dict[str, str]:
        return dict(self._server.data.get(key, {}))

    def hset(self, key: str, field: str, value: str) -> None:
        self._server.data.setdefault(key, {})[field] = value

    def hsetnx(self, key: str, field: str, value: str) -> None:
        self._server.data.setdefault(key, {}).setdefault(field, value)

    def hkeys(self, key: str) -> list[str]:
        return list(self._server.data.get(key, {}))

    def expire(self, key: str, _seconds: int) -> None:
        """Nothing lives that long here."""

    def rpush(self, key: str, text: str) -> None:
        self._server.data[key] = [*self._server.data.get(key, []), text]

    def ltrim(self, key: str, first: int, last: int) -> None:
        assert last == -1
        self._server.data[key] = self._server.data.get(key, [])[first:]

    def lrange(self, key: str, first: int, last: int) -> list[str]:
        return list(self._server.data.get(key, [])[first : last + 1])

    def lrem(self, key: str, _count: int, text: str) -> None:
        entries = self._server.data.get(key, [])
        if text in entries:
            place = entries.index(text)
            self._server.data[key] = entries[:place] + entries[place + 1 :]

    def hincrby(self, key: str, field: str, by: int) -> None:
        self.hset(key, field, str(int(self.hget(key, field) or 0) + by))

    def get(self, key: str) -> str | None:
        return self._server.data.get(key)

    def set(self, key: str, value: str, *, get: bool) -> str | None:
        assert get
        before = self.get(key)
        self._server.data[key] = value
        return before

    def delete(self, key: str) -> None:
        self._server.data.pop(key, None)

    def zadd(self, key: str, scores: dict[str, int]) -> None:
        self._server.data.setdefault(key, {}).update(scores)

    def zrem(self, key: str, member: str) -> None:
        self._server.data.get(key, {}).pop(member, None)

    def zscore(self, key: str, member: str) -> int | None:
        return self._server.data.get(key, {}).get(member)  # type: ignore[no-any-return]

    def evalsha(self, digest: str, _: int, *keys_and_args: Any) -> Any:
        if digest == _APPLY:
            return self._server.apply(keys_and_args)
        assert digest == _COMPARE_AND_SET
        return self._server.compare_and_set(*keys_and_args)


class Client:
    """A client: every command is a round trip."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._commands = Commands(server)

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._commands, name)
        return lambda *args, **options: self._server.call(lambda: command(*args, **options))

    @property
    def connection_pool(self) -> "Client":
        return self

    connection_kwargs: dict[str, Any] = {}  # noqa: RUF012 - as a pool's

    def connection_class(self) -> "Connection":
        return Connection(self._server)

    def pipeline(self, *, transaction: bool) -> "Pipeline":
        return Pipeline(self._server, transaction=transaction)


class Connection:
    """A connection on which calls go out before the replies to earlier ones were read."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._replies: deque[Any] = deque()

    def connect(self) -> None:
        return

    def send_command(self, *_load: str) -> None:
        self._replies.append("loaded")

    def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None:
        assert not check_health
        reader: Any = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
        for block in command:
            reader.feed(block)
        _, *args = reader.gets()
        try:
            self._replies.append(self._server.call(lambda: Commands(self._server).evalsha(*args)))
        except (RedisConnectionError, RedisTimeoutError) as error:
            self._replies.append(error)

    def read_response(self) -> Any:
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def disconnect(self) -> None:
        self._replies.clear()


class AsyncClient(Client):
    """The same for asyncio; nothing in it ever suspends."""

    def __getattr__(self, name: str) -> Any:
        call = super().__getattr__(name)

        async def awaited(*args: Any) -> Any:
            return call(*args)

        return awaited

    def pipeline(self, *, transaction: bool) -> Any:
        return AsyncPipeline(self._server, transaction=transaction)


class Pipeline:
    """Queued commands: one round trip each, unless they are a transaction."""

    def __init__(self, server: RedisServer, *, transaction: bool) -> None:
        self._server = server
        self._commands = Commands(server)
        self._transaction = transaction
        self._queued: list[Callable[[], Any]] = []

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._commands, name)
        return lambda *args: self._queued.append(lambda: command(*args))

    def execute(self) -> list[Any]:
        if self._transaction:
            return self._server.call(lambda: [command() for command in self._queued])  # type: ignore[no-any-return]
        return [self._server.call(command) for command in self._queued]


class AsyncPipeline(Pipeline):
    """The same for asyncio."""

    async def execute(self) -> list[Any]:  # type: ignore[override]
        return super().execute()


def _apply(shard: ShardState, operations: list[Any]) -> list[list[str]]:
    """Apply; return what names each erasure: kind, account, request id, offset, received_at."""
    erasures: list[list[str]] = []
    account, identities = "", list[str]()
    rest = iter(operations)
    for kind in rest:
        if kind == "A":
            account = next(rest)
        elif kind == "J":
            _, _, number = next(rest), next(rest), int(next(rest))
            identities = [next(rest) for _ in range(number)]
        elif kind in {"E", "L"}:
            shard.change(_change(account, kind, rest, identities))
            identities = []
        else:
            erasures.append(_erase(shard, kind, account, rest))
    return erasures


def _erase(shard: ShardState, kind: str, account: str, rest: Any) -> list[str]:
    mpid = unpack_mpid(next(rest)) if kind == "V" else ""
    received_at, request_id, offset = int(next(rest)), next(rest), next(rest)
    told = {"account": account, "received_at": received_at, "request_id": request_id}
    if kind == "V":
        shard.erase_visitor(cast(VisitorErased, {**told, "mpid": mpid}))
    else:
        assert kind == "I"
        identities = [next(rest) for _ in range(int(next(rest)))]
        shard.erase_identities(cast(IdentitiesErased, {**told, "identities": identities}))
    return [kind, account, request_id, offset, str(received_at)]


def _change(account: str, kind: str, rest: Any, identities: list[str]) -> MembershipChange:
    mpid, received_at, signed, number = unpack_mpid(next(rest)), *(int(next(rest)) for _ in range(3))
    members = [decode_member(next(rest)) for _ in range(number)]
    return MembershipChange(
        account=account,
        mpid=mpid,
        occurred_at=abs(signed),
        received_at=received_at,
        request_id="",
        identities=identities,
        changes=[
            AudienceChange(audience_id=audience_id, epoch=epoch, action="ENTER" if kind == "E" else "EXIT")
            for audience_id, epoch in members
        ],
    )


def _copied(data: dict[str, Any], shards: dict[int, ShardState]) -> tuple[dict[str, Any], dict[int, ShardState]]:
    return (
        {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()},
        {number: _copied_shard(shard) for number, shard in shards.items()},
    )


def _copied_shard(shard: ShardState) -> ShardState:
    return ShardState(
        shard.window_ms,
        shard.suppression_ms,
        defaultdict(set, {key: set(value) for key, value in shard.members.items()}),
        defaultdict(dict, {key: dict(value) for key, value in shard.guards.items()}),
        dict(shard.last_received),
        dict(shard.suppressed),
        defaultdict(set, {key: set(value) for key, value in shard.identities.items()}),
        dict(shard.erased_identities),
        Counter(shard.counts),
    )


def shard_members(server: RedisServer, number: int) -> dict[tuple[str, str], set[str]]:
    """(account, MPID) → members, as a shard of this Redis holds them."""
    shard = server.shards.get(number)
    return {} if shard is None else {visitor: set(members) for visitor, members in shard.members.items() if members}


def stored_offset(server: RedisServer, number: int) -> int:
    return int(server.data.get(keys.offset(number), {}).get("offset", 0))
