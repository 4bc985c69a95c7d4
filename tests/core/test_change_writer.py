"""The writer by hand writes what fastavro writes."""

import io
from typing import Any, cast

import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from audience_core.change_writer import write_change
from audience_core.codec import Codec, load_schema
from audience_core.domain.records import MembershipChange

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


@given(RECORDS)
def test_a_record_is_written_as_fastavro_writes_it(record: dict[str, Any]) -> None:
    out = io.BytesIO()
    schemaless_writer(out, load_schema("MembershipChange"), record)
    assert write_change(cast(MembershipChange, record)) == out.getvalue()


@given(RECORDS)
def test_a_framed_record_is_that_of_the_codec(record: dict[str, Any]) -> None:
    codec = Codec()
    assert codec.encode_change(cast(MembershipChange, record)) == codec.encode("MembershipChange", record)


@pytest.mark.parametrize("field", ["occurred_at", "received_at"])
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_beyond_64_bits_is_refused(field: str, number: int) -> None:
    record = {"account": "a", "mpid": "1", "occurred_at": 1, "received_at": 1, "request_id": ""}
    whole = {**record, "identities": [], "changes": [], field: number}
    with pytest.raises(ValueError, match="64 bits"):
        write_change(cast(MembershipChange, whole))
    with pytest.raises(ValueError, match=r"."):
        Codec().encode("MembershipChange", whole)
