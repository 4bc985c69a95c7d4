"""Erasures out of OpenDSR requests: identities become HMACs, an MPID erases its visitor directly."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from audience_core.domain.identities import hmacs_of_erased_identity, profile_type
from audience_core.domain.partitioning import is_mpid
from audience_core.domain.records import IdentitiesErased, VisitorErased
from audience_core.kafka.producer import Outgoing
from ingest_gateway.firehose import ErasureMessage, Identity
from ingest_gateway.outgoing import Records


def erasure_records(
    message: ErasureMessage, account: str, pepper: bytes, now: int, request_id: str, records: Records
) -> list[Outgoing]:
    """Records that erase every visitor whom the message names, in one account."""
    outgoing: list[Outgoing] = []
    hmacs: dict[str, None] = {}
    for identity in _named(message):
        if identity.type == "mpid":
            if is_mpid(identity.value):
                erased = VisitorErased(account=account, mpid=identity.value, received_at=now, request_id=request_id)
                outgoing.append(records.visitor_erased(erased))
            continue
        kind = profile_type(identity.type)
        hmacs |= dict.fromkeys(hmacs_of_erased_identity(pepper, account, kind, identity.encoding, identity.value))
    if hmacs:
        record = IdentitiesErased(account=account, identities=list(hmacs), received_at=now, request_id=request_id)
        outgoing.extend(records.identities_erased(record))
    return outgoing


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
