"""How much of a Redis node is used."""

from dataclasses import dataclass
from typing import Any

from redis import RedisCluster

from audience_core.redis.connect import Redis, redis_faults


@dataclass(frozen=True)
class Usage:
    """Of one node: bytes, keys since its start, commands a second."""

    memory: int
    limit: int
    """maxmemory, or the host's memory when that is 0 (unlimited)"""
    evicted: int
    operations: int


def usage(client: Redis) -> dict[str, Usage]:
    """Node → usage. A server of its own is the node `redis`; in a cluster nodes are named host:port."""
    with redis_faults("reading how full it is"):
        untyped: Any = client
        options = {"target_nodes": RedisCluster.PRIMARIES} if isinstance(untyped, RedisCluster) else {}
        answer: dict[str, Any] = untyped.info(**options)
    # one node answers without its name, also in a cluster
    nodes = {"redis": answer} if "used_memory" in answer else answer
    return {node: _usage(info) for node, info in nodes.items()}


def _usage(info: dict[str, Any]) -> Usage:
    return Usage(
        memory=int(info["used_memory"]),
        limit=int(info["maxmemory"]) or int(info["total_system_memory"]),
        evicted=int(info["evicted_keys"]),
        operations=int(info["instantaneous_ops_per_sec"]),
    )
