"""Where records go, as the settings have it: to Kafka alone, or to Kafka with a spool behind it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from audience_core.kafka.producer import RecordProducer
from audience_core.observability import metrics
from audience_core.observability.probes import Answer, probe_answer
from ingest_gateway.publisher import KafkaPublisher, Publisher
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.spool import Spool
from ingest_gateway.spool_file import claim
from ingest_gateway.spooling import Drain, Renew, SpoolingPublisher


@dataclass
class Outlet:
    """The publisher, and what runs beside it."""

    publisher: Publisher
    spool: Spool | None = None
    drain: Drain | None = None
    folder: Path = Path()
    limit: int = 0

    def start(self) -> list["asyncio.Task[None]"]:
        """Begin to drain; the caller ends the tasks."""
        if self.spool is None or self.drain is None:
            return []
        return [
            asyncio.create_task(self.drain.forever(self.spool)),
            asyncio.create_task(self.drain.adopt_forever(self.folder, self.limit)),
        ]

    def ready(self, *, kafka_reachable: bool) -> Answer:
        """The answer to `/readyz`. With room in the spool a gateway without Kafka does its work, so it is ready."""
        away = [] if kafka_reachable else ["Kafka does not answer"]
        if self.spool is None:
            return probe_answer(away)
        held = [f"{self.spool.records} records are spooled"] if self.spool.records else []
        if self.spool.refusing:
            return probe_answer([*away, "the spool has no room"], held)
        return probe_answer([], [*away, *held])

    async def close(self) -> None:
        """Leave what is spooled to the next process."""
        if self.spool is not None:
            await self.spool.close()


def open_outlet(settings: GatewaySettings, producer: RecordProducer, renew: Renew) -> Outlet:
    """Make the outlet that the settings ask for. Raises PermanentError when the spool's folder can't be used."""
    ack_timeout = settings.ack_timeout.total_seconds()
    if settings.spool_dir is None:
        return Outlet(KafkaPublisher(producer, ack_timeout))
    kafka = KafkaPublisher(producer, min(ack_timeout, settings.spool_after.total_seconds()))
    spool = Spool(claim(settings.spool_dir), settings.spool_bytes)
    metrics.GATEWAY_SPOOL_RECORDS.set_function(lambda: spool.records)
    metrics.GATEWAY_SPOOL_BYTES.set_function(lambda: spool.bytes)
    return Outlet(SpoolingPublisher(kafka, spool), spool, Drain(kafka, renew), settings.spool_dir, settings.spool_bytes)
