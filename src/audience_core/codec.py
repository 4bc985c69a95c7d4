"""Avro records to bytes and back.

Written: Avro single-object encoding (Avro specification, "Single-object encoding": marker C3 01, little-endian
CRC-64-AVRO fingerprint, body), or Confluent framing (0, big-endian schema id, body) when a registry is configured.
Read: either, told apart by the first byte. Schemas are parsed once per process.
"""

import io
import json
import os
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, cast

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

from audience_core.change_writer import ChangeWriter
from audience_core.errors import PoisonRecord

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
VERSION = 1


def schema_folder() -> Path:
    """Folder of the `.avsc` files: inside the installed package, or the repository's `schemas/`."""
    packaged = Path(str(files("audience_core").joinpath("schemas")))
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "schemas"


@cache
def load_schema(name: str, version: int = VERSION) -> dict[str, Any]:
    """Parse `schemas/<name>.v<version>.avsc` once."""
    text = (schema_folder() / f"{name}.v{version}.avsc").read_text("utf-8")
    parsed: Any = parse_schema(json.loads(text))
    return cast("dict[str, Any]", parsed)


@cache
def _header(name: str) -> bytes:
    digest = fingerprint(to_parsing_canonical_form(load_schema(name)), "CRC-64-AVRO")
    return _MARKER + bytes.fromhex(digest)


@cache
def _writers_by_header() -> dict[bytes, tuple[str, dict[str, Any]]]:
    return {_header(name): (name, load_schema(name)) for name in CURRENT}


_END = os.urandom(8)
"""Stands after each of the records that are read together, so that none can reach into its neighbour unnoticed: no
sender can know it."""


@cache
def _batch_schema() -> dict[str, Any]:
    end = {"type": "fixed", "name": "End", "size": len(_END)}
    fields = [{"name": "record", "type": load_schema("MembershipChange")}, {"name": "end", "type": end}]
    parsed: Any = parse_schema({"type": "array", "items": {"type": "record", "name": "Framed", "fields": fields}})
    return cast("dict[str, Any]", parsed)


def _read_together(bodies: Sequence[bytes]) -> list[Any] | None:
    """Membership changes out of their bodies, or None when one of them can't be read."""
    if not bodies:
        return None
    count = io.BytesIO()
    schemaless_writer(count, {"type": "long"}, len(bodies))
    body = io.BytesIO(count.getvalue() + _END.join(bodies) + _END + b"\0")
    try:
        framed: Any = schemaless_reader(body, _batch_schema(), None)
    except Exception:  # noqa: BLE001 - fastavro raises anything; reading them one by one tells which and why
        return None
    whole = len(framed) == len(bodies) and not body.read(1)
    return [one["record"] for one in framed] if whole and all(one["end"] == _END for one in framed) else None


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

        Membership changes, nearly all of a log, are read by one call of the Avro reader.
        """
        header = _header("MembershipChange")
        grouped = [n for n, value in enumerate(values) if value is not None and value.startswith(header)]
        read = _read_together([(values[n] or b"")[_SINGLE_OBJECT_HEADER:] for n in grouped])
        if read is not None and len(read) == len(values):
            return [("MembershipChange", record) for record in read]
        together = dict(zip(grouped, read or (), strict=False))
        decoded: list[tuple[str, Any] | PoisonRecord] = []
        for n, value in enumerate(values):
            try:
                decoded.append(("MembershipChange", together[n]) if n in together else self.decode(value))
            except PoisonRecord as error:
                decoded.append(error)
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
