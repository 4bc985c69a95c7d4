"""Membership changes out of Avro by hand, for they are nearly all that is read.

A record of two audiences takes fastavro 10 µs, 4 µs among others, and this less than 2. Only its beginning is read by
hand; what repeats, the changes at its end, fastavro reads once. Whatever looks unusual is left to fastavro, which also
says what is wrong with it. A test compares the two.
"""

import io
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from fastavro import schemaless_reader

from audience_core.domain.members import encode_member
from audience_core.domain.records import AudienceChange, MembershipAction, MembershipChange
from audience_core.schema_files import load_schema

_KEPT_TIMES = 4096
_KEPT_RUNS = 65_536
_LONG_OR_ODD = 0x81
"""Of a length's first byte: there are more, or it is negative."""
_TWO_BYTES = 1 << 14
_NONE: tuple[str, ...] = ()
_MOST = 1000
"""Members of a run: Lua's stack holds some thousand."""


class Run(NamedTuple):
    """Neighbouring changes of one direction, whose members differ (audience_core/domain/members.py)."""

    action: MembershipAction
    members: tuple[str, ...]


class Change(NamedTuple):
    """One profile's changes. Times are milliseconds."""

    account: bytes
    mpid: str
    occurred_at: int
    received_at: int
    identities: tuple[str, ...]
    runs: tuple[Run, ...]


def as_change(record: MembershipChange) -> Change:
    """A record that fastavro has read."""
    return Change(
        record["account"].encode(),
        record["mpid"],
        record["occurred_at"],
        record["received_at"],
        tuple(record["identities"]),
        runs_of(record["changes"]),
    )


def runs_of(changes: Sequence[AudienceChange]) -> tuple[Run, ...]:
    """The changes in their order, in as few runs as there can be."""
    runs: list[Run] = []
    action: MembershipAction = changes[0]["action"] if changes else "ENTER"
    members: dict[str, None] = {}
    for change in changes:
        member = encode_member(change["audience_id"], change["epoch"])
        if change["action"] != action or member in members or len(members) == _MOST:
            runs.append(Run(action, tuple(members)))
            action, members = change["action"], {}
        members[member] = None
    return (*runs, Run(action, tuple(members)))


def read_change(data: bytes, start: int) -> Change | None:
    """The MembershipChange (version 1 of its schema) whose body starts there, or None when it looks unusual."""
    try:
        size = data[start]
        mpid_at = start + 1 + (size >> 1)
        mpid_size = data[mpid_at]
        at = mpid_at + 1 + (mpid_size >> 1)
        id_at = at + 12  # two times of six bytes each, as they are until 2039
        id_size = data[id_at]
        end = id_at + 1 + (id_size >> 1)
        if (size | mpid_size | id_size) & _LONG_OR_ODD or not (data[start:at] + data[id_at:end]).isascii():
            return None
        a, b, c, d = data[at], data[at + 1], data[at + 6], data[at + 7]
        if not a & b & c & d & 0x80 or (a | c) & 1:
            return None
        # of times only the lowest bits differ: what is above stays among those that are kept
        occurred_at = (a & 0x7E | (b & 0x7F) << 7 | _above(data[at + 2 : at + 6])) >> 1
        received_at = (c & 0x7E | (d & 0x7F) << 7 | _above(data[at + 8 : id_at])) >> 1
        identities = _NONE
        if data[end]:
            identities, end = _identities(data, end)
        runs = _runs(data[end + 1 :])
    except (IndexError, ValueError):
        return None
    mpid = data[mpid_at + 1 : at].decode("ascii")
    return Change(data[start + 1 : mpid_at], mpid, occurred_at, received_at, identities, runs)


def _identities(data: bytes, at: int) -> tuple[tuple[str, ...], int]:
    """(an array of texts that begins there, where the zero stands that ends it)."""
    count = data[at]
    if count & _LONG_OR_ODD:
        raise ValueError("a long array")
    at += 1
    found = []
    for _ in range(count >> 1):
        size, at = data[at], at + 1
        if size & 0x80:
            size, at = size & 0x7F | data[at] << 7, at + 1
        end = at + (size >> 1)
        if size & 1 or size >= _TWO_BYTES or end >= len(data):
            raise ValueError("a long or negative length")
        found.append(data[at:end].decode("ascii"))
        at = end
    if data[at]:
        raise ValueError("an array in parts")
    return tuple(found), at


@lru_cache(_KEPT_TIMES)
def _above(rest: bytes) -> int:
    """What the last four of six bytes of a number stand for."""
    a, b, c, d = rest
    if not a & b & c & 0x80 or d & 0x80:
        raise ValueError("a number of another length")
    return (a & 0x7F) << 14 | (b & 0x7F) << 21 | (c & 0x7F) << 28 | d << 35


@cache
def _changes_schema() -> dict[str, Any]:
    """The type of the schema's last field."""
    schema: dict[str, Any] = load_schema("MembershipChange")["fields"][-1]["type"]
    return schema


@lru_cache(_KEPT_RUNS)
def _runs(data: bytes) -> tuple[Run, ...]:
    """The end of a record: its changes."""
    body = io.BytesIO(data)
    try:
        changes: Any = schemaless_reader(body, _changes_schema(), None)
    except Exception as error:
        raise ValueError("no changes") from error
    if body.read(1):
        raise ValueError("bytes after the record")
    return runs_of(changes)
