"""What a membership takes in Redis once its guard has expired."""

from audience_core.change_reader import Change, Run
from audience_core.redis import keys
from audience_core.redis.connect import connect
from audience_core.redis.operations import Operations
from audience_core.redis.shard_store import ShardStore
from benchmarks.machine import Machine
from benchmarks.report import Row, bounded

MUST_BYTES = 45
PER_VISITOR = 3


def run(here: Machine) -> list[Row]:
    """Bytes per membership at three memberships a visitor, applied by the script itself."""
    visitors, client = int(200_000 * here.scale), here.redis
    client.flushall()
    empty = int(client.info("memory")["used_memory"])
    store = ShardStore(connect(here.settings), here.settings)
    applied: int | None = None
    for first in range(0, visitors, 1000):
        operations = Operations()
        for number in range(first, first + 1000):
            members = tuple(str(100_000 + (number + n) % 100) for n in range(PER_VISITOR))
            mpid = str(5_000_000_000_000_000_000 + number)
            operations.change(Change(b"demo", mpid, 1, 1, (), (Run("ENTER", members),)))
        store.apply(0, "topic", applied, first + 1000, operations)
        applied = first + 1000
    guarded = int(client.info("memory")["used_memory"]) - empty
    pipe = client.pipeline(transaction=False)
    for number in range(visitors):
        pipe.unlink(keys.of_visitor(0, "demo", str(5_000_000_000_000_000_000 + number)).guards)
    pipe.execute()
    bare = int(client.info("memory")["used_memory"]) - empty
    store.close()
    memberships = visitors * PER_VISITOR
    return [
        bounded("memory", "a membership, guard expired", bare / memberships, "B", most=MUST_BYTES),
        bounded("memory", "a membership, guard alive", guarded / memberships, "B"),
    ]
