"""Subscriptions into the catalog and the topic. The topic is compacted, so its last record must be the newest state."""

import asyncio

from audience_core.codec import Codec
from audience_core.domain.records import AudienceSubscription
from audience_core.domain.subscriptions import newer
from audience_core.errors import RetryableError
from audience_core.kafka.producer import Outgoing
from audience_core.observability.logging import get_logger
from audience_core.redis.catalog import AsyncCatalogStore
from ingest_gateway.caches import CatalogCache
from ingest_gateway.firehose import SubscriptionMessage
from ingest_gateway.outgoing import Records
from ingest_gateway.published import Published
from ingest_gateway.publisher import Publisher
from ingest_gateway.registration import EPOCH_SETTING

log = get_logger()


class Subscriptions:
    """Applies subscription messages. Methods raise RetryableError, and KafkaRefused when the topic may not be read.

    `spools`: whether the gateway goes on without Kafka, with the states that it and Redis know.
    """

    def __init__(
        self,
        store: AsyncCatalogStore,
        catalogs: CatalogCache,
        records: Records,
        codec: Codec,
        published: Published,
        *,
        spools: bool = False,
    ) -> None:
        self._published = published
        self._spools = spools
        self._store = store
        self._catalogs = catalogs
        self._records = records
        self._codec = codec

    async def apply(
        self, message: SubscriptionMessage, account: str, occurred_at: int, publisher: Publisher
    ) -> AudienceSubscription:
        """Return the state that the message led to, once it is in the catalog and durable in the topic."""
        try:
            await self._meet_published(account, message.audience_id)
        except RetryableError as error:
            if not self._spools:
                raise
            log.info("subscriptions_not_read", error=str(error))
        settings = {k: v for k, v in message.audience_subscription_settings.items() if k != EPOCH_SETTING}
        state = await self._store.subscribe(
            account=account,
            audience_id=message.audience_id,
            action=message.action,
            name=message.audience_name or "",
            description=message.audience_description or "",
            settings=settings,
            occurred_at=occurred_at,
        )
        published: AudienceSubscription | None = None
        newest = state
        # another gateway may have written a newer state meanwhile, and its record may lie before ours
        while newest != published:
            await publisher.publish([self._records.subscription(newest)])
            published, newest = newest, await self._in_catalog(newest)
        return state

    async def renew(self, record: Outgoing) -> Outgoing:
        """The record of a subscription in the newest state that topic and catalog know."""
        _, state = await asyncio.to_thread(self._codec.decode, record.value)
        await self._meet_published(state["account"], state["audience_id"], patient=True)
        newest = await self._in_catalog(state)
        return record if newest == state else self._records.subscription(newest)

    async def _meet_published(self, account: str, audience_id: int, *, patient: bool = False) -> None:
        state = await self._published.newest(account, audience_id, patient=patient)
        if state is not None:
            self._store.meet(state)

    async def _in_catalog(self, state: AudienceSubscription) -> AudienceSubscription:
        catalog = await self._catalogs.of(state["account"], fresh=True)
        return newer(state, catalog.get(state["audience_id"], state))
