"""`audience-stream reset-offsets`: lets workers read the log from its start, when log and state do not fit any more.

As Kafka's own `kafka-consumer-groups --reset-offsets --to-earliest`, for offsets that stand in Redis. What Redis holds
stays and the log is applied over it: the newest change of a visitor wins, whichever of the two has it, erased visitors
stay erased, and members from before the log's start stay members (ADR 17 has the limits).
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from audience_core.errors import KafkaUnavailable, ShardRefused
from audience_core.kafka.admin import TopicAdmin
from audience_core.redis import keys
from audience_core.redis.connect import Redis, connect, redis_faults
from audience_core.redis.shard_count import check_shard_count
from audience_core.settings import CoreSettings, load
from audience_core.topics import CHANGES

_NOBODYS_TOPIC = "reset-offsets"
"""What a shard belongs to while its state is deleted: a worker that still runs is refused"""
_KINDS = tuple("}:" + kind for kind in ("m:", "v:", "i:", "j:", "c"))
"""Sets, guards, identities and counts. Suppressions and receipts stay: an erasure is for good."""
_AT_ONCE = 500


def reset_offsets(
    delete_state: Annotated[
        bool,
        typer.Option(help="first delete every set, guard, identity and count, as after an eviction"),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before deleting")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Let the workers read every shard's log from its start again, over what Redis holds.

    For a worker that refuses because the topic was recreated, or because the log lost its end. Until the lag is 0 again
    segments may be out of date. May be interrupted and run again; run it again, too, when a worker finds that retention
    has moved the log's start meanwhile.

    Example: audience-stream reset-offsets
    """
    if delete_state and not yes:
        typer.confirm("Delete every membership? Those older than the log do not come back", abort=True)
    settings = load(CoreSettings)
    admin = TopicAdmin(settings)
    admin.check()
    topic_id, shards = admin.topic_id(CHANGES), list(range(settings.shards))
    starts = admin.starts(CHANGES, shards)
    if silent := sorted(set(shards) - starts.keys()):
        raise KafkaUnavailable(f"Kafka does not tell where the logs of the shards {silent} begin; try again")
    with connect(settings) as client:
        check_shard_count(client, settings.shards)
        deleted = _delete_state(client, settings.shards) if delete_state else 0
        _reset(client, topic_id, starts)
    incomplete = sum(start > 0 for start in starts.values()) if delete_state else 0
    if as_json:
        typer.echo(json.dumps({"shards": settings.shards, "deleted_keys": deleted, "incomplete_logs": incomplete}))
        return
    typer.echo(f"every shard ({settings.shards}) is read from its log's start; {deleted} keys were deleted")
    if incomplete:
        typer.echo(
            f"the logs of {incomplete} shards do not go back to their beginning: their workers refuse until they are "
            "started with --accept-partial-rebuild"
        )


def _reset(client: Any, topic_id: str, starts: dict[int, int]) -> None:
    """Shards of which Redis holds nothing are left alone: a worker reads those from the start by itself, or refuses."""
    with redis_faults("resetting the offsets"):
        stands = {shard: client.hmget(keys.offset(shard), ["topic", "offset"]) for shard in starts}
        if any(topic == _NOBODYS_TOPIC for topic, _ in stands.values()):
            raise ShardRefused(
                "a reset-offsets --delete-state was interrupted, so part of the state may be gone: run that again"
            )
        for shard, (_, offset) in stands.items():
            if offset is not None:
                client.hset(keys.offset(shard), mapping={"topic": topic_id, "offset": starts[shard]})
        client.delete(keys.INDEX_VERSION)  # so that the indexer takes the counts as they are, whatever offset they have


def _delete_state(client: Any, shards: int) -> int:
    deleted = 0
    columns = SpinnerColumn(), TextColumn("{task.completed} keys deleted")
    with (
        redis_faults("deleting the state"),
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task("", total=None)
        for shard in range(shards):
            client.hset(keys.offset(shard), mapping={"topic": _NOBODYS_TOPIC})
        for batch in _state_keys(client):
            pipe = client.pipeline(transaction=False)
            for key in batch:
                pipe.unlink(key)
            deleted += sum(pipe.execute())
            progress.update(task, completed=deleted)
        for shard in range(shards):
            client.hdel(keys.offset(shard), "topic", "offset")
    return deleted


def _state_keys(client: Redis) -> Iterator[list[str]]:
    batch: list[str] = []
    for key in client.scan_iter(match="{s*}:*", count=1000):
        if key[key.index("}") :].startswith(_KINDS):
            batch.append(key)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    yield batch
