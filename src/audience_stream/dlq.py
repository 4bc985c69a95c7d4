"""`audience-stream dlq`: looks at the dead letters."""

import heapq
import json
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from audience_core.domain.members import iso_time
from audience_core.domain.records import DeadLetter
from audience_core.errors import KafkaUnavailable, NotFound, PoisonRecord
from audience_core.kafka.client import options
from audience_core.registry import make_codec
from audience_core.settings import CoreSettings, load
from audience_core.topics import DEAD_LETTERS

app = typer.Typer(help="Look at the dead letters.", no_args_is_help=True)
_FIRST_S = 5.0
_SILENT_S = 15.0


def _consumer(settings: CoreSettings) -> Consumer:
    return Consumer(
        {
            "group.id": "audience-dlq",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            **options(settings, "dlq"),
            "log_level": 0,  # librdkafka's own lines would bury the error that says what to do
            **settings.kafka_options,
        }
    )


def read(settings: CoreSettings) -> Iterator[tuple[int, int, DeadLetter]]:
    """Yield (partition, offset, letter) of all dead letters. A partition's end is where Kafka says that it is reached:
    a queried end offset is not reliable on every broker."""
    consumer = _consumer(settings)
    try:
        consumer.list_topics(DEAD_LETTERS, timeout=_FIRST_S)
    except KafkaException as absent:
        raise KafkaUnavailable(
            f"no broker answers at {settings.kafka_bootstrap_servers} (AUDIENCE_KAFKA_BOOTSTRAP_SERVERS)"
        ) from absent
    codec, unread, heard = make_codec(settings), set(range(settings.shards)), time.monotonic()
    consumer.assign([TopicPartition(DEAD_LETTERS, n, OFFSET_BEGINNING) for n in range(settings.shards)])
    try:
        while unread:
            message = consumer.poll(0.5)
            if message is None:
                if time.monotonic() - heard > _SILENT_S:
                    raise KafkaUnavailable(
                        f"{DEAD_LETTERS} could not be read to its end from {settings.kafka_bootstrap_servers} "
                        "(AUDIENCE_KAFKA_BOOTSTRAP_SERVERS)"
                    )
                continue
            heard, error, partition = time.monotonic(), message.error(), message.partition() or 0
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                    unread.discard(partition)
                continue
            value = message.value()
            try:
                kind, letter = codec.decode(value if isinstance(value, bytes) else None)
            except PoisonRecord:
                continue  # not a dead letter of ours
            if kind == "DeadLetter":
                yield partition, message.offset() or 0, letter
    finally:
        consumer.close()


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="how many of the latest to show")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the latest dead letters, without their payloads.

    Example: audience-stream dlq list --limit 20
    """
    # one at a time: the topic may hold far more than fits into memory
    summaries = (_summary(*entry) for entry in read(load(CoreSettings)))
    shown = heapq.nlargest(limit, summaries, key=lambda letter: letter["failed_at"])[::-1]
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for letter in shown:
        position = f"{letter['partition']}:{letter['offset']}"
        typer.echo(f"{letter['failed_at']}  {position:>10}  {letter['reason']:<24}  {letter['detail']}")
    typer.echo(f"{len(shown)} dead letters")


@app.command()
def show(
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
) -> None:
    """Show one dead letter with its payload, which may hold an MPID.

    Example: audience-stream dlq show 3 17
    """
    for at, position, letter in read(load(CoreSettings)):
        if (at, position) == (partition, offset):
            payload = letter["payload"].decode("utf-8", "backslashreplace")
            typer.echo(json.dumps({**_summary(at, position, letter), "payload": payload}, indent=2))
            return
    raise NotFound(f"there is no dead letter at partition {partition}, offset {offset}; see `audience-stream dlq list`")


def _summary(partition: int, offset: int, letter: DeadLetter) -> dict[str, Any]:
    kept = {name: letter[name] for name in ("account", "reason", "detail", "kind", "request_id")}
    source = {"topic": letter["topic"], "partition": letter["partition"], "offset": letter["offset"]}
    failed_at = iso_time(letter["failed_at"])
    return {"partition": partition, "offset": offset, "failed_at": failed_at, **kept, "source": source}
