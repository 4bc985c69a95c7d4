"""The writer by hand writes what fastavro writes."""

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from audience_core.change_writer import ChangeWriter
from audience_core.codec import Codec
from audience_core.schema_files import load_schema

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
LONGS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-300, 300), st.sampled_from([63, 64, -64, -65]))
INTS = st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(0, 3))
CHANGES = st.fixed_dictionaries({"audience_id": LONGS, "epoch": INTS, "action": st.sampled_from(["ENTER", "EXIT"])})
RECORDS = st.fixed_dictionaries(
    {
        "account": TEXTS,
        "mpid": TEXTS,
        "occurred_at": LONGS,
        "received_at": LONGS,
        "request_id": TEXTS,
        "identities": st.lists(TEXTS, max_size=70),
        "changes": st.lists(CHANGES, max_size=70),
    }
)


def by_hand(record: dict[str, Any], framing: bytes = b"") -> bytes:
    writer = ChangeWriter(framing, *(record[name] for name in ("account", "occurred_at", "received_at", "request_id")))
    changes = [(change["audience_id"], change["epoch"], change["action"]) for change in record["changes"]]
    return writer.write(record["mpid"].encode(), record["identities"], changes)


@given(RECORDS, st.binary(max_size=10))
def test_a_record_is_written_as_fastavro_writes_it(record: dict[str, Any], framing: bytes) -> None:
    out = io.BytesIO()
    schemaless_writer(out, load_schema("MembershipChange"), record)
    assert by_hand(record, framing) == framing + out.getvalue()


def test_the_codec_frames_it_as_any_record() -> None:
    record = {"account": "a", "mpid": "1", "occurred_at": 2, "received_at": 3, "request_id": "r", "identities": ["i"]}
    whole = {**record, "changes": [{"audience_id": 7, "epoch": 1, "action": "EXIT"}]}
    for registry in (None, SimpleNamespace(id_of=lambda _: 7)):
        codec = Codec(cast(Any, registry))
        written = codec.changes_of("a", 2, 3, "r").write(b"1", ["i"], [(7, 1, "EXIT")])
        assert written == codec.encode("MembershipChange", whole)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_beyond_64_bits_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        ChangeWriter(b"", "a", number, 1, "")
    with pytest.raises(ValueError, match="64 bits"):
        ChangeWriter(b"", "a", 1, 1, "").write(b"1", [], [(number, 0, "ENTER")])
