"""A gateway that is killed between producing and answering.

    FAULT=point:n:signal python -m tests.faults.faulty_gateway

produced      the records are with the client library, which may or may not have sent them
acknowledged  every in-sync replica has them, and nobody was told
"""

import os
import signal
import sys
from typing import Any

from audience_core.kafka.producer import RecordProducer
from ingest_gateway import main
from ingest_gateway.publisher import KafkaPublisher
from tests.faults.faulty_worker import Point

POINTS = ("produced", "acknowledged")


def lay(name: str, point: Point) -> None:
    """Wrap what stands before the point."""
    send: Any = RecordProducer.send
    publish: Any = KafkaPublisher.publish

    def sent(self: RecordProducer, *arguments: Any) -> None:
        send(self, *arguments)
        point.passed()

    async def published(self: KafkaPublisher, records: Any) -> None:
        await publish(self, records)
        point.passed()

    if name == "produced":
        RecordProducer.send = sent  # type: ignore[method-assign,assignment]
    else:
        KafkaPublisher.publish = published  # type: ignore[method-assign]


if __name__ == "__main__":
    named, nth, number = os.environ["FAULT"].split(":")
    lay(named, Point(int(nth), signal.Signals[f"SIG{number}"]))
    sys.exit(main.run())
