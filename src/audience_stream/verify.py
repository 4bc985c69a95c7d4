"""`audience-stream verify`: recounts the sets and compares them with the counts and the listing."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from audience_core.redis import catalog, keys
from audience_core.redis.connect import connect, redis_faults
from audience_core.redis.shard_count import check_shard_count
from audience_core.redis.shard_store import Counts, ShardStore
from audience_core.settings import CoreSettings, load


@dataclass(frozen=True)
class Difference:
    """A number that is not what the sets say. `where` is a shard or the listing."""

    where: str
    account: str
    audience_id: int
    epoch: int
    counted: int
    stored: int


def find_differences(settings: CoreSettings) -> list[Difference]:
    """Recount everything. Exact at rest; while changes arrive, a difference may only be a moment's."""
    client: Any = connect(settings)
    check_shard_count(client, settings.shards)
    store = ShardStore(client, settings)
    recounted = store.recount()
    totals: Counts = {}
    differences = []
    for shard in sorted(set(recounted) | set(range(settings.shards))):
        counted = recounted.get(shard, {})
        for audience, count in counted.items():
            totals[audience] = totals.get(audience, 0) + count
        differences += _compare(f"shard {shard}", counted, store.snapshot(shard)[0])
    with redis_faults("reading the listing"):
        listed = _listed(client)
    current = {audience: totals.get(audience, 0) for audience in listed}
    shown = {audience: _furthest(numbers, current[audience]) for audience, numbers in listed.items()}
    return differences + _compare("listing", current, shown)


def _compare(where: str, counted: Counts, stored: Counts) -> list[Difference]:
    return [
        Difference(where, *audience, counted.get(audience, 0), stored.get(audience, 0))
        for audience in sorted(set(counted) | set(stored))
        if counted.get(audience, 0) != stored.get(audience, 0)
    ]


def _furthest(numbers: tuple[int, int], counted: int) -> int:
    """The hash and the ZSET are written together; whichever is wrong must show, and a drift counts once."""
    return max(numbers, key=lambda number: abs(number - counted))


def _listed(client: Any) -> dict[tuple[str, int, int], tuple[int, int]]:
    """(account, audience id, present epoch) of every subscribed audience → its count in the hash and in the ZSET."""
    listed: dict[tuple[str, int, int], tuple[int, int]] = {}
    for account in client.hgetall(keys.CATALOG_VERSIONS):
        numbers = client.hgetall(keys.index_counts(account))
        populated = dict(client.zrange(keys.index(account), 0, -1, withscores=True))
        for audience_id, state in catalog.parse(client.hgetall(keys.catalog(account))).items():
            if state["status"] == "REMOVED":
                continue
            text = numbers.get(str(audience_id))
            count = json.loads(text)["count"] if text else 0
            shown = int(populated.get(str(audience_id), 0))
            listed[account, audience_id, state["epoch"]] = (count, shown)
    return listed


def verify(as_json: Annotated[bool, typer.Option("--json", help="print the differences as JSON")] = False) -> None:
    """Recount every shard's sets against its counts and the listing; exit 0 only when nothing differs.

    Example: AUDIENCE_REDIS_URL=redis://127.0.0.1:6379/0 audience-stream verify
    """
    differences = find_differences(load(CoreSettings))
    drift = sum(abs(d.counted - d.stored) for d in differences)
    if as_json:
        typer.echo(json.dumps({"drift": drift, "differences": [d.__dict__ for d in differences]}))
    else:
        _print(differences)
        typer.echo(f"drift {drift}")
    raise typer.Exit(1 if drift else 0)


def _print(differences: list[Difference]) -> None:
    table = Table("where", "account", "audience", "epoch", "counted", "stored", title="Sets against counts and listing")
    for d in differences:
        table.add_row(d.where, d.account, str(d.audience_id), str(d.epoch), str(d.counted), str(d.stored))
    if differences:
        Console().print(table)
    else:
        typer.echo("every count and the listing agree with the sets")
