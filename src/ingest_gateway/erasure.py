"""Erasures out of OpenDSR requests: identities become HMACs, an MPID erases its visitor directly."""

import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from audience_core.domain.identities import hmacs_of_erased_identity, profile_type
from audience_core.domain.partitioning import is_mpid
from audience_core.domain.records import IdentitiesErased, VisitorErased
from audience_core.errors import RedisUnavailable
from audience_core.kafka.producer import Outgoing
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.redis.control import ControlStore
from audience_core.redis.erasures import ErasureStore
from ingest_gateway.firehose import ErasureMessage, Identity
from ingest_gateway.outgoing import MAX_PARTS, Records
from ingest_gateway.publisher import Publisher

log = get_logger()
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Erasures:
    """Turns a request into records, and notes what its receipt will be compared with."""

    def __init__(self, control: ControlStore, store: ErasureStore, records: Records, pepper: bytes) -> None:
        self._control = control
        self._store = store
        self._records = records
        self._pepper = pepper

    async def apply(self, message: ErasureMessage, account: str | None, publisher: Publisher, *, trusted: bool) -> None:
        """Return once the erasure is durable: in the account, in every account when a trusted sender names none, else
        as a dead letter (ADR 6). Raises RetryableError."""
        request_id, now = _request_id(message), time.time_ns() // 1_000_000
        accounts = [] if account is None else [account]
        if account is None and trusted:
            accounts = [known["id"] for known in await self._control.accounts()]
        asked = {name: self._records_of(message, name, now, request_id) for name in accounts}
        outgoing = [record for records in asked.values() for record in records]
        if not accounts:
            outgoing = [self._unattributed(message, now, request_id)]
        await publisher.publish(outgoing)
        try:
            for name, records in asked.items():
                await self._store.accept(name, request_id, {record.partition for record in records}, now)
        except RedisUnavailable as error:
            log.warning("erasure_not_noted", error=str(error))  # it is durable; its receipts will tell of it

    def _records_of(self, message: ErasureMessage, account: str, now: int, request_id: str) -> list[Outgoing]:
        """Records that erase every visitor whom the message names, in one account."""
        outgoing: list[Outgoing] = []
        hmacs: dict[str, None] = {}
        for identity in _named(message):
            if identity.type == "mpid":
                if is_mpid(identity.value):
                    erased = VisitorErased(account=account, mpid=identity.value, received_at=now, request_id=request_id)
                    outgoing.append(self._records.visitor_erased(erased))
                continue
            kind = profile_type(identity.type)
            found = hmacs_of_erased_identity(self._pepper, account, kind, identity.encoding, identity.value)
            hmacs |= dict.fromkeys(found)
        for first in range(0, len(hmacs), MAX_PARTS):
            part = list(hmacs)[first : first + MAX_PARTS]
            record = IdentitiesErased(account=account, identities=part, received_at=now, request_id=request_id)
            outgoing.extend(self._records.identities_erased(record))
        return outgoing

    def _unattributed(self, message: ErasureMessage, now: int, request_id: str) -> Outgoing:
        metrics.DEAD_LETTERS.labels("erasure_without_account").inc()
        return self._records.dead_letter(
            account=None,
            reason="erasure_without_account",
            detail="account.account_settings.apiKey: absent, and AUDIENCE_FIREHOSE_TOKEN does not vouch for the sender",
            kind="MESSAGE",
            request_id=request_id,
            occurred_at=message.timestamp_ms,
            now=now,
            payload={"subject_request_id": request_id},
        )


def _request_id(message: ErasureMessage) -> str:
    """Name under which the receipt is found: the subject request's id, else the message's, else a new one.

    It is kept for long, so a text that is no plain id (it might hold an address) is not taken.
    """
    given = (message.subject_request_id, message.id)
    return next((text for text in given if text and _PLAIN_ID.fullmatch(text)), str(uuid.uuid4()))


def _named(message: ErasureMessage) -> Iterator[Identity]:
    sources = [message.subject_identities]
    if isinstance(message.extensions, dict):
        sources += [e.get("subject_identities") for e in message.extensions.values() if isinstance(e, dict)]
    for source in sources:
        if not isinstance(source, dict):
            continue
        for kind, raw in source.items():
            identity = _identity(kind, raw)
            if identity is not None:
                yield identity


def _identity(kind: str, raw: Any) -> Identity | None:
    if not isinstance(raw, dict):
        return None
    try:
        return Identity.model_validate({"encoding": "raw", **raw, "type": kind})
    except ValidationError:
        return None
