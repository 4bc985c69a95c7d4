"""Publishes what each erasure has deleted: the audit topic, and the request's progress in Redis."""

import time

from audience_core.codec import Codec
from audience_core.domain.partitioning import shard_of
from audience_core.domain.records import ErasureCarriedOut
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.redis.erasures import Receipt, ReceiptStore
from audience_core.topics import ERASURES

_ACK_S = 10.0


class Receipts:
    """Empties the list of receipts that the apply script fills."""

    def __init__(self, store: ReceiptStore, producer: RecordProducer, codec: Codec, shards: int) -> None:
        self._store = store
        self._producer = producer
        self._codec = codec
        self._shards = shards

    def publish(self, shard: int) -> bool:
        """Publish and settle every receipt of a shard that waits. Raises RetryableError; nothing is lost by that."""
        while receipts := self._store.waiting(shard):
            self._producer.send_and_wait([self._record(shard, receipt) for receipt in receipts], _ACK_S)
            self._store.settle(shard, receipts)
        return True

    def _record(self, shard: int, receipt: Receipt) -> Outgoing:
        record = ErasureCarriedOut(
            account=receipt.account,
            request_id=receipt.request_id,
            shard=shard,
            offset=receipt.offset,
            received_at=receipt.received_at,
            carried_out_at=time.time_ns() // 1_000_000,
            visitors=receipt.visitors,
            memberships=receipt.memberships,
            identities=receipt.identities,
        )
        key = f"{receipt.account}:{receipt.request_id}".encode()
        value = self._codec.encode("ErasureCarriedOut", record)
        return Outgoing(ERASURES, shard_of(key, self._shards), key, value)
