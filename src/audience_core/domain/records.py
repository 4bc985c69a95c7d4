"""The records that travel through Kafka, as the schemas in `schemas/` declare them.

Times are milliseconds since the epoch. They are plain dictionaries, because that is what the Avro codec reads and
writes: nothing is copied on the hot path.
"""

from typing import Literal, TypedDict

MembershipAction = Literal["ENTER", "EXIT"]
SubscriptionStatus = Literal["ACTIVE", "REMOVED"]
DeadLetterKind = Literal["PROFILE", "MESSAGE", "RECORD"]


class AudienceChange(TypedDict):
    audience_id: int
    epoch: int
    action: MembershipAction


class MembershipChange(TypedDict):
    account: str
    mpid: str
    occurred_at: int
    received_at: int
    request_id: str
    identities: list[str]
    changes: list[AudienceChange]


class VisitorErased(TypedDict):
    account: str
    mpid: str
    received_at: int
    request_id: str


class IdentitiesErased(TypedDict):
    account: str
    identities: list[str]
    received_at: int
    request_id: str


class ErasureCarriedOut(TypedDict):
    account: str
    request_id: str
    shard: int
    offset: int
    received_at: int
    carried_out_at: int
    visitors: int
    memberships: int
    identities: int


class AudienceSubscription(TypedDict):
    account: str
    audience_id: int
    name: str
    description: str
    status: SubscriptionStatus
    epoch: int
    settings: dict[str, str]
    opened_at: int
    updated_at: int


class ShardCount(TypedDict):
    account: str
    audience_id: int
    epoch: int
    shard: int
    count: int
    offset: int


class DeadLetter(TypedDict):
    account: str | None
    reason: str
    detail: str
    kind: DeadLetterKind
    topic: str | None
    partition: int | None
    offset: int | None
    request_id: str | None
    occurred_at: int | None
    failed_at: int
    payload: bytes
