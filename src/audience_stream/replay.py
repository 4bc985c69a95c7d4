"""`audience-stream dlq replay`: puts dead letters back that can be read by now.

Safe in any order and however often: a change carries its own time, and the newest wins.
"""

import json
import time
from typing import Annotated, Any

import typer

from audience_core.codec import Codec
from audience_core.domain.records import DeadLetter
from audience_core.errors import PoisonRecord
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.redis import catalog, keys
from audience_core.redis.connect import connect, redis_faults
from audience_core.redis.shard_count import check_shard_count
from audience_core.registry import make_codec
from audience_core.settings import CoreSettings, load
from audience_core.topics import CHANGES, DEAD_LETTERS
from audience_stream.dlq import read
from ingest_gateway.membership import Context, read_profiles
from ingest_gateway.outgoing import Records

_ACK_S = 30.0


def of_record(codec: Codec, letter: DeadLetter) -> list[Outgoing]:
    """The record as it was, back into its partition; nothing while it still can't be read."""
    try:
        codec.decode(letter["payload"])
    except PoisonRecord:
        return []
    return [Outgoing(letter["topic"] or CHANGES, letter["partition"] or 0, b"", letter["payload"])]


def of_profile(records: Records, letter: DeadLetter, known: catalog.Catalog) -> list[Outgoing]:
    """The changes of a profile that the gateway would take today, with the time of their message."""
    context = Context(
        account=letter["account"] or "",
        request_id=letter["request_id"] or "",
        occurred_at=letter["occurred_at"] or 0,
        now=time.time_ns() // 1_000_000,
        catalog=known,
        pepper=None,  # a dead letter holds no identities
    )
    reading = read_profiles([json.loads(letter["payload"])], context, records)
    return [record for record in reading.records if record.topic != DEAD_LETTERS]


def put_back(settings: CoreSettings, *, account: str | None = None, reason: str | None = None) -> tuple[int, int]:
    """Put back what can be read by now, of one account and with one reason if they are given.

    Returns (letters put back, letters that are still refused). Reads all dead letters there are. Raises ShardRefused
    when the state has another number of shards.
    """
    codec, client = make_codec(settings), connect(settings)
    records = Records(codec, settings.shards)
    catalogs: dict[str, catalog.Catalog] = {}
    producer = RecordProducer(settings, "dlq-replay")
    replayed = refused = 0
    try:
        check_shard_count(client, settings.shards)
        for _, _, letter in read(settings):
            if (reason is not None and letter["reason"] != reason) or account not in {None, letter["account"]}:
                continue
            outgoing: list[Outgoing] = []
            if letter["kind"] == "RECORD":
                outgoing = of_record(codec, letter)
            elif letter["kind"] == "PROFILE":
                owner = letter["account"] or ""
                if owner not in catalogs:
                    catalogs[owner] = _catalog(client, owner)
                outgoing = of_profile(records, letter, catalogs[owner])
            producer.send_and_wait(outgoing, _ACK_S)
            replayed, refused = replayed + bool(outgoing), refused + (not outgoing)
    finally:
        producer.close()
        client.close()
    return replayed, refused


def put_back_of(account: str, reason: str) -> tuple[int, int]:
    """As put_back, for the console of the segment API."""
    return put_back(load(CoreSettings), account=account, reason=reason)


def replay(
    reason: Annotated[str | None, typer.Option(help="only letters with this reason")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Put back every dead letter that can be read by now; the others stay as they are.

    Example: audience-stream dlq replay --reason occurred_in_future
    """
    replayed, refused = put_back(load(CoreSettings), reason=reason)
    result = {"replayed": replayed, "still_refused": refused}
    typer.echo(json.dumps(result) if as_json else f"replayed {replayed}, still refused {refused}")


def _catalog(client: Any, account: str) -> catalog.Catalog:
    with redis_faults("reading the catalog"):
        return catalog.parse(client.hgetall(keys.catalog(account)))
