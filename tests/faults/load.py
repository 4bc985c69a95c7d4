"""Changes as the gateway would publish them, from a seed; and a stream of them that goes on through any fault."""

import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Self

from audience_core.codec import Codec
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.domain.records import (
    AudienceChange,
    AudienceSubscription,
    IdentitiesErased,
    MembershipChange,
    VisitorErased,
)
from audience_core.errors import RetryableError
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES
from ingest_gateway.outgoing import Records
from tests.subscription_states import active

ACCOUNTS = ("acme", "other")
AUDIENCES = (1, 2, 3, 4)
_BATCH = 20


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Load:
    """An endless story of a few hundred visitors. Every change has a time of its own, so order decides nothing."""

    def __init__(self, seed: int, visitors: int = 300) -> None:
        self._chooser = random.Random(seed)
        self._visitors = visitors
        self._clock = now_ms() - 3_600_000

    def records(self, count: int) -> list[MembershipChange]:
        """The next changes, in the order in which they happened."""
        return [self._change() for _ in range(count)]

    def _change(self) -> MembershipChange:
        self._clock += 1
        chooser = self._chooser
        return MembershipChange(
            account=chooser.choice(ACCOUNTS),
            mpid=str(chooser.randrange(self._visitors)),
            occurred_at=self._clock,
            received_at=now_ms(),
            request_id=str(uuid.uuid4()),
            identities=[f"{chooser.randrange(50):064x}"] if chooser.random() < 0.2 else [],
            changes=[
                AudienceChange(audience_id=audience, epoch=0, action=chooser.choice(("ENTER", "ENTER", "EXIT")))
                for audience in chooser.sample(AUDIENCES, chooser.randrange(1, 3))
            ],
        )


def erasure(account: str, mpid: str) -> VisitorErased:
    return VisitorErased(account=account, mpid=mpid, received_at=now_ms(), request_id=str(uuid.uuid4()))


def subscription(account: str, audience_id: int) -> AudienceSubscription:
    """An audience that was connected long ago."""
    return active(account, audience_id, 1_760_000_000_000, f"Audience {audience_id}")


class Sender:
    """Publishes records as the gateway does, and keeps the ids of those that Kafka has acknowledged."""

    def __init__(self, settings: CoreSettings) -> None:
        self.producer = RecordProducer(settings, "the-tests", linger_ms=0)
        self._codec, self._shards = Codec(), settings.shards
        self._records = Records(self._codec, settings.shards)
        self.acknowledged: set[str] = set()

    def send(self, records: "list[MembershipChange] | list[VisitorErased]") -> None:
        """Publish in order and wait; raises KafkaUnavailable."""
        self.send_raw([self._outgoing(record) for record in records])
        self.acknowledged |= {record["request_id"] for record in records}

    def send_raw(self, outgoing: list[Outgoing]) -> None:
        """Publish anything and wait."""
        self.producer.send_and_wait(outgoing, 15)

    def erase_identities(self, account: str, identities: list[str]) -> None:
        """Publish an erasure by identity, which goes to every shard."""
        asked = IdentitiesErased(
            account=account, identities=identities, received_at=now_ms(), request_id=str(uuid.uuid4())
        )
        self.send_raw(self._records.identities_erased(asked))
        self.acknowledged.add(asked["request_id"])

    def subscribe(self, state: AudienceSubscription) -> None:
        """Publish the state of a subscription."""
        self.send_raw([self._records.subscription(state)])

    def _outgoing(self, record: MembershipChange | VisitorErased) -> Outgoing:
        if "changes" in record:
            key = visitor_key(record["account"], record["mpid"])
            value = self._codec.encode("MembershipChange", record)
            return Outgoing(CHANGES, shard_of(key, self._shards), key, value)
        return self._records.visitor_erased(record)


class Stream:
    """Sends a load at a rate in a thread until it is told to end; what fails is sent again, as mParticle does."""

    def __init__(self, sender: Sender, load: Load, rate: int) -> None:
        self._sender = sender
        self._batches = self._cut(load)
        self._pause = _BATCH / rate
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "Kafka took no record for a minute"

    @staticmethod
    def _cut(load: Load) -> Iterator[list[MembershipChange]]:
        while True:
            yield load.records(_BATCH)

    def _run(self) -> None:
        for batch in self._batches:
            while True:
                try:
                    self._sender.send(batch)
                    break
                except RetryableError:
                    time.sleep(0.2)
            self.sent += len(batch)
            if self._ending.wait(self._pause):
                return
