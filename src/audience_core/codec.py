"""Avro records to bytes and back.

Written: Avro single-object encoding (Avro specification, "Single-object encoding": marker C3 01, little-endian
CRC-64-AVRO fingerprint, body), or Confluent framing (0, big-endian schema id, body) when a registry is configured.
Read: either, told apart by the first byte. Schemas are parsed once per process.
"""

import io
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from fastavro import schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

from audience_core.change_reader import as_change, read_change
from audience_core.change_writer import ChangeWriter
from audience_core.errors import PoisonRecord
from audience_core.schema_files import load_schema

_MARKER = b"\xc3\x01"
_SINGLE_OBJECT_HEADER = 10
_CONFLUENT_HEADER = 5

CURRENT = (
    "MembershipChange",
    "VisitorErased",
    "IdentitiesErased",
    "ErasureCarriedOut",
    "AudienceSubscription",
    "ShardCount",
    "DeadLetter",
)


@cache
def _header(name: str) -> bytes:
    digest = fingerprint(to_parsing_canonical_form(load_schema(name)), "CRC-64-AVRO")
    return _MARKER + bytes.fromhex(digest)


@cache
def _writers_by_header() -> dict[bytes, tuple[str, dict[str, Any]]]:
    return {_header(name): (name, load_schema(name)) for name in CURRENT}


class Registry(Protocol):
    """What the codec asks of a schema registry."""

    def id_of(self, name: str) -> int:
        """Return the id under which the current schema of this name is registered."""
        ...

    def schema_of(self, schema_id: int) -> tuple[str, dict[str, Any]]:
        """Return (record name, parsed writer's schema) of an id, or raise PoisonRecord."""
        ...


class Codec:
    """Encodes and decodes records; one per process."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry

    def encode(self, name: str, record: Mapping[str, Any]) -> bytes:
        """Encode a record of the named schema. Raises ValueError when it does not fit the schema."""
        out = io.BytesIO()
        out.write(self._framing(name))
        try:
            schemaless_writer(out, load_schema(name), record)
        except (TypeError, OverflowError) as error:  # a wrong type, and a number beyond 64 bits
            raise ValueError(f"{name}: {error}") from error
        return out.getvalue()

    def changes_of(self, account: str, occurred_at: int, received_at: int, request_id: str) -> ChangeWriter:
        """Writes the membership changes of one message, faster than `encode`."""
        return ChangeWriter(self._framing("MembershipChange"), account, occurred_at, received_at, request_id)

    def _framing(self, name: str) -> bytes:
        return _header(name) if self._registry is None else struct.pack(">bI", 0, self._registry.id_of(name))

    def decode_all(self, values: Sequence[bytes | None]) -> list[tuple[str, Any] | PoisonRecord]:
        """As decode, for the values of a batch: for each its (record name, record), or what is wrong with it.

        Membership changes, nearly all of a log, come as Change.
        """
        header = _header("MembershipChange")
        decoded: list[tuple[str, Any] | PoisonRecord] = []
        for value in values:
            if value is not None and value.startswith(header):
                change = read_change(value, _SINGLE_OBJECT_HEADER)
                if change is not None:
                    decoded.append(("MembershipChange", change))
                    continue
            try:
                name, record = self.decode(value)
            except PoisonRecord as error:
                decoded.append(error)
            else:
                decoded.append((name, as_change(record) if name == "MembershipChange" else record))
        return decoded

    def decode(self, data: bytes | None) -> tuple[str, Any]:
        """Return (record name, record). Raises PoisonRecord when the bytes can't be read."""
        name, writer, body = self._writer_of(data or b"")
        try:
            record = schemaless_reader(body, writer, load_schema(name))
        except Exception as error:
            raise PoisonRecord("undecodable", f"{name}: {type(error).__name__}") from error
        if body.read(1):
            raise PoisonRecord("undecodable", f"{name}: bytes after the record")
        return name, record

    def _writer_of(self, data: bytes) -> tuple[str, dict[str, Any], io.BytesIO]:
        body = io.BytesIO(data)
        if data[:1] == b"\x00" and len(data) > _CONFLUENT_HEADER:
            if self._registry is None:
                raise PoisonRecord("no_registry", "Confluent framing, but AUDIENCE_SCHEMA_REGISTRY_URL is not set")
            name, writer = self._registry.schema_of(int.from_bytes(data[1:5], "big"))
            body.seek(_CONFLUENT_HEADER)
            return name, writer, body
        known = _writers_by_header().get(data[:_SINGLE_OBJECT_HEADER])
        if known is None:
            raise PoisonRecord("unknown_schema", "no marker and fingerprint of a known schema")
        body.seek(_SINGLE_OBJECT_HEADER)
        return known[0], known[1], body
