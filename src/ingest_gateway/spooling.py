"""Kafka while it answers, else the spool; and the way back.

The rule is one: while the spool holds anything, every new record goes behind it. So the first request that Kafka
leaves without an acknowledgement is the last that waits for it, and the drain, which is in order, is also what finds
out that Kafka is back. A record whose acknowledgement was only late is published twice, which changes nothing: a change
is decided by its own time, and a subscription is published in its newest state.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from audience_core.errors import KafkaUnavailable, RetryableError
from audience_core.kafka.producer import Outgoing
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.topics import SUBSCRIPTIONS
from ingest_gateway.publisher import KafkaPublisher
from ingest_gateway.spool import Spool
from ingest_gateway.spool_file import claim_left_behind

WINDOW = 1000
_RETRY_S = 0.1
_FAILED_S = 2.0
_ADOPT_EVERY_S = 5.0

log = get_logger()
Renew = Callable[[Outgoing], Awaitable[Outgoing]]
"""A subscription's record in the newest state that the catalog knows"""


class SpoolingPublisher:
    """Publishes to Kafka, or to the disk when Kafka is late."""

    def __init__(self, kafka: KafkaPublisher, spool: Spool) -> None:
        self._kafka = kafka
        self._spool = spool

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return when every record is durable, at the replicas or on disk. Raises SpoolUnavailable."""
        if not records:
            return
        if self._spool.records == 0:
            try:
                await self._kafka.publish(records)
            except KafkaUnavailable as error:
                if self._spool.records == 0:
                    log.warning("spool_engaged", reason=str(error))
            else:
                return
        await self._spool.append(records)
        metrics.GATEWAY_SPOOLED.inc(len(records))


class Drain:
    """Publishes what is spooled, oldest first, for as long as the process lives."""

    def __init__(self, kafka: KafkaPublisher, renew: Renew) -> None:
        self._kafka = kafka
        self._renew = renew

    async def forever(self, spool: Spool) -> None:
        """Drain this process's own spool."""
        while True:
            await spool.filled()
            await self._all(spool)
            log.info("spool_drained")

    async def adopt_forever(self, folder: Path, limit: int) -> None:
        """Drain and delete the files of processes that have ended."""
        while True:
            await asyncio.sleep(_ADOPT_EVERY_S)
            for file in await asyncio.to_thread(lambda: list(claim_left_behind(folder))):
                spool = Spool(file, limit)
                log.info("spool_adopted", records=spool.records)
                try:
                    await self._all(spool)
                finally:
                    await spool.close(remove=spool.records == 0)

    async def _all(self, spool: Spool) -> None:
        while spool.records:
            try:
                window = await spool.oldest(WINDOW)
                if window:
                    await self._deliver([record for _, record in window])
                    metrics.GATEWAY_SPOOL_DRAINED.inc(len(window))
                    await spool.drop(window)
            except RetryableError as error:
                log.debug("spool_not_drained", error=str(error))
                await asyncio.sleep(_RETRY_S)
            except Exception:  # whatever it is, the records must not stay here for good
                log.exception("spool_not_drained")
                await asyncio.sleep(_FAILED_S)

    async def _deliver(self, records: list[Outgoing]) -> None:
        """Subscriptions are compacted, so the last record must be the newest state: look again after each of them."""
        while records:
            newest = await asyncio.gather(*map(self._newest, records))
            await self._kafka.deliver(newest)
            subscriptions = [record for record in newest if record.topic == SUBSCRIPTIONS]
            again = await asyncio.gather(*map(self._newest, subscriptions))
            records = [record for record, now in zip(subscriptions, again, strict=True) if now != record]

    async def _newest(self, record: Outgoing) -> Outgoing:
        return await self._renew(record) if record.topic == SUBSCRIPTIONS else record
