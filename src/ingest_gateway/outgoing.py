"""Turns records into what goes to Kafka: topic, partition, key, bytes."""

import json
from typing import Any

from audience_core.change_writer import Change, ChangeWriter
from audience_core.codec import Codec
from audience_core.domain.partitioning import audience_key, shard_of, visitor_key
from audience_core.domain.records import (
    AudienceSubscription,
    DeadLetter,
    DeadLetterKind,
    IdentitiesErased,
    VisitorErased,
)
from audience_core.kafka.producer import Outgoing
from audience_core.topics import CHANGES, DEAD_LETTERS, SUBSCRIPTIONS

# Kafka would never take a record over 1 MB, so a request with one could never succeed, and a spool never be drained.
MAX_PARTS = 10_000
"""Changes, or identities, of one record: 340 kB at most"""
_MAX_PAYLOAD = 500_000
# A body of 5 MB may hold a million things that are broken; each of them as a record of its own would stop the gateway.
MAX_ITEMS = 100
"""Broken audiences that the dead letter of one profile holds; it counts the rest"""
MAX_LETTERS = 500
"""Dead letters of one message; one more counts the rest"""
_KEPT = ("audience_id", "audience_name", "action", "audience_subscription_settings")


class Records:
    """Encodes records for the topics of `shards` partitions."""

    def __init__(self, codec: Codec, shards: int) -> None:
        self._codec = codec
        self._shards = shards

    def writer(self, account: str, occurred_at: int, received_at: int, request_id: str) -> ChangeWriter:
        """What the records of one message's profiles are written with."""
        return self._codec.changes_of(account, occurred_at, received_at, request_id)

    def change(self, writer: ChangeWriter, mpid: str, identities: list[str], changes: list[Change]) -> Outgoing:
        """One profile's changes, in the visitor's partition."""
        key = visitor_key(writer.account, mpid)
        value = writer.write(mpid.encode(), identities, changes)
        return Outgoing(CHANGES, shard_of(key, self._shards), key, value)

    def visitor_erased(self, record: VisitorErased) -> Outgoing:
        """An erasure by MPID, in the visitor's partition, so that it meets the changes in log order."""
        key = visitor_key(record["account"], record["mpid"])
        return self._outgoing(CHANGES, key, self._codec.encode("VisitorErased", record))

    def identities_erased(self, record: IdentitiesErased) -> list[Outgoing]:
        """An erasure by identity, once for every partition: any of them may hold a visitor with it."""
        value = self._codec.encode("IdentitiesErased", record)
        key = record["account"].encode()
        return [Outgoing(CHANGES, shard, key, value) for shard in range(self._shards)]

    def subscription(self, record: AudienceSubscription) -> Outgoing:
        """The whole state of a subscription."""
        key = audience_key(record["account"], record["audience_id"])
        return self._outgoing(SUBSCRIPTIONS, key, self._codec.encode("AudienceSubscription", record))

    def dead_letter(
        self,
        *,
        account: str | None,
        reason: str,
        detail: str,
        kind: DeadLetterKind,
        request_id: str,
        occurred_at: int | None,
        now: int,
        payload: Any,
    ) -> Outgoing:
        """What could not be applied. `payload` must already be free of settings and identities; the caller counts."""
        content = json.dumps(payload).encode()
        letter = DeadLetter(
            account=account,
            reason=reason,
            detail=detail,
            kind=kind,
            topic=None,
            partition=None,
            offset=None,
            request_id=request_id,
            occurred_at=occurred_at if occurred_at is not None and abs(occurred_at) < 2**63 else None,
            failed_at=now,
            payload=content if len(content) <= _MAX_PAYLOAD else json.dumps({"left_out_bytes": len(content)}).encode(),
        )
        key = f"{account or ''}:{request_id}".encode()
        return self._outgoing(DEAD_LETTERS, key, self._codec.encode("DeadLetter", letter))

    def _outgoing(self, topic: str, key: bytes, value: bytes) -> Outgoing:
        return Outgoing(topic, shard_of(key, self._shards), key, value)


def without_secrets(profile: Any) -> Any:
    """What a dead letter keeps of a profile: its MPID and its audiences, nothing else that a sender may have put there.

    A text with an `@` may be an e-mail address in the wrong place, so it is left out too.
    """
    if not isinstance(profile, dict):
        return {"shape": type(profile).__name__}
    audiences = profile.get("audiences")
    kept: dict[str, Any] = {}
    if "mpid" in profile:
        kept["mpid"] = _scalar(profile["mpid"])
    if isinstance(audiences, list):
        kept["audiences"] = [_item_without_secrets(item) for item in audiences]
    return kept


def _item_without_secrets(item: Any) -> Any:
    if not isinstance(item, dict):
        return _scalar(item)
    return {name: _scalar(item[name]) for name in _KEPT if name in item}


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return "[left out]" if "@" in value or len(value) > 512 else value  # noqa: PLR2004 - longer is no id or name
    return value if isinstance(value, int | float | bool | None) else {"shape": type(value).__name__}
